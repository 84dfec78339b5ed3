//! Which conditions a VE has, from its last plan and what came of it.

use super::{Condition, ConditionStatus, ConditionType};
use crate::disruption::{Cause, Disruption};
use crate::ledger::{By, Entry, Standing};
use crate::observed::Observed;
use crate::plan::{Approved, Held, HeldFor, Power, Reason, VePlan};
use crate::subsystem::disk::Resource;
use crate::subsystem::disk::quota::grace_ends;
use crate::subsystem::network;
use crate::units::Timestamp;

/// What is known of a VE after a pass.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The time now.
    pub now: Timestamp,
    /// Its entry in the ledger; none before it is made.
    pub entry: Option<&'a Entry>,
    /// The last look at it.
    pub have: &'a Observed,
    /// The last plan for it.
    pub plan: &'a VePlan<Approved>,
    /// Steps of that plan are still to be done.
    pub in_progress: bool,
    /// What went wrong in the last pass and will be tried again.
    pub failure: Option<&'a Failure>,
    /// Why its manifest cannot be read; it is kept as it last could.
    pub broken_manifest: Option<&'a str>,
    /// Why it cannot be written to disk as it runs, as far as host and manifest tell.
    pub cannot_suspend: Option<&'a str>,
    /// Counters that are bounded and not enforced here, with why; empty if there are none.
    pub unenforced: &'a str,
    /// What its probe says.
    pub health: &'a Health,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A word in PascalCase, such as `ReconciliationFailed`.
    pub reason: String,
    /// The error with its causes.
    pub message: String,
    /// When it is tried again; none if that would not help.
    pub retry_at: Option<Timestamp>,
}

/// What a health probe says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// There is no probe.
    NoProbe,
    /// It has not said anything yet.
    Unknown,
    /// The VE does its work.
    Healthy,
    /// It does not, for this reason.
    Unhealthy(String),
}

/// The conditions of a VE. Those that hold only for a while are left out when they don't.
pub fn conditions(inputs: &Inputs<'_>, previous: &[Condition]) -> Vec<Condition> {
    let found = [
        Some(ready(inputs)),
        reconciling(inputs),
        stalled(inputs),
        healthy(inputs.health),
        Some(drifted(inputs)),
        Some(restart_required(inputs.plan)),
        resize_pending(inputs.plan),
        over_quota(inputs),
        address_conflict(inputs),
        unenforced(inputs),
        inputs
            .plan
            .suspended
            .as_ref()
            .map(|why| Found::yes(ConditionType::Suspended, "Suspended", why.clone())),
        deletion_pending(inputs),
        migratable(inputs),
    ];
    let generation = inputs.entry.map_or(0, |entry| entry.generation);
    found
        .into_iter()
        .flatten()
        .map(|Found { r#type, status, reason, message }| {
            let before = previous.iter().find(|is| is.r#type == r#type && is.status == status);
            Condition {
                r#type,
                status,
                observed_generation: generation,
                last_transition_time: before.map_or(inputs.now, |before| before.last_transition_time),
                reason: reason.to_owned(),
                message,
            }
        })
        .collect()
}

struct Found<'a> {
    r#type: ConditionType,
    status: ConditionStatus,
    reason: &'a str,
    message: String,
}

