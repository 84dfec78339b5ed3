//! Orders of operators: a VE is to run, stop, rest or be suspended, whatever its manifest says.
//!
//! An order is noted in the ledger before anything is done, and carried out by a pass like any other wish. Must not start or
//! stop anything itself, but for what is killed by force.

use std::sync::PoisonError;

use vzd_state::handover::{Here, Stage};
use vzd_state::ledger::By;
use vzd_state::subsystem::lifecycle::{State, StopReason};

use crate::control::{ControlResult, Outcomes, PowerAction, PowerRequest};
use crate::drivers::lifecycle;
use crate::engine::answer::error;
use crate::engine::pass::{failure_of, refusal_of};
use crate::engine::view::{Leave, View};
use crate::engine::{Engine, Subject, clock};

impl Engine {
    /// Gives all that are meant one order, side by side; for a shutdown lower boot orders first.
    pub(super) fn give_orders(&self, request: &PowerRequest) -> ControlResult<Outcomes> {
        let subjects = self.select(&request.select)?;
        let batches = match request.action {
            PowerAction::StopUntilBoot => {
                self.note_host_stop().map_err(|e| error("VZ0404", e.to_string()))?;
                self.in_order_of_a_shutdown(subjects)
            }
            _ => vec![subjects],
        };
        let outcomes = std::sync::Mutex::new(Outcomes::new());
        for batch in &batches {
            std::thread::scope(|scope| {
                for subject in batch {
                    let outcomes = &outcomes;
                    scope.spawn(move || {
                        let outcome = self.order_one(subject, request.action, request.force).err();
                        let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                        outcomes.insert(self.label(subject), outcome);
                    });
                }
            });
        }
        Ok(outcomes.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Overrides the state of a VE, as an operator, and makes it so.
    pub(super) fn order(&self, subject: &Subject, state: State, by: By, force: bool) -> ControlResult<()> {
        let view = self.view(subject, Leave::default());
        if let Some(entry) = view.as_ref().and_then(|view| view.entry.as_ref()) {
            let is_down = entry.here() == Here::At(Stage::Moved) || by == By::Host;
            if !entry.here().may_run() && state == State::Stopped && is_down {
                return Ok(());
            }
            self.is_ours(entry)?;
        }
        let want = view.as_ref().and_then(View::want);
        let said = want.map(|want| want.lifecycle.state);
        let entry = {
            let mut shared = self.shared();
            let uid = shared.entry(subject).map(|entry| entry.uid.clone());
            let Some(entry) = uid.and_then(|uid| shared.ledger.get_mut(&uid)) else { return Ok(()) };
            let above = entry.override_in_force().map(|above| above.state);
            if by == By::Host && (entry.suspension.is_some() || above.or(said) == Some(State::Stopped)) {
                // It is down already, and nobody waits for the next boot to have it up.
                return Ok(());
            }
            if said == Some(state) {
                entry.run_override = None;
                entry.backoff = None;
            } else {
                entry.order_state(state, by, clock::now(), want);
            }
            if let Some(run) = entry.run.as_mut().filter(|_| force) {
                run.stopping = Some(StopReason::Operator);
            }
            entry.clone()
        };
        self.records.save(&entry).map_err(|e| error("VZ0404", e.to_string()))?;
        if force {
            let group = self.host.cgroup(&entry);
            if group.exists() {
                group.kill().map_err(|e| error("VZ0303", e.to_string()))?;
                // A VE that is still dying would be planned for as one that runs. What outlasts this is the stop's.
                let _ = group.wait_empty(lifecycle::KILL_TIMEOUT);
            }
        }
        let outcome = self.reconcile(subject, Leave::default(), None);
        // One that was to stop and has is as it was ordered; what else its manifest asks for in vain is in its conditions.
        let is_down = || self.shared().published.get(subject).is_some_and(|is| is.observed.stopped());
        if state == State::Stopped && is_down() {
            return Ok(());
        }
        // An order that is held is not carried out, though nothing went wrong.
        let refused = || refusal_of(&self.shared().published.get(subject)?.plan, Some("spec.state"));
        // Nothing is done to a VE of which it is not known whether it is suspended.
        let unreadable = || {
            let shared = self.shared();
            let checkpoint = &shared.published.get(subject)?.observed.lifecycle.checkpoint;
            checkpoint.unreadable().map(|why| error("VZ0502", format!("VE {}: {why}", entry.name)))
        };
        failure_of(&outcome).or_else(refused).or_else(unreadable).map_or(Ok(()), Err)
    }

    fn order_one(&self, subject: &Subject, action: PowerAction, force: bool) -> ControlResult<()> {
        let by = By::Operator;
        if let Some(done) = self.order_bare(subject, action) {
            return done;
        }
        match action {
            // Done above.
            PowerAction::StartBare => Ok(()),
            PowerAction::Start | PowerAction::Resume => self.order(subject, State::Running, by, false),
            PowerAction::Stop => self.order(subject, State::Stopped, by, force),
            PowerAction::StopUntilBoot => self.order_down(subject, force),
            PowerAction::Suspend => self.order(subject, State::Suspended, by, false),
            PowerAction::Pause => self.order(subject, State::Paused, by, false),
            PowerAction::Restart => {
                self.order(subject, State::Stopped, by, force)?;
                self.order(subject, State::Running, by, false)
            }
        }
    }
}
