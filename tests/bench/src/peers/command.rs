//! Peers that are programs: one command starts a container, one stops it, one may tidy up.
//!
//! Must run their commands from one place, so that what they cost is what this process's children have cost.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::{Peer, Run, ended};
use crate::benches::update::Limit;
use crate::payload;
use crate::result::{Context, Result, fail};
use crate::sys::{self, Pidfd};

/// What to type.
pub(super) trait Tool {
    fn name(&self) -> &'static str;
    /// Writes what the start needs; not timed.
    fn prepare(&self, id: usize) -> Result<()>;
    fn start(&self, id: usize) -> Command;
    fn stop(&self, id: usize) -> Command;
    fn update(&self, id: usize, limit: Limit) -> Command;
    /// After the end of init.
    fn tidy(&self, id: usize) -> Option<Command>;
}

/// A tool with the thread that runs it.
pub(super) struct Commands<T> {
    tool: T,
    runner: Runner,
}

impl<T: Tool> Commands<T> {
    /// `hidden` is a mount point that the tool can't bear to see.
    pub(super) fn new(tool: T, hidden: Option<PathBuf>) -> Result<Commands<T>> {
        Ok(Commands { tool, runner: Runner::start(hidden)? })
    }

    fn run(&self, command: Command) -> Result<Duration> {
        self.runner.run(command)
    }

    fn tidy(&self, id: usize) -> Result<()> {
        // Orphans became our children; a tool may look for its container's process.
        sys::reap(None);
        self.tool.tidy(id).map_or(Ok(()), |command| self.run(command).map(drop))
    }

    fn stop_one(&self, run: &Run) -> Result<Duration> {
        let start = Instant::now();
        self.run(self.tool.stop(run.id))?;
        ended(&run.init)?;
        let took = start.elapsed();
        self.tidy(run.id)?;
        Ok(took)
    }
}

impl<T: Tool> Peer for Commands<T> {
    fn name(&self) -> &'static str {
        self.tool.name()
    }

    fn start(&mut self, id: usize) -> Result<Run> {
        let (mut runs, _) = self.start_many(id..id + 1)?;
        runs.pop().ok_or("no container").context("start")
    }

    fn stop(&mut self, run: Run) -> Result<Duration> {
        self.stop_one(&run)
    }

    fn start_many(&mut self, ids: std::ops::Range<usize>) -> Result<(Vec<Run>, Duration)> {
        ids.clone().try_for_each(|id| self.tool.prepare(id))?;
        let known = payload::known();
        let mut ordered = Vec::new();
        for id in ids.clone() {
            ordered.push(self.run(self.tool.start(id))?);
        }
        let mut started = payload::wait_for(ids.len(), &known, Duration::from_secs(20))?;
        // Started one after the other, so that the order of the payloads is the order of the containers.
        started.sort_by_key(|payload| payload.started);
        let runs = ids.zip(&started).zip(&ordered).map(|((id, payload), ordered)| {
            let init = Pidfd::open(payload.pid).context("pidfd_open")?;
            Ok(Run { id, init, took: payload.started.saturating_sub(*ordered) })
        });
        let last = started.last().map(|payload| payload.started).unwrap_or_default();
        let wall = last.saturating_sub(ordered.first().copied().unwrap_or_default());
        Ok((runs.collect::<Result<Vec<Run>>>()?, wall))
    }

    fn stop_many(&mut self, runs: Vec<Run>) -> Result<Duration> {
        let start = Instant::now();
        runs.iter().try_for_each(|run| self.stop_one(run).map(drop))?;
        Ok(start.elapsed())
    }

    fn update(&mut self, id: usize, limit: Limit) -> Result<Duration> {
        self.run(self.tool.update(id, limit))
    }

    fn cpu(&mut self) -> Result<Duration> {
        // A monitor ends a moment after its container, and counts once it has been waited for.
        sys::reap(None);
        Ok(sys::children_cpu())
    }
}

/// A thread that runs commands, in a mount namespace of its own if something is to be hidden from them.
struct Runner {
    commands: Sender<Command>,
    /// When it was ordered, or why not.
    answers: Receiver<Result<Duration>>,
}

impl Runner {
    fn start(hidden: Option<PathBuf>) -> Result<Runner> {
        let (commands, orders) = channel::<Command>();
        let (answer, answers) = channel();
        std::thread::spawn(move || {
            let hide =
                |path: PathBuf| sys::without_mount(&path.display().to_string()).context("hiding a mount");
            if let Some(Err(failure)) = hidden.map(hide) {
                // The first command is then answered with it.
                drop(answer.send(Err(failure)));
                return;
            }
            for mut command in orders {
                if answer.send(run(&mut command)).is_err() {
                    return;
                }
            }
        });
        Ok(Runner { commands, answers })
    }

    fn run(&self, command: Command) -> Result<Duration> {
        // A thread that is gone has left its reason in the other channel.
        drop(self.commands.send(command));
        self.answers.recv().context("the thread that runs commands")?
    }
}

fn run(command: &mut Command) -> Result<Duration> {
    let shown = format!("{command:?}");
    let mut errors = own_file()?;
    let stream = |file: &File| file.try_clone().map(Stdio::from).context("a stream");
    command.stdin(stream(&own_file()?)?).stdout(stream(&own_file()?)?).stderr(stream(&errors)?);
    let ordered = payload::now();
    let status = command.status().context(&shown)?;
    if status.success() {
        return Ok(ordered);
    }
    let mut said = String::new();
    errors.rewind().and_then(|()| errors.read_to_string(&mut said)).context(&shown)?;
    fail(format!("{shown}: {status}\n{}", said.trim_end()))
}

/// An empty file that no path leads to. Engines give what a container has as its standard streams to the container's
/// root, by chown: neither the host's /dev/null nor somebody's terminal may be among it.
fn own_file() -> Result<File> {
    let path = std::env::temp_dir().join(format!("vzd-bench-stream-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    let file = file.context(path.display())?;
    std::fs::remove_file(&path).context(path.display())?;
    Ok(file)
}