impl<'a> Found<'a> {
    fn yes(r#type: ConditionType, reason: &'a str, message: impl Into<String>) -> Self {
        Self { r#type, status: ConditionStatus::True, reason, message: message.into() }
    }

    fn no(r#type: ConditionType, reason: &'a str, message: impl Into<String>) -> Self {
        Self { r#type, status: ConditionStatus::False, reason, message: message.into() }
    }

    fn unknown(r#type: ConditionType, reason: &'a str, message: impl Into<String>) -> Self {
        Self { r#type, status: ConditionStatus::Unknown, reason, message: message.into() }
    }
}

fn ready<'a>(inputs: &Inputs<'a>) -> Found<'a> {
    use ConditionType::Ready;
    let Inputs { plan, have, .. } = inputs;
    if let Some(why) = have.lifecycle.run.unreadable() {
        return Found::unknown(Ready, "Unreadable", why);
    }
    if let Some(failure) = inputs.failure {
        return Found::no(Ready, &failure.reason, &failure.message);
    }
    if let Some(stalled) = stalled(inputs) {
        return Found::no(Ready, stalled.reason, stalled.message);
    }
    if plan.target.power != Power::Running {
        return not_to_run(inputs);
    }
    if let Some(unreadable) = plan.unreadable.first() {
        let message = format!("{}: {}", unreadable.what, unreadable.why);
        return Found::unknown(Ready, "Unreadable", message);
    }
    let stopped_by = |held: &&Held| match held.held_for {
        // One that runs does so until it has gone.
        HeldFor::OtherHost => have.running().is_none(),
        _ => held.field == "spec.state" || waits_for(held).is_some(),
    };
    if let Some(held) = plan.held.iter().find(stopped_by) {
        return Found::no(Ready, waits_for(held).unwrap_or("HeldByPolicy"), &held.why);
    }
    if let (Some(why), None) = (&plan.suspended, have.running()) {
        return Found::no(Ready, "Suspended", why);
    }
    if have.running().is_none() || inputs.in_progress {
        return Found::no(Ready, "Progressing", "it is being made as its manifest says");
    }
    match inputs.health {
        Health::Unhealthy(why) => Found::no(Ready, "HealthCheckFailed", why),
        Health::Unknown => Found::unknown(Ready, "HealthUnknown", "its probe has not answered yet"),
        Health::NoProbe | Health::Healthy => Found::yes(Ready, "ReconciliationSucceeded", ""),
    }
}

/// A VE that rightly does not run is not Ready, and this is why.
fn not_to_run<'a>(inputs: &Inputs<'a>) -> Found<'a> {
    let exit = inputs.entry.and_then(|entry| entry.last_exit);
    let ended = || exit.map_or_else(String::new, |exit| exit.end.to_string());
    let (reason, message) = match (inputs.plan.target.reason, inputs.plan.target.power) {
        (Reason::Override(By::Owner), _) => ("HaltedByOwner", ended()),
        (Reason::Override(By::Crash), _) => ("Crashed", ended()),
        (Reason::Override(By::Boot), _) => {
            ("NotOnBoot", "onBoot is false and the host has booted".to_owned())
        }
        (Reason::Override(By::Host), _) => ("HostShutdown", "until the host has booted again".to_owned()),
        (Reason::Override(By::Operator), Power::Paused) => ("PausedByOperator", String::new()),
        (Reason::Override(By::Operator), Power::Suspended) => suspended(inputs, "SuspendedByOperator"),
        (Reason::Override(By::Operator), _) => ("StoppedByOperator", String::new()),
        (Reason::Removed, _) => ("ManifestRemoved", String::new()),
        (Reason::Unmanaged, _) => ("Unmanaged", String::new()),
        (Reason::HandedOver, _) => {
            let handover = inputs.entry.and_then(|entry| entry.handover.as_ref());
            ("HandedOver", handover.map(ToString::to_string).unwrap_or_default())
        }
        (Reason::Spec, Power::Paused) => ("Paused", String::new()),
        (Reason::Spec, Power::Suspended) => suspended(inputs, "SuspendedToDisk"),
        (Reason::Spec, Power::Absent) => ("Absent", String::new()),
        (Reason::Spec, Power::Running | Power::Stopped) => ("Stopped", String::new()),
    };
    Found::no(ConditionType::Ready, reason, message)
}

/// Since when a VE is suspended; one that did not run has nothing to be resumed.
fn suspended<'a>(inputs: &Inputs<'a>, reason: &'a str) -> (&'a str, String) {
    let suspension = inputs.entry.and_then(|entry| entry.suspension.as_ref());
    match (suspension, inputs.have.lifecycle.checkpoint.is()) {
        (Some(since), Some(is)) => (reason, format!("since {}, in {} bytes", since.at, is.bytes)),
        (Some(since), None) => (reason, format!("since {}, but its checkpoint is gone", since.at)),
        (None, _) => ("Stopped", "it did not run: there is nothing to be resumed".to_owned()),
    }
}

