//! Paths of a VE's, looked up and made beneath its root and never outside of it, whatever links the VE has put there.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use crate::error::{At, SysError, SysResult};

/// Where a path of a VE is looked up: beneath its root, through no magic link.
pub(super) const BENEATH: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens the directory a path lies in, through no symlink, and tells the path's last component.
pub fn open_parent(root: impl AsFd, path: &Path) -> SysResult<(OwnedFd, &std::ffi::OsStr)> {
    let name = path
        .file_name()
        .ok_or_else(|| SysError::refused("open the directory of", path.display(), "it has no name"))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = BENEATH | ResolveFlags::NO_SYMLINKS;
    let dir =
        rustix::fs::openat2(root, parent, flags, Mode::empty(), resolve).at("open", parent.display())?;
    Ok((dir, name))
}

/// Makes directories one by one below `root`; existing ones are left as they are.
pub(super) fn make_dirs(root: impl AsFd, path: &Path, owner: Option<u32>) -> SysResult<()> {
    let root = root.as_fd();
    let mut done = PathBuf::new();
    for part in path.components() {
        let Component::Normal(part) = part else { continue };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here = if done.as_os_str().is_empty() { Path::new(".") } else { done.as_path() };
        let dir =
            rustix::fs::openat2(root, here, flags, Mode::empty(), BENEATH).at("open", here.display())?;
        match rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                if let Some(owner) = owner {
                    chown(&dir, Path::new(part), owner, owner)?;
                }
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(SysError::new("make directory", done.join(part).display(), e)),
        }
        done.push(part);
    }
    Ok(())
}

/// Makes an empty directory or file to mount on, and the directories above it, with the caller's
/// file-system ids.
pub(super) fn make_point(root: impl AsFd, path: &Path, kind: FileType) -> SysResult<()> {
    let root = root.as_fd();
    let relative: PathBuf = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    if kind == FileType::Directory {
        return make_dirs(root, &relative, None);
    }
    if let Some(parent) = relative.parent() {
        make_dirs(root, parent, None)?;
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat2(root, &relative, flags, Mode::from_raw_mode(0o644), BENEATH)
        .map(drop)
        .at("make mount point", path.display())
}

/// Changes the owner of what lies there, not of what it leads to.
pub(super) fn chown(dir: impl AsFd, path: &Path, uid: u32, gid: u32) -> SysResult<()> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(dir, path, Some(uid), Some(gid), flags).at("chown", path.display())
}
