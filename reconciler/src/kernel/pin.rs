//! Namespaces that are kept while nobody is in them: each by a mount of it on a file of the host's.
//!
//! Whoever pins one takes the pin away; what is in it stays until then.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::mount;
use super::ns::{Kind, Namespace};
use crate::error::{At, SysResult};

/// Keeps a namespace at `path`, in place of one that was kept there.
pub fn pin(namespace: &Namespace, path: &Path) -> SysResult<()> {
    let identity = |fd: std::os::fd::BorrowedFd<'_>| {
        rustix::fs::fstat(fd).map(|is| (is.st_dev, is.st_ino)).at("look at", path.display())
    };
    if let Some(kept) = pinned(path, Kind::Net)? {
        if identity(kept.as_fd())? == identity(namespace.as_fd())? {
            return Ok(());
        }
        mount::unmount(path)?;
    }
    let file = File::create(path).at("make", path.display())?;
    mount::attach_on(mount::clone_fd(namespace.as_fd())?, file.as_fd(), path)
}

/// The namespace that is kept at `path`, if one is.
pub fn pinned(path: &Path, kind: Kind) -> SysResult<Option<Namespace>> {
    /// `NSFS_MAGIC`
    const NSFS: u64 = 0x6e73_6673;
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.at("open", path.display())?,
    };
    let is = rustix::fs::fstatfs(&file).at("look at", path.display())?;
    Ok((u64::try_from(is.f_type) == Ok(NSFS)).then(|| Namespace::from_fd(file.into(), kind)))
}

/// Keeps it no longer.
pub fn unpin(path: &Path) -> SysResult<()> {
    if pinned(path, Kind::Net)?.is_some() {
        mount::unmount(path)?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path.display()),
    }
}
