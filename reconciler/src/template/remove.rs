//! Removes a tree of unknown depth without following a symlink and without running out of descriptors.
//!
//! A tree from an archive may be deeper than PATH_MAX and than the limit of open files, so it is not walked: the
//! victim is moved into a fresh trash directory and taken apart there level by level, each directory that still has
//! something in it being moved up next to the others. Nothing is ever more than two levels deep.
//! Must only be given directories on the same file system; a mount point in the tree is an error (EBUSY), not crossed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// How the names of directories begin that a killed run may leave behind.
pub(super) const TRASH: &str = ".trash-";

/// Removes `name` in `parent`, a directory or anything else. `trash` is the directory to do it in.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &[u8], trash: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return Ok(done?),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        done => return Ok(done?),
    }
    let (bin_name, bin) = fresh_dir(trash, TRASH)?;
    rustix::fs::renameat(parent, name, &bin, "0")?;
    let mut pending = vec![0_u64];
    let mut next = 1_u64;
    while let Some(number) = pending.pop() {
        empty(&bin, number, &mut pending, &mut next)?;
        rustix::fs::unlinkat(&bin, number.to_string(), AtFlags::REMOVEDIR)?;
    }
    Ok(rustix::fs::unlinkat(trash, bin_name, AtFlags::REMOVEDIR)?)
}

/// Makes directory `number` of the bin empty, moving directories that are not into the bin.
fn empty(bin: &OwnedFd, number: u64, pending: &mut Vec<u64>, next: &mut u64) -> io::Result<()> {
    let dir = open_dir(bin.as_fd(), number.to_string().as_bytes())?;
    // Entries that are added or removed while a directory is read may be missed: read again until none is left.
    loop {
        let mut left = false;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if is_dot(name) {
                continue;
            }
            left = true;
            if entry.file_type() != FileType::Directory {
                match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                    Err(Errno::ISDIR | Errno::PERM) => {} // A file system that does not tell the type.
                    done => {
                        done?;
                        continue;
                    }
                }
            }
            match rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    let to = next.to_string();
                    rustix::fs::renameat_with(&dir, name, bin, to, RenameFlags::NOREPLACE)?;
                    pending.push(*next);
                    *next += 1;
                }
                done => done?,
            }
        }
        if !left {
            return Ok(());
        }
    }
}

/// Makes a directory with an unused name in `parent`, for its owner only.
pub(super) fn fresh_dir(parent: BorrowedFd<'_>, prefix: &str) -> io::Result<(String, OwnedFd)> {
    loop {
        let name = format!("{prefix}{:016x}", random());
        match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            done => {
                done?;
                let fd = open_dir(parent, name.as_bytes())?;
                return Ok((name, fd));
            }
        }
    }
}

/// Opens a directory that is in `parent` itself: not through a symlink, not on another file system.
pub(super) fn open_dir(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat2(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )?)
}

/// The names in a directory, without `.` and `..`.
pub(super) fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !is_dot(entry.file_name()) {
            names.push(entry.file_name().to_bytes().to_vec());
        }
    }
    Ok(names)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Good enough for names; the standard library seeds it from the kernel.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
