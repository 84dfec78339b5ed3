//! Snapshots of a VE's disk, on order: no pass works on the VE meanwhile, and one that runs is frozen for the moment of
//! taking. How a disk is copied is the driver's.

use std::path::Path;
use std::sync::PoisonError;

use vzd_schema::Code;
use vzd_state::ids::VeName;
use vzd_state::ledger::{By, Entry, Suspension};
use vzd_state::subsystem::lifecycle::State;

use crate::control::{ControlError, ControlResult, Snapshot, SnapshotAction, SnapshotNote, SnapshotRequest};
use crate::drivers::disk::{export, import, snapshot};
use crate::drivers::{StepError, Ve, cgroup, checkpoint, lifecycle};
use crate::engine::answer::error;
use crate::engine::view::{Leave, View};
use crate::engine::{Engine, Subject, clock, fault};
use crate::error::{SysError, SysResult};

impl Engine {
    /// A VE's snapshots.
    pub(super) fn list_snapshots(&self, ve: &str) -> ControlResult<Vec<Snapshot>> {
        let (_, entry) = self.made(ve)?;
        snapshot::list(Ve { host: &self.host, entry: &entry, want: None }).map_err(refused)
    }

    /// Carries out an order about a snapshot.
    pub(super) fn do_snapshot(&self, request: &SnapshotRequest) -> ControlResult<()> {
        let name: VeName = request
            .snapshot
            .parse()
            .map_err(|e| error("VZ0405", format!("{:?} is no name of a snapshot: {e}", request.snapshot)))?;
        check(&request.note)?;
        let (subject, _) = self.made(&request.ve)?;
        let lock = self.lock_of(&subject);
        // Packing takes its time, and touches nothing that a pass does.
        let alone = request.action != SnapshotAction::Export;
        let nobody_else = alone.then(|| lock.lock().unwrap_or_else(PoisonError::into_inner));
        // As it is now that nobody else works on it.
        let (_, entry) = self.made(&request.ve)?;
        self.is_ours(&entry)?;
        let ve = Ve { host: &self.host, entry: &entry, want: None };
        match request.action {
            SnapshotAction::Create if request.memory => self.create_with_memory(ve, &name, &request.note),
            SnapshotAction::Create => create(ve, &name, &request.note),
            SnapshotAction::Revert if entry.suspension.is_some() => {
                let why =
                    "it is suspended, and its processes know the disk as it is; `vzd stop` gives them up";
                Err(SysError::refused("revert", format_args!("VE {}", entry.name), why))
            }
            SnapshotAction::Revert if request.memory => self.go_back(&subject, ve, &name),
            SnapshotAction::Revert => lifecycle::stopped(ve).and_then(|is| snapshot::revert(ve, &name, &is)),
            SnapshotAction::Delete => snapshot::delete(ve, &name),
            SnapshotAction::Export => {
                export::export(ve, &name, &self.host.settings.export(&entry.name, &name))
            }
            SnapshotAction::Import => {
                let archive = request.archive.as_deref();
                let archive = archive.ok_or_else(|| error("VZ0405", "no archive is named"))?;
                return imported(ve, &name, archive, &request.note);
            }
        }
        .map_err(refused)?;
        if request.memory {
            drop(nobody_else);
            // What is published of it is not as it was.
            self.reconcile(&subject, Leave::default(), None);
        }
        Ok(())
    }

    /// Takes one with what runs in the VE: its disk is copied while CRIU has everything stand still, so that they belong
    /// together.
    fn create_with_memory(&self, ve: Ve<'_>, name: &VeName, note: &SnapshotNote) -> SysResult<()> {
        let run = self.run_to_copy(ve)?;
        let created_at = run.at;
        let memory = snapshot::make_memory(ve, name)?;
        let taken = checkpoint::copy(ve, memory.clone(), || snapshot::take(ve, name))?;
        snapshot::keep_run(&memory, &run)?;
        let about =
            Snapshot { name: name.to_string(), created_at, running: true, memory: true, note: note.clone() };
        taken.keep(&about)
    }

