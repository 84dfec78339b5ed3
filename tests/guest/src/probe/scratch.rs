//! A directory for what probes have to make. Must never remove recursively: a probe that wrongly could mount a disk
//! of the host there must not have it emptied.

use std::path::PathBuf;

/// On the root file system if possible, since that is what some probes are about.
const PARENTS: [&str; 4] = ["/", "/tmp", "/run", "/dev/shm"];
const NAME: &str = ".vzd-probe";

/// Makes the directory if it isn't there.
pub(super) fn prepare() {
    if existing().is_none() {
        for parent in PARENTS {
            if std::fs::create_dir(PathBuf::from(parent).join(NAME)).is_ok() {
                return;
            }
        }
    }
}

/// The path of `name` in it, as a string since most calls here want one.
pub(super) fn file(name: &str) -> String {
    existing().unwrap_or_else(|| PathBuf::from("/")).join(name).display().to_string()
}

/// An empty directory in it.
pub(super) fn directory(name: &str) -> String {
    let path = file(name);
    // It may be there from an earlier probe; whoever uses it will say if it isn't.
    drop(std::fs::create_dir(&path));
    path
}

/// Removes the directory with its own files and empty directories.
pub(super) fn remove() {
    let Some(path) = existing() else { return };
    for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
        // Fails for mount points and for what isn't empty, as it should.
        drop(std::fs::remove_file(entry.path()).or_else(|_| std::fs::remove_dir(entry.path())));
    }
    drop(std::fs::remove_dir(path));
}

fn existing() -> Option<PathBuf> {
    PARENTS.iter().map(|parent| PathBuf::from(parent).join(NAME)).find(|path| path.is_dir())
}
