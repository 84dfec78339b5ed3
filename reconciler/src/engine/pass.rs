//! A pass over many VEs for a command: plan all of them, or work on all of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use vzd_state::disruption::{Cause, Disruption};
use vzd_state::ids::VeUid;
use vzd_state::lower::lower_entry;
use vzd_state::observed::check_index;
use vzd_state::plan::{Action, Approved, Held, HostPlan, VePlan, Wish};
use vzd_state::transient;

use crate::control::{ControlError, PlanView};
use crate::drivers::Census;
use crate::engine::execute::StepFailure;
use crate::engine::reconcile::Outcome;
use crate::engine::view::{Leave, View};
use crate::engine::wishes::{Wanted, host_device};
use crate::engine::{Engine, Subject, clock};

/// Work at a time for one command.
const AT_A_TIME: usize = 16;

/// What a plan is made of: all that differs, or only what someone changed behind vzd's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Everything.
    Plan,
    /// Drift only: the accepted specs are what is wanted.
    Drift,
}

impl Engine {
    /// Plans for these subjects; changes nothing.
    pub(super) fn plan_all(&self, subjects: &[Subject], look: Look, leave: Leave) -> HostPlan<Approved> {
        let census = Census::take(&self.host);
        let mut seen = Vec::new();
        let mut plans = Vec::new();
        for subject in subjects {
            let Some(view) = self.view(subject, leave) else { continue };
            let observed = self.observe(&view, Some(&census));
            let plan = match look {
                Look::Plan => Some(self.plan_for(&view, &observed)),
                Look::Drift => self.drift_of(&view, &observed),
            };
            plans.extend(plan);
            seen.push((view.name, observed));
        }
        HostPlan::new(plans, check_index(seen.iter().map(|(name, observed)| (name, observed))))
    }

    /// What differs from the accepted spec because someone else changed it.
    fn drift_of(&self, view: &View, observed: &vzd_state::observed::Observed) -> Option<VePlan<Approved>> {
        if let Wanted::Unknown(why) = &view.wanted {
            return Some(self.plan_wish(view, Wish::Unknown(why), observed));
        }
        let entry = view.entry.as_ref()?;
        let accepted = lower_entry(entry, &host_device).ok()?;
        let above = transient::in_force(entry, &entry.spec);
        let accepted = transient::lay(accepted, &above, &host_device).ok()?;
        let mut plan = self.plan_wish(view, Wish::Keep(&accepted), observed);
        plan.held.clear();
        let drifted: Vec<bool> = plan.changes.iter().map(|change| change.cause == Cause::Drift).collect();
        plan.steps.retain(|step| step.changes.iter().any(|at| drifted[*at]));
        if plan.steps.is_empty() && plan.unreadable.is_empty() && !drifted.contains(&true) {
            return None;
        }
        // Steps keep their indices: what is no drift is emptied, not moved.
        let steps = &mut plan.steps;
        let mut kept = BTreeMap::new();
        let mut changes = Vec::new();
        for (at, change) in plan.changes.into_iter().enumerate() {
            if drifted[at] {
                kept.insert(at, changes.len());
                changes.push(change);
            }
        }
        for step in steps {
            step.changes = step.changes.iter().filter_map(|at| kept.get(at).copied()).collect();
        }
        plan.changes = changes;
        Some(plan)
    }

