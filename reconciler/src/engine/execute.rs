//! Doing a plan's steps, with the ledger written before and after each.
//!
//! What a step makes ours is on disk before it does that, so a controller killed in between finds more in
//! the ledger than in the kernel, never less. One that only gives another value to what is ours already is
//! noted with the next that is not, or after the last: nobody waits for the disk for a limit. A live step that fails takes back
//! what this plan did to its subsystem and leaves the other subsystems alone; any other ends the plan.

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use vzd_schema::Code;
use vzd_state::capability::Capabilities;
use vzd_state::desired::Desired;
use vzd_state::disruption::Cause;
use vzd_state::event::{Event, EventType};
use vzd_state::ids::{VeName, VeUid};
use vzd_state::ledger::{Counts, Facts, LedgerError, Started};
use vzd_state::observed::Observed;
use vzd_state::plan::{Approved, Step, VePlan};
use vzd_state::subsystem::cgroup;
use vzd_state::subsystem::disk;
use vzd_state::subsystem::lifecycle::{self, Exit, Run};
use vzd_state::subsystem::network;
use vzd_state::undo::undo;

use crate::drivers::{self, Effect, Made, Running, StepError, Ve};
use crate::engine::starts::Kind;
use crate::engine::{Engine, clock, fault};
use crate::error::SysError;

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Executed {
    /// Steps that changed something.
    pub changed: usize,
    /// The first step that failed, and why.
    pub failure: Option<StepFailure>,
}

/// A step that failed.
#[derive(Debug)]
pub(super) struct StepFailure {
    /// Code of the kind of error.
    pub code: &'static str,
    /// Which step, and why.
    pub message: String,
    /// What can be done about it.
    pub help: Option<String>,
}

/// One plan being done.
struct Execution<'a> {
    engine: &'a Engine,
    name: &'a VeName,
    uid: VeUid,
    want: Option<&'a Desired>,
    exit: Option<Exit>,
    /// The VE as it ran when it was looked at.
    running: Option<Arc<Running>>,
    /// The record in memory is ahead of the one on disk.
    unsaved: bool,
    /// What was counted of a run that is suspended now.
    counts: Counts,
}

impl Engine {
    /// Does the plan's steps in order.
    pub(super) fn execute(
        &self,
        plan: &VePlan<Approved>,
        want: Option<&Desired>,
        observed: &Observed,
        running: Option<Arc<Running>>,
    ) -> Executed {
        if plan.steps.iter().any(|planned| planned.step.is_start()) {
            self.host.layout.expect_moves();
        }
        let exit = match observed.lifecycle.run.is() {
            Some(Run::Stopped { last_exit }) => *last_exit,
            _ => None,
        };
        let uid = plan.uid.clone().unwrap_or_else(clock::new_uid);
        let name = &plan.name;
        let mut execution =
            Execution { engine: self, name, uid, want, exit, running, unsaved: false, counts: Counts::new() };
        let mut executed = Executed::default();
        let mut done: Vec<&Step> = Vec::new();
        let mut failed: BTreeSet<usize> = BTreeSet::new();
        let mut skipped: Vec<Discriminant<Step>> = Vec::new();
        for (at, planned) in plan.steps.iter().enumerate() {
            if skipped.contains(&discriminant(&planned.step)) {
                continue;
            }
            fault::point();
            let step = self.can_go_on(plan, at).and_then(|()| execution.step(&planned.step));
            match step {
                Ok(effect) => {
                    executed.changed += usize::from(effect == Effect::Changed);
                    execution.tell(&planned.step, planned.cause);
                    done.push(&planned.step);
                }
                Err(error) => {
                    failed.insert(at);
                    executed.failure.get_or_insert(execution.failed(&planned.step, &error));
                    if !planned.step.is_live() {
                        break;
                    }
                    if planned.step.stands_alone() {
                        continue;
                    }
                    execution.take_back(&done, &planned.step);
                    skipped.push(discriminant(&planned.step));
                }
            }
            fault::point();
        }
        if let Err(error) = execution.save() {
            executed.failure.get_or_insert(StepFailure {
                code: "VZ0404",
                message: error.to_string(),
                help: None,
            });
        }
        executed
    }
}

