//! Hand-overs of VEs between hosts, the engine's part: what each side has on record, and doing as that says. The rules
//! are `vzd_state::handover`'s, what comes is taken over by [`arrival`], sending and receiving the commands' (`crate::handover`).
//!
//! What another host is told of next is on disk for good before this returns.

mod arrival;

use std::sync::{MutexGuard, PoisonError};

use vzd_state::handover::{Here, Stage, Told, next};
use vzd_state::ids::VeUid;
use vzd_state::ledger::{Entry, Standing};

use crate::control::ControlResult;
use crate::drivers::{Ve, checkpoint, lifecycle};
use crate::engine::answer::error;
use crate::engine::view::Leave;
use crate::engine::{Engine, Subject, clock, fault};
use crate::handover::problem::{Kind, Problem};
use crate::handover::session::Session;
use crate::handover::source::refused;
use crate::handover::{Answer, Request};

impl Answer {
    fn of(entry: Entry) -> Self {
        Self { entry: Some(Box::new(entry)), ..Self::default() }
    }
}

impl Engine {
    /// Carries out one step of a hand-over.
    pub(super) fn do_handover(&self, request: &Request) -> ControlResult<Answer> {
        match request {
            Request::Look { ve } => {
                let known: Vec<_> =
                    self.subjects().into_iter().filter(|s| matches!(s, Subject::Name(_))).collect();
                let named = self.named(ve, &known);
                let shared = self.shared();
                let found = match &named {
                    Ok(subject) => shared.entry(subject),
                    // What has gone to another host may still be asked about.
                    Err(_) => ve.parse().ok().and_then(|name| shared.ledger.quarantined(&name)),
                };
                let found = found.filter(|entry| !entry.is_quarantined() || entry.handover.is_some());
                let found = found.cloned();
                drop(shared);
                let answer = |entry: Entry| Answer { declared: self.declared(&entry), ..Answer::of(entry) };
                found.map(answer).ok_or_else(|| match named {
                    Ok(_) => error("VZ0307", format!("VE {ve} has not been made yet")),
                    Err(unknown) => unknown,
                })
            }
            Request::Freeze { uid, id, peer } => self.freeze(uid, id, peer),
            Request::WriteAhead { uid, id, round } => self.write_ahead(uid, id, *round),
            Request::ForgetAhead { uid } => self.forget_ahead(uid),
            Request::Check { entry } => Ok(Answer { problems: self.conflicts(entry), ..Answer::default() }),
            Request::Receive { entry, id, peer } => self.receive(entry, id, peer),
            Request::Accept { uid, id, entry } => self.accept(uid, id, entry.as_deref()),
            Request::Tell { uid, id, told } => self.told(uid, id, *told),
            Request::Ask { from, queries } => self.say(from, queries),
        }
    }

    /// Undoes what was begun by somebody who is gone. Nobody else works on the VE meanwhile.
    pub(super) fn end_abandoned(&self, subject: &Subject) {
        let entry = self.shared().entry(subject).cloned();
        let Some(mut entry) = entry else { return };
        if !entry.here().needs_someone() {
            return self.end_written_ahead(&entry);
        }
        match Session::try_begin(&self.host.settings, &entry.uid) {
            Ok(Some(_nobody)) => {
                self.wait_for_a_copy(&entry);
                let told = self.undone(&entry);
                let told = entry.tell(told, clock::now());
                let noted = told.map_err(refused).and_then(|()| self.note_end(&entry));
                if let Err(e) = noted {
                    tracing::warn!(ve = %entry.name, error = %e, "a hand-over that nobody works at goes on");
                }
            }
            Ok(None) => {}
            Err(e) => tracing::warn!(ve = %entry.name, error = %e, "it is not known who hands it over"),
        }
    }

    /// Removes memory that was written ahead for a hand-over that came to nothing before it had begun.
    fn end_written_ahead(&self, entry: &Entry) {
        let ve = Ve { host: &self.host, entry, want: None };
        if !checkpoint::is_ahead(ve) {
            return;
        }
        let session = Session::try_begin(&self.host.settings, &entry.uid);
        if let Ok(Some(_nobody)) = session
            && let Err(e) = checkpoint::forget_ahead(ve)
        {
            tracing::warn!(ve = %entry.name, error = %e, "what was written ahead stays");
        }
    }

    /// Refuses changes of a VE that is not this host's to run.
    pub(super) fn is_ours(&self, entry: &Entry) -> ControlResult<()> {
        match &entry.handover {
            Some(handover) if !entry.here().may_run() => Err(refused(handover)),
            Some(_) | None => Ok(()),
        }
    }

    /// The VE with that uid, and the lock of those who work on it.
    pub(super) fn with<T>(
        &self,
        uid: &VeUid,
        body: impl FnOnce(Option<Entry>) -> ControlResult<T>,
    ) -> ControlResult<T> {
        let subject = self.subject_of(uid);
        let lock = subject.as_ref().map(|subject| self.lock_of(subject));
        let _nobody_else: Option<MutexGuard<'_, ()>> =
            lock.as_ref().map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        let entry = self.shared().ledger.get(uid).cloned();
        body(entry)
    }

