//! Work that the keeper does in a forked child: change a VE's mounts, run a program in it.
//!
//! The child answers on the requester's connection itself; the keeper goes on meanwhile.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::error::{SysError, SysResult};
use crate::keeper::protocol::{Reply, Request};
use crate::kernel::ns::{Kind, Namespace};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, SingleThreaded, WaitStatus};
use crate::kernel::seqpacket;
use crate::runtime::checkpoint::{ahead, dump};
use crate::runtime::enter::{self, Command, Door, Stdio};
use crate::runtime::{accounts, inject};

/// Does one request that [`is_job`], with the descriptors that came with it, and answers it.
pub fn run(proof: SingleThreaded, request: &Request, fds: &[OwnedFd], client: BorrowedFd<'_>) -> i32 {
    let reply = perform(proof, request, fds).unwrap_or_else(Reply::Failed);
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
            | Request::WriteAhead(_)
            | Request::Accounts { .. }
    )
}

/// Whether a job is let finish when its requester goes away: cut off it would do harm.
pub fn is_let_finish(request: &Request) -> bool {
    matches!(request, Request::Suspend(_) | Request::WriteAhead(_))
}

fn perform(proof: SingleThreaded, request: &Request, fds: &[OwnedFd]) -> SysResult<Reply> {
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
            let init = Pidfd::open(door.pid)?;
            let timeout = Duration::from_millis(*timeout_ms);
            let (status, printed) = enter::capture(proof, door, &init, command, timeout)?;
            Ok(Reply::Captured(status, printed))
        }
        Request::Suspend(spec) => dump::dump(proof, spec, fds.first()).map(|()| Reply::Done),
        Request::WriteAhead(spec) => ahead::write(proof, spec).map(|()| Reply::Done),
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
    let stdio = Stdio::Given([enter::null()?, enter::null()?, enter::null()?]);
    let entered = enter::spawn(proof, door, &init, command, stdio)?;
    let ended = entered.pidfd.wait(timeout)?;
    if !ended {
        entered.pidfd.signal(libc::SIGKILL)?;
    }
    let status = process::reap(entered.pid)?;
    Ok(ended.then_some(status))
}
