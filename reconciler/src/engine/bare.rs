//! Orders about a VE that is to run without its own init for a moment ([`vzd_state::bare`]): it has to be down for that, is
//! killed in the end, since nothing of its own runs, and takes no other order meanwhile.

use vzd_schema::Code;
use vzd_state::ledger::Entry;
use vzd_state::plan::{Power, target};
use vzd_state::subsystem::lifecycle::StopReason;

use crate::control::{ControlError, ControlResult, PowerAction};
use crate::drivers::lifecycle;
use crate::engine::answer::error;
use crate::engine::pass::{failure_of, refusal_of};
use crate::engine::view::Leave;
use crate::engine::{Engine, Subject};

impl Engine {
    /// Carries an order out that has to do with such a run: none if it has not.
    pub(super) fn order_bare(&self, subject: &Subject, action: PowerAction) -> Option<ControlResult<()>> {
        let is_bare = self.shared().entry(subject).is_some_and(|entry| entry.bare);
        match action {
            PowerAction::StartBare if !is_bare => Some(self.start_bare(subject)),
            PowerAction::Stop | PowerAction::StopUntilBoot if is_bare => Some(self.stop_bare(subject)),
            _ if is_bare => Some(Err(refused("a script runs in it while its own init does not: stop it"))),
            _ => None,
        }
    }

    fn start_bare(&self, subject: &Subject) -> ControlResult<()> {
        let view = self.view(subject, Leave::default());
        let Some((want, entry)) = view.as_ref().and_then(|view| Some((view.want()?, view.entry.as_ref()?)))
        else {
            return Err(refused("it is not made yet"));
        };
        self.is_ours(entry)?;
        if entry.suspension.is_some() {
            return Err(refused("it is suspended; `vzd stop` gives that up"));
        }
        if matches!(target(want, Some(entry)).power, Power::Absent | Power::Suspended) {
            return Err(refused("it is to go, or to be suspended"));
        }
        if !view.as_ref().is_some_and(|view| self.observe(view, None).stopped()) {
            return Err(refused("it runs"));
        }
        self.note_bare(subject, true)?;
        let outcome = self.reconcile(subject, Leave::default(), None);
        let refusal = || refusal_of(&self.shared().published.get(subject)?.plan, Some("spec.state"));
        let runs = || self.shared().published.get(subject).is_some_and(|is| is.observed.running().is_some());
        let why = failure_of(&outcome).or_else(refusal);
        match why {
            None if runs() => Ok(()),
            why => {
                self.note_bare(subject, false)?;
                Err(why.unwrap_or_else(|| refused("it ended at once")))
            }
        }
    }

    fn stop_bare(&self, subject: &Subject) -> ControlResult<()> {
        let Some(entry) = self.note_bare(subject, false)? else { return Ok(()) };
        let group = self.host.cgroup(&entry);
        if group.exists() {
            group.kill().map_err(|e| error("VZ0303", e.to_string()))?;
            let _ = group.wait_empty(lifecycle::KILL_TIMEOUT);
        }
        failure_of(&self.reconcile(subject, Leave::default(), None)).map_or(Ok(()), Err)
    }

    /// Notes that a VE is to run so, or no longer; gives what the ledger has of it then.
    fn note_bare(&self, subject: &Subject, is: bool) -> ControlResult<Option<Entry>> {
        let entry = {
            let mut shared = self.shared();
            let uid = shared.entry(subject).map(|entry| entry.uid.clone());
            let Some(entry) = uid.and_then(|uid| shared.ledger.get_mut(&uid)) else { return Ok(None) };
            entry.bare = is;
            if is {
                entry.backoff = None;
            } else if let Some(run) = &mut entry.run {
                // However its end comes about, it is one that was ordered.
                run.stopping = Some(StopReason::Operator);
            }
            entry.clone()
        };
        self.records.save(&entry).map_err(|e| error("VZ0404", e.to_string()))?;
        Ok(Some(entry))
    }
}

fn refused(why: &str) -> ControlError {
    error(Code::StartFailed.as_str(), format!("cannot run anything in the VE while it is down: {why}"))
}