    /// What a checkpoint of a VE that is written now would have to be resumed with.
    pub(super) fn run_to_copy(&self, ve: Ve<'_>) -> SysResult<Box<Suspension>> {
        let refuse =
            |why: String| SysError::refused("copy the memory of", format_args!("VE {}", ve.entry.name), why);
        lifecycle::running(ve).map_err(|_| refuse("it does not run".to_owned()))?;
        if let Some(why) = self.host.caps().checkpoint.missing() {
            return Err(refuse(why.to_owned()));
        }
        if self.host.cgroup(ve.entry).is_frozen()? {
            return Err(refuse("it is paused: resume it first".to_owned()));
        }
        let run = ve.entry.suspension_at(clock::now(), self.counts_of(&ve.entry.name));
        run.ok_or_else(|| refuse("it is not on record how it was started".to_owned()))
    }

    /// Makes a stopped VE what it was, with what ran: it is suspended then.
    fn go_back(&self, subject: &Subject, ve: Ve<'_>, name: &VeName) -> SysResult<()> {
        let stopped = lifecycle::stopped(ve)?;
        if !snapshot::has_memory(ve, name)? {
            let why = "it was taken without what ran in the VE";
            return Err(SysError::refused("go on with", format_args!("snapshot {name}"), why));
        }
        let memory = snapshot::memory_of(ve, name);
        let run = snapshot::read_run(&memory)?;
        checkpoint::check(ve, &memory)?;
        // Until the ledger says that it is suspended, a checkpoint is one that is left over: the disk comes first.
        snapshot::revert(ve, name, &stopped)?;
        fault::point();
        checkpoint::take_up(ve, &memory)?;
        fault::point();
        let view = self.view(subject, Leave::default());
        let entry = {
            let mut shared = self.shared();
            let gone = || SysError::refused("find", "VE", "it is not on record any more");
            let entry = shared.ledger.get_mut(&ve.entry.uid).ok_or_else(gone)?;
            entry.suspension = Some(Box::new(run));
            entry.order_state(
                State::Suspended,
                By::Operator,
                clock::now(),
                view.as_ref().and_then(View::want),
            );
            entry.clone()
        };
        self.records.save(&entry).map(drop)
    }

    /// A VE whose disk is there.
    pub(super) fn made(&self, ve: &str) -> ControlResult<(Subject, Entry)> {
        let known: Vec<_> = self.subjects().into_iter().filter(|s| matches!(s, Subject::Name(_))).collect();
        let subject = self.named(ve, &known)?;
        let entry = self.shared().entry(&subject).cloned();
        let entry = entry.filter(|entry| entry.disk.as_ref().is_some_and(|disk| disk.ready));
        entry
            .map(|entry| (subject, entry))
            .ok_or_else(|| error("VZ0307", format!("VE {ve} has not been made yet: it has no disk")))
    }
}

/// The longest title and description, in bytes.
const LONGEST: (usize, usize) = (256, 4096);

/// What is noted is shown in lines and tables.
fn check(note: &SnapshotNote) -> ControlResult<()> {
    let SnapshotNote { title, description } = note;
    for (what, text, longest) in [("title", title, LONGEST.0), ("description", description, LONGEST.1)] {
        if text.len() > longest || text.chars().any(char::is_control) {
            let why = format!("a snapshot's {what} is at most {longest} bytes, without control characters");
            return Err(error("VZ0405", why));
        }
    }
    Ok(())
}

fn create(ve: Ve<'_>, name: &VeName, note: &SnapshotNote) -> SysResult<()> {
    let created_at = clock::now();
    let running = !lifecycle::is_down(ve)?;
    let taken = if running {
        let running = lifecycle::running(ve)?;
        cgroup::while_frozen(ve, &running, || snapshot::take(ve, name))?
    } else {
        snapshot::take(ve, name)?
    };
    let (name, note) = (name.to_string(), note.clone());
    taken.keep(&Snapshot { name, created_at, running, memory: false, note })
}

fn imported(ve: Ve<'_>, name: &VeName, archive: &Path, note: &SnapshotNote) -> ControlResult<()> {
    let about = Snapshot {
        name: name.to_string(),
        created_at: clock::now(),
        running: false,
        memory: false,
        note: note.clone(),
    };
    let done = import::import(ve, name, archive).and_then(|taken| Ok(taken.keep(&about)?));
    done.map_err(|error: StepError| {
        let message = error.to_string();
        ControlError { code: Code::SnapshotRefused.to_string(), message, help: None }
    })
}

fn refused(error: crate::error::SysError) -> ControlError {
    ControlError { code: Code::SnapshotRefused.to_string(), message: error.to_string(), help: None }
}
