//! What to do about a VE that is wanted: notes first, then away with what is too much, then what is
//! missing, and all of it through a stop and a start where a running VE cannot take it.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{Draft, Source, Steps};
use super::power::{Power, Target, start_reason, stop_reason, target};
use super::{Action, Gentler, HeldFor, Order, PlannedStep, Proposed, Step, VePlan, gone, infeasible};
use crate::desired::Desired;
use crate::disruption::{Cause, Change, Disruption, Feasible};
use crate::ledger::Standing;
use crate::observed::Observed;
use crate::reading::Reading;
use crate::subsystem::lifecycle::{self, End, Run, StartReason, StopReason};
use crate::subsystem::{Cx, Subsystem, cgroup, devices, disk, json, namespaces};

pub(super) fn plan(want: &Desired, source: Source, have: &Observed, cx: &Cx<'_>) -> VePlan<Proposed> {
    let mut draft = Draft::new(&want.name, have, cx);
    draft.want = Some(want);
    draft.plan.source = Some(want.source.clone());
    draft.plan.order =
        Order { boot_order: want.lifecycle.boot_order, depends_on: want.lifecycle.depends_on.clone() };
    draft.plan.target = target(want, cx.entry);
    if cx.entry.is_some_and(|entry| entry.standing == Standing::Destroying) {
        gone::destroy(&mut draft, StopReason::Absent);
        return draft.plan;
    }
    if let Some(reason) = want.lifecycle.suspended(cx.now) {
        draft.plan.suspended = Some(reason);
        if let Some(until) = want.lifecycle.suspend.as_ref().and_then(|suspend| suspend.until) {
            draft.wake(until);
        }
        return draft.plan;
    }
    if draft.plan.target.power == Power::Absent {
        if cx.entry.is_some() {
            gone::destroy(&mut draft, StopReason::Absent);
        }
        return draft.plan;
    }

    let end = draft.reap();
    note_manifest(&mut draft, want, source);
    let entry = draft.entry.as_deref();
    draft.plan.target = target(want, entry);
    let seen = diff(&mut draft, want);
    match &have.lifecycle.run {
        Reading::Unreadable(_) => {}
        Reading::Is(Run::Running { init_pid, started_at }) => {
            adopt(&mut draft, *init_pid, *started_at);
            running(&mut draft, want, seen);
        }
        Reading::Is(Run::Stopped { .. }) | Reading::Absent => stopped(&mut draft, end, want, seen),
    }
    carry_the_rest(&mut draft, want);
    draft.plan
}

/// What the subsystems want done.
struct Seen {
    live: Vec<PlannedStep>,
    disk: Steps<disk::Cold>,
}

fn diff(draft: &mut Draft<'_>, want: &Desired) -> Seen {
    let (have, cx) = (draft.have, draft.cx);
    draft.merge(lifecycle::Lifecycle::diff(&want.lifecycle, &have.lifecycle, cx));
    diff_notes(draft, want);
    diff_ctid(draft, want);
    let (_, disk) = draft.merge(disk::Disk::diff(&want.disk, &have.disk, cx));
    let mut live = Vec::new();
    if have.running().is_some() {
        let frozen = cgroup::Desired { frozen: draft.plan.target.power == Power::Paused };
        let (steps, _) = draft.merge(cgroup::Cgroup::diff(&frozen, &have.cgroup, cx));
        live.extend(steps.into_iter().map(|(step, changes)| (Step::Cgroup(step), changes)));
        let (steps, _) = draft.merge(namespaces::Namespaces::diff(&want.namespaces, &have.namespaces, cx));
        live.extend(steps.into_iter().map(|(step, changes)| (Step::Namespaces(step), changes)));
        let (steps, _) = draft.merge(devices::Devices::diff(&want.devices, &have.devices, cx));
        live.extend(steps.into_iter().map(|(step, changes)| (Step::Devices(step), changes)));
    }
    let mut live: Vec<_> = live
        .into_iter()
        .map(|(step, changes)| {
            let cause = draft.cause_of(&changes);
            PlannedStep { step, changes, disruption: Disruption::Live, cause }
        })
        .collect();
    live.sort_by_key(|planned| rank(&planned.step));
    Seen { live, disk }
}

