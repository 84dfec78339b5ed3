//! A snapshot as a read-only directory of the host's, with the ids that its files have inside the VE: for those who back up
//! what they can see. The mount itself is the record of it, by its source's name; nothing else is noted.
//!
//! It is made where the caller is, whose mounts are the host's: a command, not the controller. What is shown belongs to a VE and may be
//! hostile: no device node of it opens, no bit of it raises anybody.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use vzd_state::ids::VeName;
use vzd_state::subsystem::disk::Backend;

use super::snapshot::{self, IMAGE};
use super::{backend, image};
use crate::drivers::Ve;
use crate::error::{At, SysError, SysResult};
use crate::kernel::mount::{self, Attr, FsOption};
use crate::kernel::ns::Namespace;
use crate::kernel::{loopdev, procfs};
use crate::runtime::tree::open_volume;

/// What a mount that shows may do.
const ATTRS: Attr = Attr::MOUNT_ATTR_RDONLY
    .union(Attr::MOUNT_ATTR_NODEV)
    .union(Attr::MOUNT_ATTR_NOSUID)
    .union(Attr::MOUNT_ATTR_NOEXEC);

/// What `mount` shows as the source of such a mount, up to the snapshot's name.
fn prefix(ve: Ve<'_>) -> String {
    format!("vzd-snapshot:{}:", ve.entry.uid)
}

/// Where the VE's snapshots are mounted, by their names, as the caller sees it.
pub fn shown(ve: Ve<'_>) -> SysResult<BTreeMap<String, PathBuf>> {
    let prefix = prefix(ve);
    let own = std::process::id().cast_signed();
    let of = |line: procfs::MountLine| {
        let name = line.source.strip_prefix(&prefix)?;
        Some((name.to_owned(), PathBuf::from(line.target)))
    };
    Ok(procfs::mounts(own)?.into_iter().filter_map(of).collect())
}

/// Shows a snapshot at `target`, a directory that is there.
pub fn show(ve: Ve<'_>, name: &VeName, target: &Path) -> SysResult<()> {
    let from = snapshot::find(ve, name)?;
    let refused = |why: &str| Err(SysError::refused("mount", format_args!("snapshot {name}"), why));
    if let Some(at) = shown(ve)?.get(name.as_str()) {
        return refused(&format!("it is mounted at {}", at.display()));
    }
    let target = std::fs::canonicalize(target).at("find", target.display())?;
    if !target.is_dir() {
        return refused(&format!("{} is no directory", target.display()));
    }
    let below = ve.host.ve_dir(&ve.entry.uid).join("lower");
    let below = std::fs::read_link(&below).at("read", below.display())?;
    let upper = match backend(ve) {
        Backend::Image => {
            let file = from.join(IMAGE);
            let device = loopdev::attach(&std::fs::canonicalize(&file).at("find", file.display())?)?;
            let volume = open_volume(&image::volume(&device, Path::new("")))?;
            // A part of a mount can be had of one that is in sight. The part keeps it.
            mount::attach(&volume, CWD, &target)?;
            let upper = mount::clone_tree(CWD, &target.join("upper"), false);
            mount::unmount(&target)?;
            upper?
        }
        Backend::Directory | Backend::Project | Backend::Btrfs => {
            mount::clone_tree(CWD, &from.join("upper"), false)?
        }
    };
    let ids = ve.entry.ids;
    let inside = Namespace::mapping(&[(ids.start, 0, ids.count)])?;
    mount::set_attrs(&upper, ATTRS, Some(inside.as_fd()), false)?;
    let source = format!("{}{name}", prefix(ve));
    let layers =
        [FsOption::Fd("lowerdir+", upper.as_fd()), FsOption::Path("lowerdir+", &below), named(&source)];
    let overlay = match mount::new_fs("overlay", &layers, ATTRS) {
        // Before 6.13 a layer has to be named by a path, which has to be in sight for that.
        Err(e) if matches!(e.errno, libc::EINVAL | libc::EBADF | libc::EOPNOTSUPP) => {
            mount::attach(&upper, CWD, &target)?;
            let both = PathBuf::from(format!("{}:{}", escaped(&target), escaped(&below)));
            let made = mount::new_fs("overlay", &[FsOption::Path("lowerdir", &both), named(&source)], ATTRS);
            mount::unmount(&target)?;
            made?
        }
        other => other?,
    };
    mount::attach(&overlay, CWD, &target)
}

fn named(source: &str) -> FsOption<'_> {
    FsOption::Text("source", source)
}

/// In a list of layers a colon stands between two.
pub(super) fn escaped(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace(':', "\\:")
}

/// Takes it away again; tells where it was.
pub fn hide(ve: Ve<'_>, name: &VeName) -> SysResult<PathBuf> {
    snapshot::find(ve, name)?;
    let Some(at) = shown(ve)?.remove(name.as_str()) else {
        return Err(SysError::refused("unmount", format_args!("snapshot {name}"), "it is not mounted"));
    };
    mount::unmount(&at)?;
    Ok(at)
}
