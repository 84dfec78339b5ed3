//! Control groups, IO half: whether a VE's groups are there and frozen, its limits; freeze, thaw, set.
//!
//! Each value is read back after it was written: what the kernel rounds is known beforehand, so that
//! anything else means that it was not taken, or that someone overwrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vzd_state::subsystem::cgroup::{self, Group, Knob, Limits, Live, Observed, Value};

use crate::drivers::knobs::Knobs;
use crate::drivers::{Effect, Running, Ve, reading};
use crate::error::{SysError, SysResult};

/// A VE that does not freeze within this has a process in an uninterruptible wait.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the state of the VE's groups.
pub fn observe(ve: Ve<'_>) -> Observed {
    let group = ve.host.cgroup(ve.entry);
    let (knobs, used) = observe_knobs(ve);
    let read = || Ok(Group { frozen: group.is_frozen()?, populated: group.is_populated()?, knobs, used });
    Observed { group: reading(read()) }
}

/// Values that are wanted or were set, and what is used of those that would otherwise kill.
fn observe_knobs(ve: Ve<'_>) -> (BTreeMap<Knob, vzd_state::reading::Reading<Value>>, BTreeMap<Knob, u64>) {
    let caps = ve.host.caps();
    let set = ve.entry.applied.cgroup.as_ref().map(|applied| applied.knobs.keys().copied());
    let mut which: BTreeSet<Knob> = set.into_iter().flatten().collect();
    if let Some(want) = ve.want {
        let wanted = cgroup::wanted(&want.cgroup.limits, &caps, Some(ve.entry));
        which.extend(wanted.into_iter().filter(|wanted| wanted.value.is_ok()).map(|wanted| wanted.knob));
    }
    let group = Knobs::of(ve.host.cgroup(ve.entry), &caps);
    let used = which.iter().filter_map(|knob| Some((*knob, group.used(*knob)?))).collect();
    (which.into_iter().map(|knob| (knob, reading(group.read(knob)))).collect(), used)
}

/// Sets the limits of groups that were just made; also before a start, so that nothing runs without.
/// What is as in a new group is not written.
pub fn set_limits(ve: Ve<'_>, limits: &Limits) -> SysResult<()> {
    let caps = ve.host.caps();
    let group = Knobs::of(ve.host.cgroup(ve.entry), &caps);
    let wanted = cgroup::wanted_knobs(limits, &caps, ve.entry.ctid.get());
    wanted
        .into_iter()
        .filter(|(knob, value)| *value != knob.default(&caps))
        .try_for_each(|(knob, value)| group.write(knob, &value))
}

/// Freezes, thaws or limits the VE.
pub fn apply_live(ve: Ve<'_>, step: &Live, _running: &Running) -> SysResult<Effect> {
    let caps = ve.host.caps();
    let group = Knobs::of(ve.host.cgroup(ve.entry), &caps);
    match step {
        Live::Freeze => freeze(ve, true),
        Live::Thaw => freeze(ve, false),
        Live::Set { knob, to, .. } | Live::Reset { knob, to, .. } => set(&group, *knob, to),
        Live::Squeeze { knob, to } => match group.write(*knob, &Value::Number(*to)) {
            Ok(()) => Ok(Effect::Changed),
            // It took back what it could, and that is not enough.
            Err(e) if e.errno == libc::EBUSY => Ok(Effect::AlreadySo),
            Err(e) => Err(e),
        },
    }
}

fn freeze(ve: Ve<'_>, wanted: bool) -> SysResult<Effect> {
    let group = ve.host.cgroup(ve.entry);
    if group.is_frozen()? == wanted {
        return Ok(Effect::AlreadySo);
    }
    group.set_frozen(wanted, FREEZE_TIMEOUT)?;
    Ok(Effect::Changed)
}

fn set(group: &Knobs<'_>, knob: Knob, to: &Value) -> SysResult<Effect> {
    if group.read(knob)? == *to {
        return Ok(Effect::AlreadySo);
    }
    // Version 2 would kill for it. The plan was made when less was in use.
    if let (Some(used), Value::Number(limit)) = (group.used(knob), to)
        && used > *limit
    {
        let why = format!("{used} bytes are in use");
        return Err(SysError::refused("set", knob, why).value(to));
    }
    group.write(knob, to)?;
    let is = group.read(knob)?;
    if is != *to {
        let why = format!("it reads {is} right after: someone else writes it too");
        return Err(SysError::refused("set", knob, why).value(to));
    }
    Ok(Effect::Changed)
}

/// Does something while no process of a VE that runs goes on. Whoever is killed meanwhile leaves it frozen, and the next
/// pass takes that back.
pub fn while_frozen<T>(ve: Ve<'_>, _running: &Running, done: impl FnOnce() -> SysResult<T>) -> SysResult<T> {
    let group = ve.host.cgroup(ve.entry);
    // A paused VE stays so.
    let paused = group.is_frozen()?;
    let frozen = group.set_frozen(true, FREEZE_TIMEOUT);
    let done = frozen.and_then(|()| done());
    if paused { done } else { group.set_frozen(false, FREEZE_TIMEOUT).and(done) }
}
