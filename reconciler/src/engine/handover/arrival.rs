//! VEs that come from other hosts: whether they fit, room for them, and taking them over.
//!
//! Must not let one run before its record says that it was accepted.

use std::sync::PoisonError;

use vzd_state::handover::{Handover, Here, Stage, Told, next};
use vzd_state::ids::VeUid;
use vzd_state::ledger::{DiskRecord, Entry, LedgerError, Standing};
use vzd_state::lower::lower_entry;
use vzd_state::plan::{Infeasible, Power, infeasible, target};
use vzd_state::reading::Reading;
use vzd_state::subsystem::disk::Cold;
use vzd_state::subsystem::lifecycle::{Run, Step as LifecycleStep};

use super::other;
use crate::control::ControlResult;
use crate::drivers::{Ve, disk, lifecycle};
use crate::engine::answer::error;
use crate::engine::{Engine, Subject, clock, wishes::host_device};
use crate::handover::Answer;
use crate::handover::problem::{Kind, Problem, line};
use crate::handover::source::refused;

impl Engine {
    /// What the ledger and this host's features have against a VE of another host's.
    pub(super) fn conflicts(&self, entry: &Entry) -> Vec<Problem> {
        let mut problems: Vec<_> = {
            let shared = self.shared();
            let kind = |e: &LedgerError| match e {
                LedgerError::NameTaken(_) | LedgerError::CtidTaken { .. } => Kind::Exists,
                _ => Kind::Other,
            };
            let told = |e: &LedgerError| kind(e).because(format!("{}: {e}", e.field()));
            shared.ledger.conflicts(entry).iter().map(told).collect()
        };
        if let Some(here) = self.shared().ledger.get(&entry.uid).map(Entry::here)
            && let Err(why) = next(abandoned(here), Told::Receive)
        {
            problems.push(Kind::Exists.because(why.to_string()));
        }
        match lower_entry(entry, &host_device) {
            Ok(want) => {
                let lacking = infeasible(&want, &self.host.caps());
                let told = |is: Infeasible| Kind::Manifest.because(format!("{}: {}", is.field, is.why));
                problems.extend(lacking.into_iter().map(told));
            }
            Err(wrong) => problems.extend(wrong.iter().map(|is| Kind::Manifest.because(is.to_string()))),
        }
        problems
    }

    pub(super) fn receive(&self, theirs: &Entry, id: &str, peer: &str) -> ControlResult<Answer> {
        // What an earlier one has left, or what it was when it was here before.
        if let Some(subject) = self.subject_of(&theirs.uid) {
            let lock = self.lock_of(&subject);
            let _nobody_else = lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.make_room(theirs)?;
        }
        let record = theirs.disk.as_ref().ok_or_else(|| refused("it has no disk"))?;
        let handover =
            Handover { id: id.to_owned(), peer: peer.to_owned(), stage: Stage::Receiving, at: clock::now() };
        let mut entry = Entry {
            disk: Some(DiskRecord { ready: false, root: None, ..record.clone() }),
            handover: Some(handover),
            pinned: true,
            run: None,
            suspension: None,
            stale_host: None,
            standing: Standing::Active,
            ..theirs.clone()
        };
        let subject = Subject::Name(entry.name.clone());
        let lock = self.lock_of(&subject);
        let _nobody_else = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let problems = self.conflicts(&entry);
        if !problems.is_empty() {
            return Err(refused(line(&problems)));
        }
        self.note(&entry)?;
        let step = Cold::CreateRoot { template: record.template.clone(), backend: record.backend };
        // It fits, so it can be lowered.
        let want = lower_entry(&entry, &host_device).ok();
        let ve = Ve { host: &self.host, entry: &entry, want: want.as_ref() };
        let made = lifecycle::stopped(ve)
            .map_err(refused)
            .and_then(|stopped| disk::apply_cold(ve, &step, &stopped).map_err(refused));
        let (_, made) = match made {
            Ok(made) => made,
            Err(why) => {
                entry.tell(Told::Decline, clock::now()).map_err(refused)?;
                self.note(&entry)?;
                return Err(why);
            }
        };
        let made = made.root.unwrap_or_default();
        entry.disk =
            Some(DiskRecord { ready: false, root: made.path, digest: made.digest, ..record.clone() });
        self.note(&entry)?;
        Ok(Answer::of(entry))
    }

    /// Writes a record down; if there is no room for it, and the VE has come to nothing here, once what came is gone.
    pub(super) fn note_end(&self, entry: &Entry) -> ControlResult<()> {
        self.note(entry).or_else(|no_room| {
            if entry.here() != Here::Unknown {
                return Err(no_room);
            }
            let ve = Ve { host: &self.host, entry, want: None };
            lifecycle::apply(ve, &LifecycleStep::Destroy).map_err(refused)?;
            self.note(entry)
        })
    }

