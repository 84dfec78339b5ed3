//! The engine: what is wanted, what is, and passes that make them one.
//!
//! - [`wishes`] turns a revision of the manifest directory into what is wanted of each VE,
//! - [`view`] is what is known and wanted of one VE,
//! - [`reconcile`] is one pass over one VE: observe, plan, authorize, execute, verify, publish,
//! - [`execute`] does a plan's steps with the ledger written before and after, and takes back a
//!   subsystem's steps when one fails,
//! - [`pass`] is a pass over all of them, for a command,
//! - [`run`] is the controller's loop around [`queue`],
//! - [`starts`] bounds how many VEs start at a time, and orders them,
//! - [`counters`] tells what VEs hold of each beancounter, [`refusals`] what they were refused, as it happens,
//!   and [`inside`] tells it to the VEs themselves,
//! - [`usage`] tells what they use,
//! - [`names`] keeps the names of VEs that run, for VEs that ask,
//! - [`snapshots`] takes snapshots of disks and reverts to them,
//! - [`clone`] makes VEs that have what others have,
//! - [`handover`] is the engine's part of handing VEs over to other hosts,
//! - [`placing`] asks other hosts about VEs that are to be on one of them, and has them handed over,
//! - [`placed`] says of that what others are to know,
//! - [`transient`] changes running VEs until they stop,
//! - [`health`] runs probes, [`clock`] is where time and chance come from,
//! - [`orders`] carries out what operators order,
//! - [`answer`] answers what can be asked ([`crate::control`]), with [`why`].
//!
//! One VE is never worked on by two passes at a time; different VEs are. The engine holds no truth: all
//! of its memory can be made again from the directory, the ledger and the kernel.

mod answer;
mod bare;
pub(crate) mod clock;
mod clone;
mod counters;
mod crew;
mod execute;
pub(crate) mod fault;
mod handover;
mod health;
mod host_stop;
mod inside;
mod listening;
mod mounted;
mod names;
mod networks;
mod orders;
mod pass;
mod placed;
mod placing;
mod queue;
mod reconcile;
mod refusals;
mod reinstall;
mod run;
mod snapshots;
mod starts;
mod transient;
mod usage;
mod view;
mod why;
mod wishes;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use vzd_schema::Diagnostic;
use vzd_state::event::Event;
use vzd_state::ids::{VeName, VeUid};
use vzd_state::ledger::{Entry, IdPool, Ledger};
use vzd_state::placement::Place;

use crate::control::{Control, ControlError, ControlResult, PassStats};
use crate::host::Host;
use crate::settings::Settings;
use crate::store::{EventLog, Hold, HostLock, LedgerStore, Unreadable};
use crate::watch::{Scanner, Trust};

pub use run::run;
pub(crate) use wishes::host_device;

use reconcile::Published;
use starts::Starts;
use wishes::Wishes;

/// What a command means to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only look.
    Read,
    /// Change something: takes the host lock.
    Write,
}

/// One thing to reconcile: the VE of a name, or one in quarantine, whose name is free.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The VE that bears this name.
    Name(VeName),
    /// A VE in quarantine.
    Quarantined(VeUid),
}

/// The engine of one controller or one command.
pub struct Engine {
    host: Host,
    shared: Mutex<Shared>,
    /// Signalled whenever something was published.
    published: Condvar,
    scanner: Mutex<Scanner>,
    records: LedgerStore,
    /// Records that cannot be read. One that may change things has none.
    unreadable: Vec<Unreadable>,
    events: EventLog,
    /// One lock a subject: two passes never work on one VE.
    locks: Mutex<BTreeMap<Subject, Arc<Mutex<()>>>>,
    /// Held by one that may change things.
    lock: Option<HostLock>,
    starts: Starts,
    /// Held while counters are looked at.
    sampling: Mutex<()>,
    /// Held while what was counted is remembered.
    remembering: Mutex<()>,
    refusals: refusals::Refusals,
    inside: inside::Inside,
    placing: placing::Placing,
    listening: listening::Listening,
}