impl Engine {
    /// Nothing is stopped for, or thrown away for, a root that cannot be made afterwards.
    fn can_go_on(&self, plan: &VePlan<Approved>, at: usize) -> Result<(), StepError> {
        let steps = || plan.steps[at..].iter().map(|planned| &planned.step);
        let stops = |step: &Step| matches!(step, Step::Lifecycle(lifecycle::Step::Stop { .. }));
        let destroys = |step: &Step| matches!(step, Step::Disk(disk::Cold::DestroyRoot));
        if !steps().next().is_some_and(|step| stops(step) || destroys(step)) || !steps().any(destroys) {
            return Ok(());
        }
        for step in steps() {
            if let Step::Disk(step) = step {
                drivers::disk::prepare(&self.host, step)?;
            }
        }
        Ok(())
    }
}

impl Execution<'_> {
    fn facts<'c>(&self, caps: &'c Capabilities, made: Option<&Made>) -> Facts<'c> {
        let mut facts = Facts::at(caps, clock::now());
        facts.jitter = clock::jitter();
        facts.exit = self.exit;
        facts.counts = self.counts.clone();
        if let Some(made) = made {
            facts.started = made.init_pid.map(|init_pid| Started { init_pid, at: facts.now });
            facts.made_root = made.root.clone();
        }
        facts
    }

    fn step(&mut self, step: &Step) -> Result<Effect, StepError> {
        let answered =
            self.engine.shared().ledger.get(&self.uid).is_some_and(|entry| entry.answers_for(step));
        self.note(|ledger, uid, want, facts| ledger.begin(uid, step, want, facts), None)?;
        let (effect, made) = if step.only_notes() {
            (Effect::Changed, Made::default())
        } else {
            if !answered {
                self.save()?;
            }
            fault::point();
            if *step == Step::Lifecycle(lifecycle::Step::Suspend) {
                self.counts = self.engine.counts_of(self.name);
            }
            let applied = self.apply(step)?;
            fault::point();
            applied
        };
        for message in &made.told {
            let name = Some(self.name.clone());
            let event =
                Event::new(clock::now(), name, EventType::Warning, "ActionScriptFailed", message.clone());
            self.engine.tell(event);
        }
        self.note(|ledger, uid, want, facts| ledger.finish(uid, step, want, facts), Some(&made))?;
        if *step == Step::Lifecycle(lifecycle::Step::Destroy) {
            self.unsaved = false;
            self.engine.records.remove(&self.uid)?;
            self.engine.forget_peaks(&self.uid);
            self.engine.host.packages.forget(&self.uid);
        }
        Ok(effect)
    }

    fn note(
        &mut self,
        change: impl FnOnce(
            &mut vzd_state::ledger::Ledger,
            &VeUid,
            Option<&Desired>,
            &Facts<'_>,
        ) -> Result<(), LedgerError>,
        made: Option<&Made>,
    ) -> Result<(), StepError> {
        let caps = self.engine.host.caps();
        let facts = self.facts(&caps, made);
        let mut shared = self.engine.shared();
        if shared.ledger.get(&self.uid).is_none() {
            // It is made by this. What it is to be on may have changed since that was planned.
            if !shared.may_make(self.name) {
                let why = "another host may have it, or it is to be there";
                return Err(SysError::refused("make", format_args!("VE {}", self.name), why).into());
            }
            shared.asked.remove(self.name);
        }
        let noted = change(&mut shared.ledger, &self.uid, self.want, &facts);
        drop(shared);
        self.unsaved = true;
        Ok(noted?)
    }

    /// Writes the record, if it is ahead of the one on disk.
    fn save(&mut self) -> Result<(), SysError> {
        if !std::mem::take(&mut self.unsaved) {
            return Ok(());
        }
        let entry = self.engine.shared().ledger.get(&self.uid).cloned();
        match entry {
            Some(entry) => self.engine.records.save(&entry).map(drop),
            None => Ok(()),
        }
    }

    fn apply(&self, step: &Step) -> Result<(Effect, Made), StepError> {
        let entry = self.engine.shared().ledger.get(&self.uid).cloned();
        let entry = entry.ok_or_else(|| {
            SysError::refused("change", format_args!("VE {}", self.name), "the ledger does not know it")
        })?;
        let ve = Ve { host: &self.engine.host, entry: &entry, want: self.want };
        let _leave = step.is_start().then(|| {
            let limit = self.engine.shared().wishes.start_parallel;
            let kind = if drivers::lifecycle::has_scripts(ve) { Kind::Scripted } else { Kind::Plain };
            self.engine.starts.take(limit, self.name, kind)
        });
        drivers::apply(ve, step, self.running.as_ref())
    }

    fn failed(&mut self, step: &Step, error: &StepError) -> StepFailure {
        let caps = self.engine.host.caps();
        let facts = self.facts(&caps, None);
        if let Some(entry) = self.engine.shared().ledger.get_mut(&self.uid) {
            entry.fail(step, &facts);
        }
        self.unsaved = true;
        let code = match (step, error) {
            (_, StepError::Ledger(e)) => e.code().as_str(),
            (_, StepError::Template(_)) => "VZ0304",
            (_, StepError::Script(_)) => Code::ActionScriptFailed.as_str(),
            (_, StepError::Teardown(_)) => "VZ0305",
            (Step::Lifecycle(lifecycle::Step::Stop { .. }), _) => "VZ0303",
            (Step::Lifecycle(lifecycle::Step::Suspend), _) => "VZ0501",
            (Step::Lifecycle(lifecycle::Step::Resume { .. }), _) => "VZ0502",
            (Step::Lifecycle(_) | Step::Disk(_), _) => "VZ0301",
            _ => "VZ0302",
        };
        let message = format!("{step}: {error}");
        let event = Event::new(
            clock::now(),
            Some(self.name.clone()),
            EventType::Warning,
            "ReconciliationFailed",
            message.clone(),
        );
        self.engine.tell(event);
        StepFailure { code, message, help: error.help() }
    }

    /// Undoes what this plan has done to the subsystem of a step that failed.
    fn take_back(&mut self, done: &[&Step], failed: &Step) {
        let same = done.iter().copied().filter(|step| discriminant(*step) == discriminant(failed));
        for step in undo(same.collect::<Vec<_>>().into_iter()) {
            let undone = self.step(&step);
            let (kind, reason, message) = match undone {
                Ok(_) => (EventType::Normal, "RollbackSucceeded", step.to_string()),
                Err(e) => (EventType::Warning, "RollbackFailed", format!("{step}: {e}")),
            };
            let event = Event::new(clock::now(), Some(self.name.clone()), kind, reason, message);
            self.engine.tell(event);
        }
    }

    fn tell(&self, step: &Step, cause: Cause) {
        let Some(reason) = reason(step) else { return };
        let kind = match step {
            Step::Lifecycle(lifecycle::Step::Reap { end: lifecycle::End::Crashed(_) })
            | Step::DiskLive(disk::Live::StartGrace { .. })
            | Step::Network(network::Live::RollBackFirewall { .. }) => EventType::Warning,
            _ => EventType::Normal,
        };
        let event = Event::new(clock::now(), Some(self.name.clone()), kind, reason, step.to_string());
        self.engine.tell(event.because(cause));
    }
}

