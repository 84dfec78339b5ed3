//! The pure half of a subsystem: what is wanted, what is seen, and what to do about the difference.
//!
//! A diff takes both structs apart field by field with no `..`, so that a new field does not compile
//! until someone has decided how disruptive its change is. Diffs decide nothing about order across
//! subsystems (that is `plan`) nor about what is allowed (that is `policy`).

pub mod beancounters;
pub mod cgroup;
pub mod devices;
pub mod disk;
pub mod lifecycle;
pub mod namespaces;
pub mod network;
pub mod packages;
pub mod users;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::capability::Capabilities;
use crate::disruption::{Change, Disruption};
use crate::ids::VeName;
use crate::ledger::Entry;
use crate::status::Health;
use crate::units::Timestamp;

/// What a diff may look at besides the two states.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// What the host can do.
    pub caps: &'a Capabilities,
    /// The time now.
    pub now: Timestamp,
    /// The VE's entry in the ledger; none for a VE that is not known yet.
    pub entry: Option<&'a Entry>,
    /// Whether a VE of this name is Ready, for `dependsOn`.
    pub is_ready: &'a dyn Fn(&VeName) -> bool,
    /// What the VE's health probe says; while its packet filter is on trial, what it has said since that began.
    pub health: &'a Health,
}

/// What a subsystem wants changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes<Live, Cold> {
    /// Every field that differs.
    pub fields: Vec<Change>,
    /// Steps for a running VE, each with the indices in `fields` that it carries out.
    pub live: Vec<(Live, Vec<usize>)>,
    /// Steps for a stopped VE, likewise.
    pub cold: Vec<(Cold, Vec<usize>)>,
    /// What could not be read; nothing is planned for it.
    pub unreadable: Vec<Unreadable>,
    /// When to look again though nothing happens until then.
    pub wake: Option<Timestamp>,
}

impl<Live, Cold> Default for Changes<Live, Cold> {
    fn default() -> Self {
        Self { fields: Vec::new(), live: Vec::new(), cold: Vec::new(), unreadable: Vec::new(), wake: None }
    }
}

impl<Live, Cold> Changes<Live, Cold> {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.live.is_empty() && self.cold.is_empty()
    }

    /// Notes a field that differs and returns its index.
    pub fn field(&mut self, change: Change) -> usize {
        self.fields.push(change);
        self.fields.len() - 1
    }

    /// Notes that something could not be read.
    pub fn cannot_read(&mut self, what: &str, why: &str) {
        self.unreadable.push(Unreadable { what: what.to_owned(), why: why.to_owned() });
    }
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreadable {
    /// What was to be read, as the path of the field it would have told.
    pub what: String,
    /// Why it could not.
    pub why: String,
}

/// A field that is not as wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mismatch {
    /// Path of the field in the manifest.
    pub field: String,
    /// What is wanted.
    pub want: Value,
    /// What is there.
    pub have: Value,
    /// How disruptive it is to put right; `Restart` and more may wait without being a failure.
    pub disruption: Disruption,
}

impl Mismatch {
    /// A field that should be `want` but is `have`.
    pub fn new(field: impl Into<String>, want: Value, have: Value, disruption: Disruption) -> Self {
        Self { field: field.into(), want, have, disruption }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// It changed something.
    Changed,
    /// It found everything as it should be and changed nothing.
    AlreadySo,
}

/// A part of a VE that is diffed, changed and verified by itself.
pub trait Subsystem {
    /// What is wanted.
    type Desired;
    /// What is seen.
    type Observed;
    /// Steps for a running VE.
    type Live;
    /// Steps for a stopped VE; `Infallible` where there are none.
    type Cold;

    /// What differs and what to do about it.
    fn diff(want: &Self::Desired, have: &Self::Observed, cx: &Cx<'_>) -> Changes<Self::Live, Self::Cold>;

    /// What of a running VE is not as wanted, whoever set it. Readings that failed say so as a mismatch.
    fn satisfied(want: &Self::Desired, have: &Self::Observed, cx: &Cx<'_>) -> Vec<Mismatch>;
}

/// A value as JSON. The types here have string keys and no failing serialisers, so nothing can go wrong.
pub(crate) fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
