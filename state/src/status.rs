//! What is published of a VE: its conditions and the whole document.
//!
//! Conditions are a function of what is known now and of the earlier ones, whose time of transition is
//! kept while their status stays. There is no phase.

mod conditions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::ALIAS;

pub use self::conditions::{Failure, Health, Inputs, conditions};
use crate::desired::SourceRef;
use crate::ids::{Ctid, VeName, VeUid};
use crate::transient::Transients;
use crate::units::Timestamp;

/// A fact about a VE that is true, false or unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which fact.
    pub r#type: ConditionType,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// The generation that it was found out for.
    pub observed_generation: u64,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
    /// Why, as a word in PascalCase.
    pub reason: String,
    /// Why, as a sentence; may be empty.
    pub message: String,
}

/// The facts that are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    /// The VE is as wanted and does its work.
    Ready,
    /// Something is being done; present only while it is.
    Reconciling,
    /// Nothing will get better by itself; present only while so.
    Stalled,
    /// Its probe says so; present only with a probe.
    Healthy,
    /// Someone changed something by hand.
    Drifted,
    /// Changes wait for the next start.
    RestartRequired,
    /// A limit waits until use is below it; present only while it does.
    ResizePending,
    /// A soft limit of its disk is exceeded; present only while it is.
    OverQuota,
    /// Somebody else on the wire has an address of it too; present only while that is known.
    AddressConflict,
    /// Bounds that the manifest gives and this host's kernel lacks the means to enforce: these are counted only. Present
    /// only while there are any.
    Unenforced,
    /// Reconciling is suspended; present only while it is.
    Suspended,
    /// It is on its way out; present only while it is.
    DeletionPending,
    /// It could be moved to another host; present only where that is known.
    Migratable,
}

impl ConditionType {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::Healthy,
        Self::Drifted,
        Self::RestartRequired,
        Self::ResizePending,
        Self::OverQuota,
        Self::AddressConflict,
        Self::Unenforced,
        Self::Suspended,
        Self::DeletionPending,
        Self::Migratable,
    ];

    /// The one of that name, however it is capitalised.
    pub fn named(name: &str) -> Result<Self, String> {
        let known = Self::ALL.map(|known| format!("{known:?}"));
        let at = known.iter().position(|known| known.eq_ignore_ascii_case(name));
        at.map(|at| Self::ALL[at])
            .ok_or_else(|| format!("{name:?} is not a condition: there are {}", known.join(", ")))
    }
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// Yes.
    True,
    /// No.
    False,
    /// Nobody can tell.
    Unknown,
}

/// A VE as `vzd get VE -o json` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// `vzd/v1`.
    pub api_version: String,
    /// `VE`.
    pub kind: String,
    /// Who it is.
    pub metadata: DocumentMetadata,
    /// What is wanted, profiles merged in, and what stands above the manifest until the VE stops.
    pub spec: Value,
    /// What is.
    pub status: Status,
}

impl DocumentMetadata {
    /// Another name that it is known by.
    pub fn alias(&self) -> Option<&str> {
        self.annotations.get(ALIAS).map(String::as_str)
    }
}

/// Who a VE is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentMetadata {
    /// Its name.
    pub name: VeName,
    /// Its identity; none before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<VeUid>,
    /// How many different specs it has had.
    pub generation: u64,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its ctid; none before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctid: Option<Ctid>,
    /// The host's pid of its init, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_pid: Option<u32>,
    /// When it was started, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Its processes are held still. Left out when they aren't.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
    /// Its control group, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Values of fields that stand above its manifest's until it stops; `spec` has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transient: Transients,
    /// Facts about it.
    pub conditions: Vec<Condition>,
    /// Limits and use, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, Value>,
    /// Where its manifest lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRef>,
}