/// What passes share.
#[derive(Default)]
struct Shared {
    ledger: Ledger,
    wishes: Arc<Wishes>,
    /// In boxes: a map keeps room for values that it does not have yet, and these are large.
    published: BTreeMap<Subject, Box<Published>>,
    /// Work that the loop is to look at, for reasons of its own (a dependency became Ready).
    nudged: Vec<Subject>,
    last_pass: Option<PassStats>,
    /// The most that was seen of counters of which the kernel keeps no peak.
    peaks: BTreeMap<VeUid, counters::Peaks>,
    /// What other hosts have been asked about VEs that are to be made here.
    asked: BTreeMap<VeName, placing::Asked>,
    /// How many rounds of questions there were.
    round: u64,
}

/// The engine of a command that has no controller to ask.
pub fn local(settings: &Settings, access: Access) -> ControlResult<Box<dyn Control>> {
    let engine = Engine::open(settings, access, Hold::Command)?;
    engine.rescan();
    Ok(Box::new(engine))
}

impl Engine {
    /// `hold`: what for, if it is to write.
    fn open(settings: &Settings, access: Access, hold: Hold) -> ControlResult<Self> {
        let failed = |code: &str, e: &dyn std::fmt::Display| ControlError {
            code: code.to_owned(),
            message: e.to_string(),
            help: None,
        };
        let host = Host::find(settings).map_err(|e| failed("VZ0201", &e))?;
        let lock = match access {
            Access::Read => None,
            Access::Write => {
                host.make_dirs().map_err(|e| failed("VZ0301", &e))?;
                let lock = HostLock::take(&settings.host_lock(), hold);
                let lock = lock.map_err(|e| failed("VZ0402", &e))?;
                // Under the lock: whoever held it before takes the subtree away when it is empty.
                host.layout.make_root().map_err(|e| failed("VZ0301", &e))?;
                Some(lock)
            }
        };
        let (records, entries, unreadable) = LedgerStore::open(&settings.ledger_dir(), host.writes.clone())
            .map_err(|e| failed("VZ0404", &e))?;
        if let (Access::Write, Some(record)) = (access, unreadable.first()) {
            return Err(failed("VZ0404", record));
        }
        let events =
            EventLog::open(&settings.events_file(), host.writes.clone()).map_err(|e| failed("VZ0404", &e))?;
        let wishes = Wishes::none(settings.own_name());
        let ledger = Ledger::from_entries(IdPool::default(), entries);
        let shared = Shared { ledger, wishes: Arc::new(wishes), ..Shared::default() };
        let engine = Engine {
            scanner: Mutex::new(Scanner::new(&settings.manifests, Trust::of(settings))),
            shared: Mutex::new(shared),
            published: Condvar::new(),
            locks: Mutex::default(),
            host,
            records,
            unreadable,
            events,
            lock,
            starts: Starts::default(),
            sampling: Mutex::default(),
            remembering: Mutex::default(),
            refusals: refusals::Refusals::default(),
            inside: inside::Inside::default(),
            placing: placing::Placing::default(),
            listening: listening::Listening::default(),
        };
        if access == Access::Write {
            engine.after_boot().map_err(|e| failed("VZ0404", &e))?;
        }
        Ok(engine)
    }

    /// Reads the manifest directory and what the host can do again, and returns the subjects whose wish is another one
    /// now.
    fn rescan(&self) -> Vec<Subject> {
        self.host.refresh_all();
        let revision = self.scanner.lock().unwrap_or_else(PoisonError::into_inner).scan();
        let before = self.shared().wishes.clone();
        self.look_for_lxcfs(&before);
        // What was changed and is as before has the same digest; a file that can be read again may not.
        if Arc::ptr_eq(&before.revision, &revision) {
            return Vec::new();
        }
        let wishes = Arc::new(Wishes::new(revision, &before));
        self.look_for_lxcfs(&wishes);
        let changed = wishes.changed_from(&before);
        let mut shared = self.shared();
        if wishes.id_pool != before.id_pool {
            let entries: Vec<Entry> = shared.ledger.entries().cloned().collect();
            shared.ledger = Ledger::from_entries(wishes.id_pool, entries);
        }
        // A record just read from disk has a copy of the spec: let the two share one.
        for want in wishes.want.values() {
            let uid = shared.ledger.by_name(&want.name).filter(|entry| entry.digest == want.digest);
            if let Some(entry) =
                uid.map(|entry| entry.uid.clone()).and_then(|uid| shared.ledger.get_mut(&uid))
            {
                entry.spec = want.spec.clone();
            }
        }
        let gone = shared.ledger.entries().filter(|entry| !entry.is_quarantined());
        let gone = gone.filter(|entry| !wishes.knows(&entry.name)).map(|entry| entry.name.clone());
        let mut subjects: Vec<Subject> = gone.chain(changed.iter().cloned()).map(Subject::Name).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let (dns, inherited) = (wishes.dns, wishes.inherited.clone());
        self.host.pool.set(wishes.pool_size);
        placing::forget(&mut shared.asked, &changed);
        shared.wishes = wishes;
        drop(shared);
        // Where VEs look names up is another place now.
        if self.host.resolver.wish(dns, inherited) { self.subjects() } else { subjects }
    }