/// Thaw, take away, narrow and widen the rules, add, freeze.
fn rank(step: &Step) -> u8 {
    match step {
        Step::Cgroup(cgroup::Live::Thaw) => 0,
        Step::Namespaces(namespaces::Live::RemoveMount { .. })
        | Step::Devices(devices::Live::RemoveNode { .. }) => 1,
        Step::Devices(devices::Live::SetRules { .. }) => 2,
        Step::Namespaces(_) | Step::Devices(_) | Step::Disk(_) | Step::Lifecycle(_) => 3,
        Step::Cgroup(cgroup::Live::Freeze) => 4,
    }
}

/// A VE keeps its ctid: rules, records and tools know it by that.
fn diff_ctid(draft: &mut Draft<'_>, want: &Desired) {
    let Some((wanted, entry)) = want.ctid.zip(draft.cx.entry) else { return };
    if wanted != entry.ctid {
        let (was, is) = (entry.ctid.get().into(), wanted.get().into());
        let why = Some("a VE keeps its ctid; make a new VE");
        draft.change(Change::new("spec.ctid", was, is, Disruption::Recreate).unless(why));
    }
}

/// Labels, annotations and the description concern nobody but the reader.
fn diff_notes(draft: &mut Draft<'_>, want: &Desired) {
    let entry = draft.cx.entry;
    let nothing = BTreeMap::new();
    let maps = [
        ("metadata.labels", entry.map_or(&nothing, |entry| &entry.labels), &want.labels),
        ("metadata.annotations", entry.map_or(&nothing, |entry| &entry.annotations), &want.annotations),
    ];
    for (field, was, is) in maps {
        if was != is {
            draft.change(Change::new(field, json(was), json(is), Disruption::Live));
        }
    }
    let was = entry.and_then(|entry| entry.spec.get("description")?.as_str());
    let is = want.description.as_deref();
    if was != is {
        draft.change(Change::new("spec.description", was.into(), is.into(), Disruption::Live));
    }
}

/// Makes the VE known, takes it back, or accepts another manifest.
fn note_manifest(draft: &mut Draft<'_>, want: &Desired, source: Source) {
    let Some(entry) = draft.cx.entry else {
        draft.plan.action = Action::Create;
        return draft.note(lifecycle::Step::Create, Disruption::None, Vec::new());
    };
    match entry.standing {
        Standing::Quarantined { .. } | Standing::Retained => {
            draft.note(lifecycle::Step::Restore, Disruption::None, Vec::new());
        }
        Standing::Active | Standing::Destroying => {}
    }
    let same = entry.digest == want.digest
        && entry.labels == want.labels
        && entry.annotations == want.annotations
        && entry.applied.lifecycle.as_ref() == Some(&want.lifecycle)
        && (source == Source::Ledger || !entry.pinned && entry.source.file == want.source.file);
    if !same {
        draft.note(lifecycle::Step::Accept, Disruption::None, Vec::new());
    }
}

/// Gives `Create` or `Accept` the changes that no other step carries out, and sees to it that a new
/// generation shows in the plan.
fn carry_the_rest(draft: &mut Draft<'_>, want: &Desired) {
    if let Some(entry) = draft.cx.entry
        && entry.digest != want.digest
        && draft.plan.changes.is_empty()
    {
        let (was, is) = (entry.generation, entry.generation + 1);
        draft.change(Change::new("metadata.generation", was.into(), is.into(), Disruption::None));
    }
    let VePlan { changes, steps, gentler, action, .. } = &mut draft.plan;
    give_rest(changes, steps);
    if let Some(Gentler { steps, .. }) = gentler {
        give_rest(changes, steps);
    }
    if *action == Action::None && !steps.is_empty() {
        *action = Action::Update;
    }
}

