//! Blocking and waiting for signals. Must not install handlers: all waiting here is done with sigwaitinfo.
#![expect(unsafe_code, reason = "signal masks are C structures filled by libc")]

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// Blocks `signals` for this process (and, by inheritance, its children until they undo it).
pub(crate) fn block(signals: &[i32]) -> io::Result<()> {
    change(libc::SIG_BLOCK, signals)
}

/// Undoes [`block`].
pub(crate) fn unblock(signals: &[i32]) -> io::Result<()> {
    change(libc::SIG_UNBLOCK, signals)
}

/// Waits until one of the blocked `signals` comes.
pub(crate) fn wait(signals: &[i32]) -> io::Result<i32> {
    loop {
        // SAFETY: the set is initialised by `set`; a null info pointer is allowed.
        let got = unsafe { libc::sigwaitinfo(&raw const *set(signals), std::ptr::null_mut()) };
        match io::Error::last_os_error() {
            _ if got > 0 => return Ok(got),
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

/// Waits for one of the blocked `signals` for at most `limit`.
pub(crate) fn wait_at_most(signals: &[i32], limit: Duration) -> Option<i32> {
    let limit = libc::timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    // SAFETY: the set is initialised by `set`; a null info pointer is allowed.
    let got = unsafe { libc::sigtimedwait(&raw const *set(signals), std::ptr::null_mut(), &raw const limit) };
    (got > 0).then_some(got)
}

/// Sends `signal` to `pid` (kill(2)'s meaning for 0 and negative ones).
pub(crate) fn send(pid: i32, signal: i32) -> Result<(), super::Errno> {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(super::Errno::last()) }
}

/// Reaps every child that has ended; true if there are no children left.
pub(crate) fn reap_all() -> bool {
    loop {
        // SAFETY: a null status pointer is allowed.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => return false,
            pid if pid < 0 => return true,
            _ => {}
        }
    }
}

fn change(how: i32, signals: &[i32]) -> io::Result<()> {
    // SAFETY: the set is initialised by `set`; a null old set is allowed.
    match unsafe { libc::sigprocmask(how, &raw const *set(signals), std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(signals: &[i32]) -> Box<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set; sigaddset is given an initialised one.
    Box::new(unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    })
}
