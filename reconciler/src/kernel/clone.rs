//! clone3(2): a process in new namespaces, and straight into a version 2 cgroup.
//!
//! Neither rustix, nix nor libc wraps clone3. This file must not decide which namespaces a VE gets.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{SysError, SysResult};
use crate::kernel::process::{self, SingleThreaded};

/// `CLONE_NEWTIME` aside, the namespaces a VE has of its own, but for mount and cgroup (see
/// `runtime::start`): user, pid, net, uts, ipc.
pub const VE_NAMESPACES: u64 =
    (libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC)
        as u64;

/// include/uapi/linux/sched.h; libc's constant does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A process made by [`clone_sibling`].
#[derive(Debug)]
pub struct Sibling {
    /// Its pid in the caller's pid namespace.
    pub pid: i32,
    /// A pidfd to it, opened by the kernel together with the process.
    pub pidfd: OwnedFd,
}

/// Clones a process that runs `child` and is a child of the caller's *parent* (`CLONE_PARENT`), in the
/// namespaces of `flags`, in the cgroup (version 2) of `cgroup` when given.
///
/// The caller's parent reaps it and gets a plain SIGCHLD. What `child` returns is its exit code.
pub fn clone_sibling(
    proof: SingleThreaded,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> SysResult<Sibling> {
    let parent = libc::CLONE_PARENT as u64;
    // The kernel wants no signal named with CLONE_PARENT: the parent's own choice holds.
    clone3(proof, flags | parent, 0, cgroup, child)
}

/// Forks a child that runs `child`, straight into the cgroup (version 2) of `cgroup`: unlike a move
/// afterwards, that waits for nobody.
pub fn fork_into(
    proof: SingleThreaded,
    cgroup: BorrowedFd<'_>,
    child: impl FnOnce() -> i32,
) -> SysResult<process::Child> {
    let made = clone3(proof, 0, libc::SIGCHLD, Some(cgroup), child)?;
    Ok(process::Child::of_fork(made.pid))
}

fn clone3(
    _proof: SingleThreaded,
    flags: u64,
    exit_signal: i32,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> SysResult<Sibling> {
    let mut pidfd: i32 = -1;
    let mut args: libc::clone_args =
        // SAFETY: clone_args is a plain struct of integers, for which all zeroes is valid.
        unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_sign_loss, reason = "flag constants are i32 in libc, u64 in clone_args")]
    {
        args.flags = flags | libc::CLONE_PIDFD as u64;
        args.exit_signal = exit_signal as u64;
    }
    args.pidfd = &raw mut pidfd as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or_default();
    }
    // SAFETY: the process has one thread (`SingleThreaded`), so the child's copy of memory, locks and
    // the allocator is consistent; no stack is given, so the child goes on on its own copy of ours, as
    // after fork; `pidfd` and `args` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => {
            let value = format!("flags {:#x}", args.flags);
            Err(SysError::new("clone3", "a new process", std::io::Error::last_os_error()).value(value))
        }
        0 => process::exit_now(child()),
        pid => {
            // SAFETY: the call succeeded with CLONE_PIDFD, so the kernel stored a new descriptor there.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid)
                .map_err(|_| SysError::refused("clone3", "a new process", "pid out of range"))?;
            Ok(Sibling { pid, pidfd })
        }
    }
}
