//! Work that the keeper does in a forked child: change a VE's mounts, run a program in it.
//!
//! The child answers on the requester's connection itself; the keeper goes on meanwhile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use crate::error::{At, SysError, SysResult};
use crate::keeper::protocol::{CAPTURED, Reply, Request};
use crate::kernel::ns::{Kind, Namespace};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, SingleThreaded, WaitStatus};
use crate::kernel::seqpacket;
use crate::runtime::checkpoint::dump;
use crate::runtime::enter::{self, Command, Door, Stdio};
use crate::runtime::{accounts, inject};

/// Does one request that [`is_job`] and answers it.
pub fn run(proof: SingleThreaded, request: &Request, client: BorrowedFd<'_>) -> i32 {
    let reply = perform(proof, request).unwrap_or_else(Reply::Failed);
    i32::from(seqpacket::send(client, &reply, &[]).is_err())
}

/// Whether a request is done in a child.
pub fn is_job(request: &Request) -> bool {
    matches!(
        request,
        Request::AddMounts { .. }
            | Request::RemoveMount { .. }
            | Request::Run { .. }
            | Request::Capture { .. }
            | Request::Suspend(_)
            | Request::Accounts { .. }
    )
}

/// Whether a job is let finish when its requester goes away: cut off it would do harm.
pub fn is_let_finish(request: &Request) -> bool {
    matches!(request, Request::Suspend(_))
}

fn perform(proof: SingleThreaded, request: &Request) -> SysResult<Reply> {
    match request {
        Request::AddMounts { pid, mounts } => {
            let (userns, mntns) = namespaces(*pid)?;
            inject::add(proof, inject::open_sources(mounts, &userns)?, &userns, &mntns)?;
            Ok(Reply::Done)
        }
        Request::RemoveMount { pid, target } => {
            let (userns, mntns) = namespaces(*pid)?;
            inject::remove(proof, target, &userns, &mntns)?;
            Ok(Reply::Done)
        }
        Request::Run { door, command, timeout_ms } => {
            run_program(proof, door, command, Duration::from_millis(*timeout_ms)).map(Reply::Ran)
        }
        Request::Capture { door, command, timeout_ms } => {
            let (status, printed) = capture(proof, door, command, Duration::from_millis(*timeout_ms))?;
            Ok(Reply::Captured(status, printed))
        }
        Request::Suspend(spec) => dump::dump(proof, spec).map(|()| Reply::Done),
        Request::Accounts { pid, ask } => {
            let (userns, mntns) = namespaces(*pid)?;
            accounts::answer(ask, &userns, &mntns).map(Reply::Accounts)
        }
        _ => Err(SysError::refused("do", "request", "it is not a job")),
    }
}

fn namespaces(pid: i32) -> SysResult<(Namespace, Namespace)> {
    Ok((Namespace::of(pid, Kind::User)?, Namespace::of(pid, Kind::Mount)?))
}

/// Runs a program in a VE with nothing on its standard streams; `None` when it was killed for time.
fn run_program(
    proof: SingleThreaded,
    door: &Door,
    command: &Command,
    timeout: Duration,
) -> SysResult<Option<WaitStatus>> {
    let init = Pidfd::open(door.pid)?;
    let stdio = Stdio::Given([null()?, null()?, null()?]);
    let entered = enter::spawn(proof, door, &init, command, stdio)?;
    let ended = entered.pidfd.wait(timeout)?;
    if !ended {
        entered.pidfd.signal(libc::SIGKILL)?;
    }
    let status = process::reap(entered.pid)?;
    Ok(ended.then_some(status))
}

fn null() -> SysResult<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at("open", "/dev/null")
}

/// Runs a program in a VE with a pipe for both its outputs. What it leaves behind may hold the pipe on: nobody waits
/// for that once the program has ended.
fn capture(
    proof: SingleThreaded,
    door: &Door,
    command: &Command,
    timeout: Duration,
) -> SysResult<(Option<WaitStatus>, String)> {
    let init = Pidfd::open(door.pid)?;
    let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at("make", "pipe")?;
    rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK).at("set", "pipe")?;
    let twin = input.try_clone().at("duplicate", "pipe")?;
    let entered = enter::spawn(proof, door, &init, command, Stdio::Given([null()?, input, twin]))?;
    let deadline = Instant::now() + timeout;
    let (mut printed, mut open) = (Vec::new(), true);
    let ended = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = entered.pidfd.wait_or_readable(open.then(|| output.as_fd()), left)?;
        open = open && drain(&output, &mut printed)?;
        if ended || left.is_zero() {
            break ended;
        }
    };
    if !ended {
        entered.pidfd.signal(libc::SIGKILL)?;
    }
    let status = process::reap(entered.pid)?;
    Ok((ended.then_some(status), String::from_utf8_lossy(&printed).into_owned()))
}

/// Reads what is there, and keeps as much as may be kept. Tells whether more may come. Who writes without end is read
/// from no longer than that.
fn drain(output: &OwnedFd, printed: &mut Vec<u8>) -> SysResult<bool> {
    let mut piece = [0; 4096];
    for _ in 0..2 * CAPTURED / piece.len() {
        match rustix::io::read(output, &mut piece) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                let room = CAPTURED.saturating_sub(printed.len());
                printed.extend_from_slice(&piece[..n.min(room)]);
            }
            Err(rustix::io::Errno::AGAIN) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SysError::new("read", "pipe", e)),
        }
    }
    Ok(true)
}
