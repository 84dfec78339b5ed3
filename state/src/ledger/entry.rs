//! What the ledger holds of one VE. Data only; `record` changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::application::Application;
use crate::desired::SourceRef;
use crate::digest::SpecDigest;
use crate::handover::Handover;
use crate::ids::{Ctid, IdRange, VeName, VeUid};
use crate::subsystem::beancounters::{Counter, Setting};
use crate::subsystem::lifecycle::{ColdSpec, End, Exit, StartReason, State, StopReason};
use crate::subsystem::namespaces::Mount;
use crate::subsystem::{cgroup, devices, disk, lifecycle, network, users};
use crate::transient::Transients;
use crate::units::Timestamp;

/// One VE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Format of the entry.
    pub format: u32,
    /// Identity for ever.
    pub uid: VeUid,
    /// Name; never changes.
    pub name: VeName,
    /// Numeric id; never changes.
    pub ctid: Ctid,
    /// Range of ids; never changes.
    pub ids: IdRange,
    /// How many different specs have been accepted.
    pub generation: u64,
    /// Digest of the accepted spec.
    pub digest: SpecDigest,
    /// The accepted spec, lowered again when the file is broken or gone.
    pub spec: Arc<Value>,
    /// Labels as accepted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations as accepted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where the accepted manifest lay.
    pub source: SourceRef,
    /// Brought back by `vzd undelete` and kept although no manifest names it, until one does.
    #[serde(default)]
    pub pinned: bool,
    /// What was last set, for the three-way diff.
    pub applied: Applied,
    /// The root file system that was made.
    #[serde(default)]
    pub disk: Option<DiskRecord>,
    /// The run that is believed to go on.
    #[serde(default)]
    pub run: Option<Box<RunRecord>>,
    /// The run that its checkpoint is of, if it is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<Box<Suspension>>,
    /// A state that stands above the manifest's until the next generation.
    #[serde(default)]
    pub run_override: Option<Override>,
    /// It is to run without its own init until that run ends, whatever its manifest and orders say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bare: bool,
    /// How the last run ended.
    #[serde(default)]
    pub last_exit: Option<ExitRecord>,
    /// Starts that have to wait because earlier ones went wrong.
    #[serde(default)]
    pub backoff: Option<Backoff>,
    /// How often it was started again after an end of its own.
    #[serde(default)]
    pub restarts: u64,
    /// The trial that its packet filter is on, or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall_trial: Option<Box<network::Trial>>,
    /// Its way to another host, or from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
    /// The host that the manifest here named when it came from another one: that was no news, until it changes or that
    /// host asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_host: Option<String>,
    /// Whether it is managed, kept or on its way out.
    pub standing: Standing,
}

impl Entry {
    /// Whether it was removed and is kept for a while.
    pub fn is_quarantined(&self) -> bool {
        matches!(self.standing, Standing::Quarantined { .. })
    }

    /// The trial that its packet filter is on.
    pub fn open_trial(&self) -> Option<&network::Trial> {
        self.firewall_trial.as_deref().filter(|trial| trial.is_open())
    }

    /// The override that is in force: one that was made for the present generation, or for one that is to be taken over.
    pub fn override_in_force(&self) -> Option<&Override> {
        self.run_override.as_ref().filter(|is| is.generation >= self.generation)
    }
}

/// What was last set, one field a subsystem; none when nothing of it is in force.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Applied {
    /// Policies as last accepted.
    pub lifecycle: Option<lifecycle::Desired>,
    /// What was last wanted of the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<disk::Desired>,
    /// The control group of the present run.
    pub cgroup: Option<cgroup::Applied>,
    /// Counters' limits of the present run, beside the control group's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beancounters: Option<BTreeMap<Setting, cgroup::Value>>,
    /// Names and mounts of the present run.
    pub namespaces: Option<AppliedNamespaces>,
    /// Devices of the present run.
    pub devices: Option<devices::Desired>,
    /// The network of the present run, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Box<network::Desired>>,
    /// Users inside, by name, for as long as the root is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, users::Applied>,
}

/// Names and mounts that were last set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppliedNamespaces {
    /// The UTS node name.
    pub hostname: String,
    /// The UTS domain name.
    pub domainname: String,
    /// The time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The locale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Mounts by target, lxcfs views too.
    pub mounts: BTreeMap<String, Mount>,
}

/// A root file system that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskRecord {
    /// What it was made from.
    pub template: String,
    /// It is whole: neither its making nor its removal was cut short.
    pub ready: bool,
    /// Where it lies on the host, once it does.
    pub root: Option<String>,
    /// Digest of the template's content, if there is one.
    pub digest: Option<String>,
    /// What keeps it. Roots that were made before there was a choice are directories.
    #[serde(default)]
    pub backend: disk::Backend,
    /// Since when soft limits are exceeded.
    #[serde(default, skip_serializing_if = "disk::Over::is_none")]
    pub over: disk::Over,
    /// It was made read-only, of a VE that runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// How the program is run that its template is the image of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Box<Application>>,
}

/// A run, written down before it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRecord {
    /// The host's boot in which it began.
    pub boot_id: String,
    /// When it began.
    pub started_at: Timestamp,
    /// The host's pid of init; none until the start is finished.
    pub init_pid: Option<u32>,
    /// What it was started with.
    pub cold: ColdSpec,
    /// Why it was started.
    pub reason: StartReason,
    /// Why it is being stopped, written down before the first signal.
    pub stopping: Option<StopReason>,
    /// Values that stand above the manifest's for as long as it lasts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transient: Transients,
    /// What was counted of it before it was last suspended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: Counts,
}

/// What was counted of a run, by counter.
pub type Counts = BTreeMap<Counter, Count>;

/// What was counted that the kernel forgets when a run is suspended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Count {
    /// The most that was held.
    pub most: u64,
    /// Refusals.
    pub failcnt: u64,
}

/// A run that was written to disk: what is fixed in its checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suspension {
    /// When it was suspended.
    pub at: Timestamp,
    /// What it was started with.
    pub cold: ColdSpec,
    /// Its names and mounts.
    pub namespaces: Option<AppliedNamespaces>,
    /// Its devices.
    pub devices: Option<devices::Desired>,
    /// Its network.
    pub network: Option<Box<network::Desired>>,
    /// What was counted of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: Counts,
}

/// A state that stands above the manifest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Override {
    /// The state to be in: running, stopped or paused.
    pub state: State,
    /// Who says so.
    pub by: By,
    /// The generation that it holds for.
    pub generation: u64,
    /// When it was said.
    pub at: Timestamp,
}

/// Who overrides the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// The VE's owner, from inside.
    Owner,
    /// An operator, by a command.
    Operator,
    /// A crash, under `restartPolicy: Never`.
    Crash,
    /// The host's boot, under `onBoot: false`.
    Boot,
    /// The host, which is going down: until it has booted again.
    Host,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExitRecord {
    /// What it means.
    pub end: End,
    /// What init reported.
    pub exit: Option<Exit>,
    /// When it was noticed.
    pub at: Timestamp,
}

/// Starts that have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    /// Runs in a row that went wrong.
    pub failures: u32,
    /// The next start is not before this.
    pub until: Timestamp,
}

/// Whether a VE is managed, kept or on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Managed.
    Active,
    /// Removed, but kept for a while.
    Quarantined {
        /// When it was removed.
        since: Timestamp,
        /// When it is thrown away.
        until: Timestamp,
    },
    /// Left as it is, unmanaged.
    Retained,
    /// Being thrown away, which nothing can stop any more.
    Destroying,
}
