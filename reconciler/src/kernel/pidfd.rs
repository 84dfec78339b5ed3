//! pidfds: hold, signal and await a process without ever using its number.
//!
//! The exit status of a process that is not one's child comes from PIDFD_GET_INFO (Linux 6.15 and
//! later, `PIDFD_INFO_EXIT`); older kernels tell only that it ended.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::{At, SysError, SysResult};
use crate::kernel::process::WaitStatus;

/// A reference to one process that no reuse of pids can redirect.
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
}

/// `struct pidfd_info` of include/uapi/linux/pidfd.h, its first published size and `exit_code`.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)` with the size of the struct above.
const PIDFD_GET_INFO: libc::c_ulong = 0xC000_FF0B | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16);

impl From<OwnedFd> for Pidfd {
    fn from(fd: OwnedFd) -> Self {
        Pidfd { fd }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Pidfd {
    /// Opens a process by number. The caller must know by other means that the number still means
    /// the process it wants (its own unreaped child, or checked afterwards).
    pub fn open(pid: i32) -> SysResult<Self> {
        let raw = rustix::process::Pid::from_raw(pid)
            .ok_or_else(|| SysError::refused("open pidfd of", pid, "not a pid"))?;
        if pid <= 1 {
            return Err(SysError::refused("open pidfd of", pid, "not a process of ours"));
        }
        let fd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())
            .at("open pidfd of", format_args!("pid {pid}"))?;
        Ok(Pidfd { fd })
    }

    /// Another descriptor for the same process.
    pub fn try_clone(&self) -> SysResult<Self> {
        Ok(Pidfd { fd: self.fd.try_clone().at("duplicate", "pidfd")? })
    }

    /// The descriptor itself.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends a signal by number; a process that has ended already is no error.
    pub fn signal(&self, signal: i32) -> SysResult<()> {
        // SAFETY: the descriptor is open; a null siginfo asks for the default one.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if rc == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        Err(SysError::new("signal", "process by pidfd", error).value(signal))
    }

    /// Whether the process still runs (a zombie does not).
    pub fn is_alive(&self) -> SysResult<bool> {
        Ok(!self.wait(Duration::ZERO)?)
    }

    /// Waits until the process has ended, at most `timeout`; tells whether it has.
    pub fn wait(&self, timeout: Duration) -> SysResult<bool> {
        self.wait_or_readable(None, timeout)
    }

    /// Waits until the process has ended, as a task of a runtime that has the IO driver.
    pub async fn ended(self) -> SysResult<()> {
        use tokio::io::{Interest, unix::AsyncFd};
        // SAFETY: an OwnedFd is one open descriptor for as long as it lives.
        let watched = unsafe { AsyncFd::register_with_interest(self.fd, Interest::READABLE) };
        let watched = watched.map_err(std::io::Error::from).at("watch", "pidfd")?;
        watched.readable().await.at("watch", "pidfd").map(drop)
    }

    /// Like [`Pidfd::wait`], and returns as soon as `other` can be read.
    pub fn wait_or_readable(&self, other: Option<BorrowedFd<'_>>, timeout: Duration) -> SysResult<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let own = PollFd::new(&self.fd, PollFlags::IN);
            let mut fds: Vec<_> = std::iter::once(own)
                .chain(other.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)))
                .collect();
            match poll(&mut fds, Some(&left)) {
                Ok(_) => return Ok(!fds[0].revents().is_empty()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(SysError::new("poll", "pidfd", e)),
            }
        }
    }

    /// How the process ended, where the kernel tells: it has been reaped and PIDFD_INFO_EXIT exists.
    pub fn exit_status(&self) -> Option<WaitStatus> {
        let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the struct outlives the call and the request number carries its size.
        let rc = unsafe { libc::ioctl(self.fd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
        (rc == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| WaitStatus::from_raw(info.exit_code))
    }
}
