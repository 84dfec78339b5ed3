//! Removes the store's own templates that nobody uses.
//!
//! Whether one is used is said by the caller, who knows the VEs, and by the shared locks of those who are about to mount
//! one. Must not remove anything but finished templates in `.store`, looked up there by name and not through symlinks.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::error::TemplateError;
use super::index::Index;
use super::remove::{self, TRASH};
use super::store::{Store, flock, is_own};

/// What [`Store::remove_unused`] did.
#[derive(Debug, Default)]
pub struct Removal {
    /// Directories that are gone.
    pub removed: Vec<PathBuf>,
    /// Directories that no VE uses, but that someone is about to: they hold a [`Template`](super::Template).
    pub busy: Vec<PathBuf>,
    /// What could not be removed.
    pub failed: Vec<TemplateError>,
}

enum Fate {
    Removed,
    Busy,
    Used,
}

impl Store {
    /// Removes the store's own templates, but those whose root is in `in_use` and those that someone holds a
    /// [`Template`](super::Template) of. Directories of the operator are never touched.
    pub fn remove_unused(&self, in_use: &BTreeSet<PathBuf>) -> Result<Removal, TemplateError> {
        let lock = self.lock()?;
        let mut used = BTreeSet::new();
        for path in in_use {
            match rustix::fs::stat(path) {
                Ok(stat) => drop(used.insert((stat.st_dev, stat.st_ino))),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(e) => return Err(TemplateError::io("stat", path, e)),
            }
        }
        let names =
            remove::names(self.own.as_fd()).map_err(|e| TemplateError::io("list", &self.own_path, e))?;
        let mut removal = Removal::default();
        for name in names.iter().filter(|name| is_own(name)) {
            let path = self.own_path.join(std::ffi::OsStr::from_bytes(name));
            // The same name under another spelling of the store's path counts as well.
            if in_use.iter().any(|used| used.file_name() == path.file_name()) {
                continue;
            }
            match self.remove_one(name, &used) {
                Ok(Fate::Removed) => removal.removed.push(path),
                Ok(Fate::Busy) => removal.busy.push(path),
                Ok(Fate::Used) => {}
                Err(e) => removal.failed.push(TemplateError::io("remove", &path, e)),
            }
        }
        if !removal.removed.is_empty() {
            self.save(Index::read(self.own.as_fd()));
        }
        drop(lock);
        Ok(removal)
    }

    fn remove_one(&self, name: &[u8], used: &BTreeSet<(u64, u64)>) -> io::Result<Fate> {
        let own = self.own.as_fd();
        let fd = remove::open_dir(own, name)?;
        let stat = rustix::fs::fstat(&fd)?;
        if used.contains(&(stat.st_dev, stat.st_ino)) {
            return Ok(Fate::Used);
        }
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Fate::Busy),
            done => done?,
        }
        let (bin_name, bin) = remove::fresh_dir(own, TRASH)?;
        rustix::fs::renameat(own, name, &bin, "template")?;
        // From here on nobody finds it by its name; who waits for the lock need not wait for the removal.
        drop(fd);
        drop(bin);
        remove::remove(own, bin_name.as_bytes(), own)?;
        Ok(Fate::Removed)
    }
}