    /// Works on these subjects, several at a time, in their order.
    pub(super) fn work_on(&self, subjects: &[Subject], leave: Leave) -> BTreeMap<Subject, Outcome> {
        let census = Census::take(&self.host);
        let queue = Mutex::new(subjects.iter().collect::<VecDeque<_>>());
        let outcomes = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME.min(subjects.len()) {
                scope.spawn(|| {
                    loop {
                        let mut next = queue.lock().unwrap_or_else(PoisonError::into_inner);
                        let Some(subject) = next.pop_front() else { return };
                        let _place = self.line_up(subject);
                        drop(next);
                        let outcome = self.reconcile(subject, leave, Some(&census));
                        let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                        outcomes.insert(subject.clone(), outcome);
                    }
                });
            }
        });
        outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on these subjects until none of them has anything to do that could be done now: a VE
    /// that waits for another is started once that one is Ready, and package managers are waited for.
    pub(super) fn settle(&self, subjects: &[Subject], leave: Leave) -> BTreeMap<Subject, Outcome> {
        let mut all = self.work_on(subjects, leave);
        loop {
            let nudged = std::mem::take(&mut self.shared().nudged);
            let mut again: Vec<_> = nudged.into_iter().filter(|subject| subjects.contains(subject)).collect();
            if again.is_empty() {
                again = self.named_by(&self.host.packages.wait());
            }
            if again.is_empty() {
                again = self.await_trials(subjects);
            }
            if again.is_empty() {
                return all;
            }
            for (subject, outcome) in self.work_on(&again, leave) {
                let failed = self.package_failure(&subject);
                let sum = all.entry(subject).or_default();
                sum.changed += outcome.changed;
                sum.failure = outcome.failure.or(failed);
            }
        }
    }

    /// Waits until the first of the packet filters that are on trial is to be looked at again. Where a controller sees to
    /// them, there is nothing to wait for.
    fn await_trials(&self, subjects: &[Subject]) -> Vec<Subject> {
        if self.host.packages.is_followed() {
            return Vec::new();
        }
        let shared = self.shared();
        let on_trial = |subject: &&Subject| shared.entry(subject).is_some_and(|is| is.open_trial().is_some());
        let wake = |subject: &Subject| Some((shared.published.get(subject)?.next_wake()?, subject.clone()));
        let next = subjects.iter().filter(on_trial).filter_map(wake).min();
        drop(shared);
        let Some((at, subject)) = next else { return Vec::new() };
        std::thread::sleep(std::time::Duration::from_millis(at.since(clock::now()).0));
        self.probe(&subject);
        vec![subject]
    }

    fn named_by(&self, uids: &[VeUid]) -> Vec<Subject> {
        let shared = self.shared();
        let names = uids.iter().filter_map(|uid| shared.ledger.get(uid)).map(|entry| entry.name.clone());
        names.map(Subject::Name).collect()
    }

    /// What is told of a package manager that failed: nobody will try again for a command that ends now.
    fn package_failure(&self, subject: &Subject) -> Option<StepFailure> {
        let uid = self.shared().entry(subject)?.uid.clone();
        let message = self.host.packages.failure(&uid)?;
        Some(StepFailure { code: "VZ0302", message, help: None })
    }
}

/// A plan for people and programs.
pub(super) fn plan_view(plan: &HostPlan<Approved>, diagnostics: Vec<vzd_schema::Diagnostic>) -> PlanView {
    let deletes = plan.plans.iter().any(|plan| plan.action == Action::Delete);
    let is_error = |plan: &VePlan<_>| plan.held.iter().any(|held| held.held_for.is_error());
    let exit_code = match plan.summary().disruption() {
        _ if plan.plans.iter().any(is_error) => 1,
        Disruption::None => 0,
        Disruption::Live | Disruption::Reattach => 2,
        Disruption::Restart if !deletes => 3,
        Disruption::Restart | Disruption::Recreate => 4,
    };
    PlanView { text: plan.to_string(), json: plan.to_json(), exit_code, diagnostics }
}

/// Why a VE, or one field of it, will not be as wanted until someone changes something, as an answer.
pub(super) fn refusal_of(plan: &VePlan<Approved>, field: Option<&str>) -> Option<ControlError> {
    let of_field = |held: &&Held| field.is_none_or(|field| field == held.field);
    let held = plan.held.iter().filter(of_field).find(|held| held.held_for.is_error())?;
    Some(ControlError {
        code: held.held_for.code().map(|code| code.to_string()).unwrap_or_default(),
        message: format!("{}: {}", held.field, held.why),
        help: None,
    })
}

/// Why a VE is not as wanted, as an answer.
pub(super) fn failure_of(outcome: &Outcome) -> Option<ControlError> {
    outcome.failure.as_ref().map(|failure| ControlError {
        code: failure.code.to_owned(),
        message: failure.message.clone(),
        help: failure.help.clone(),
    })
}
