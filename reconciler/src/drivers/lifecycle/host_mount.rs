//! `vzctl mount`: the root of a VE that is down, mounted on the host, with the action scripts that belong to that.

use std::path::Path;

use super::scripts::{self, Mounted};
use super::{Found, find};
use crate::drivers::disk::host_mount::{self, May};
use crate::drivers::{StepError, Ve};
use crate::error::{SysError, SysResult};

/// Mounts it. A script that fails undoes it.
pub fn mount(ve: Ve<'_>, at: &Path) -> Result<(), StepError> {
    let refused = |why: &str| SysError::refused("mount", format_args!("VE {}", ve.entry.name), why);
    if let Some(at) = host_mount::at(ve)? {
        return Err(refused(&format!("it is mounted at {} already", at.display())).into());
    }
    let Found::Stopped(_) = find(ve, None)? else {
        return Err(refused("it runs, and has its root mounted for itself").into());
    };
    let want = ve.want.ok_or_else(|| refused("no manifest says how"))?;
    let may = if ve.entry.suspension.is_some() { May::Read } else { May::Write };
    let root = Mounted::on_host(at);
    scripts::on_host(ve, &root, "premount").map_err(StepError::Script)?;
    let mounted = host_mount::mount(ve, want, at, may).map_err(StepError::from);
    let done = mounted.and_then(|()| scripts::on_host(ve, &root, "mount").map_err(StepError::Script));
    if done.is_err() {
        // Why it failed is worth more than a failure to clear up.
        let _ = host_mount::unmount(ve);
        let _ = scripts::after(ve, &root, &["postumount"]);
    }
    done
}

/// Takes it away, unless a script or somebody who uses it has something against that.
pub fn unmount(ve: Ve<'_>) -> Result<(), StepError> {
    let Some(at) = host_mount::at(ve)? else {
        let object = format_args!("VE {}", ve.entry.name).to_string();
        return Err(SysError::refused("unmount", object, "it is not mounted").into());
    };
    let root = Mounted::on_host(&at);
    scripts::on_host(ve, &root, "umount").map_err(StepError::Script)?;
    host_mount::unmount(ve)?;
    scripts::on_host(ve, &root, "postumount").map_err(StepError::Script)
}

/// Takes it away for somebody who needs the VE's files for himself. Scripts that fail hold nothing up.
///
/// # Errors
///
/// It is in use.
pub fn take_away(ve: Ve<'_>) -> SysResult<()> {
    let Some(at) = host_mount::at(ve)? else { return Ok(()) };
    let root = Mounted::on_host(&at);
    let mut failed = scripts::after(ve, &root, &["umount"]);
    host_mount::unmount(ve)?;
    failed.extend(scripts::after(ve, &root, &["postumount"]));
    for why in failed {
        tracing::warn!(ve = %ve.entry.name, %why, "an action script failed");
    }
    Ok(())
}
