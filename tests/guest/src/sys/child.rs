//! Running a closure in a forked child. Must not let a child outlive its time limit or its parent.
#![expect(unsafe_code, reason = "fork and waitpid have no safe form")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Why a child gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It could not be made.
    Fork(String),
    /// A signal ended it: seccomp's SIGSYS, or SIGALRM when it hung.
    Killed(i32),
    /// It ended by itself without an answer.
    Ended,
}

/// Runs `work` in a forked child, so that nothing it does to itself (namespaces, limits, a seccomp kill) touches the
/// caller, and returns what it returned. A child that takes longer than `limit` is ended by SIGALRM.
pub(crate) fn in_child(limit: Duration, work: impl FnOnce() -> String) -> Result<String, NoAnswer> {
    let (mut reader, writer) = pipe().map_err(|error| NoAnswer::Fork(error.to_string()))?;
    // SAFETY: this program has one thread, so that the child may go on using the heap and std.
    match unsafe { libc::fork() } {
        -1 => Err(NoAnswer::Fork(std::io::Error::last_os_error().to_string())),
        0 => {
            drop(reader);
            answer(limit, writer, work)
        }
        pid => {
            drop(writer);
            let mut text = String::new();
            // A child that was killed has closed the pipe too; the status below tells.
            let read = reader.read_to_string(&mut text);
            let status = reap(pid);
            match (read, status) {
                (_, status) if libc::WIFSIGNALED(status) => Err(NoAnswer::Killed(libc::WTERMSIG(status))),
                (Ok(_), _) if !text.is_empty() => Ok(text),
                _ => Err(NoAnswer::Ended),
            }
        }
    }
}

fn answer(limit: Duration, mut writer: File, work: impl FnOnce() -> String) -> ! {
    let seconds = u32::try_from(limit.as_secs().max(1)).unwrap_or(u32::MAX);
    // SAFETY: both calls take only numbers. The parent's end takes the child along.
    unsafe {
        libc::alarm(seconds);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    let text = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    let sent = text.is_ok_and(|text| writer.write_all(text.as_bytes()).is_ok());
    // SAFETY: _exit leaves at once; the parent's buffers and exit handlers, copied by fork, must not run here.
    unsafe { libc::_exit(i32::from(!sent)) }
}

fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the pointer is to a live local.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1
        && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
    {}
    status
}

fn pipe() -> std::io::Result<(File, File)> {
    let mut fds = [-1; 2];
    // SAFETY: the kernel fills the two places of a live array.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: both descriptors are new and known to nobody else.
    let [reader, writer] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    debug_assert!(reader.as_raw_fd() >= 0);
    Ok((reader.into(), writer.into()))
}
