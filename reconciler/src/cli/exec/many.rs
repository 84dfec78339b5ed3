//! A command inside many VEs: so many at a time, their output kept apart, one status for all.

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::cli::exec::apart::{Apart, Ended, Kept};
use crate::cli::exec::lines::{Lines, Output};
use crate::cli::exec::order::Order;
use crate::cli::failure::{Failure, NOT_ENTERED, Outcome};
use crate::cli::output::{Out, note};
use crate::cli::terminal::Signals;
use crate::error::{At, SysError, SysResult};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::WaitStatus;

/// How often it is looked whether a signal came.
const GLANCE: Duration = Duration::from_millis(50);

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

/// What all workers share.
struct Shared<'a> {
    waiting: Mutex<VecDeque<Order>>,
    running: Mutex<Vec<(String, Pidfd)>>,
    ended: Mutex<Vec<Ended>>,
    apart: Apart<'a>,
    stdin: Option<OwnedFd>,
    /// A signal came: nothing new is begun.
    stop: AtomicBool,
    /// All workers are done.
    done: AtomicBool,
}

/// Runs all orders; the highest status is the exit code.
pub fn run(orders: Vec<Order>, manner: &Manner, out: &mut Out) -> Outcome {
    let signals = Signals::take()?;
    let stdin = if manner.stdin { Some(spooled_stdin()?) } else { None };
    let all = orders.len();
    let width = orders.iter().map(|order| order.entrance.name.len()).max().unwrap_or(0);
    let shared = Shared {
        apart: Apart::new(out, manner.group, width),
        waiting: Mutex::new(orders.into()),
        running: Mutex::default(),
        ended: Mutex::default(),
        stdin,
        stop: AtomicBool::new(false),
        done: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| shared.hand_on(&signals));
        let workers: Vec<_> = (0..manner.jobs.min(all)).map(|_| scope.spawn(|| shared.work())).collect();
        for worker in workers {
            // What a worker that panicked left undone is missing from `ended`, which is told below.
            let _ = worker.join();
        }
        shared.done.store(true, Ordering::Relaxed);
    });
    let mut ended = shared.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by(|a, b| a.name.cmp(&b.name));
    if out.is_data() {
        out.data(&serde_json::json!({ "apiVersion": "vzd/v1", "kind": "ExecResults", "items": ended }))?;
    }
    summarize(&ended, all);
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
    /// Hands signals on to all programs; after one, no new program is begun.
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
            let kept = Kept::default();
            let exit_status = self.one(&order, &kept).unwrap_or_else(|failure| {
                Failure { message: format!("{name}: {}", failure.message), ..failure }.print(false);
                NOT_ENTERED
            });
            let ended = self.apart.finish(name, exit_status, kept);
            locked(&self.ended).push(ended);
        }
    }

    /// Runs one order to its end.
    fn one(&self, order: &Order, kept: &Kept) -> Result<u8, Failure> {
        let name = &order.entrance.name;
        let mut child = self.start(order)?;
        let pid = i32::try_from(child.id()).unwrap_or(-1);
        locked(&self.running).push((name.clone(), Pidfd::open(pid)?));
        let ended = AtomicBool::new(false);
        let (output, error) = (child.stdout.take(), child.stderr.take());
        let status = std::thread::scope(|scope| {
            scope.spawn(|| self.follow(name, output, false, &ended, kept));
            scope.spawn(|| self.follow(name, error, true, &ended, kept));
            let status = child.wait().at("wait for", "child");
            ended.store(true, Ordering::Release);
            status
        });
        locked(&self.running).retain(|(running, _)| running != name);
        let code = WaitStatus::from_raw(status?.into_raw()).code();
        Ok(u8::try_from(code).unwrap_or(u8::MAX))
    }

    fn start(&self, order: &Order) -> SysResult<Child> {
        let stdin = match &self.stdin {
            Some(spool) => {
                let path = format!("/proc/self/fd/{}", spool.as_raw_fd());
                Stdio::from(std::fs::File::open(&path).at("open", &path)?)
            }
            None => Stdio::null(),
        };
        let sealed = order.seal()?;
        let mut command = sealed.command();
        // In a process group of its own, so that a key typed here reaches it once: from us.
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.spawn().at("start", "/proc/self/exe")
    }

    /// Passes on one stream of one VE until it ends.
    fn follow(
        &self,
        name: &str,
        stream: Option<impl Read + AsFd>,
        is_error: bool,
        ended: &AtomicBool,
        kept: &Kept,
    ) {
        let Some(stream) = stream else { return };
        for line in Lines::new(Output::new(stream, ended)) {
            self.apart.line(name, line, is_error, kept);
        }
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
