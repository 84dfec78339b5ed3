//! Processes of the host, looked at and ended through descriptors: a number alone may have changed hands.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that was found, held by a pidfd.
pub struct Process {
    /// Its number.
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// Opens the process of this number; none if there is none.
    pub fn open(pid: u32) -> Option<Process> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some(Process { pid, pidfd: pidfd_open(number, PidfdFlags::empty()).ok()? })
    }

    /// The keeper of a run directory, told by its whole command line.
    pub fn keeper_of(run_dir: &Path) -> Option<Process> {
        let wanted =
            [b"keeper".as_slice(), b"--run-dir", run_dir.as_os_str().as_encoded_bytes()].map(<[u8]>::to_vec);
        let is_keeper = |pid: u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            words.windows(3).any(|three| three == wanted.each_ref().map(Vec::as_slice))
        };
        all().into_iter().filter(|pid| is_keeper(*pid)).find_map(|pid| {
            let process = Process::open(pid)?;
            // Still the same after it was opened.
            is_keeper(pid).then_some(process)
        })
    }

    /// One that has a file open of which `which` is true.
    pub fn with_open(which: impl Fn(&Path) -> bool) -> Option<Process> {
        let has = |pid: u32| {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|path| which(&path))
        };
        all().into_iter().filter(|pid| has(*pid)).find_map(|pid| {
            let process = Process::open(pid)?;
            has(pid).then_some(process)
        })
    }

    /// Kills it.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends it a signal; one that is gone is none to be told.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for its end; tells whether it came.
    pub fn wait(&self, timeout: Duration) -> bool {
        let timeout = crate::slow(timeout);
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        !self.wait(Duration::ZERO)
    }
}

/// Every process number of this moment.
fn all() -> Vec<u32> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A line of /proc/PID/status.
pub fn status_field(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned()).unwrap_or_default()
}

/// What a process's descriptors lead to.
pub fn fds_of(pid: u32) -> BTreeMap<u32, PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let one = |entry: std::fs::DirEntry| {
        Some((entry.file_name().to_str()?.parse().ok()?, std::fs::read_link(entry.path()).ok()?))
    };
    entries.filter_map(one).collect()
}

/// The mounts that a process sees, as text.
pub fn mountinfo_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default()
}

/// One of a process's namespaces, such as `net:[4026531840]`.
pub fn namespace_of(pid: u32, kind: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}