fn give_rest(changes: &[Change], steps: &mut [PlannedStep]) {
    let carried: BTreeSet<_> = steps.iter().flat_map(|planned| planned.changes.clone()).collect();
    let accepting = |planned: &&mut PlannedStep| {
        matches!(planned.step, Step::Lifecycle(lifecycle::Step::Create | lifecycle::Step::Accept))
    };
    if let Some(accept) = steps.iter_mut().find(accepting) {
        let rest = changes.iter().enumerate().filter(|(index, change)| {
            !carried.contains(index)
                && change.disruption <= Disruption::Live
                && change.feasible == Feasible::Yes
        });
        accept.changes = rest.map(|(index, _)| index).collect();
    }
}

/// Notes a run that the ledger has not, or not as it is.
fn adopt(draft: &mut Draft<'_>, init_pid: u32, started_at: crate::units::Timestamp) {
    let boot_id = &draft.cx.caps.boot_id;
    let run = draft.cx.entry.and_then(|entry| entry.run.as_ref());
    let known = run.is_some_and(|run| run.init_pid == Some(init_pid) && run.boot_id == *boot_id);
    if !known {
        draft.note(lifecycle::Step::Adopt { init_pid, started_at }, Disruption::None, Vec::new());
    }
}

fn running(draft: &mut Draft<'_>, want: &Desired, seen: Seen) {
    let Target { power, .. } = draft.plan.target;
    let stopping = draft.entry.as_deref().and_then(|entry| entry.run.as_ref()?.stopping);
    if !matches!(power, Power::Running | Power::Paused) {
        let state = draft.change_state(Cause::Spec);
        return draft.stop(stop_reason(draft.plan.target), Disruption::Live, vec![state]);
    }
    if let Some(reason) = stopping {
        // Init has had its signal: the stop can only be gone through with.
        draft.plan.action = Action::Restart;
        draft.stop(reason, Disruption::Restart, Vec::new());
        return start(draft, StartReason::Restart, Disruption::Restart, Vec::new());
    }
    let cold = cold_changes(draft);
    if cold.is_empty() {
        return live(draft, seen.live);
    }
    let missing = infeasible(want, draft.cx.caps);
    if !missing.is_empty() {
        // What cannot start again is not stopped.
        hold_infeasible(draft, missing);
        for index in cold {
            hold_for_restart(draft, index);
        }
        return live(draft, seen.live);
    }
    let before = draft.plan.steps.len();
    live(draft, seen.live);
    let gentle = draft.plan.steps.clone();
    let live_changes: Vec<_> = draft.plan.steps.drain(before..).flat_map(|planned| planned.changes).collect();
    let recreate = !seen.disk.is_empty();
    let (reason, disruption) = if recreate {
        (StopReason::Recreate, Disruption::Recreate)
    } else {
        (StopReason::Restart, Disruption::Restart)
    };
    draft.plan.action = if recreate { Action::Recreate } else { Action::Restart };
    draft.stop(reason, disruption, cold.clone());
    push_disk(draft, seen.disk);
    let all = cold.into_iter().chain(live_changes).collect();
    start(draft, StartReason::Restart, Disruption::Restart, all);
    let update_policy = want.lifecycle.update_policy;
    draft.plan.gentler = Some(Gentler { update_policy, steps: gentle });
}

/// The changes that a running VE cannot take.
fn cold_changes(draft: &mut Draft<'_>) -> Vec<usize> {
    let mut cold = Vec::new();
    for (index, change) in draft.plan.changes.clone().iter().enumerate() {
        match &change.feasible {
            Feasible::Yes if change.disruption >= Disruption::Restart => cold.push(index),
            Feasible::Infeasible(why) if change.disruption == Disruption::Recreate => {
                draft.hold(&change.field, change.disruption, HeldFor::RecreateRefused, why.clone());
            }
            Feasible::Infeasible(why) => {
                draft.hold(&change.field, change.disruption, HeldFor::Infeasible, why.clone());
            }
            Feasible::Yes | Feasible::Deferred(_) => {}
        }
    }
    cold
}

fn live(draft: &mut Draft<'_>, steps: Vec<PlannedStep>) {
    draft.plan.steps.extend(steps);
}

