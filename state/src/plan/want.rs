//! What to do about a VE that is wanted: notes first, then away with what is too much, then what is
//! missing, and all of it through a stop and a start where a running VE cannot take it.

use std::collections::BTreeSet;

use super::differences::{describe_new, diff_disk, diff_live, diff_metadata, diff_the_rest};
use super::draft::{Draft, Source, Steps};
use super::power::{Power, Reason, Target, start_reason, stop_reason, target};
use super::{Action, Gentler, HeldFor, Order, PlannedStep, Proposed, Step, VePlan, gone, infeasible};
use crate::desired::Desired;
use crate::disruption::{Cause, Change, Disruption, Feasible};
use crate::ledger::{By, Standing};
use crate::observed::Observed;
use crate::reading::Reading;
use crate::subsystem::lifecycle::{self, Run, StartReason, StopReason};
use crate::subsystem::{Cx, Subsystem, Unreadable, cgroup, disk};

pub(super) fn plan(want: &Desired, source: Source, have: &Observed, cx: &Cx<'_>) -> VePlan<Proposed> {
    let mut draft = Draft::new(&want.name, have, cx);
    draft.want = Some(want);
    draft.plan.source = Some(want.source.clone());
    draft.plan.order =
        Order { boot_order: want.lifecycle.boot_order, depends_on: want.lifecycle.depends_on.clone() };
    if source == Source::Ledger && cx.entry.is_some_and(|entry| entry.standing == Standing::Retained) {
        return draft.unmanaged();
    }
    draft.plan.target = target(want, cx.entry);
    if cx.entry.is_some_and(|entry| entry.standing == Standing::Destroying) {
        draft.plan.target.power = Power::Absent;
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

    draft.reap();
    note_manifest(&mut draft, want, source);
    draft.plan.target = target(want, draft.entry.as_deref());
    draft.merge(lifecycle::Lifecycle::diff(&want.lifecycle, &have.lifecycle, cx));
    diff_metadata(&mut draft, want);
    match &have.lifecycle.run {
        Reading::Unreadable(_) => {}
        Reading::Is(Run::Running { init_pid, started_at }) => {
            adopt(&mut draft, *init_pid, *started_at);
            running(&mut draft, want);
        }
        Reading::Is(Run::Stopped { .. }) | Reading::Absent => stopped(&mut draft, want),
    }
    carry_the_rest(&mut draft, want);
    draft.plan
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

/// Gives `Create` or `Accept` the changes that no other step carries out.
fn carry_the_rest(draft: &mut Draft<'_>, want: &Desired) {
    if draft.cx.entry.is_some_and(|entry| entry.digest != want.digest) {
        diff_the_rest(draft, want);
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

fn running(draft: &mut Draft<'_>, want: &Desired) {
    let Target { power, .. } = draft.plan.target;
    let stopping = draft.entry.as_deref().and_then(|entry| entry.run.as_ref()?.stopping);
    if power == Power::Suspended {
        let state = draft.change_state(Cause::Spec);
        match draft.cx.caps.checkpoint.missing() {
            None => {
                draft.thaw(&[state]);
                return draft.note(lifecycle::Step::Suspend, Disruption::Live, vec![state]);
            }
            // It runs on, and takes what else has changed.
            Some(why) => hold_state(draft, state, why.to_owned()),
        }
    } else if !matches!(power, Power::Running | Power::Paused) {
        let state = draft.change_state(Cause::Spec);
        return draft.stop(stop_reason(draft.plan.target), Disruption::Live, vec![state]);
    }
    if stopping == Some(StopReason::Suspend) {
        let reason = start_reason(draft.cx.entry, draft.plan.target, false);
        draft.note(lifecycle::Step::Resume { reason }, Disruption::None, Vec::new());
    } else if let Some(reason) = stopping {
        // Init has had its signal: the stop can only be gone through with.
        draft.plan.action = Action::Restart;
        draft.stop(reason, Disruption::Restart, Vec::new());
        return start(draft, StartReason::Restart, Disruption::Restart, Vec::new());
    }
    if draft.have.lifecycle.checkpoint.is().is_some() {
        // It was used, or its suspension was called off.
        draft.note(lifecycle::Step::Discard, Disruption::None, Vec::new());
    }
    let (disk, root) = diff_disk(draft, want);
    // What writes to the root comes before that can't be written to any more.
    let is_last =
        |planned: &PlannedStep| matches!(planned.step, Step::DiskLive(disk::Live::SetReadOnly { to: true }));
    let (last, first): (Vec<_>, Vec<_>) = disk.into_iter().partition(is_last);
    let live: Vec<_> = first.into_iter().chain(diff_live(draft, want)).chain(last).collect();
    let cold = cold_changes(draft);
    let missing = if cold.is_empty() { Vec::new() } else { infeasible(want, draft.cx.caps) };
    if !missing.is_empty() {
        // What cannot start again is not stopped.
        hold_infeasible(draft, missing);
        for index in &cold {
            hold_for_restart(draft, *index);
        }
    } else if !cold.is_empty() {
        return restart(draft, want, root, live, cold);
    }
    draft.plan.steps.extend(live);
}

/// Stops and starts the VE for what it cannot take while it runs; or, if that is not allowed, does
/// what it can take.
fn restart(
    draft: &mut Draft<'_>,
    want: &Desired,
    root: Steps<disk::Cold>,
    live: Vec<PlannedStep>,
    cold: Vec<usize>,
) {
    let by_start = live.iter().flat_map(|planned| planned.changes.clone());
    let all = cold.iter().copied().chain(by_start).collect();
    let steps = draft.plan.steps.iter().cloned().chain(live).collect();
    draft.plan.gentler = Some(Gentler { update_policy: want.lifecycle.update_policy, steps });
    let (action, reason, disruption) = if root.is_empty() {
        (Action::Restart, StopReason::Restart, Disruption::Restart)
    } else {
        (Action::Recreate, StopReason::Recreate, Disruption::Recreate)
    };
    draft.plan.action = action;
    draft.stop(reason, disruption, cold);
    push_disk(draft, root);
    start(draft, StartReason::Restart, Disruption::Restart, all);
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
            Feasible::Deferred(why) => {
                draft.hold(&change.field, change.disruption, HeldFor::InUse, why.clone());
            }
            Feasible::UnderWay(why) => {
                draft.hold(&change.field, change.disruption, HeldFor::UnderWay, why.clone());
            }
            Feasible::BackOff(why) => {
                draft.hold(&change.field, change.disruption, HeldFor::BackOff, why.clone());
            }
            Feasible::Yes => {}
        }
    }
    cold
}

fn stopped(draft: &mut Draft<'_>, want: &Desired) {
    if let (true, Some(why)) = (draft.is_suspended(), draft.have.lifecycle.checkpoint.unreadable()) {
        let what = "checkpoint".to_owned();
        return draft.plan.unreadable.push(Unreadable { what, why: why.to_owned() });
    }
    let (_, root) = diff_disk(draft, want);
    let recreate = cold_changes(draft);
    let gentle = draft.plan.steps.clone();
    let will_have_root = !root.is_empty() || draft.have.disk.root.is().is_some();
    if !recreate.is_empty() {
        draft.plan.action = Action::Recreate;
    }
    drop_checkpoint(draft, !root.is_empty());
    push_disk(draft, root);
    let before_start = draft.plan.steps.len();
    if matches!(draft.plan.target.power, Power::Running | Power::Paused) && will_have_root {
        start_if_due(draft, want);
    }
    if !recreate.is_empty() {
        let steps = gentle.into_iter().chain(draft.plan.steps[before_start..].iter().cloned()).collect();
        draft.plan.gentler = Some(Gentler { update_policy: want.lifecycle.update_policy, steps });
    }
}

/// Throws the checkpoint away that is of no use: of another root, of a VE that is deliberately stopped, or left over.
fn drop_checkpoint(draft: &mut Draft<'_>, new_root: bool) {
    let deliberate = matches!(draft.plan.target.reason, Reason::Spec | Reason::Override(By::Operator));
    let given_up = draft.plan.target.power == Power::Stopped && deliberate;
    if draft.is_suspended() && (new_root || given_up) {
        let changes = if given_up { vec![draft.change_state(Cause::Spec)] } else { Vec::new() };
        draft.note(lifecycle::Step::Discard, Disruption::Live, changes);
    } else if !draft.is_suspended() && draft.have.lifecycle.checkpoint.is().is_some() {
        draft.note(lifecycle::Step::Discard, Disruption::None, Vec::new());
    }
}

/// Starts the VE unless its host, its back-off or another VE stands in the way.
fn start_if_due(draft: &mut Draft<'_>, want: &Desired) {
    let entry = draft.entry.as_deref();
    let spec_changed = draft.cx.entry.is_some_and(|entry| entry.digest != want.digest);
    let reason = start_reason(entry, draft.plan.target, spec_changed);
    let wait = entry.and_then(|entry| entry.backoff).filter(|backoff| backoff.until > draft.cx.now);
    let cause = match reason {
        StartReason::Crash | StartReason::Halted => Cause::Drift,
        StartReason::Spec
        | StartReason::Operator
        | StartReason::Restart
        | StartReason::Reboot
        | StartReason::Boot => Cause::Spec,
    };
    let state = draft.change_state(cause);
    let mut carried = vec![state];
    if draft.plan.action == Action::Create {
        carried.extend(describe_new(draft, want));
    }

    if draft.is_suspended() {
        if let Some(why) = draft.cx.caps.checkpoint.missing() {
            return hold_state(draft, state, why.to_owned());
        }
        if draft.have.lifecycle.checkpoint.is().is_none() {
            let why = "its checkpoint is gone; `vzd stop` gives it up, and it can be started anew";
            return hold_state(draft, state, why.to_owned());
        }
    }
    let missing = infeasible(want, draft.cx.caps);
    if !missing.is_empty() {
        draft.plan.changes[state].feasible = Feasible::Infeasible(missing[0].why.clone());
        return hold_infeasible(draft, missing);
    }
    if let Some(wait) = wait {
        let s = if wait.failures == 1 { "" } else { "s" };
        let why = format!("it waits until {} after {} failure{s}", wait.until, wait.failures);
        draft.wake(wait.until);
        return defer(draft, state, HeldFor::BackOff, why);
    }
    let unready = want.lifecycle.depends_on.iter().find(|name| !(draft.cx.is_ready)(name));
    if let Some(name) = unready {
        return defer(draft, state, HeldFor::DependencyNotReady, format!("VE {name} is not Ready"));
    }
    start(draft, reason, Disruption::Live, carried);
}

fn start(draft: &mut Draft<'_>, reason: StartReason, disruption: Disruption, changes: Vec<usize>) {
    let step = match draft.is_suspended() {
        true => lifecycle::Step::Resume { reason },
        false => lifecycle::Step::Start { reason },
    };
    draft.note(step, disruption, changes.clone());
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

fn hold_state(draft: &mut Draft<'_>, state: usize, why: String) {
    draft.plan.changes[state].feasible = Feasible::Infeasible(why.clone());
    draft.hold("spec.state", Disruption::Live, HeldFor::Infeasible, why);
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
