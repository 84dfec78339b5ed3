//! Handing out ctids, the lowest that is free, and ranges of ids, spread over the pool; never one in use or in quarantine.

use serde::{Deserialize, Serialize};
use vzd_schema::v1::defaults;

use super::{Entry, FORMAT, Ledger, LedgerError, Standing};
use crate::desired::Desired;
use crate::ids::{Ctid, IdRange, VeUid};

/// The host ids that ranges are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdPool {
    /// The first host id.
    pub start: u32,
    /// How many there are.
    pub count: u32,
}

/// What the format says a host has unless its manifest says otherwise: room for 15000 VEs.
impl Default for IdPool {
    fn default() -> Self {
        Self { start: defaults::SUBIDS_START, count: defaults::SUBIDS_COUNT }
    }
}

impl std::fmt::Display for IdPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        IdRange { start: self.start, count: self.count }.fmt(f)
    }
}

impl Ledger {
    /// Makes a VE known under a uid that the caller drew: ctid and ids are handed out, and the manifest
    /// is its first generation. A second call with the same uid gives the entry that the first made.
    pub fn create(&mut self, uid: &VeUid, want: &Desired) -> Result<&Entry, LedgerError> {
        if !self.entries.contains_key(uid) {
            if self.by_name(&want.name).is_some() {
                return Err(LedgerError::NameTaken(want.name.clone()));
            }
            let ctid = self.assign_ctid(want.ctid)?;
            let ids = self.assign_ids(want.namespaces.id_range, uid)?;
            let mut entry = Entry::new(uid.clone(), want.name.clone(), ctid, ids);
            entry.accept(want);
            self.put(entry);
        }
        self.get(uid).ok_or_else(|| LedgerError::Unknown(uid.clone()))
    }

    /// Whether a VE could be made that wants this.
    pub fn can_create(&self, want: &Desired) -> Result<(), LedgerError> {
        self.assign_ctid(want.ctid)?;
        // Of which one, is asked when it is made.
        self.assign_ids(want.namespaces.id_range, &VeUid::from_bits(0)).map(drop)
    }

    /// Why a VE of another host's cannot be taken in as it is. What it was here before does not count.
    pub fn conflicts(&self, theirs: &Entry) -> Vec<LedgerError> {
        let others = || self.entries().filter(|entry| entry.uid != theirs.uid);
        let name = others().find(|entry| entry.name == theirs.name && !entry.is_quarantined());
        let ctid = others().find(|entry| entry.ctid == theirs.ctid);
        let ids = others().find(|entry| entry.ids.overlaps(theirs.ids));
        let name = name.map(|owner| LedgerError::NameTaken(owner.name.clone()));
        let ctid = ctid.map(|owner| LedgerError::CtidTaken { ctid: theirs.ctid, owner: owner.name.clone() });
        let ids = ids.map(|owner| LedgerError::IdsTaken { range: theirs.ids, owner: owner.name.clone() });
        name.into_iter().chain(ctid).chain(ids).collect()
    }

    /// The ctid wanted, or the lowest free one.
    fn assign_ctid(&self, wanted: Option<Ctid>) -> Result<Ctid, LedgerError> {
        if let Some(ctid) = wanted {
            return match self.by_ctid(ctid) {
                Some(owner) => Err(LedgerError::CtidTaken { ctid, owner: owner.name.clone() }),
                None => Ok(ctid),
            };
        }
        let mut used: Vec<_> = self.entries.values().map(|entry| entry.ctid).collect();
        used.sort_unstable();
        let mut free = Ctid::FIRST;
        for ctid in used {
            if ctid > free {
                break;
            }
            free = ctid.next().ok_or(LedgerError::NoCtid)?;
        }
        Ok(free)
    }

    /// The range wanted, or a free block of the pool: the one that the VE's uid tells, or the next one that is free. So VEs of
    /// two hosts hardly ever have the same, and can move.
    fn assign_ids(&self, wanted: Option<IdRange>, uid: &VeUid) -> Result<IdRange, LedgerError> {
        let owner_of = |range: IdRange| self.entries.values().find(|entry| entry.ids.overlaps(range));
        if let Some(range) = wanted {
            return match owner_of(range) {
                Some(owner) => Err(LedgerError::IdsTaken { range, owner: owner.name.clone() }),
                None => Ok(range),
            };
        }
        let blocks = self.pool.count / IdRange::BLOCK;
        let first = uid.number(blocks).ok_or(LedgerError::NoIds(self.pool))?;
        let block = |at: u32| IdRange { start: self.pool.start + at * IdRange::BLOCK, count: IdRange::BLOCK };
        let mut all = (first..blocks).chain(0..first).map(block);
        all.find(|range| owner_of(*range).is_none()).ok_or(LedgerError::NoIds(self.pool))
    }
}

impl Entry {
    /// An entry of which nothing is known yet.
    fn new(uid: VeUid, name: crate::ids::VeName, ctid: Ctid, ids: IdRange) -> Self {
        Self {
            format: FORMAT,
            uid,
            name,
            ctid,
            ids,
            generation: 0,
            digest: crate::digest::SpecDigest::default(),
            spec: std::sync::Arc::default(),
            labels: std::collections::BTreeMap::new(),
            annotations: std::collections::BTreeMap::new(),
            source: crate::desired::SourceRef::default(),
            pinned: false,
            applied: super::Applied::default(),
            disk: None,
            run: None,
            suspension: None,
            firewall_trial: None,
            run_override: None,
            bare: false,
            last_exit: None,
            backoff: None,
            restarts: 0,
            handover: None,
            stale_host: None,
            standing: Standing::Active,
        }
    }
}
