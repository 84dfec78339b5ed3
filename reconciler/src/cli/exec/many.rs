//! A command inside many VEs: so many at a time, their output kept apart, one status for all.

use std::collections::VecDeque;
use std::io::{IsTerminal, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use serde::Serialize;

use crate::cli::exec::lines::Lines;
use crate::cli::exec::order::Order;
use crate::cli::failure::{Failure, NOT_ENTERED, Outcome};
use crate::cli::output::{Out, Paint, harmless, note};
use crate::cli::terminal::Signals;
use crate::error::{At, SysError, SysResult};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::WaitStatus;

/// Output of one VE that is kept until it ends, in bytes; what is beyond that is dropped.
const MOST_KEPT: usize = 16 << 20;
/// How often a worker looks whether it was told to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// How it is done.
#[derive(Debug)]
pub struct Manner {
    /// So many at a time.
    pub jobs: usize,
    /// The output of each VE when it has ended, not line by line.
    pub group: bool,
    /// Each gets standard input.
    pub stdin: bool,
}

/// What came of one VE.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended {
    name: String,
    exit_status: u8,
    stdout: String,
    stderr: String,
}

/// What all workers share.
struct Shared<'a> {
    waiting: Mutex<VecDeque<Order>>,
    running: Mutex<Vec<(String, Pidfd)>>,
    ended: Mutex<Vec<Ended>>,
    out: Mutex<&'a mut Out>,
    stop: AtomicBool,
    done: AtomicBool,
    stdin: Option<OwnedFd>,
    group: bool,
    width: usize,
}

/// Runs all orders; the highest status is the exit code.
pub fn run(orders: Vec<Order>, manner: &Manner, out: &mut Out) -> Outcome {
    let signals = Signals::take()?;
    let all = orders.len();
    let is_data = out.is_data();
    let shared = Shared {
        width: orders.iter().map(|order| order.entrance.name.len()).max().unwrap_or(0),
        group: manner.group || is_data,
        stdin: if manner.stdin { Some(spooled_stdin()?) } else { None },
        waiting: Mutex::new(orders.into()),
        running: Mutex::default(),
        ended: Mutex::default(),
        out: Mutex::new(out),
        stop: AtomicBool::new(false),
        done: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| shared.hand_on(&signals));
        let workers: Vec<_> = (0..manner.jobs.min(all)).map(|_| scope.spawn(|| shared.work())).collect();
        for worker in workers {
            // A worker that panicked is missing from `ended`, which is told below.
            let _ = worker.join();
        }
        shared.done.store(true, Ordering::Relaxed);
    });
    let mut ended = shared.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by(|a, b| a.name.cmp(&b.name));
    summarize(&ended, all);
    if is_data {
        out.data(&serde_json::json!({ "apiVersion": "vzd/v1", "kind": "ExecResults", "items": ended }))?;
    }
    let missing = (ended.len() < all).then_some(NOT_ENTERED);
    Ok(ended.iter().map(|ve| ve.exit_status).chain(missing).max().unwrap_or(NOT_ENTERED))
}

fn summarize(ended: &[Ended], all: usize) {
    let failed: Vec<&Ended> = ended.iter().filter(|ve| ve.exit_status != 0).collect();
    for ve in &failed {
        note(&format!("{}: exit status {}", ve.name, ve.exit_status));
    }
    if ended.len() < all {
        note(&format!("not run in {} of {all} VEs", all - ended.len()));
    }
    if !failed.is_empty() {
        note(&format!("failed in {} of {all} VEs", failed.len()));
    }
}

