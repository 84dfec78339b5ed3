//! System calls that a filter leaves to somebody else to answer: seccomp_unotify(2).
//!
//! The caller waits meanwhile, and may be killed: what was read of it counts only if [`Listener::waits`] still says so
//! afterwards.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::{At, SysError, SysResult};

/// `struct seccomp_notif` with `struct seccomp_data` in it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Call {
    /// Which of those that wait.
    pub id: u64,
    /// The thread, in this process's pid namespace.
    pub pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// What there was to hear.
#[derive(Debug, Clone, Copy)]
pub enum Heard {
    /// This call.
    Call(Call),
    /// None, for as long as was waited.
    Nothing,
    /// No process of the filter is left.
    End,
}

const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const IS_VALID: libc::c_ulong = 0x4008_2102;

/// Where calls of the processes of one filter are heard.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Listener(fd)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener {
    /// Waits for the next call until a moment.
    pub fn next(&self, until: Instant) -> SysResult<Heard> {
        loop {
            let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
            let left = until.saturating_duration_since(Instant::now());
            let left =
                Timespec::try_from(left).map_err(|e| SysError::refused("wait for", "system calls", e))?;
            match rustix::event::poll(&mut polled, Some(&left)) {
                Ok(0) => return Ok(Heard::Nothing),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(SysError::new("wait for", "system calls", e)),
            }
            if !polled[0].revents().contains(PollFlags::IN) {
                return Ok(Heard::End);
            }
            let mut call = Call::default();
            if self.control(RECEIVE, &raw mut call).is_ok() {
                return Ok(Heard::Call(call));
            }
            // Its caller was killed meanwhile.
        }
    }

    /// Whether the call is still waited for, so that its pid still means its caller.
    pub fn waits(&self, call: &Call) -> bool {
        let mut id = call.id;
        self.control(IS_VALID, &raw mut id).is_ok()
    }

    /// Answers a call: 0, or an errno. Nobody may be left to hear it.
    pub fn answer(&self, call: &Call, answer: Result<(), i32>) {
        let error = answer.err().map_or(0, |errno| -errno);
        let mut answer = Answer { id: call.id, value: 0, error, flags: 0 };
        let _ = self.control(SEND, &raw mut answer);
    }

    fn control<T>(&self, request: libc::c_ulong, data: *mut T) -> SysResult<()> {
        // SAFETY: each request comes with the structure that it reads or writes (see the callers).
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request, data) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).at("answer", "system call"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<Call>(), size_of::<Answer>()), (80, 24));
    }
}
