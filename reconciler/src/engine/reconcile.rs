//! One pass over one VE: observe, plan, authorize, execute, verify, publish.

use std::sync::{Arc, PoisonError};

use vzd_state::backoff;
use vzd_state::capability::Capabilities;
use vzd_state::disruption::Disruption;
use vzd_state::event::{Event, EventType};
use vzd_state::ids::VeName;
use vzd_state::ledger::Entry;
use vzd_state::observed::Observed;
use vzd_state::plan::{Action, Approved, HeldFor, Step, VePlan, Wish, plan_ve};
use vzd_state::policy::{Policy, authorize};
use vzd_state::status::{Condition, ConditionStatus, ConditionType, Failure, Health, Inputs, conditions};
use vzd_state::subsystem::Cx;
use vzd_state::subsystem::beancounters::unenforced;
use vzd_state::subsystem::lifecycle::{Run, Step as LifecycleStep};
use vzd_state::subsystem::{disk, namespaces};
use vzd_state::units::Timestamp;
use vzd_state::verify::verify;

use crate::drivers::{self, Census, Running, Ve};
use crate::engine::execute::StepFailure;
use crate::engine::health::Probes;
use crate::engine::view::{Leave, View};
use crate::engine::wishes::Wanted;
use crate::engine::{Engine, Subject, clock};

/// A plan is made and done at most so often in one pass: what follows from what was done (a mount that
/// only a running VE can have) is done at once, and a plan that never ends is a bug that must not spin.
const ROUNDS: usize = 4;

/// What is known of a VE since its last pass.
#[derive(Debug, Clone)]
pub(super) struct Published {
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// The last look at it.
    pub observed: Observed,
    /// What was left to do or held.
    pub plan: VePlan<Approved>,
    /// What went wrong, and how often in a row.
    pub failure: Option<Failure>,
    failures: u32,
    /// Passes since the controller started, and those that ended with an error.
    pub passes: u64,
    /// See `passes`.
    pub errors: u64,
    /// The generation that the failures are of.
    generation: u64,
    /// What its probe has said.
    pub probes: Probes,
}

impl Published {
    /// When it has to be looked at again though nothing happens.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let retry = self.failure.as_ref().and_then(|failure| failure.retry_at);
        [self.plan.next_wake, retry, self.probes.next()].into_iter().flatten().min()
    }

    /// Whether nothing was left to do.
    fn is_as_wanted(&self) -> bool {
        self.plan.is_empty() && self.failure.is_none() && self.plan.unreadable.is_empty()
    }

    /// Whether a condition holds.
    pub fn is(&self, wanted: ConditionType) -> bool {
        self.conditions.iter().any(|c| c.r#type == wanted && c.status == ConditionStatus::True)
    }
}

/// What a pass over one VE came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Steps that changed something.
    pub changed: usize,
    /// Why it is not as wanted.
    pub failure: Option<StepFailure>,
}

/// Whether a plan starts the VE without first stopping it or making its disk, for which none should wait.
fn starts_soon(plan: &VePlan<Approved>) -> bool {
    let slow = |step: &Step| matches!(step, Step::Disk(_) | Step::Lifecycle(LifecycleStep::Stop { .. }));
    let start = |step: &Step| {
        matches!(step, Step::Lifecycle(LifecycleStep::Start { .. } | LifecycleStep::Resume { .. }))
    };
    let steps = || plan.steps.iter().map(|planned| &planned.step);
    steps().any(start) && !steps().any(slow)
}

fn cx<'a>(
    caps: &'a Capabilities,
    view: &'a View,
    is_ready: &'a dyn Fn(&VeName) -> bool,
    health: &'a Health,
) -> Cx<'a> {
    Cx { caps, now: clock::now(), entry: view.entry.as_ref(), is_ready, health }
}

impl Engine {
    /// Looks at a VE.
    pub(super) fn observe(&self, view: &View, census: Option<&Census>) -> Observed {
        self.observe_running(view, census).0
    }

