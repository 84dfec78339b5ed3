//! The root of a VE that is down as a directory of the host's, to be looked into and changed by its administrator, with the ids
//! that its files have inside. The mount itself is the record of it, by its source's name: it is gone with the host's boot, or
//! with umount(8), and is found again by any controller.
//!
//! Nobody else may have the same layers mounted meanwhile (overlayfs refuses that too): whoever needs them for himself takes
//! this mount away first, which fails while it is in use. Its files belong to a VE and may be hostile: no device node opens and
//! no bit raises anybody.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use vzd_state::desired::Desired;
use vzd_state::ids::IdRange;

use super::shown::escaped;
use crate::drivers::Ve;
use crate::engine::fault;
use crate::error::{At, SysError, SysResult};
use crate::kernel::mount::{self, Attr, FsOption};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::procfs;
use crate::runtime::spec::RootSpec;
use crate::runtime::tree::{once_free, open_volume};

/// What `mount` shows as the source of such a mount, before the VE's uid.
const SOURCE: &str = "vzd-root:";
/// What such a mount may not do.
const ATTRS: Attr = Attr::MOUNT_ATTR_NODEV.union(Attr::MOUNT_ATTR_NOSUID);

/// Whether anything can be changed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Yes.
    Write,
    /// No: processes that are written to disk know the files as they are.
    Read,
}

/// Where roots are mounted, by the uids of their VEs, as the caller sees it.
pub fn all() -> SysResult<BTreeMap<String, PathBuf>> {
    Ok(lines()?.into_iter().rev().collect())
}

/// From the first to the last.
fn lines() -> SysResult<Vec<(String, PathBuf)>> {
    let own = std::process::id().cast_signed();
    let of = |line: procfs::MountLine| {
        Some((line.source.strip_prefix(SOURCE)?.to_owned(), PathBuf::from(line.target)))
    };
    Ok(procfs::mounts(own)?.into_iter().filter_map(of).collect())
}

/// Where this VE's is, if it is.
pub fn at(ve: Ve<'_>) -> SysResult<Option<PathBuf>> {
    Ok(all()?.remove(ve.entry.uid.as_str()))
}

/// Mounts the root of a VE that is down at a place that is made for it.
pub fn mount(ve: Ve<'_>, want: &Desired, at: &Path, may: May) -> SysResult<()> {
    let refused = |why: &str| Err(SysError::refused("mount", at.display(), why));
    if !at.is_absolute() {
        return refused("it is no absolute path");
    }
    // What is shown has ids of the VE's, which are those of others on the host: it is for root alone.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(at).at("make directory", at.display())?;
    let at = std::fs::canonicalize(at).at("find", at.display())?;
    let own = std::process::id().cast_signed();
    if procfs::mounts(own)?.iter().any(|line| Path::new(&line.target) == at) {
        return refused("something is mounted there already");
    }
    fault::point();
    mount::attach(&made(ve, want, may)?, CWD, &at)?;
    fault::point();
    Ok(())
}

/// Does something in the root of a VE that is down, which nobody else sees.
pub fn within<T>(ve: Ve<'_>, want: &Desired, work: impl FnOnce(&OwnedFd) -> SysResult<T>) -> SysResult<T> {
    work(&made(ve, want, May::Write)?)
}

/// Its root, attached nowhere.
fn made(ve: Ve<'_>, want: &Desired, may: May) -> SysResult<OwnedFd> {
    // Of the VE's disk, with its limits; what it lies on stays as long as the overlay does.
    let opened = super::open(ve, want)?;
    let source = format!("{SOURCE}{}", ve.entry.uid);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| overlay(&opened.spec, ve.entry.ids, &source, may));
        let panicked = || Err(SysError::refused("mount", &source, "the thread that does it panicked"));
        worker.join().unwrap_or_else(|_| panicked())
    })
}

/// overlayfs as the VE has it, attached nowhere. In a thread that ends: layers have to be in sight where they are named, and are so
/// in a mount namespace of its own, so that one who is killed leaves nothing.
fn overlay(spec: &RootSpec, ids: IdRange, source: &str, may: May) -> SysResult<OwnedFd> {
    ns::unshare(&[Kind::Mount])?;
    mount::make_all_private()?;
    let (layers, beneath) = match &spec.volume {
        Some(volume) => {
            (open_volume(volume)?, spec.upper.strip_prefix(&volume.at).unwrap_or(Path::new("upper")))
        }
        None => {
            let dir = spec.upper.parent().unwrap_or(&spec.upper);
            (mount::clone_tree(CWD, dir, false)?, Path::new("upper"))
        }
    };
    // The host's root, who owns overlayfs's own directory, has to have some id.
    let inside = Namespace::mapping(&[(ids.start, 0, ids.count), (0, ids.count, 1)])?;
    mount::set_attrs(&layers, Attr::empty(), Some(inside.as_fd()), false)?;
    mount::attach(&layers, CWD, &spec.staging)?;
    let upper = spec.staging.join(beneath);
    let work = upper.with_file_name("work");
    let lower = PathBuf::from(escaped(&spec.lower));
    let options = [
        FsOption::Path("lowerdir", &lower),
        FsOption::Path("upperdir", &upper),
        FsOption::Path("workdir", &work),
        // As at a start: what one has noted, the other has to understand.
        FsOption::Text("index", "on"),
        FsOption::Text("xino", "auto"),
        FsOption::Text("source", source),
    ];
    let attrs = if may == May::Read { ATTRS | Attr::MOUNT_ATTR_RDONLY } else { ATTRS };
    once_free(|| mount::new_fs("overlay", &options, attrs))
}

/// Takes it away, wherever else it was bound to, too.
///
/// # Errors
///
/// It is in use.
pub fn unmount(ve: Ve<'_>) -> SysResult<()> {
    for (uid, at) in lines()?.into_iter().rev() {
        if uid != ve.entry.uid.as_str() {
            continue;
        }
        mount::unmount_unused(&at).map_err(|e| match e.errno {
            libc::EBUSY => {
                let why = "it is in use: a program works there, or something is mounted below it";
                SysError { detail: Some(why.to_owned()), ..e }
            }
            _ => e,
        })?;
        fault::point();
        // Only if it is empty, as it is where it was made for this.
        let _ = std::fs::remove_dir(&at);
    }
    super::close(ve);
    Ok(())
}
