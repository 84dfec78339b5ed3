//! What can be asked of vzd, whoever answers: the running controller over its socket, or, when there is
//! none, the command itself.
//!
//! The command line speaks only to [`Control`]; the HTTP API serves an engine's `Control` and
//! `api::client` implements it over the socket. All types here are the API's JSON, stable and
//! documented. Nothing here does any IO.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_state::event::Event;
use vzd_state::status::Document as VeDocument;
use vzd_state::subsystem::beancounters::{Counter, Enforcement, Unit};
use vzd_state::transient::Transient;
use vzd_state::units::Timestamp;

use crate::drivers::network::{LinkUse, Sight};
use crate::handover;
use crate::kernel::cgroup::Usage;
use crate::runtime::enter::Door;

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct ControlError {
    /// Code of the kind of error, `VZ0307`.
    pub code: String,
    /// What went wrong, in one sentence.
    pub message: String,
    /// What can be done about it.
    pub help: Option<String>,
}

/// The result of a request.
pub type ControlResult<T> = Result<T, ControlError>;

/// Which VEs are meant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    /// By name or ctid.
    pub names: Vec<String>,
    /// By label: all of these must match.
    pub labels: BTreeMap<String, String>,
    /// Every VE.
    pub all: bool,
}

/// A request for a plan or an application of the manifests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanRequest {
    /// Only these VEs; every one when it selects nothing.
    pub only: Selector,
    /// Removals allowed although the prune guard would hold them.
    pub allow_prune: Option<usize>,
    /// Apply only if what is observed still has this digest.
    pub check_index: Option<String>,
}

/// A plan as people and programs read it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// The text of behaviour.md, without colour.
    pub text: String,
    /// The JSON form.
    pub json: Value,
    /// Exit code under `--detailed-exitcode`: 0 nothing, 1 something cannot be done at all, 2 live, 3 restart, 4 destroy or recreate.
    pub exit_code: i32,
    /// Diagnostics of the manifests (errors keep their VEs at the last good version).
    pub diagnostics: Vec<vzd_schema::Diagnostic>,
}

/// What an application came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyOutcome {
    /// What was planned.
    pub plan: PlanView,
    /// Steps done, over all VEs.
    pub changed: usize,
    /// What failed, by VE.
    pub failed: BTreeMap<String, ControlError>,
}

/// What an operator wants of VEs, above their manifests until those change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PowerAction {
    /// Run (again), whatever stopped it.
    Start,
    /// Run it without its own init, for programs that are to run in a VE that is down, until it is told to stop or nothing runs
    /// in it any more; then it is as it was.
    StartBare,
    /// Stop it and leave it stopped.
    Stop,
    /// Stop it until the host has booted again; those that were to start last stop first.
    StopUntilBoot,
    /// Stop it and start it again, with all that waited for a restart.
    Restart,
    /// Freeze it.
    Pause,
    /// Write it to disk, and end it.
    Suspend,
    /// Thaw it, or have it go on from what was written to disk.
    Resume,
}

/// A request to change the power of VEs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PowerRequest {
    /// Which.
    pub select: Selector,
    /// What.
    pub action: PowerAction,
    /// Kill at once instead of asking init to stop.
    #[serde(default)]
    pub force: bool,
}

/// Outcome for each VE of a request about several: `None` where it was done.
pub type Outcomes = BTreeMap<String, Option<ControlError>>;

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventQuery {
    /// Of this VE only.
    pub ve: Option<String>,
    /// Only those after this sequence number.
    pub after: Option<u64>,
    /// Wait this long (milliseconds) for one when there is none.
    pub wait_ms: u64,
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedEvent {
    /// Rises with every event, over restarts of the controller.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Where the value of a field comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// Path of the field.
    pub field: String,
    /// The value in force.
    pub value: Value,
    /// What holds where nobody says it, if that is the same for every VE.
    pub default: Option<String>,
    /// `file:line` that says it; absent for a default.
    pub source: Option<String>,
    /// The profile that says it, when it is one.
    pub profile: Option<String>,
    /// How disruptive its change is.
    pub update: Option<String>,
    /// What the kernel (or the record of the start) has, when that was read.
    pub observed: Option<Value>,
    /// Why it is not in force yet, when it is held back.
    pub held: Option<String>,
    /// What stands above the manifest until the VE stops, and what that says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<Transient>,
}

/// What is to become of a field until the VE stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TransientChange {
    /// It is to have this value, whatever the manifest says.
    Set(Value),
    /// It is to be as if neither the manifest nor its profile said it.
    Unset,
    /// It is to be as the manifest says again.
    End,
}

/// A request to change a running VE until it stops, and not its manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransientRequest {
    /// The VE, by name or ctid.
    pub ve: String,
    /// What, by field. All of it is done, or nothing.
    pub changes: BTreeMap<String, TransientChange>,
}