    /// Looks at a VE; the token comes with it when it runs.
    fn observe_running(&self, view: &View, census: Option<&Census>) -> (Observed, Option<Arc<Running>>) {
        match (&view.entry, &view.wanted) {
            (Some(entry), _) => drivers::observe(Ve { host: &self.host, entry, want: view.want() }, census),
            (None, Wanted::Unknown(why)) => (Observed::unreadable(why), None),
            (None, _) => (Observed::default(), None),
        }
    }

    /// Plans for a VE what is allowed.
    pub(super) fn plan_for(&self, view: &View, observed: &Observed) -> VePlan<Approved> {
        self.plan_wish(view, view.wish(), observed)
    }

    /// Plans for a wish, in the place of the one that stands.
    pub(super) fn plan_wish(&self, view: &View, wish: Wish<'_>, observed: &Observed) -> VePlan<Approved> {
        let is_ready = |name: &VeName| self.is_ready(name);
        let caps = self.host.caps();
        let proposed = plan_ve(&view.name, wish, observed, &cx(&caps, view, &is_ready, &self.health(view)));
        let proposed = match wish {
            Wish::Want(want) if proposed.action == Action::Create => {
                match self.shared().ledger.can_create(want) {
                    Ok(()) => proposed,
                    Err(error) => proposed.refused(want, &error),
                }
            }
            _ => proposed,
        };
        let proposed = self.heed_place(view, proposed);
        let policy = Policy { max_disruption: Disruption::Recreate, no_removals: view.no_removals.clone() };
        authorize(proposed, &policy)
    }

    /// What the VE's probe says; of a filter on trial, since that began.
    fn health(&self, view: &View) -> Health {
        let probe = view.want().and_then(|want| want.lifecycle.health.as_ref());
        let shared = self.shared();
        let Some(published) = shared.published.get(&Subject::Name(view.name.clone())) else {
            return if probe.is_some() { Health::Unknown } else { Health::NoProbe };
        };
        match view.entry.as_ref().and_then(Entry::open_trial) {
            Some(trial) => published.probes.since(trial.since),
            None => published.probes.health(),
        }
    }

    fn is_ready(&self, name: &VeName) -> bool {
        let shared = self.shared();
        let published = shared.published.get(&Subject::Name(name.clone()));
        published.is_some_and(|published| published.is(ConditionType::Ready))
    }

    /// One pass over one VE.
    pub(super) fn reconcile(&self, subject: &Subject, leave: Leave, census: Option<&Census>) -> Outcome {
        let lock = self.lock_of(subject);
        let _one_at_a_time = lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.end_abandoned(subject);
        self.believe(subject);
        let mut outcome = Outcome::default();
        if census.is_none() {
            outcome = self.change_limits(subject, leave);
        }
        for round in 0..ROUNDS {
            let Some(view) = self.view(subject, leave) else { return outcome };
            let (observed, running) = self.observe_running(&view, census.filter(|_| round == 0));
            let plan = self.plan_for(&view, &observed);
            if !starts_soon(&plan) {
                self.starts.step_out(&view.name);
            }
            if plan.is_empty() || outcome.failure.is_some() || round + 1 == ROUNDS {
                if outcome.failure.is_none() {
                    outcome.failure = self.check(&view, &observed, &plan);
                }
                if let Some(entry) = &view.entry {
                    self.answer_within(entry, running.as_deref());
                }
                self.publish(subject, &view, observed, plan, outcome.failure.as_ref());
                return outcome;
            }
            let plan = if view.transient.is_empty() { plan } else { plan.until_the_run_ends() };
            let executed = self.execute(&plan, view.want(), &observed, running);
            outcome.changed += executed.changed;
            outcome.failure = executed.failure;
        }
        outcome
    }

