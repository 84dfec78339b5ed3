//! How a VE's root is mounted: whether anything can be written to it, and the options of the mount.
//!
//! The overlay as a whole is made read-only, not the VE's mount of it: the file system belongs to the host, so that the
//! VE's root can undo nothing of it. Options of the mount are fixed by the start, and only read here.

use std::collections::BTreeSet;

use vzd_schema::v1::MountOption;
use vzd_state::reading::Reading;

use crate::drivers::namespaces::root_of;
use crate::drivers::{Effect, Running, Ve, reading};
use crate::error::{At, SysError, SysResult};
use crate::kernel;
use crate::kernel::procfs::{self, MountLine};

/// Reads whether it is read-only, if that is wanted or was set.
pub(super) fn read_only(ve: Ve<'_>, running: &Running) -> Reading<bool> {
    let wanted = ve.want.is_some_and(|want| want.disk.read_only);
    let set = ve.entry.disk.as_ref().is_some_and(|disk| disk.read_only);
    if wanted || set { reading(is_read_only(running)) } else { Reading::Absent }
}

/// Reads the options, if its start was told any.
pub(super) fn options(ve: Ve<'_>, running: &Running) -> Reading<BTreeSet<MountOption>> {
    let told = ve.entry.run.as_ref().is_some_and(|run| !run.cold.mount_options.is_empty());
    if told { reading(mount(running).map(|line| options_of(&line))) } else { Reading::Absent }
}

fn options_of(line: &MountLine) -> BTreeSet<MountOption> {
    let has = |name: &str| line.options.iter().any(|option| option == name);
    let named = [
        (MountOption::Noatime, has("noatime")),
        (MountOption::Relatime, has("relatime")),
        // The kernel has no word for it.
        (MountOption::Strictatime, !has("noatime") && !has("relatime")),
        (MountOption::Nodiratime, has("nodiratime")),
        (MountOption::Nosuid, has("nosuid")),
        (MountOption::Nodev, has("nodev")),
    ];
    named.into_iter().filter_map(|(option, is)| is.then_some(option)).collect()
}

/// The VE's root is the lowest mount, whatever the VE has mounted on it.
fn mount(running: &Running) -> SysResult<MountLine> {
    let mut lines = procfs::mounts(running.pid)?.into_iter();
    let root = lines.find(|line| line.target == "/" && line.fs_type == "overlay");
    root.ok_or_else(|| SysError::refused("look at", "the VE's root", "it is hidden"))
}

fn is_read_only(running: &Running) -> SysResult<bool> {
    Ok(mount(running)?.fs_options.iter().any(|option| option == "ro"))
}

/// Makes it read-only or writable.
pub(super) fn set_read_only(running: &Running, to: bool) -> SysResult<Effect> {
    if is_read_only(running)? == to {
        return Ok(Effect::AlreadySo);
    }
    let root = root_of(running.pid)?;
    let device = rustix::fs::fstat(&root).at("stat", "the VE's root")?.st_dev;
    // A VE can make another file system its root. What the host has mounted for itself is not the VE's to have changed.
    if procfs::mounts(nix::unistd::Pid::this().as_raw())?.iter().any(|line| line.device == device) {
        return Err(SysError::refused("reconfigure", "the VE's root", "it is a file system of the host's"));
    }
    kernel::mount::set_read_only(root, to).map_err(|error| match error.errno {
        libc::EBUSY => SysError {
            detail: Some(
                "programs in the VE have files open for writing; the next start makes it so".to_owned(),
            ),
            ..error
        },
        _ => error,
    })?;
    Ok(Effect::Changed)
}