/// The state of the controller itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// Version of vzd.
    pub version: String,
    /// Process id of the controller; absent when there is none.
    pub pid: Option<u32>,
    /// What the manifest directory last came to.
    pub revision: String,
    /// VEs known.
    pub ves: usize,
    /// The last whole pass.
    pub last_pass: Option<PassStats>,
    /// Diagnostics of the manifests as they are now.
    pub diagnostics: Vec<vzd_schema::Diagnostic>,
    /// Files in the directory that are not read, and why.
    pub skipped: BTreeMap<String, String>,
    /// What this host and kernel can do.
    pub capabilities: Value,
    /// What was done for VEs that asked for names; none where nobody answers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<NamesUse>,
}

/// What was done for VEs that asked for names, since the controller was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamesUse {
    /// VEs that can be asked for.
    pub names: usize,
    /// Questions that were answered here.
    pub answered: u64,
    /// Questions that others were asked.
    pub forwarded: u64,
    /// Questions that were one too many.
    pub refused: u64,
}

/// One whole pass over all VEs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassStats {
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// VEs looked at.
    pub ves: usize,
    /// Writes to the kernel and to disk.
    pub writes: u64,
    /// Passes since the controller started.
    pub count: u64,
}

/// What is needed to enter a running VE.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entrance {
    /// Its name.
    pub name: String,
    /// Its uid, for the keeper.
    pub uid: String,
    /// Its namespaces, groups and rights.
    pub door: Door,
}

/// The counters of one VE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VeCounters {
    /// Its name.
    pub name: String,
    /// The number that OpenVZ's tools know it by.
    pub ctid: u32,
    /// Every counter, in OpenVZ's order.
    pub counters: Vec<CounterView>,
}

/// The network of one VE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VeNetwork {
    /// Its name.
    pub name: String,
    /// The number that OpenVZ's tools know it by.
    pub ctid: u32,
    /// What it has.
    #[serde(flatten)]
    pub network: Sight,
}

/// One counter of one VE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CounterView {
    /// Which.
    pub name: Counter,
    /// What it counts.
    pub unit: Unit,
    /// In use now; absent where nothing counts it.
    pub held: Option<u64>,
    /// The most since the VE's start: the kernel's where it keeps one, else the most that was seen.
    pub maxheld: Option<u64>,
    /// Ordinary requests are refused above it.
    pub barrier: u64,
    /// All requests are refused above it. 9223372036854775807 is no limit.
    pub limit: u64,
    /// Requests refused since the VE's start.
    pub failcnt: u64,
    /// Whether the kernel refuses what is above, and by what; or why it is only counted.
    pub enforcement: Enforcement,
}

/// What one VE uses, and how it fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VeUsage {
    /// Its name.
    pub name: String,
    /// The number that OpenVZ's tools know it by; none before it was made.
    pub ctid: Option<u32>,
    /// What it does.
    pub state: VeState,
    /// Whether it is as its manifest wants it.
    pub ready: bool,
    /// When its present run began.
    pub started_at: Option<Timestamp>,
    /// When this was read.
    pub at: Timestamp,
    /// What it uses; nothing while it does not run.
    pub usage: Usage,
    /// Every counter, in OpenVZ's order; none while it does not run.
    pub counters: Vec<CounterView>,
    /// What went over its links; none while it does not run.
    #[serde(default)]
    pub links: Vec<LinkUse>,
    /// Passes over it since the controller started.
    pub passes: u64,
    /// Those of them that ended with an error.
    pub errors: u64,
    /// Starts after a crash, a reboot or a halt.
    pub restarts: u64,
}

/// What a VE does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VeState {
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It does not run, and can be resumed.
    Suspended,
    /// It does not run.
    Stopped,
    /// That cannot be read.
    Unknown,
}

impl VeState {
    /// All of them.
    pub const ALL: [VeState; 5] =
        [VeState::Running, VeState::Paused, VeState::Suspended, VeState::Stopped, VeState::Unknown];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            VeState::Running => "running",
            VeState::Paused => "paused",
            VeState::Suspended => "suspended",
            VeState::Stopped => "stopped",
            VeState::Unknown => "unknown",
        }
    }
}

/// A snapshot of a VE's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its name, which no other of the VE has.
    pub name: String,
    /// When it was taken.
    pub created_at: Timestamp,
    /// The VE ran, and was frozen for the moment: what it has of files is what it would have after a power cut.
    pub running: bool,
    /// What ran then was written down too, and can be gone on with.
    #[serde(default)]
    pub memory: bool,
    /// What people call it and know of it.
    #[serde(flatten)]
    pub note: SnapshotNote,
}

/// What people call a snapshot, and why it was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SnapshotNote {
    /// A title; others may have the same.
    pub title: String,
    /// A description.
    pub description: String,
}

/// What is to be done about snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SnapshotAction {
    /// Take one.
    Create,
    /// Make the disk of a stopped VE what it was.
    Revert,
    /// Throw one away.
    Delete,
    /// Pack it, below the state directory.
    Export,
    /// Make one of an archive.
    Import,
}

