//! Bounds what one archive may take of the disk.
//!
//! Two bounds: a fixed number of bytes, counted before they are written; and what the file system has free beside a
//! reserve, looked at again and again, since others write to it too.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::Limits;
use super::error::Problem;

/// What the least file takes on disk, about: an inode and a name.
pub(super) const COST: u64 = 512;
/// What a file's content is rounded up to.
pub(super) const PAGE: u64 = 4096;
/// Bytes written between two looks at what is free.
const LOOK_EVERY: u64 = 64 << 20;

/// Keeps count of what the archive takes, and an eye on what is free.
pub(super) struct Space {
    fd: OwnedFd,
    left: u64,
    limit: u64,
    reserve: u64,
    since_look: u64,
}

impl Space {
    pub(super) fn new(root: &OwnedFd, limits: &Limits) -> io::Result<Self> {
        let fd = root.as_fd().try_clone_to_owned()?;
        Ok(Self {
            fd,
            left: limits.max_bytes,
            limit: limits.max_bytes,
            reserve: limits.reserve_bytes,
            since_look: LOOK_EVERY,
        })
    }

    /// Sets bytes aside, before they are written.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Problem> {
        self.left = self.left.checked_sub(bytes).ok_or(Problem::TooBig(self.limit))?;
        if bytes >= LOOK_EVERY || self.since_look >= LOOK_EVERY {
            self.look(bytes)?;
        }
        self.since_look += bytes.min(COST + PAGE);
        Ok(())
    }

    /// Counts bytes that were written.
    pub(super) fn written(&mut self, bytes: u64) -> Result<(), Problem> {
        self.since_look += bytes;
        if self.since_look >= LOOK_EVERY { self.look(0) } else { Ok(()) }
    }

    /// Compares what is free with the reserve and what is needed.
    fn look(&mut self, need: u64) -> Result<(), Problem> {
        self.since_look = 0;
        let fs = rustix::fs::fstatvfs(&self.fd).map_err(|e| Problem::sys("look at the free space", e))?;
        let free = fs.f_bavail.saturating_mul(fs.f_frsize);
        // A file system that counts inodes keeps a twentieth of them.
        let inodes_gone = fs.f_files > 0 && fs.f_favail < fs.f_files / 20;
        if free < self.reserve.saturating_add(need) || inodes_gone {
            let free = if inodes_gone { 0 } else { free.saturating_sub(self.reserve) };
            return Err(Problem::NoSpace { need, free, reserve: self.reserve });
        }
        Ok(())
    }
}