    /// lxcfs may come and go. Without the host's settings VEs keep what they have.
    fn look_for_lxcfs(&self, wishes: &Wishes) {
        let in_use = match wishes.revision.host_known {
            true => None,
            false => self.shared().ledger.entries().find_map(lxcfs_of),
        };
        self.host.refresh(in_use.as_deref().or(wishes.lxcfs_dir()));
    }

    /// Everything there is to reconcile, in the order of a boot.
    fn subjects(&self) -> Vec<Subject> {
        let shared = self.shared();
        let mut named: BTreeMap<VeName, i64> = BTreeMap::new();
        let mut subjects = Vec::new();
        for entry in shared.ledger.entries() {
            if entry.is_quarantined() {
                subjects.push(Subject::Quarantined(entry.uid.clone()));
            } else {
                // A VE without a manifest goes first: it may free what another needs.
                named.insert(entry.name.clone(), i64::MAX);
            }
        }
        for name in self.unreadable.iter().filter_map(|record| record.name.as_ref()) {
            named.entry(name.clone()).or_insert(i64::MAX);
        }
        for (name, want) in &shared.wishes.want {
            // What a directory that is empty now once held is a VE only if the ledger knows it.
            let is_elsewhere =
                || matches!(shared.place(name, shared.ledger.by_name(name)), Some(Place::Elsewhere(_)));
            if named.contains_key(name) || !shared.wishes.is_emptied() && !is_elsewhere() {
                named.insert(name.clone(), i64::from(want.lifecycle.boot_order));
            }
        }
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_by_key(|(_, order)| std::cmp::Reverse(*order));
        subjects.extend(named.into_iter().map(|(name, _)| Subject::Name(name)));
        subjects
    }

    /// The record that may be the one of a VE of which there is no other.
    fn unreadable(&self, name: &VeName) -> Option<&Unreadable> {
        self.unreadable.iter().find(|record| record.name.as_ref().is_none_or(|is| is == name))
    }

    /// What is wrong with manifests, records and the host's settings.
    fn diagnostics(&self) -> Vec<Diagnostic> {
        let wishes = self.shared().wishes.clone();
        let no_lxcfs = wishes.no_lxcfs().filter(|_| self.host.caps().lxcfs.is_none());
        let records =
            self.unreadable.iter().map(|record| Diagnostic::error(record.code(), record.to_string()));
        let no_resolver = self.host.resolver.failure().map(|why| wishes.no_resolver(&why));
        let unanswered = self.unanswered(&wishes);
        wishes
            .diagnostics
            .iter()
            .cloned()
            .chain(no_lxcfs)
            .chain(no_resolver)
            .chain(unanswered)
            .chain(records)
            .collect()
    }

    /// Adds to the event log; a command that only looks leaves no trace.
    fn tell(&self, event: Event) {
        if self.lock.is_some() {
            self.events.add(event);
        }
    }

    /// Leaves no empty subtree of control groups behind. VEs keep theirs.
    fn leave(&self) {
        if self.lock.is_some() {
            self.host.layout.remove_root_if_empty();
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // A panic of one pass leaves data that the next pass makes again.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_of(&self, subject: &Subject) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(subject.clone()).or_default().clone()
    }
}

/// Where the views of lxcfs come from that a VE has.
fn lxcfs_of(entry: &Entry) -> Option<String> {
    let mounts = &entry.applied.namespaces.as_ref()?.mounts;
    let (target, view) = mounts.iter().find(|(_, mount)| mount.system)?;
    view.source.strip_suffix(target.as_str()).map(str::to_owned)
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shared {
    fn entry(&self, subject: &Subject) -> Option<&Entry> {
        match subject {
            Subject::Name(name) => self.ledger.by_name(name),
            Subject::Quarantined(uid) => self.ledger.get(uid),
        }
    }
}