/// What a start waits for, if that is why something is held.
fn waits_for(held: &Held) -> Option<&'static str> {
    match held.held_for {
        HeldFor::DependencyNotReady => Some("DependencyNotReady"),
        HeldFor::BackOff => Some("BackOff"),
        HeldFor::UnderWay => Some("UnderWay"),
        HeldFor::OtherHost => Some("OtherHost"),
        HeldFor::Policy
        | HeldFor::PruneGuard
        | HeldFor::RestartRequired
        | HeldFor::RecreateRefused
        | HeldFor::NoIds
        | HeldFor::InUse
        | HeldFor::Infeasible
        | HeldFor::HostUnknown => None,
    }
}

fn reconciling<'a>(inputs: &Inputs<'a>) -> Option<Found<'a>> {
    use ConditionType::Reconciling;
    let retry = inputs.failure.and_then(|failure| failure.retry_at);
    if let Some(at) = retry {
        return Some(Found::yes(Reconciling, "ProgressingWithRetry", format!("the next try is at {at}")));
    }
    let waits = inputs.plan.held.iter().find(|held| waits_for(held).is_some());
    match waits {
        _ if inputs.in_progress => Some(Found::yes(Reconciling, "Progressing", "")),
        Some(held) => Some(Found::yes(Reconciling, "Waiting", &held.why)),
        None => None,
    }
}

fn stalled<'a>(inputs: &Inputs<'a>) -> Option<Found<'a>> {
    use ConditionType::Stalled;
    if let Some(why) = inputs.broken_manifest {
        return Some(Found::yes(Stalled, "ManifestBroken", why));
    }
    if let Some(failure) = inputs.failure.filter(|failure| failure.retry_at.is_none()) {
        return Some(Found::yes(Stalled, &failure.reason, &failure.message));
    }
    let never = inputs.plan.held.iter().find_map(|held| match held.held_for {
        HeldFor::Infeasible => Some(("Infeasible", held)),
        HeldFor::RecreateRefused => Some(("RecreateRefused", held)),
        HeldFor::NoIds => Some(("NoIds", held)),
        HeldFor::HostUnknown => Some(("HostUnknown", held)),
        HeldFor::RestartRequired
        | HeldFor::DependencyNotReady
        | HeldFor::InUse
        | HeldFor::BackOff
        | HeldFor::UnderWay
        | HeldFor::PruneGuard
        | HeldFor::Policy
        | HeldFor::OtherHost => None,
    });
    never.map(|(reason, held)| Found::yes(Stalled, reason, format!("{}: {}", held.field, held.why)))
}

fn healthy<'a>(health: &Health) -> Option<Found<'a>> {
    use ConditionType::Healthy;
    match health {
        Health::NoProbe => None,
        Health::Unknown => Some(Found::unknown(Healthy, "NotProbedYet", "")),
        Health::Healthy => Some(Found::yes(Healthy, "HealthCheckSucceeded", "")),
        Health::Unhealthy(why) => Some(Found::no(Healthy, "HealthCheckFailed", why)),
    }
}

/// A VE that ended by itself has not drifted.
fn drifted<'a>(inputs: &Inputs<'a>) -> Found<'a> {
    let fields: Vec<_> = inputs
        .plan
        .changes
        .iter()
        .filter(|change| change.cause == Cause::Drift && inputs.have.running().is_some())
        .map(|change| change.field.as_str())
        .collect();
    if fields.is_empty() {
        Found::no(ConditionType::Drifted, "NoDriftDetected", "")
    } else {
        Found::yes(ConditionType::Drifted, "DriftDetected", fields.join(", "))
    }
}

