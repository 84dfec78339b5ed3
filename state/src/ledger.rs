//! What the kernel cannot tell: which VEs are ours, ids handed out, specs accepted, how runs ended.
//!
//! The ledger is the only thing that entitles vzd to delete something. It does no IO: the reconciler's
//! store writes what `to_json` gives. What each step does to it is in `record` and `applied`.

mod alloc;
mod applied;
mod entry;
mod record;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vzd_schema::Code;

pub use self::alloc::IdPool;
pub use self::entry::{
    Applied, AppliedNamespaces, Backoff, By, Count, Counts, DiskRecord, Entry, ExitRecord, Override,
    RunRecord, Standing, Suspension,
};
pub use self::record::{Facts, MadeRoot, Started};
use crate::digest::canonical;
use crate::ids::{Ctid, IdRange, VeName, VeUid};
use crate::subsystem::json;

/// The format that this version writes. It reads this one and every earlier one.
pub const FORMAT: u32 = 1;

/// Why the ledger cannot do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The text is no ledger.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// It was written by a later version.
    #[error("the ledger has format {found}, which is newer than this vzd knows ({FORMAT})")]
    Format {
        /// The format found.
        found: u64,
    },
    /// A VE of that name is managed already.
    #[error("there is a VE named {0} already")]
    NameTaken(VeName),
    /// Another VE has that ctid.
    #[error("ctid {ctid} belongs to VE {owner}")]
    CtidTaken {
        /// The ctid wanted.
        ctid: Ctid,
        /// Who has it.
        owner: VeName,
    },
    /// Every ctid is in use.
    #[error("there is no free ctid")]
    NoCtid,
    /// Another VE has some of these ids.
    #[error("ids {range} overlap those of VE {owner}")]
    IdsTaken {
        /// The range wanted.
        range: IdRange,
        /// Who has some of it.
        owner: VeName,
    },
    /// Every range is in use.
    #[error("no range of {} ids is free in {}", IdRange::BLOCK, .0)]
    NoIds(IdPool),
    /// No VE has that uid.
    #[error("the ledger has no VE with uid {0}")]
    Unknown(VeUid),
}

impl LedgerError {
    /// The code that it is told with.
    pub fn code(&self) -> Code {
        match self {
            Self::NoCtid | Self::NoIds(_) | Self::CtidTaken { .. } | Self::IdsTaken { .. } => Code::NoIds,
            Self::NameTaken(_) => Code::DuplicateName,
            Self::Damaged(_) | Self::Format { .. } | Self::Unknown(_) => Code::RecordUnreadable,
        }
    }

    /// The field that it is about.
    pub fn field(&self) -> &'static str {
        match self {
            Self::NoCtid | Self::CtidTaken { .. } => "spec.ctid",
            Self::NoIds(_) | Self::IdsTaken { .. } => "spec.security.userNamespace",
            Self::NameTaken(_) | Self::Damaged(_) | Self::Format { .. } | Self::Unknown(_) => "metadata.name",
        }
    }

    /// What can be done about it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoCtid | Self::NoIds(_) => Some(
                "VEs in quarantine hold theirs (`vzd get --all`); or make `spec.subids` of the host larger",
            ),
            Self::CtidTaken { .. } | Self::IdsTaken { .. } => {
                Some("a VE in quarantine keeps its ids (`vzd get --all`); take others")
            }
            Self::NameTaken(_) | Self::Damaged(_) | Self::Format { .. } | Self::Unknown(_) => None,
        }
    }
}

/// Every VE that vzd is responsible for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ledger {
    pool: IdPool,
    /// In boxes: a map keeps room for values that it does not have yet, and an entry is large.
    entries: BTreeMap<VeUid, Box<Entry>>,
    /// In the order of their uids; mostly there is but one.
    names: BTreeMap<VeName, Vec<VeUid>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    format: u32,
    entries: Vec<Entry>,
}

