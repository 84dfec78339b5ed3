//! A plan in the making: steps are pushed in order, and notes are made in a copy of the ledger's entry
//! so that what follows them can be planned as if they had been done.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde_json::Value;

use super::power::{Power, Reason, Target, end_of_run};
use super::{Action, Held, HeldFor, Order, PlannedStep, Proposed, Step, VePlan};
use crate::desired::Desired;
use crate::disruption::{Cause, Change, Disruption};
use crate::ids::VeName;
use crate::ledger::{Entry, Facts};
use crate::observed::Observed;
use crate::subsystem::lifecycle::{self, End, Run, StopReason};
use crate::subsystem::{Changes, Cx, cgroup};
use crate::units::Timestamp;

/// Where a wish was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In a manifest.
    Manifest,
    /// In the ledger: the last good spec.
    Ledger,
}

pub(super) struct Draft<'a> {
    pub(super) have: &'a Observed,
    pub(super) cx: &'a Cx<'a>,
    pub(super) want: Option<&'a Desired>,
    /// The entry as it will be after the notes so far.
    pub(super) entry: Option<Cow<'a, Entry>>,
    pub(super) plan: VePlan<Proposed>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(name: &VeName, have: &'a Observed, cx: &'a Cx<'a>) -> Self {
        let plan = VePlan {
            name: name.clone(),
            uid: cx.entry.map(|entry| entry.uid.clone()),
            source: cx.entry.map(|entry| entry.source.clone()),
            action: Action::None,
            changes: Vec::new(),
            steps: Vec::new(),
            held: Vec::new(),
            unreadable: Vec::new(),
            suspended: None,
            next_wake: None,
            target: Target { power: Power::Stopped, reason: Reason::Unmanaged },
            order: Order::default(),
            gentler: None,
            stage: PhantomData,
        };
        Self { have, cx, want: None, entry: cx.entry.map(Cow::Borrowed), plan }
    }

    /// The plan that does nothing.
    pub(super) fn unmanaged(self) -> VePlan<Proposed> {
        self.plan
    }

    /// Pushes a step.
    pub(super) fn push(&mut self, planned: PlannedStep) {
        self.plan.steps.push(planned);
    }

    /// Pushes a step of the lifecycle and makes its note in the copy of the entry.
    pub(super) fn note(&mut self, step: lifecycle::Step, disruption: Disruption, changes: Vec<usize>) {
        let step = Step::Lifecycle(step);
        if let Some(entry) = &mut self.entry {
            let facts = Facts::at(self.cx.caps, self.cx.now);
            let entry = entry.to_mut();
            entry.begin(&step, self.want, &facts);
            entry.finish(&step, self.want, &facts);
        }
        let cause = self.cause_of(&changes);
        self.push(PlannedStep { step, changes, disruption, cause });
    }

    /// Notes the end of a run that is over.
    pub(super) fn reap(&mut self) -> Option<End> {
        let end = end_of_run(self.entry.as_deref()?, self.have, self.cx)?;
        self.note(lifecycle::Step::Reap { end }, Disruption::None, Vec::new());
        Some(end)
    }

    /// Thaws the VE if it is frozen: what is frozen can neither stop nor be written down.
    pub(super) fn thaw(&mut self, changes: &[usize]) {
        if self.have.frozen() {
            let step = Step::Cgroup(cgroup::Live::Thaw);
            let (cause, changes) = (self.cause_of(changes), changes.to_vec());
            self.push(PlannedStep { step, changes, disruption: Disruption::Live, cause });
        }
    }

    /// Stops the VE.
    pub(super) fn stop(&mut self, reason: StopReason, disruption: Disruption, changes: Vec<usize>) {
        self.thaw(&changes);
        let policies = self.want.map(|want| &want.lifecycle);
        let accepted = self.entry.as_deref().and_then(|entry| entry.applied.lifecycle.as_ref());
        let timeout = policies
            .or(accepted)
            .map_or_else(|| lifecycle::Desired::default().stop_timeout, |is| is.stop_timeout);
        self.note(lifecycle::Step::Stop { timeout, reason }, disruption, changes);
    }

    /// Adds what a subsystem wants changed and returns its steps with the indices set right. A field
    /// that is there already is not added again.
    pub(super) fn merge<L, C>(&mut self, changes: Changes<L, C>) -> (Steps<L>, Steps<C>) {
        let Changes { fields, live, cold, mut unreadable, wake } = changes;
        if let Some(at) = wake {
            self.wake(at);
        }
        self.plan.unreadable.append(&mut unreadable);
        self.plan.unreadable.dedup();
        let indices: Vec<_> = fields.into_iter().map(|change| self.change(change)).collect();
        let renumber = |own: Vec<usize>| own.into_iter().map(|i| indices[i]).collect();
        let live = live.into_iter().map(|(step, own)| (step, renumber(own))).collect();
        let cold = cold.into_iter().map(|(step, own)| (step, renumber(own))).collect();
        (live, cold)
    }

    /// Adds a change with its place in the manifest, unless the field is there, and returns its index.
    pub(super) fn change(&mut self, mut change: Change) -> usize {
        if let Some(known) = self.plan.changes.iter().position(|is| is.field == change.field) {
            return known;
        }
        if let Some(want) = self.want {
            change.source = want.source_of(&change.field).cloned();
            if change.cause == Cause::Spec && want.is_inherited(&change.field) {
                change.cause = Cause::Profile;
            }
        }
        self.plan.changes.push(change);
        self.plan.changes.len() - 1
    }

    /// Adds the change of state that the target asks for.
    pub(super) fn change_state(&mut self, cause: Cause) -> usize {
        let before = match self.have.lifecycle.run.is() {
            Some(Run::Running { .. }) if self.have.frozen() => Value::from("paused"),
            Some(Run::Running { .. }) => Value::from("running"),
            Some(Run::Stopped { .. }) | None if self.is_suspended() => Value::from("suspended"),
            Some(Run::Stopped { .. }) | None if self.cx.entry.is_some() => Value::from("stopped"),
            Some(Run::Stopped { .. }) | None => Value::Null,
        };
        let after = match self.plan.target.power {
            Power::Running => Value::from("running"),
            Power::Paused => Value::from("paused"),
            Power::Suspended => Value::from("suspended"),
            Power::Stopped => Value::from("stopped"),
            Power::Absent => Value::Null,
        };
        self.change(Change::new("spec.state", before, after, Disruption::Live).because(cause))
    }

    /// Whether there is, after the notes so far, a checkpoint to go on from.
    pub(super) fn is_suspended(&self) -> bool {
        self.entry.as_deref().is_some_and(|entry| entry.suspension.is_some())
    }

    /// Holds something back.
    pub(super) fn hold(&mut self, field: &str, disruption: Disruption, held_for: HeldFor, why: String) {
        let source = self.want.and_then(|want| want.source_of(field)).cloned();
        self.plan.held.push(Held { field: field.to_owned(), disruption, held_for, why, source });
    }

    /// Plans again no later than `at`.
    pub(super) fn wake(&mut self, at: Timestamp) {
        self.plan.next_wake = Some(self.plan.next_wake.map_or(at, |is| is.min(at)));
    }

    /// The cause of a step: drift if all that it carries out is.
    pub(super) fn cause_of(&self, changes: &[usize]) -> Cause {
        changes.iter().map(|i| self.plan.changes[*i].cause).min().unwrap_or(Cause::Spec)
    }
}

/// Steps with the changes that each carries out.
pub(super) type Steps<T> = Vec<(T, Vec<usize>)>;