/// An order about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRequest {
    /// The VE, by name or ctid.
    pub ve: String,
    /// The snapshot.
    pub snapshot: String,
    /// What.
    pub action: SnapshotAction,
    /// Taken: with what runs in the VE, which then runs on. Reverted to: to go on with that.
    #[serde(default)]
    pub memory: bool,
    /// What is to be noted of one that is taken.
    #[serde(default)]
    pub note: SnapshotNote,
    /// The path of the archive that one is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<PathBuf>,
}

/// An order to make a VE's root anew. What it has is thrown away, its snapshots too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reinstall {
    /// The VE, by name or ctid.
    pub ve: String,
    /// It keeps its users and their passwords.
    pub keep_users: bool,
}

/// What a clone is to be at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CloneState {
    /// It waits to be started.
    Stopped,
    /// It is started.
    Running,
}

/// An order to make a VE that has what another one has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloneRequest {
    /// The VE that is copied, by name or ctid.
    pub ve: String,
    /// What the clone is called.
    pub name: String,
    /// Its ctid; assigned if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctid: Option<u32>,
    /// What its manifest says that it is to be: `stopped` if nothing is said, and of one that goes on `running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CloneState>,
    /// With what runs in the VE, which goes on in both then.
    #[serde(default)]
    pub running: bool,
}

/// A clone that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cloned {
    /// Its name.
    pub name: String,
    /// Its number.
    pub ctid: u32,
    /// The file that describes it.
    pub manifest: PathBuf,
    /// What the manifest of the VE that was copied says, and its own does not: what only one VE can have.
    pub left_out: Vec<String>,
    /// Why it is not yet as its manifest says, if so.
    pub failed: Option<ControlError>,
}

/// An order to mount the root of a VE that is down on the host, or to take it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountRequest {
    /// The VE, by name or ctid.
    pub ve: String,
    /// Where; taken away from wherever it is if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<PathBuf>,
}

/// Everything that can be asked.
pub trait Control: Send + Sync {
    /// All VEs with their status, by name; those in quarantine too when asked for.
    fn list(&self, select: &Selector, quarantined: bool) -> ControlResult<Vec<VeDocument>>;
    /// What would change.
    fn plan(&self, request: &PlanRequest) -> ControlResult<PlanView>;
    /// One pass: make it so.
    fn apply(&self, request: &PlanRequest) -> ControlResult<ApplyOutcome>;
    /// Read-only: only what someone changed behind vzd's back, not what a manifest wants changed.
    fn drift(&self, select: &Selector) -> ControlResult<PlanView>;
    /// An operator's order; returns when it is carried out.
    fn power(&self, request: &PowerRequest) -> ControlResult<Outcomes>;
    /// Gives a running VE other values until it stops; returns when it has them.
    fn transient(&self, request: &TransientRequest) -> ControlResult<()>;
    /// Brings a VE back from quarantine.
    fn undelete(&self, name: &str) -> ControlResult<()>;
    /// Makes a stopped VE's root anew, of its template as that is now.
    fn reinstall(&self, request: &Reinstall) -> ControlResult<()>;
    /// Makes a VE that has what another one has, with a manifest of its own.
    fn clone_ve(&self, request: &CloneRequest) -> ControlResult<Cloned>;
    /// Mounts a stopped VE's root on the host, or takes it away.
    fn mount(&self, request: &MountRequest) -> ControlResult<()>;
    /// A VE's snapshots, the oldest first.
    fn snapshots(&self, ve: &str) -> ControlResult<Vec<Snapshot>>;
    /// Takes, reverts to or throws away a snapshot.
    fn snapshot(&self, request: &SnapshotRequest) -> ControlResult<()>;
    /// Carries out a step of handing a VE over to another host, or receiving one.
    fn handover(&self, request: &handover::Request) -> ControlResult<handover::Answer>;
    /// The event log.
    fn events(&self, query: &EventQuery) -> ControlResult<Vec<LoggedEvent>>;
    /// Where a field's value comes from.
    fn why(&self, ve: &str, field: &str) -> ControlResult<Why>;
    /// What running VEs hold of each counter. A VE that is selected by name and does not run is an error.
    fn counters(&self, select: &Selector) -> ControlResult<Vec<VeCounters>>;
    /// What VEs use and how they fare, those that do not run too.
    fn usage(&self, select: &Selector) -> ControlResult<Vec<VeUsage>>;
    /// The networks of running VEs. A VE that is selected by name and does not run is an error.
    fn networks(&self, select: &Selector) -> ControlResult<Vec<VeNetwork>>;
    /// How to enter running VEs. A VE that is selected by name and does not run is an error.
    fn entrances(&self, select: &Selector) -> ControlResult<Vec<Entrance>>;
    /// The controller itself.
    fn info(&self) -> ControlResult<Info>;
    /// Waits until a condition has a status (`Ready`, `True`) for every VE selected, at most so many
    /// milliseconds; tells whether it came to that.
    fn wait(&self, select: &Selector, condition: &str, status: &str, timeout_ms: u64) -> ControlResult<bool>;
}