    /// What most changes are about, and what nobody should wait for: a VE that was as wanted at the last look is given
    /// other limits at once, and looked at as a whole afterwards.
    fn change_limits(&self, subject: &Subject, leave: Leave) -> Outcome {
        let looked = || {
            let view = self.view(subject, leave)?;
            let last =
                self.shared().published.get(subject).filter(|last| last.is_as_wanted())?.observed.clone();
            let Some(Run::Running { init_pid, .. }) = last.running() else { return None };
            let ve = Ve { host: &self.host, entry: view.entry.as_ref()?, want: view.want() };
            let (cgroup, running) = drivers::observe_limits(ve, init_pid.cast_signed())?;
            let observed = Observed { cgroup, ..last };
            let plan = self.plan_for(&view, &observed);
            let only_limits =
                |step: &Step| matches!(step, Step::Cgroup(_) | Step::Lifecycle(LifecycleStep::Accept));
            let all = !plan.is_empty() && plan.steps.iter().all(|planned| only_limits(&planned.step));
            all.then_some((view, observed, running, plan))
        };
        let Some((view, observed, running, plan)) = looked() else { return Outcome::default() };
        let executed = self.execute(&plan, view.want(), &observed, Some(running));
        Outcome { changed: executed.changed, failure: executed.failure }
    }

    /// Compares a VE that should be as wanted with what is wanted, whatever was done.
    fn check(&self, view: &View, observed: &Observed, plan: &VePlan<Approved>) -> Option<StepFailure> {
        let want = view.want().filter(|_| {
            plan.steps.is_empty()
                && plan.held.is_empty()
                && plan.unreadable.is_empty()
                && plan.suspended.is_none()
        })?;
        let is_ready = |name: &VeName| self.is_ready(name);
        let caps = self.host.caps();
        let wrong = verify(want, observed, &cx(&caps, view, &is_ready, &self.health(view)));
        let wrong = wrong.iter().find(|mismatch| mismatch.disruption <= Disruption::Live)?;
        Some(StepFailure {
            code: "VZ0306",
            message: format!("{} is {} where {} was set", wrong.field, wrong.have, wrong.want),
            help: None,
        })
    }

    /// Makes known what came of a pass.
    fn publish(
        &self,
        subject: &Subject,
        view: &View,
        observed: Observed,
        plan: VePlan<Approved>,
        failed: Option<&StepFailure>,
    ) {
        let now = clock::now();
        let mut shared = self.shared();
        let entry = shared.entry(subject).cloned();
        let unknown = matches!(view.wanted, Wanted::Unknown(_));
        if entry.is_none() && plan.steps.is_empty() && view.want().is_none() && !unknown {
            shared.published.remove(subject);
            self.published.notify_all();
            view.entry.iter().for_each(|entry| self.host.resolver.set(&entry.uid, None));
            return;
        }
        let before = shared.published.remove(subject);
        let generation = entry.as_ref().map_or(0, |entry| entry.generation);
        let earlier = before.as_ref().filter(|before| before.generation == generation);
        let failures = if failed.is_some() { earlier.map_or(0, |before| before.failures) + 1 } else { 0 };
        let failure = failed.map(|failed| Failure {
            reason: "ReconciliationFailed".to_owned(),
            message: format!("{} [{}]", failed.message, failed.code),
            retry_at: Some(now + backoff::delay(failures, clock::jitter())),
        });
        let mut probes = before.as_ref().map(|before| before.probes.clone()).unwrap_or_default();
        probes.follow(view.want().and_then(|want| want.lifecycle.health.as_ref()), &observed, now);
        if let Some(trial) = entry.as_ref().and_then(Entry::open_trial) {
            probes.ask_since(trial.since, now);
        }
        let health = probes.health();
        let unenforced = view.want().map_or_else(String::new, |want| {
            let of_disk = entry.as_ref().and_then(|entry| entry.disk.as_ref());
            let disk = of_disk.into_iter().flat_map(|disk| disk::unenforced(&want.disk, disk.backend));
            let counters = unenforced(&want.beancounters, &self.host.caps());
            let inside = namespaces::unenforced(&want.namespaces, &observed.namespaces);
            let counters = Some(counters).filter(|told| !told.is_empty());
            disk.chain(counters).chain(inside).collect::<Vec<_>>().join("; ")
        });
        let caps = self.host.caps();
        let inputs = Inputs {
            now,
            entry: entry.as_ref(),
            have: &observed,
            plan: &plan,
            in_progress: !plan.steps.is_empty() && failed.is_none(),
            failure: failure.as_ref(),
            broken_manifest: view.broken.as_deref(),
            cannot_suspend: caps.checkpoint.missing(),
            unenforced: &unenforced,
            health: &health,
        };
        let previous = before.as_ref().map(|before| before.conditions.as_slice()).unwrap_or_default();
        let conditions = conditions(&inputs, previous);
        // What was so before this controller came up is no news.
        if before.is_some() || view.entry.is_none() {
            self.tell_transitions(&view.name, previous, &conditions, &plan);
        }
        let (passes, errors) = before.as_ref().map_or((0, 0), |before| (before.passes, before.errors));
        let (passes, errors) = (passes + 1, errors + u64::from(failure.is_some()));
        let published =
            Published { conditions, observed, plan, failure, failures, passes, errors, generation, probes };
        let was_ready = before.as_ref().is_some_and(|before| before.is(ConditionType::Ready));
        if published.is(ConditionType::Ready) && !was_ready {
            let waiting =
                shared.wishes.want.values().filter(|want| want.lifecycle.depends_on.contains(&view.name));
            let waiting: Vec<_> = waiting.map(|want| Subject::Name(want.name.clone())).collect();
            shared.nudged.extend(waiting);
        }
        entry.iter().for_each(|entry| self.name(entry, &published));
        shared.published.insert(subject.clone(), Box::new(published));
        self.published.notify_all();
    }

