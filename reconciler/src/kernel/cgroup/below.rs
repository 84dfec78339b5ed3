//! What is below a control group, however deep.
//!
//! A VE makes groups of its own, as deep as it likes: their paths get longer than the kernel takes one, and a stack of
//! calls deeper than a thread has room for. So this goes by descriptors, two at a time, and must not recurse.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::remove_dir;
use crate::error::{At, SysError, SysResult};

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Looks at a group and at each below it. One that goes meanwhile is passed over.
pub(super) fn each(top: &Path, mut look: impl FnMut(&OwnedFd) -> SysResult<()>) -> SysResult<()> {
    walk(top, &mut look, |_, _| Ok(()))
}

/// Removes a group and all below it. No process may be in them; the kernel empties their files itself.
pub(super) fn remove(top: &Path) -> SysResult<()> {
    let rmdir = |dir: &OwnedFd, name: &CStr| match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(SysError::new("remove cgroup below", top.display(), e).value(name.to_string_lossy())),
    };
    walk(top, |_| Ok(()), rmdir)?;
    remove_dir(top)
}

/// The text of a group's file.
pub(super) fn read_in(dir: &OwnedFd, file: &str) -> SysResult<String> {
    let fd =
        rustix::fs::openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", file)?;
    std::io::read_to_string(std::fs::File::from(fd)).at("read", file)
}

/// Calls `enter` with each group before those below it, and `leave` with the group around it and its name after them.
fn walk(
    top: &Path,
    mut enter: impl FnMut(&OwnedFd) -> SysResult<()>,
    mut leave: impl FnMut(&OwnedFd, &CStr) -> SysResult<()>,
) -> SysResult<()> {
    let mut here = match rustix::fs::open(top, DIR, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.at("open", top.display())?,
    };
    enter(&here)?;
    let mut names: Vec<CString> = Vec::new();
    let mut still: Vec<Vec<CString>> = vec![children(&here, top)?];
    while let Some(level) = still.last_mut() {
        if let Some(name) = level.pop() {
            match rustix::fs::openat(&here, &name, DIR, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                other => here = other.at("open a group below", top.display())?,
            }
            enter(&here)?;
            still.push(children(&here, top)?);
            names.push(name);
        } else {
            still.pop();
            if let Some(name) = names.pop() {
                // Groups are not moved: above is where we came from.
                here = rustix::fs::openat(&here, c"..", DIR, Mode::empty())
                    .at("leave a group below", top.display())?;
                leave(&here, &name)?;
            }
        }
    }
    Ok(())
}

fn children(dir: &OwnedFd, top: &Path) -> SysResult<Vec<CString>> {
    let entries = rustix::fs::Dir::read_from(dir.as_fd()).at("list a group below", top.display())?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = match entry {
            // It goes just now.
            Err(Errno::NOENT) => break,
            other => other.at("list a group below", top.display())?,
        };
        let itself = matches!(entry.file_name().to_bytes(), b"." | b"..");
        if entry.file_type() == FileType::Directory && !itself {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