    fn subject_of(&self, uid: &VeUid) -> Option<Subject> {
        let shared = self.shared();
        let entry = shared.ledger.get(uid)?;
        Some(match entry.is_quarantined() {
            true => Subject::Quarantined(uid.clone()),
            false => Subject::Name(entry.name.clone()),
        })
    }

    /// Writes a record down, for good.
    pub(super) fn note(&self, entry: &Entry) -> ControlResult<()> {
        self.records.save_for_good(entry).map_err(|e| error("VZ0404", e.to_string()))?;
        self.shared().ledger.put(entry.clone());
        fault::point();
        Ok(())
    }

    fn pass(&self, uid: &VeUid) -> Option<String> {
        let subject = self.subject_of(uid)?;
        let outcome = self.reconcile(&subject, Leave::default(), None);
        outcome.failure.map(|failure| format!("{} [{}]", failure.message, failure.code))
    }

    /// Nothing is lost if it cannot be: then more is sent while it stands still.
    fn write_ahead(&self, uid: &VeUid, id: &str, round: u32) -> ControlResult<Answer> {
        if self.host.caps().memory_marks.missing().is_some() {
            return Ok(Answer::default());
        }
        self.with(uid, |entry| {
            let entry = entry.ok_or_else(|| error("VZ0307", "there is no such VE any more"))?;
            let written =
                checkpoint::write_ahead(Ve { host: &self.host, entry: &entry, want: None }, id, round);
            if let Err(why) = &written {
                tracing::warn!(ve = %entry.name, error = %why, "memory is not written ahead");
            }
            Ok(Answer { ahead: written.is_ok(), ..Answer::default() })
        })
    }

    fn forget_ahead(&self, uid: &VeUid) -> ControlResult<Answer> {
        self.with(uid, |entry| {
            let forgotten = entry
                .map(|entry| checkpoint::forget_ahead(Ve { host: &self.host, entry: &entry, want: None }));
            forgotten.transpose().map_err(refused).map(|_| Answer::default())
        })
    }

    fn freeze(&self, uid: &VeUid, id: &str, peer: &str) -> ControlResult<Answer> {
        self.with(uid, |entry| {
            let mut entry = entry.ok_or_else(|| error("VZ0307", "there is no such VE any more"))?;
            if entry.standing != Standing::Active || !entry.disk.as_ref().is_some_and(|disk| disk.ready) {
                return Err(refused("it has no disk, or is not managed"));
            }
            entry.set_out(Told::Freeze, id, peer, clock::now()).map_err(refused)?;
            self.note(&entry)
        })?;
        let failure = self.pass(uid);
        let down = self.with(uid, |entry| {
            let entry = entry.ok_or_else(|| error("VZ0307", "there is no such VE any more"))?;
            let ve = Ve { host: &self.host, entry: &entry, want: None };
            Ok(lifecycle::stopped(ve).is_ok().then_some(entry))
        })?;
        match (down, failure) {
            (Some(entry), None) => Ok(Answer::of(entry)),
            (_, failure) => {
                self.told(uid, id, Told::WasDeclined)?;
                let why = failure.unwrap_or_else(|| "it could not be suspended".to_owned());
                Ok(Answer { problems: vec![Kind::Suspend.because(why)], ..Answer::default() })
            }
        }
    }

    /// A step of an ongoing hand-over, and what follows from it.
    pub(super) fn told(&self, uid: &VeUid, id: &str, told: Told) -> ControlResult<Answer> {
        self.with(uid, |entry| {
            let Some(mut entry) = entry else {
                // It is gone, or never was.
                return next(Here::Unknown, told).map(drop).map_err(refused);
            };
            if entry.handover.as_ref().is_some_and(|handover| handover.id != id) {
                return Err(refused("it is in another hand-over"));
            }
            entry.tell(told, clock::now()).map_err(refused)?;
            if entry.here() == Here::At(Stage::Moved) {
                // Nothing may go on from it here.
                let ve = Ve { host: &self.host, entry: &entry, want: None };
                checkpoint::discard(ve).map_err(|e| error("VZ0404", e.to_string()))?;
                entry.suspension = None;
                // Nothing but a manifest keeps its name.
                entry.pinned = false;
            }
            self.note_end(&entry)
        })?;
        let failure = self.pass(uid);
        let entry = self.shared().ledger.get(uid).cloned();
        Ok(Answer { entry: entry.map(Box::new), problems: other(failure), ..Answer::default() })
    }
}

/// What went wrong, if anything did.
fn other(failure: Option<String>) -> Vec<Problem> {
    failure.into_iter().map(|why| Kind::Other.because(why)).collect()
}
