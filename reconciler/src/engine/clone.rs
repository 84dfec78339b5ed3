//! Making a VE that has what another one has, on order.
//!
//! The clone is there once its manifest is: until then its record says that it is being made, and for how long somebody is at
//! work at it. Whoever finds it without a manifest and with nobody at work throws it away; with one, it is whole
//! (docs/adr/0040-clones.md). The VE that is copied only stands still for the moment, as for a snapshot. A clone of what runs, too, has
//! gone on before it gets its manifest.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::PoisonError;

use vzd_schema::Code;
use vzd_schema::edit::NewVe;
use vzd_schema::v1::ManifestPolicy;
use vzd_state::desired::Desired;
use vzd_state::event::{Event, EventType};
use vzd_state::handover::{Handover, Here, Stage, Told};
use vzd_state::ids::{VeName, VeUid};
use vzd_state::ledger::{Counts, DiskRecord, Entry, Suspension};
use vzd_state::plan::infeasible;
use vzd_state::subsystem::disk::Over;

use crate::compat::manifests::{Manifests, Unfit};
use crate::control::{CloneRequest, CloneState, Cloned, ControlError, ControlResult};
use crate::drivers::disk::clone::{Room, make};
use crate::drivers::{Ve, cgroup, checkpoint, lifecycle};
use crate::engine::answer::error;
use crate::engine::pass::{failure_of, refusal_of};
use crate::engine::view::Leave;
use crate::engine::{Engine, Subject, clock, fault};
use crate::error::SysResult;
use crate::handover::session::Session;

/// What a clone is to be.
struct Draft {
    name: VeName,
    text: String,
    left_out: Vec<String>,
    want: Desired,
    /// What it goes on with.
    run: Option<Box<Suspension>>,
}