impl Shared<'_> {
    /// Hands signals on to all programs; any of them also ends the beginning of new ones.
    fn hand_on(&self, signals: &Signals) {
        while !self.done.load(Ordering::Relaxed) {
            while let Some(signal) = signals.next_one().filter(|signal| *signal != libc::SIGWINCH) {
                self.stop.store(true, Ordering::Relaxed);
                for (_, pidfd) in locked(&self.running).iter() {
                    // One that just ended needs no signal.
                    let _ = pidfd.signal(signal);
                }
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some(order) = locked(&self.waiting).pop_front() else { return };
            let name = order.entrance.name.clone();
            let kept = Mutex::new(Vec::new());
            let exit_status = self.one(&order, &kept).unwrap_or_else(|failure| {
                Failure { message: format!("{name}: {}", failure.message), ..failure }.print(false);
                NOT_ENTERED
            });
            let kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
            let ended = self.finish(name, exit_status, &kept);
            locked(&self.ended).push(ended);
        }
    }

    /// Runs one order to its end.
    fn one(&self, order: &Order, kept: &Mutex<Vec<Piece>>) -> Result<u8, Failure> {
        let name = &order.entrance.name;
        let sealed = order.seal()?;
        let stdin = match &self.stdin {
            Some(spool) => {
                let path = format!("/proc/self/fd/{}", spool.as_raw_fd());
                Stdio::from(std::fs::File::open(&path).at("open", &path)?)
            }
            None => Stdio::null(),
        };
        let mut command = sealed.command();
        // In a process group of its own, so that a key typed here reaches it once: from us.
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().at("start", "/proc/self/exe")?;
        let pid = i32::try_from(child.id()).unwrap_or(-1);
        locked(&self.running).push((name.clone(), Pidfd::open(pid)?));
        let streams = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            scope.spawn(|| self.follow(name, Stream::Out(streams.0), kept));
            self.follow(name, Stream::Err(streams.1), kept);
        });
        let status = child.wait().at("wait for", "child")?;
        locked(&self.running).retain(|(running, _)| running != name);
        let code = WaitStatus::from_raw(std::os::unix::process::ExitStatusExt::into_raw(status)).code();
        Ok(u8::try_from(code).unwrap_or(u8::MAX))
    }

    /// Shows or keeps one stream of one VE until it ends.
    fn follow(&self, name: &str, stream: Stream, kept: &Mutex<Vec<Piece>>) {
        let is_error = matches!(stream, Stream::Err(_));
        let mut size = 0;
        for line in Lines::new(stream) {
            if !self.group {
                self.show(name, &line, is_error);
            } else if size < MOST_KEPT {
                size += line.len() + 1;
                locked(kept).push(Piece { is_error, line });
            }
        }
    }

    /// One line under its VE's name. On a terminal nothing in it can pretend to be another VE's.
    fn show(&self, name: &str, line: &[u8], is_error: bool) {
        let mut out = locked(&self.out);
        let terminal =
            if is_error { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        let colour = if is_error { out.colour_notes } else { out.colour };
        let prefix = Paint::Faint.text(colour, &format!("{name:<width$} | ", width = self.width));
        let mut bytes = prefix.into_bytes();
        if terminal {
            bytes.extend(harmless(String::from_utf8_lossy(line).trim_end_matches('\r')).into_bytes());
        } else {
            bytes.extend_from_slice(line);
        }
        emit(&mut out, bytes, is_error);
    }

    /// Shows what was kept of a VE, and makes its part of the result.
    fn finish(&self, name: String, exit_status: u8, kept: &[Piece]) -> Ended {
        let mut out = locked(&self.out);
        if out.is_data() {
            let text = |is_error: bool| -> String {
                let lines = kept.iter().filter(|piece| piece.is_error == is_error);
                lines.map(|piece| String::from_utf8_lossy(&piece.line).into_owned() + "\n").collect()
            };
            return Ended { name, exit_status, stdout: text(false), stderr: text(true) };
        }
        if !kept.is_empty() {
            let title = Paint::Strong.text(out.colour, &format!("==> {name} <=="));
            emit(&mut out, title.into_bytes(), false);
        }
        for piece in kept {
            emit(&mut out, piece.line.clone(), piece.is_error);
        }
        Ended { name, exit_status, stdout: String::new(), stderr: String::new() }
    }
}

/// A line that is kept.
struct Piece {
    is_error: bool,
    line: Vec<u8>,
}

/// One of a child's streams.
enum Stream {
    Out(Option<ChildStdout>),
    Err(Option<ChildStderr>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Out(Some(stream)) => stream.read(buffer),
            Stream::Err(Some(stream)) => stream.read(buffer),
            Stream::Out(None) | Stream::Err(None) => Ok(0),
        }
    }
}

fn emit(out: &mut Out, mut line: Vec<u8>, is_error: bool) {
    line.push(b'\n');
    if is_error {
        use std::io::Write;
        let _ = std::io::stderr().lock().write_all(&line);
    } else if let Err(failure) = out.bytes(&line) {
        failure.print(out.colour_notes);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All of standard input in a memory file that nobody can write any more: VEs share nothing writable.
fn spooled_stdin() -> SysResult<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("vzd-stdin", flags).at("make", "memory file")?;
    let mut spool = std::fs::File::from(file);
    std::io::copy(&mut std::io::stdin().lock(), &mut spool).at("read", "stdin")?;
    let file = OwnedFd::from(spool);
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, all).map_err(|e| SysError::new("seal", "memory file", e))?;
    Ok(file)
}
