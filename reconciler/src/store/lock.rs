//! One who changes things on this host at a time: the controller, or a command when there is none.
//!
//! The kernel holds the lock (flock), so it cannot outlive its holder; what the file says is only who
//! that is.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use vzd_schema::Code;

use crate::error::{At, SysError};

/// How often a lock that is waited for is tried.
const RETRY: Duration = Duration::from_millis(50);
/// So long a controller waits for a command.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the file says of a controller.
const CONTROLLER: &str = "controller";

/// What it is had for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// A command, which is soon done, and waits for nobody.
    Command,
    /// A controller, until it ends. It waits for a command, but not for another controller.
    Controller,
}

/// The lock; let go when it is dropped.
#[derive(Debug)]
pub struct HostLock {
    file: File,
}

/// Why the lock was not had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Someone has it.
    #[error("{} is locked by {holder}", path.display())]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who.
        holder: Holder,
    },
    /// It cannot be tried.
    #[error(transparent)]
    Failed(#[from] SysError),
}

impl LockError {
    /// The code that this is told with.
    pub fn code(&self) -> Code {
        Code::Locked
    }
}

/// Who has the lock, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process.
    pub pid: Option<u32>,
    /// How it was called.
    pub command: String,
    /// It is a controller.
    stays: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} ({})", self.command),
            None => write!(f, "another process"),
        }
    }
}

impl HostLock {
    /// Takes the lock, or says who has it.
    pub fn take(path: &Path, hold: Hold) -> Result<Self, LockError> {
        let patience = if hold == Hold::Controller { PATIENCE } else { Duration::ZERO };
        Self::take_within(path, hold, patience)
    }

    fn take_within(path: &Path, hold: Hold, patience: Duration) -> Result<Self, LockError> {
        let until = Instant::now() + patience;
        // Twice the same: whoever has only just taken it has not said who that is.
        let mut before = None;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).at("open", path.display())?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    let left = until.saturating_duration_since(Instant::now());
                    let holder = Holder::of(path);
                    if left.is_zero() || holder.stays && before.as_ref() == Some(&holder) {
                        return Err(LockError::Held { path: path.to_owned(), holder });
                    }
                    before = Some(holder);
                    std::thread::sleep(left.min(RETRY));
                }
                Err(e) => return Err(SysError::new("lock", path.display(), e).into()),
            }
        }
        // Who cannot read it is told "another process".
        let _ = file.set_len(0).and_then(|()| file.write_all(Holder::me(hold).as_bytes()));
        Ok(Self { file })
    }
}

impl Drop for HostLock {
    fn drop(&mut self) {
        // So that nobody who comes between is told of someone who is gone.
        let _ = self.file.rewind().and_then(|()| self.file.set_len(0));
    }
}

impl Holder {
    /// This process, as it is written down.
    fn me(hold: Hold) -> String {
        let command: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into()).collect();
        let command = vzd_schema::render::harmless(&command.join(" "));
        let stays = if hold == Hold::Controller { CONTROLLER } else { "" };
        format!("{}\n{command}\n{stays}\n", std::process::id())
    }

    fn of(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.parse().ok());
        let command = lines.next().unwrap_or("?").to_owned();
        Self { pid, command, stays: lines.next() == Some(CONTROLLER) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = HostLock::take(&path, Hold::Command).unwrap();
        let error = HostLock::take(&path, Hold::Command).unwrap_err();
        assert_eq!(error.code(), Code::Locked);
        let said = error.to_string();
        assert!(said.starts_with(&format!(
            "{} is locked by process {} (",
            path.display(),
            std::process::id()
        )));
        drop(lock);
        drop(HostLock::take(&path, Hold::Command).unwrap());
        assert_eq!(Holder::of(&path).to_string(), "another process");
        let nowhere = HostLock::take(&dir.path().join("no/lock"), Hold::Command).unwrap_err();
        assert!(matches!(nowhere, LockError::Failed(e) if e.is_absent()));
    }

    #[test]
    fn a_controller_waits_for_a_command_and_nobody_for_a_controller() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = HostLock::take(&path, Hold::Command).unwrap();
        let short = Duration::from_millis(60);
        let began = Instant::now();
        assert!(HostLock::take_within(&path, Hold::Controller, short).is_err());
        assert!(began.elapsed() >= short);
        let controller = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| HostLock::take(&path, Hold::Controller));
            drop(lock);
            waiter.join().unwrap().unwrap()
        });
        for hold in [Hold::Controller, Hold::Command] {
            let began = Instant::now();
            assert!(HostLock::take(&path, hold).is_err());
            assert!(began.elapsed() < PATIENCE);
        }
        drop(controller);
    }
}