impl Ledger {
    /// A ledger that hands out ids from `pool`.
    pub fn new(pool: IdPool) -> Self {
        Self { pool, ..Self::default() }
    }

    /// A ledger of these entries, each as it was stored.
    pub fn from_entries(pool: IdPool, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut ledger = Self::new(pool);
        for entry in entries {
            ledger.put(entry);
        }
        ledger
    }

    /// Reads a ledger that `to_json` wrote.
    pub fn from_json(pool: IdPool, text: &str) -> Result<Self, LedgerError> {
        let stored: Stored = read(text)?;
        Ok(Self::from_entries(pool, stored.entries))
    }

    /// The ledger as canonical JSON: equal ledgers are equal bytes.
    pub fn to_json(&self) -> String {
        canonical(&json(&Stored { format: FORMAT, entries: self.entries().cloned().collect() }))
    }

    /// Every entry, by uid.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(Box::as_ref)
    }

    /// The VE with this uid.
    pub fn get(&self, uid: &VeUid) -> Option<&Entry> {
        self.entries.get(uid).map(Box::as_ref)
    }

    /// The VE with this uid, to be changed. Its uid and name must stay what they are.
    pub fn get_mut(&mut self, uid: &VeUid) -> Option<&mut Entry> {
        self.entries.get_mut(uid).map(Box::as_mut)
    }

    /// The VE that bears this name now: not one in quarantine, whose name is free.
    pub fn by_name(&self, name: &VeName) -> Option<&Entry> {
        self.all_by_name(name).find(|entry| !entry.is_quarantined())
    }

    /// The VE in quarantine that bore this name and was removed last.
    pub fn quarantined(&self, name: &VeName) -> Option<&Entry> {
        self.all_by_name(name).filter(|entry| entry.is_quarantined()).max_by_key(|entry| {
            match entry.standing {
                Standing::Quarantined { since, .. } => Some(since),
                Standing::Active | Standing::Retained | Standing::Destroying => None,
            }
        })
    }

    /// The VE with this ctid, in quarantine or not.
    pub fn by_ctid(&self, ctid: Ctid) -> Option<&Entry> {
        self.entries().find(|entry| entry.ctid == ctid)
    }

    /// Puts an entry in place of the one with its uid, if there is one.
    pub fn put(&mut self, entry: Entry) {
        let uids = self.names.entry(entry.name.clone()).or_default();
        if let Err(place) = uids.binary_search(&entry.uid) {
            uids.insert(place, entry.uid.clone());
        }
        self.entries.insert(entry.uid.clone(), Box::new(entry));
    }

    /// Takes an entry out.
    pub fn remove(&mut self, uid: &VeUid) -> Option<Entry> {
        let entry = self.entries.remove(uid)?;
        if let Some(uids) = self.names.get_mut(&entry.name) {
            uids.retain(|known| known != uid);
            if uids.is_empty() {
                self.names.remove(&entry.name);
            }
        }
        Some(*entry)
    }

    fn all_by_name(&self, name: &VeName) -> impl Iterator<Item = &Entry> {
        self.names.get(name).into_iter().flatten().filter_map(|uid| self.get(uid))
    }
}

impl Entry {
    /// Reads an entry that `to_json` wrote.
    pub fn from_json(text: &str) -> Result<Self, LedgerError> {
        read(text)
    }

    /// The entry as JSON; its fields have one order, its spec that of the manifest.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every key of an entry is a string")
    }
}

/// Reads JSON whose `format` this version knows.
fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, LedgerError> {
    let damaged = |error: serde_json::Error| LedgerError::Damaged(error.to_string());
    let value: serde_json::Value = serde_json::from_str(text).map_err(damaged)?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(found) if found > u64::from(FORMAT) => Err(LedgerError::Format { found }),
        Some(_) => serde_json::from_value(value).map_err(damaged),
        None => Err(LedgerError::Damaged("it has no format".to_owned())),
    }
}