fn restart_required<'a>(plan: &VePlan<Approved>) -> Found<'a> {
    let waiting = plan.held.iter().filter(|held| {
        held.disruption == Disruption::Restart
            && held.field != "spec.state"
            && matches!(held.held_for, HeldFor::RestartRequired | HeldFor::Policy)
    });
    let fields: Vec<_> = waiting
        .map(|held| match &held.source {
            Some(source) => format!("{} ({source})", held.field),
            None => held.field.clone(),
        })
        .collect();
    if fields.is_empty() {
        Found::no(ConditionType::RestartRequired, "NothingWaits", "")
    } else {
        Found::yes(ConditionType::RestartRequired, "ChangesWait", fields.join(", "))
    }
}

fn resize_pending<'a>(plan: &VePlan<Approved>) -> Option<Found<'a>> {
    let waiting = plan.held.iter().filter(|held| held.held_for == HeldFor::InUse);
    let fields: Vec<_> = waiting.map(|held| format!("{}: {}", held.field, held.why)).collect();
    (!fields.is_empty()).then(|| Found::yes(ConditionType::ResizePending, "InUse", fields.join("; ")))
}

fn address_conflict<'a>(inputs: &Inputs<'a>) -> Option<Found<'a>> {
    let taken = &inputs.have.network.venet.is()?.taken;
    let told = taken.iter().map(|(address, by)| format!("{address} is also {}'s on {}", by.mac, by.on));
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| Found::yes(ConditionType::AddressConflict, "AddressTaken", told.join("; ")))
}

fn unenforced<'a>(inputs: &Inputs<'a>) -> Option<Found<'a>> {
    let told =
        (inputs.have.running().is_some() && !inputs.unenforced.is_empty()).then_some(inputs.unenforced)?;
    Some(Found::yes(ConditionType::Unenforced, "FeatureMissing", told))
}

/// Of one that runs, without a look at what its processes do: `vzd migrate --dry-run` takes that.
fn migratable<'a>(inputs: &Inputs<'a>) -> Option<Found<'a>> {
    inputs.have.running()?;
    let entry = inputs.entry?;
    let mut why: Vec<String> = inputs.cannot_suspend.map(str::to_owned).into_iter().collect();
    why.extend(entry.applied.network.as_deref().and_then(network::Desired::cannot_move).map(str::to_owned));
    Some(if why.is_empty() {
        Found::yes(ConditionType::Migratable, "NothingKnownAgainst", "")
    } else {
        Found::no(ConditionType::Migratable, "Obstacles", why.join("; "))
    })
}

/// Says no amounts that are in use: what is said again is no news.
fn over_quota<'a>(inputs: &Inputs<'a>) -> Option<Found<'a>> {
    let entry = inputs.entry?;
    let want = entry.applied.disk.as_ref()?;
    let ends = |resource| Some((resource, grace_ends(want, entry.disk.as_ref(), resource)?));
    let over: Vec<_> = Resource::ALL.into_iter().filter_map(ends).collect();
    let told = over.iter().map(|(resource, ends)| {
        let soft = resource.shown(want.bounds(*resource).soft);
        let since = if *ends <= inputs.now { "nothing more is written since" } else { "until" };
        format!("{resource} is above its soft limit of {soft}: {since} {ends}")
    });
    let told: Vec<_> = told.collect();
    let run_out = over.iter().any(|(_, ends)| *ends <= inputs.now);
    let reason = if run_out { "GraceRunOut" } else { "SoftLimitExceeded" };
    (!over.is_empty()).then(|| Found::yes(ConditionType::OverQuota, reason, told.join("; ")))
}

fn deletion_pending<'a>(inputs: &Inputs<'a>) -> Option<Found<'a>> {
    use ConditionType::DeletionPending;
    if let Some(held) = inputs.plan.held.iter().find(|held| held.held_for == HeldFor::PruneGuard) {
        return Some(Found::yes(DeletionPending, "PruneGuardTripped", &held.why));
    }
    match inputs.entry?.standing {
        Standing::Quarantined { until, .. } => {
            let message = format!("it is kept until {until}; `vzd undelete` brings it back");
            Some(Found::yes(DeletionPending, "DeletionQuarantined", message))
        }
        Standing::Destroying => Some(Found::yes(DeletionPending, "Destroying", "")),
        Standing::Active | Standing::Retained => None,
    }
}
