//! Control groups, IO half: whether a VE's groups are there and frozen; freeze and thaw.

use std::time::Duration;

use vzd_state::subsystem::cgroup::{Group, Live, Observed};

use crate::drivers::{Effect, Running, Ve, reading};
use crate::error::SysResult;

/// A VE that does not freeze within this has a process in an uninterruptible wait.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the state of the VE's groups.
pub fn observe(ve: Ve<'_>) -> Observed {
    let group = ve.host.cgroup(ve.entry);
    let read = || Ok(Group { frozen: group.is_frozen()?, populated: group.is_populated()? });
    Observed { group: reading(read()) }
}

/// Freezes or thaws every process of the VE.
pub fn apply_live(ve: Ve<'_>, step: Live, _running: &Running) -> SysResult<Effect> {
    let group = ve.host.cgroup(ve.entry);
    let wanted = step == Live::Freeze;
    if group.is_frozen()? == wanted {
        return Ok(Effect::AlreadySo);
    }
    group.set_frozen(wanted, FREEZE_TIMEOUT)?;
    Ok(Effect::Changed)
}
