//! Files that are there whole or not at all, whenever the machine or the controller stops.
//!
//! A file is written beside its place, synced and renamed. A name that is new or gone is made durable by
//! syncing its directory. One that stays is not: a power cut in the next seconds may bring the version
//! before back, whole, and with it goes all that a later one told of (processes, mounts, control groups).
//! Not for anything inside a VE: paths are followed as they are.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Writes;
use crate::error::{At, SysError, SysResult};

/// What a write or a removal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The disk has changed.
    Changed,
    /// It was so already.
    AlreadySo,
}

/// Makes a file hold exactly that, readable for its owner only.
pub fn write(path: &Path, bytes: &[u8], writes: &Writes) -> SysResult<Written> {
    let known = std::fs::read(path);
    if known.as_ref().is_ok_and(|known| known == bytes) {
        return Ok(Written::AlreadySo);
    }
    let dir = parent(path)?;
    let temporary = temporary(path)?;
    writes.disk();
    let moved = fill(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path).at("rename", temporary.display()));
    if let Err(error) = moved {
        // The first error counts; what is left is swept at the next start.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    if known.is_err() {
        sync(dir)?;
    }
    Ok(Written::Changed)
}

/// Exchanges what a file holds; its owner and mode stay.
pub fn replace(path: &Path, bytes: &[u8], writes: &Writes) -> SysResult<()> {
    let was = std::fs::metadata(path).at("look at", path.display())?;
    let temporary = temporary(path)?;
    writes.disk();
    let moved = fill(&temporary, bytes)
        .and_then(|()| chown(&temporary, Some(was.uid()), Some(was.gid())).at("chown", temporary.display()))
        .and_then(|()| {
            std::fs::set_permissions(&temporary, was.permissions()).at("chmod", temporary.display())
        })
        .and_then(|()| std::fs::rename(&temporary, path).at("rename", temporary.display()));
    if moved.is_err() {
        // The first error counts.
        let _ = std::fs::remove_file(&temporary);
    }
    moved.and_then(|()| sync(parent(path)?))
}

/// Makes a file not be there.
pub fn remove(path: &Path, writes: &Writes) -> SysResult<Written> {
    match std::fs::remove_file(path) {
        Ok(()) => {
            writes.disk();
            sync(parent(path)?)?;
            Ok(Written::Changed)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Written::AlreadySo),
        Err(e) => Err(SysError::new("remove", path.display(), e)),
    }
}

/// Removes what writers that were killed have left in a directory. Nobody else may be writing there.
pub fn sweep(dir: &Path, writes: &Writes) -> SysResult<()> {
    let entries = std::fs::read_dir(dir).at("list", dir.display())?;
    for entry in entries {
        let entry = entry.at("list", dir.display())?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".tmp")) {
            writes.disk();
            std::fs::remove_file(entry.path()).at("remove", entry.path().display())?;
        }
    }
    Ok(())
}

/// Makes durable which names are in a directory.
pub fn sync(dir: &Path) -> SysResult<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).at("sync", dir.display())
}

fn fill(path: &Path, bytes: &[u8]) -> SysResult<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at("make", path.display())?;
    file.write_all(bytes).at("write", path.display())?;
    file.sync_all().at("sync", path.display())
}

fn parent(path: &Path) -> SysResult<&Path> {
    let parent =
        path.parent().ok_or_else(|| SysError::refused("write", path.display(), "it has no parent"))?;
    Ok(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// A name beside the file that no other writer uses, and that `sweep` knows.
fn temporary(path: &Path) -> SysResult<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name =
        path.file_name().ok_or_else(|| SysError::refused("write", path.display(), "it has no name"))?;
    let (pid, count) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Ok(path.with_file_name(format!(".{}.{pid}-{count}.tmp", name.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_exchanged_whole_and_only_if_it_differs() {
        let dir = tempfile::tempdir().unwrap();
        let (path, writes) = (dir.path().join("record"), Writes::default());
        assert_eq!(write(&path, b"one", &writes), Ok(Written::Changed));
        let is = || std::fs::metadata(&path).unwrap();
        let first = is();
        assert_eq!(first.permissions().mode() & 0o7777, 0o600);
        assert_eq!(write(&path, b"one", &writes), Ok(Written::AlreadySo));
        assert_eq!((is().ino(), writes.to_disk()), (first.ino(), 1));
        assert_eq!(write(&path, b"two", &writes), Ok(Written::Changed));
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(remove(&path, &writes), Ok(Written::Changed));
        assert_eq!(remove(&path, &writes), Ok(Written::AlreadySo));
        assert_eq!((writes.to_disk(), writes.total()), (3, 3));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        std::fs::create_dir(&path).unwrap();
        let error = write(&path, b"x", &Writes::default()).unwrap_err();
        assert!(error.to_string().contains("rename"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let nowhere = dir.path().join("no/where");
        assert!(write(&nowhere, b"x", &Writes::default()).unwrap_err().is_absent());
    }

    #[test]
    fn what_killed_writers_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let (path, writes) = (dir.path().join("record"), Writes::default());
        write(&path, b"one", &writes).unwrap();
        std::fs::write(temporary(&path).unwrap(), b"tw").unwrap();
        std::fs::write(dir.path().join("other.tmp"), b"").unwrap();
        sweep(dir.path(), &writes).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other.tmp", "record"]);
    }
}