impl Engine {
    /// Carries it out.
    pub(super) fn do_clone(&self, request: &CloneRequest) -> ControlResult<Cloned> {
        let (subject, _) = self.made(&request.ve)?;
        let lock = self.lock_of(&subject);
        let of_source = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, source) = self.made(&request.ve)?;
        self.is_ours(&source)?;
        let draft = self.draft(&source, request)?;
        let failed = |why: &dyn Display| refused(&source, why);
        let uid = clock::new_uid();
        let _at_work = Session::begin(&self.host.settings, &uid).map_err(|e| failed(&e))?;
        let subject = Subject::Name(draft.name.clone());
        let lock = self.lock_of(&subject);
        let of_clone = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = self.begin_clone(&uid, &source, &draft.want)?;
        let ve = |entry| Ve { host: &self.host, entry, want: Some(&draft.want) };
        let of = Ve { want: None, ..ve(&source) };
        let made = make(of, ve(&entry), &draft.want.lifecycle.cold)
            .and_then(|mut room| match draft.run {
                Some(_) => checkpoint::copy_for(of, ve(&entry), || room.copy()).map(|()| room),
                None => copy(of, &mut room).map(|()| room),
            })
            .and_then(|room| {
                // From here on the other one may do what it likes.
                drop(of_source);
                room.finish()
            });
        let whole =
            made.map_err(|e| failed(&e)).and_then(|root| self.whole(entry.clone(), &source, &draft, root));
        drop(of_clone);
        let goes_on =
            whole.and_then(|()| if draft.run.is_some() { self.go_on(&entry, &source) } else { Ok(()) });
        let manifest = goes_on.and_then(|()| {
            let manifests = Manifests::read(&self.host.settings);
            manifests.add(draft.name.as_str(), &draft.text).map_err(|wrong| unfit(&source, wrong))
        });
        match manifest {
            Ok(manifest) => self.known(&entry, &source, draft, manifest),
            // It was there before something failed.
            Err(_) if std::fs::read_to_string(&*entry.source.file).is_ok_and(|is| is == draft.text) => {
                let manifest = PathBuf::from(&*entry.source.file);
                self.known(&entry, &source, draft, manifest)
            }
            Err(why) => {
                self.give_up(&uid);
                Err(why)
            }
        }
    }

    /// What it would be; refused before anything is made, if it would not do.
    fn draft(&self, source: &Entry, request: &CloneRequest) -> ControlResult<Draft> {
        let refuse = |why: &dyn Display| refused(source, why);
        let name: VeName = request.name.parse().map_err(|e| {
            error(Code::Usage.as_str(), format!("{:?} is no name of a VE: {e}", request.name))
        })?;
        if self.shared().ledger.by_name(&name).is_some() {
            return Err(refuse(&format_args!("there is a VE named {name} already")));
        }
        let manifests = Manifests::read(&self.host.settings);
        if manifests.policy() != ManifestPolicy::Edit {
            return Err(refuse(&"the host's manifestPolicy does not let commands write manifests"));
        }
        let state = match request.state {
            Some(CloneState::Stopped) if request.running => {
                let why = "what runs in a VE goes on in its clone: that cannot be stopped";
                return Err(error(Code::Usage.as_str(), why));
            }
            None if request.running => "running",
            Some(CloneState::Running) => "running",
            Some(CloneState::Stopped) | None => "stopped",
        };
        let to = NewVe { name: name.as_str(), ctid: request.ctid, state };
        let (text, left_out) =
            manifests.clone_of(source.name.as_str(), to).map_err(|wrong| unfit(source, wrong))?;
        let want = manifests
            .try_add(name.as_str(), &text)
            .and_then(|path| manifests.desired(&path, &text))
            .map_err(|wrong| unfit(source, wrong))?;
        let mut draft = match infeasible(&want, &self.host.caps()).first() {
            Some(is) => Err(refuse(&format_args!("{}: {}", is.field, is.why))),
            None => Ok(Draft { name, text, left_out, want, run: None }),
        }?;
        if request.running {
            let ve = Ve { host: &self.host, entry: source, want: None };
            let run = self.run_to_copy(ve).map_err(|e| refuse(&e))?;
            let obstacles = checkpoint::obstacles_of_a_clone(ve).map_err(|e| refuse(&e))?;
            if !obstacles.is_empty() {
                return Err(refuse(&obstacles.join("; ")));
            }
            // It is made anew, and nobody has counted anything of it yet.
            let network = draft.want.network.is_any().then(|| Box::new(draft.want.network.clone()));
            draft.run = Some(Box::new(Suspension { network, counts: Counts::new(), ..*run }));
        }
        Ok(draft)
    }

    /// Puts on record that it is being made.
    fn begin_clone(&self, uid: &VeUid, source: &Entry, want: &Desired) -> ControlResult<Entry> {
        let disk = source.disk.clone().map(|disk| DiskRecord {
            ready: false,
            root: None,
            over: Over::default(),
            read_only: false,
            ..disk
        });
        let (id, peer) = (uid.to_string(), source.name.to_string());
        let handover = Handover { id, peer, stage: Stage::Copying, at: clock::now() };
        let entry = {
            let mut shared = self.shared();
            let new = shared.ledger.create(uid, want).map_err(|e| ControlError {
                code: e.code().to_string(),
                message: format!("cannot clone VE {}: {e}", source.name),
                help: e.help().map(str::to_owned),
            })?;
            let entry = Entry { disk, handover: Some(handover), pinned: true, ..new.clone() };
            shared.ledger.put(entry.clone());
            entry
        };
        self.note(&entry).inspect_err(|_| drop(self.shared().ledger.remove(uid)))?;
        Ok(entry)
    }

    /// Puts on record that it has all but its manifest.
    fn whole(&self, mut entry: Entry, source: &Entry, draft: &Draft, root: String) -> ControlResult<()> {
        if let Some(disk) = &mut entry.disk {
            (disk.ready, disk.root) = (true, Some(root));
        }
        // They are in its files.
        entry.applied.users.clone_from(&source.applied.users);
        entry.suspension.clone_from(&draft.run);
        entry.tell(Told::Accept, clock::now()).map_err(|e| refused(source, &e))?;
        self.note(&entry)
    }

    /// Has it go on with what ran in the other one.
    fn go_on(&self, entry: &Entry, source: &Entry) -> ControlResult<()> {
        let subject = Subject::Name(entry.name.clone());
        let outcome = self.reconcile(&subject, Leave::default(), None);
        self.with(&entry.uid, |entry| {
            let entry = entry.ok_or_else(|| refused(source, &"it was thrown away meanwhile"))?;
            let runs = lifecycle::running(Ve { host: &self.host, entry: &entry, want: None });
            let Err(why) = runs else { return Ok(()) };
            let held = || {
                let shared = self.shared();
                let held = shared.published.get(&subject)?.plan.held.first()?;
                Some(format!("{}: {}", held.field, held.why))
            };
            let failed = outcome.failure.as_ref().map(|failure| failure.message.clone());
            let why = failed.or_else(held).unwrap_or_else(|| why.to_string());
            Err(refused(source, &format_args!("what runs in it does not go on in a clone: {why}")))
        })?;
        fault::point();
        Ok(())
    }

    /// Has it be as its manifest says, which is there.
    fn known(&self, entry: &Entry, source: &Entry, draft: Draft, manifest: PathBuf) -> ControlResult<Cloned> {
        fault::point();
        self.rescan();
        self.with(&entry.uid, |entry| {
            let mut entry = entry.ok_or_else(|| refused(source, &"it was thrown away meanwhile"))?;
            entry.tell(Told::Acknowledged, clock::now()).map_err(|e| refused(source, &e))?;
            self.note(&entry)
        })?;
        let made = format!("made as a clone of VE {}", source.name);
        self.tell(Event::new(clock::now(), Some(draft.name.clone()), EventType::Normal, "Cloned", made));
        let subject = Subject::Name(draft.name.clone());
        let outcome = self.reconcile(&subject, Leave::default(), None);
        let held = || refusal_of(&self.shared().published.get(&subject)?.plan, None);
        Ok(Cloned {
            name: draft.name.to_string(),
            ctid: entry.ctid.get(),
            manifest,
            left_out: draft.left_out,
            failed: failure_of(&outcome).or_else(held),
        })
    }

    /// Throws away what there is of a clone that is not to be.
    fn give_up(&self, uid: &VeUid) {
        if let Err(e) = self.told(uid, uid.as_str(), Told::Decline) {
            tracing::warn!(%uid, error = %e, "what was made of a clone is thrown away later");
        }
    }

    /// Waits until nobody writes to a clone's checkpoint any more: the keeper may still, though nobody waits for it.
    pub(super) fn wait_for_a_copy(&self, entry: &Entry) {
        let ve = Ve { host: &self.host, entry, want: None };
        if entry.here() == Here::At(Stage::Copying) && checkpoint::dir(ve).exists() {
            let _ = checkpoint::wait(ve);
        }
    }

    /// What is to be said of a hand-over that nobody works at any more: a clone with a manifest is whole.
    pub(super) fn undone(&self, entry: &Entry) -> Told {
        let is_known = || {
            let file = Manifests::read(&self.host.settings).file(entry.name.as_str());
            file.is_some_and(|file| *file == *entry.source.file)
        };
        match entry.here() {
            Here::At(Stage::Copied) if is_known() => Told::Acknowledged,
            _ => Told::Abandoned,
        }
    }
}

/// Copies what the VE has, which stands still meanwhile.
fn copy(source: Ve<'_>, room: &mut Room<'_>) -> SysResult<()> {
    if lifecycle::is_down(source)? {
        return room.copy();
    }
    let running = lifecycle::running(source)?;
    cgroup::while_frozen(source, &running, || room.copy())
}

fn refused(source: &Entry, why: &dyn Display) -> ControlError {
    error(Code::CloneRefused.as_str(), format!("cannot clone VE {}: {why}", source.name))
}

/// What the format has against its manifest.
fn unfit(source: &Entry, wrong: Unfit) -> ControlError {
    let code = wrong.code.unwrap_or(Code::CloneRefused);
    error(code.as_str(), format!("cannot clone VE {}: {}", source.name, wrong.message))
}