/// The event of a step that was done; none for bookkeeping that nobody asks about.
fn reason(step: &Step) -> Option<&'static str> {
    Some(match step {
        Step::Lifecycle(step) => match step {
            lifecycle::Step::Create => "Created",
            lifecycle::Step::Restore => "Restored",
            lifecycle::Step::Accept => return None,
            lifecycle::Step::Adopt { .. } => "Adopted",
            lifecycle::Step::Reap { .. } => "Ended",
            lifecycle::Step::Stop { .. } => "Stopped",
            lifecycle::Step::Start { .. } => "Started",
            lifecycle::Step::Suspend => "Suspended",
            lifecycle::Step::Resume { .. } => "Resumed",
            lifecycle::Step::Discard => "CheckpointDiscarded",
            lifecycle::Step::Quarantine { .. } => "DeletionQuarantined",
            lifecycle::Step::Forget => "Retained",
            lifecycle::Step::Destroy => "Destroyed",
        },
        Step::Cgroup(cgroup::Live::Freeze | cgroup::Live::Thaw) => "PowerChanged",
        Step::Disk(_) => "DiskChanged",
        Step::DiskLive(disk::Live::StartGrace { .. }) => "SoftLimitExceeded",
        Step::DiskLive(disk::Live::EndGrace { .. }) => "SoftLimitKept",
        Step::DiskLive(disk::Live::SetLimit { .. } | disk::Live::SetReadOnly { .. }) => "ChangedLive",
        Step::Network(network::Live::RollBackFirewall { .. }) => "FirewallRolledBack",
        Step::Network(network::Live::EndTrial { passed: true }) => "FirewallConfirmed",
        Step::Network(network::Live::EndTrial { passed: false }) => return None,
        Step::Cgroup(_)
        | Step::Beancounters(_)
        | Step::Namespaces(_)
        | Step::Devices(_)
        | Step::Network(_)
        | Step::Users(_)
        | Step::Packages(_) => "ChangedLive",
    })
}