fn stopped(draft: &mut Draft<'_>, end: Option<End>, want: &Desired, seen: Seen) {
    let recreate = cold_changes(draft);
    let gentle = draft.plan.steps.clone();
    let root = draft.have.disk.root.clone();
    let has_root = !seen.disk.is_empty() || root.is().is_some();
    if !recreate.is_empty() {
        draft.plan.action = Action::Recreate;
    }
    push_disk(draft, seen.disk);
    let starting = draft.plan.steps.len();
    if matches!(draft.plan.target.power, Power::Running | Power::Paused) && has_root {
        start_if_due(draft, end, want);
    }
    if !recreate.is_empty() {
        let steps = gentle.into_iter().chain(draft.plan.steps[starting..].iter().cloned()).collect();
        draft.plan.gentler = Some(Gentler { update_policy: want.lifecycle.update_policy, steps });
    }
}

/// Starts the VE unless its host, its back-off or another VE stands in the way.
fn start_if_due(draft: &mut Draft<'_>, end: Option<End>, want: &Desired) {
    let entry = draft.entry.as_deref();
    let reason = start_reason(entry, draft.plan.target);
    let by_itself = matches!(end, Some(End::Crashed(_) | End::HaltedByOwner))
        || matches!(reason, StartReason::Crash | StartReason::Halted);
    let unchanged = draft.cx.entry.is_some_and(|entry| entry.digest == want.digest);
    let cause = if by_itself && unchanged { Cause::Drift } else { Cause::Spec };
    let wait = entry.and_then(|entry| entry.backoff).filter(|backoff| backoff.until > draft.cx.now);
    let state = draft.change_state(cause);

    let missing = infeasible(want, draft.cx.caps);
    if !missing.is_empty() {
        draft.plan.changes[state].feasible = Feasible::Infeasible(missing[0].why.clone());
        return hold_infeasible(draft, missing);
    }
    if let Some(wait) = wait {
        let why = format!("{} tries in a row went wrong; the next is at {}", wait.failures, wait.until);
        draft.wake(wait.until);
        return defer(draft, state, HeldFor::BackOff, why);
    }
    let unready = want.lifecycle.depends_on.iter().find(|name| !(draft.cx.is_ready)(name));
    if let Some(name) = unready {
        return defer(draft, state, HeldFor::DependencyNotReady, format!("VE {name} is not Ready"));
    }
    start(draft, reason, Disruption::Live, vec![state]);
}

fn start(draft: &mut Draft<'_>, reason: StartReason, disruption: Disruption, changes: Vec<usize>) {
    draft.note(lifecycle::Step::Start { reason }, disruption, changes.clone());
    if draft.plan.target.power == Power::Paused {
        let step = Step::Cgroup(cgroup::Live::Freeze);
        let cause = draft.cause_of(&changes);
        draft.push(PlannedStep { step, changes, disruption: Disruption::Live, cause });
    }
}

fn push_disk(draft: &mut Draft<'_>, steps: Steps<disk::Cold>) {
    for (step, changes) in steps {
        let cause = draft.cause_of(&changes);
        let disruption = changes.iter().map(|i| draft.plan.changes[*i].disruption).max().unwrap_or_default();
        draft.push(PlannedStep { step: Step::Disk(step), changes, disruption, cause });
    }
}

fn defer(draft: &mut Draft<'_>, state: usize, held_for: HeldFor, why: String) {
    draft.plan.changes[state].feasible = Feasible::Deferred(why.clone());
    draft.hold("spec.state", Disruption::Live, held_for, why);
}

fn hold_infeasible(draft: &mut Draft<'_>, missing: Vec<super::Infeasible>) {
    for super::Infeasible { field, why } in missing {
        draft.hold(&field, Disruption::Live, HeldFor::Infeasible, why);
    }
}

fn hold_for_restart(draft: &mut Draft<'_>, index: usize) {
    let Change { field, disruption, .. } = draft.plan.changes[index].clone();
    draft.hold(&field, disruption, HeldFor::RestartRequired, "it takes effect at the next start".to_owned());
}