    /// Events for what came to be true of a VE without a step of ours.
    fn tell_transitions(
        &self,
        name: &VeName,
        before: &[Condition],
        after: &[Condition],
        plan: &VePlan<Approved>,
    ) {
        let news = after.iter().filter(|now| {
            !before
                .iter()
                .any(|was| (was.r#type, was.status, &was.message) == (now.r#type, now.status, &now.message))
        });
        for now in news {
            let (kind, wanted) = match now.r#type {
                ConditionType::Healthy => (EventType::Warning, ConditionStatus::False),
                ConditionType::Stalled
                | ConditionType::RestartRequired
                | ConditionType::ResizePending
                | ConditionType::AddressConflict
                | ConditionType::DeletionPending => (EventType::Warning, ConditionStatus::True),
                // That it is exceeded was told when that was noted.
                ConditionType::OverQuota if now.reason == "GraceRunOut" => {
                    (EventType::Warning, ConditionStatus::True)
                }
                ConditionType::Suspended => (EventType::Normal, ConditionStatus::True),
                _ => continue,
            };
            if now.status == wanted {
                let event =
                    Event::new(clock::now(), Some(name.clone()), kind, &now.reason, now.message.clone());
                self.tell(event);
            }
        }
        let infeasible = plan.held.iter().filter(|held| held.held_for == HeldFor::Infeasible);
        let known = before.iter().any(|was| was.r#type == ConditionType::Stalled);
        for held in infeasible.filter(|_| !known) {
            let message = format!("{}: {} [VZ0201]", held.field, held.why);
            let event =
                Event::new(clock::now(), Some(name.clone()), EventType::Warning, "Infeasible", message);
            self.tell(event);
        }
    }

    /// Looks at a VE and publishes what is seen, without changing anything.
    pub(super) fn look(&self, subject: &Subject) {
        let Some(view) = self.view(subject, Leave::default()) else { return };
        let observed = self.observe(&view, None);
        let plan = self.plan_for(&view, &observed);
        self.publish(subject, &view, observed, plan, None);
    }
}