    /// Throws away what a VE has left here that comes (again).
    fn make_room(&self, theirs: &Entry) -> ControlResult<()> {
        let Some(mut entry) = self.shared().ledger.get(&theirs.uid).cloned() else { return Ok(()) };
        // The caller holds the session: whoever began to receive it before is gone.
        entry.tell(Told::Abandoned, clock::now()).map_err(refused)?;
        next(entry.here(), Told::Receive).map_err(refused)?;
        entry.standing = Standing::Destroying;
        self.note(&entry)?;
        let ve = Ve { host: &self.host, entry: &entry, want: None };
        lifecycle::apply(ve, &LifecycleStep::Destroy).map_err(refused)?;
        self.records.remove(&entry.uid).map_err(|e| error("VZ0404", e.to_string()))?;
        self.shared().ledger.remove(&entry.uid);
        Ok(())
    }

    pub(super) fn accept(&self, uid: &VeUid, id: &str, theirs: Option<&Entry>) -> ControlResult<Answer> {
        let declined = |why: &str| Answer { problems: vec![Kind::Resume.because(why)], ..Answer::default() };
        let is_here = self.with(uid, |entry| {
            let ours = entry.filter(|entry| entry.here() != Here::Unknown);
            let Some(mut ours) = ours else { return Ok(false) };
            match (&ours.handover, theirs) {
                (Some(handover), _) if handover.id != id => return Ok(false),
                // The source has said already that it knows.
                (None, _) => return Ok(true),
                (Some(Handover { stage: Stage::Receiving, .. }), Some(theirs)) => {
                    ours = taken_over(&ours, theirs);
                    ours.stale_host = self.stale_host(&ours);
                    self.count_arrival()?;
                }
                // Nobody has received the whole of it.
                (Some(Handover { stage: Stage::Receiving, .. }), None) => {
                    ours.tell(Told::Decline, clock::now()).map_err(refused)?;
                    return self.note(&ours).map(|()| false);
                }
                (Some(_), _) => {}
            }
            ours.tell(Told::Accept, clock::now()).map_err(refused)?;
            self.note(&ours).map(|()| true)
        })?;
        if !is_here {
            self.pass(uid);
            return Ok(declined("the other host does not have it"));
        }
        let failure = self.pass(uid);
        let kept = self.with(uid, |entry| {
            let Some(mut entry) = entry else { return Ok(None) };
            if entry.here() == Here::Ordinary || self.may_have_run(&entry)? {
                return Ok(Some(entry));
            }
            entry.tell(Told::Decline, clock::now()).map_err(refused)?;
            self.note(&entry).map(|()| None)
        })?;
        let Some(entry) = kept else {
            self.pass(uid);
            return Ok(declined(&failure.unwrap_or_else(|| "it could not be resumed there".to_owned())));
        };
        Ok(Answer { problems: other(failure), ..Answer::of(entry) })
    }

    /// Whether a VE that was accepted has gone on, or has nothing to go on with: else it may still be declined.
    fn may_have_run(&self, entry: &Entry) -> ControlResult<bool> {
        let ve = Ve { host: &self.host, entry, want: None };
        let (seen, _) = lifecycle::observe(ve, None);
        let wants_to = lower_entry(entry, &host_device)
            .is_ok_and(|want| matches!(target(&want, Some(entry)).power, Power::Running | Power::Paused));
        match seen.run {
            Reading::Is(Run::Running { .. }) => Ok(true),
            Reading::Unreadable(why) => Err(refused(why)),
            Reading::Is(Run::Stopped { .. }) | Reading::Absent => {
                Ok(!wants_to || entry.suspension.is_none() || seen.checkpoint.is().is_none())
            }
        }
    }
}

/// What a VE is once nobody works at its hand-over.
fn abandoned(here: Here) -> Here {
    next(here, Told::Abandoned).unwrap_or(here)
}

/// What was received, with all that the source's ledger held of it in the end.
fn taken_over(ours: &Entry, theirs: &Entry) -> Entry {
    let disk = ours.disk.as_ref().map(|disk| DiskRecord {
        ready: true,
        over: theirs.disk.as_ref().map(|disk| disk.over).unwrap_or_default(),
        ..disk.clone()
    });
    Entry {
        uid: ours.uid.clone(),
        name: ours.name.clone(),
        ctid: ours.ctid,
        ids: ours.ids,
        disk,
        handover: ours.handover.clone(),
        pinned: true,
        run: None,
        backoff: None,
        standing: Standing::Active,
        ..theirs.clone()
    }
}
