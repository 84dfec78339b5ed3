//! The kernel's log, for the names of processes that it killed for lack of memory.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, SeekFrom};

use crate::error::{At, SysResult};

/// A process that the kernel killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// The host's pid it had.
    pub pid: i32,
    /// Its name, which it chose itself.
    pub name: String,
    /// The host's uid it ran as.
    pub uid: u32,
}

/// The log from where it was opened.
#[derive(Debug)]
pub struct Log(OwnedFd);

const PATH: &str = "/dev/kmsg";

impl Log {
    /// Opens the log at its present end.
    pub fn open() -> SysResult<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let log = rustix::fs::open(PATH, flags, Mode::empty()).at("open", PATH)?;
        rustix::fs::seek(&log, SeekFrom::End(0)).at("find the end of", PATH)?;
        Ok(Self(log))
    }

    /// Who was killed since the last call.
    pub fn victims(&self) -> Vec<Victim> {
        let mut victims = Vec::new();
        let mut buffer = [0_u8; 8192];
        loop {
            match rustix::io::read(&self.0, &mut buffer[..]) {
                Ok(length) => victims.extend(victim(&String::from_utf8_lossy(&buffer[..length]))),
                // Older lines were overwritten; or one is longer than any that is looked for.
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR | rustix::io::Errno::INVAL) => {}
                Err(_) => return victims,
            }
        }
    }
}

/// `3,512,98,-;Memory cgroup out of memory: Killed process 12 (name) total-vm:1kB, ..., UID:100000 pgtables:...`
fn victim(record: &str) -> Option<Victim> {
    let (_, message) = record.split_once(';')?;
    let (_, rest) = message.lines().next()?.split_once("ut of memory: Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    // The name may be anything: what the kernel wrote behind it is the last of its kind.
    let (name, rest) = rest.rsplit_once(") total-vm:")?;
    let (_, uid) = rest.split_once(" UID:")?;
    let uid = uid.split(' ').next()?.parse().ok()?;
    Some(Victim { pid: pid.parse().ok()?, name: name.to_owned(), uid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_victim_is_found_whatever_its_name() {
        let line = "3,512,98,-;Memory cgroup out of memory: Killed process 4711 (a) total-vm:1kB, UID:0 (b) total-vm:9kB, anon-rss:8kB, file-rss:0kB, shmem-rss:0kB, UID:100000 pgtables:48kB oom_score_adj:0\n SUBSYSTEM=x\n";
        let name = "a) total-vm:1kB, UID:0 (b".to_owned();
        assert_eq!(victim(line), Some(Victim { pid: 4711, name, uid: 100_000 }));
        assert_eq!(victim("6,1,2,-;Killed process 1 (x) total-vm:1kB, UID:0 pgtables:1kB"), None);
    }
}
