//! The state a VE is to be in: what its manifest says, unless someone stands above it.
//!
//! An override (of the owner, an operator, a crash or the host's boot) holds for the generation it was
//! made in: the next change of the spec ends it. What a run's end means is read from the ledger, which
//! knows whether vzd itself was stopping the VE.

use serde::{Deserialize, Serialize};

use crate::desired::Desired;
use crate::ledger::{By, Entry};
use crate::observed::Observed;
use crate::subsystem::Cx;
use crate::subsystem::lifecycle::{End, Exit, Run, StartReason, State, StopReason};

/// A state that a VE can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Power {
    /// It runs.
    Running,
    /// It runs and is frozen.
    Paused,
    /// Its processes are kept in a file, if it ran.
    Suspended,
    /// It does not run.
    Stopped,
    /// It is not there.
    Absent,
}

/// Why a VE is to be in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The manifest says so.
    Spec,
    /// Someone stands above the manifest.
    Override(By),
    /// The manifest was removed.
    Removed,
    /// It is not managed.
    Unmanaged,
    /// It is on its way to another host or from there, or has gone.
    HandedOver,
}

/// The state to be in and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The state.
    pub power: Power,
    /// Why.
    pub reason: Reason,
}

impl From<State> for Power {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Stopped => Self::Stopped,
            State::Paused => Self::Paused,
            State::Suspended => Self::Suspended,
            State::Absent => Self::Absent,
        }
    }
}

/// The state that a VE is to be in. An override of an earlier generation doesn't count, nor one of a
/// manifest that deliberately destroys.
pub fn target(want: &Desired, entry: Option<&Entry>) -> Target {
    let said = want.lifecycle.state;
    if said != State::Absent && entry.is_some_and(|entry| entry.bare) {
        return Target { power: Power::Running, reason: Reason::Override(By::Operator) };
    }
    let above = entry
        .filter(|entry| entry.digest == want.digest && said != State::Absent)
        .and_then(Entry::override_in_force);
    match above {
        Some(above) => Target { power: above.state.into(), reason: Reason::Override(above.by) },
        None => Target { power: said.into(), reason: Reason::Spec },
    }
}

/// How the run in the ledger ended, if it did: none while it goes on or when there was none.
pub fn end_of_run(entry: &Entry, have: &Observed, cx: &Cx<'_>) -> Option<End> {
    let run = entry.run.as_ref().filter(|_| have.stopped())?;
    if entry.bare {
        // How it ended says nothing about the VE's own init.
        return Some(End::Ordered(StopReason::Operator));
    }
    let exit = match have.lifecycle.run.is() {
        Some(Run::Stopped { last_exit }) => *last_exit,
        Some(Run::Running { .. }) | None => None,
    };
    let has_checkpoint = have.lifecycle.checkpoint.is().is_some();
    match run.stopping {
        // What ends a VE with its checkpoint written is a kill, and the host's end may hide that. One that ended in
        // another way has done so by itself, and the checkpoint is of a time before that.
        Some(StopReason::Suspend) if has_checkpoint => match exit {
            None | Some(Exit::Killed(_) | Exit::Unknown) => return Some(End::Ordered(StopReason::Suspend)),
            Some(Exit::Halted | Exit::Rebooted | Exit::Exited(_)) => {}
        },
        Some(StopReason::Suspend) | None => {}
        Some(reason) => return Some(End::Ordered(reason)),
    }
    // A checkpoint is used up before anything runs from it.
    let to_resume = entry.suspension.is_some();
    if to_resume && has_checkpoint {
        return Some(End::NeverStarted);
    }
    if run.boot_id != cx.caps.boot_id {
        return Some(End::HostRebooted);
    }
    Some(match exit {
        Some(Exit::Halted) => End::HaltedByOwner,
        // The program of an image that says so is done; an init that ends has no such thing to say.
        Some(Exit::Exited(0)) if run.cold.application(entry.application()).is_some() => End::HaltedByOwner,
        Some(Exit::Rebooted) => End::RebootedByOwner,
        Some(exit @ (Exit::Exited(_) | Exit::Killed(_) | Exit::Unknown)) => End::Crashed(exit),
        None if run.init_pid.is_none() && !to_resume => End::NeverStarted,
        None => End::Crashed(Exit::Unknown),
    })
}

/// Why a VE would be started now.
pub(super) fn start_reason(entry: Option<&Entry>, target: Target, spec_changed: bool) -> StartReason {
    if spec_changed {
        return StartReason::Spec;
    }
    if target.reason == Reason::Override(By::Operator) {
        return StartReason::Operator;
    }
    // What vzd starts again by itself has a back-off on record; an operator's order takes that away.
    let by_itself = entry.is_some_and(|entry| entry.backoff.is_some());
    match entry.and_then(|entry| entry.last_exit).map(|last| last.end) {
        Some(End::HaltedByOwner | End::Crashed(_)) if !by_itself => StartReason::Operator,
        Some(End::Ordered(StopReason::Operator)) => StartReason::Operator,
        Some(End::HaltedByOwner) => StartReason::Halted,
        Some(End::RebootedByOwner) => StartReason::Reboot,
        Some(End::Crashed(_)) => StartReason::Crash,
        Some(End::HostRebooted) => StartReason::Boot,
        Some(End::Ordered(StopReason::Restart | StopReason::Recreate)) => StartReason::Restart,
        Some(End::Ordered(_) | End::NeverStarted) | None => StartReason::Spec,
    }
}

/// Why a VE would be stopped now.
pub(super) fn stop_reason(target: Target) -> StopReason {
    match target {
        Target { power: Power::Absent, .. } => StopReason::Absent,
        Target { reason: Reason::Override(By::Host), .. } => StopReason::Host,
        Target { reason: Reason::Override(_), .. } => StopReason::Operator,
        Target { reason: Reason::Removed, .. } => StopReason::Removed,
        Target { .. } => StopReason::Spec,
    }
}
