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
    /// Takes the lock, or says at once who has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        Self::take_within(path, Duration::ZERO)
    }

    /// Takes the lock, if it can be had in that time.
    pub fn take_within(path: &Path, patience: Duration) -> Result<Self, LockError> {
        let until = Instant::now() + patience;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).at("open", path.display())?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(LockError::Held { path: path.to_owned(), holder: Holder::of(path) });
                    }
                    std::thread::sleep(left.min(RETRY));
                }
                Err(e) => return Err(SysError::new("lock", path.display(), e).into()),
            }
        }
        // Only for people; who cannot read it is told "another process".
        let _ = file.set_len(0).and_then(|()| file.write_all(Holder::me().as_bytes()));
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
    fn me() -> String {
        let command: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into()).collect();
        format!("{}\n{}\n", std::process::id(), vzd_schema::render::harmless(&command.join(" ")))
    }

    fn of(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.parse().ok());
        Self { pid, command: lines.next().unwrap_or("?").to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = HostLock::take(&path).unwrap();
        let error = HostLock::take(&path).unwrap_err();
        assert_eq!(error.code(), Code::Locked);
        let said = error.to_string();
        assert!(said.starts_with(&format!(
            "{} is locked by process {} (",
            path.display(),
            std::process::id()
        )));
        drop(lock);
        drop(HostLock::take(&path).unwrap());
        assert_eq!(Holder::of(&path).to_string(), "another process");
        let nowhere = HostLock::take(&dir.path().join("no/lock")).unwrap_err();
        assert!(matches!(nowhere, LockError::Failed(e) if e.is_absent()));
    }

    #[test]
    fn it_is_waited_for_as_long_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = HostLock::take(&path).unwrap();
        let short = Duration::from_millis(60);
        let began = Instant::now();
        assert!(HostLock::take_within(&path, short).is_err());
        assert!(began.elapsed() >= short);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| HostLock::take_within(&path, Duration::from_secs(30)));
            drop(lock);
            assert!(waiter.join().unwrap().is_ok());
        });
    }
}
