//! Whether a VE may write to its root, IO half.
//!
//! The overlay as a whole is made read-only, not the VE's mount of it: the file system belongs to the host, so that the
//! VE's root can undo nothing of it.

use vzd_state::reading::Reading;

use crate::drivers::namespaces::root_of;
use crate::drivers::{Effect, Running, Ve, reading};
use crate::error::{At, SysError, SysResult};
use crate::kernel::{mount, procfs};

/// Reads it, if it is wanted or was set.
pub(super) fn look(ve: Ve<'_>, running: &Running) -> Reading<bool> {
    let wanted = ve.want.is_some_and(|want| want.disk.read_only);
    let set = ve.entry.disk.as_ref().is_some_and(|disk| disk.read_only);
    if wanted || set { reading(is(running)) } else { Reading::Absent }
}

fn is(running: &Running) -> SysResult<bool> {
    let lines = procfs::mounts(running.pid)?;
    // The lowest of them is the VE's root, whatever the VE has mounted on it.
    let root = lines.iter().find(|line| line.target == "/" && line.fs_type == "overlay");
    let root = root.ok_or_else(|| SysError::refused("look at", "the VE's root", "it is hidden"))?;
    Ok(root.fs_options.iter().any(|option| option == "ro"))
}

/// Sets it.
pub(super) fn set(running: &Running, to: bool) -> SysResult<Effect> {
    if is(running)? == to {
        return Ok(Effect::AlreadySo);
    }
    let root = root_of(running.pid)?;
    let device = rustix::fs::fstat(&root).at("stat", "the VE's root")?.st_dev;
    // A VE can make another file system its root. What the host has mounted for itself is not the VE's to have changed.
    if procfs::mounts(nix::unistd::Pid::this().as_raw())?.iter().any(|line| line.device == device) {
        return Err(SysError::refused("reconfigure", "the VE's root", "it is a file system of the host's"));
    }
    mount::set_read_only(root, to).map_err(|error| match error.errno {
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
