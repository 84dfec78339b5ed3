//! Whether and how a VE runs: its wanted state, its init, and the policies about stopping and deleting.
//!
//! This file compares fields. Which steps a wish, an override and an exit lead to is decided in
//! `plan::power`; what a step means for the ledger in `ledger::record`.

mod fields;
mod probe;
mod step;

use std::collections::BTreeSet;
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::MountOption;

use self::fields::{cold_pairs, pairs};
pub use self::probe::{Ask, Probe};
pub use self::step::{End, Exit, StartReason, Step, StopReason};
use super::disk::USERS;
use super::{Changes, Cx, Mismatch, Subsystem, json};
use crate::application::Application;
use crate::caps::CapSet;
use crate::disruption::{Change, Disruption};
use crate::ids::VeName;
use crate::reading::Reading;
use crate::units::{Millis, Timestamp};

/// What the manifest says about running the VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The state that is wanted, before anyone overrides it.
    pub state: State,
    /// What is fixed when the VE starts.
    pub cold: ColdSpec,
    /// What to do when the VE ends by itself.
    pub restart_policy: RestartPolicy,
    /// Whether vzd may restart the VE for a change that needs it.
    pub update_policy: UpdatePolicy,
    /// What to do when the manifest is removed.
    pub deletion_policy: DeletionPolicy,
    /// How long init has to stop before every process is killed.
    pub stop_timeout: Millis,
    /// How long a start may take.
    pub start_timeout: Millis,
    /// Whether the VE starts with the host.
    pub on_boot: bool,
    /// Order of starts: higher first.
    pub boot_order: i32,
    /// How long a removed VE is kept.
    pub quarantine_ttl: Millis,
    /// VEs that must be Ready before this one starts.
    pub depends_on: Vec<VeName>,
    /// How to find out whether the VE is healthy.
    pub health: Option<Probe>,
    /// Reconciling is suspended by the manifest.
    pub suspend: Option<Suspend>,
    /// Where its checkpoint is kept, if not with the VE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_directory: Option<String>,
    /// Established TCP connections are kept in a checkpoint. Records from before there was a choice don't say so.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub checkpoint_keeps_tcp: bool,
    /// Memory is written ahead of a suspension.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_pre_dump: bool,
    /// How memory is written in a checkpoint.
    #[serde(default, skip_serializing_if = "Compression::is_none")]
    pub checkpoint_compress: Compression,
    /// It runs on after an order for a checkpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint_keeps_running: bool,
    /// Reconciling is switched off by the annotation `vzd/reconcile: disabled`.
    pub reconcile_disabled: bool,
}

impl Default for Desired {
    fn default() -> Self {
        Self {
            state: State::Running,
            cold: ColdSpec::default(),
            restart_policy: RestartPolicy::OnFailure,
            update_policy: UpdatePolicy::Live,
            deletion_policy: DeletionPolicy::Quarantine,
            stop_timeout: Millis::from_secs(60),
            start_timeout: Millis::from_secs(60),
            on_boot: true,
            boot_order: 0,
            quarantine_ttl: Millis::from_secs(7 * 86400),
            depends_on: Vec::new(),
            health: None,
            suspend: None,
            checkpoint_directory: None,
            checkpoint_keeps_tcp: true,
            checkpoint_pre_dump: false,
            checkpoint_compress: Compression::None,
            checkpoint_keeps_running: false,
            reconcile_disabled: false,
        }
    }
}

impl Desired {
    /// Why nothing may be done to this VE now.
    pub fn suspended(&self, now: Timestamp) -> Option<String> {
        if self.reconcile_disabled {
            return Some("annotation vzd/reconcile: disabled".to_owned());
        }
        let Suspend { reason, until } = self.suspend.as_ref()?;
        match until {
            Some(until) if *until <= now => None,
            Some(until) => Some(format!("{reason} (until {until})")),
            None => Some(reason.clone()),
        }
    }
}

/// What is fixed when init is executed: a change waits for the next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColdSpec {
    /// Command of PID 1; the usual one if the manifest names none.
    pub init: Vec<String>,
    /// The manifest names it, so that it stands also where the template has a command of its own. Records of VEs from
    /// before there were such templates don't say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init_given: bool,
    /// The bounding set.
    pub capabilities: CapSet,
    /// Which system calls are refused.
    pub seccomp: Seccomp,
    /// The VE may mount fresh proc and sysfs, for containers inside it.
    pub nesting: bool,
    /// So many of its users and groups may have quotas that its root sets; 0 is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quota_ids: u32,
    /// How its root is mounted. The kernel locks all of that in a VE's own mount namespace, for the host's root too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub mount_options: BTreeSet<MountOption>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_yes(is: &bool) -> bool {
    *is
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Default for ColdSpec {
    fn default() -> Self {
        Self {
            init: vec!["/sbin/init".to_owned()],
            init_given: false,
            capabilities: CapSet::default(),
            seccomp: Seccomp::Default,
            nesting: false,
            quota_ids: 0,
            mount_options: BTreeSet::new(),
        }
    }
}

impl ColdSpec {
    /// What the root's image says of how to run it, where that counts.
    pub fn application<'a>(&self, of_root: Option<&'a Application>) -> Option<&'a Application> {
        of_root.filter(|_| !self.init_given)
    }

    /// The command of PID 1 on a root whose image says this.
    pub fn command<'a>(&'a self, of_root: Option<&'a Application>) -> &'a [String] {
        self.application(of_root).map_or(&self.init, |application| &application.command)
    }
}

/// The state that is wanted of a VE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It runs.
    Running,
    /// It does not run.
    Stopped,
    /// It runs and is frozen.
    Paused,
    /// Its processes are kept in a file, and none runs.
    Suspended,
    /// There is no such VE, nor its disk.
    Absent,
}

/// Which system calls are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Seccomp {
    /// The built-in filter.
    Default,
    /// The filter in a file.
    File {
        /// Path on the host.
        path: String,
    },
}

/// What to do when a VE ends by itself. The owner's reboot is always followed by a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Start it again, even when its owner halted it.
    Always,
    /// Start it again when it crashed.
    OnFailure,
    /// Leave it stopped.
    Never,
}

/// Whether vzd may restart a VE for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UpdatePolicy {
    /// Never: such changes wait for the next start.
    Live,
    /// Yes.
    Restart,
}

/// What to do when the manifest of a VE is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// Stop it and keep it for a while.
    Quarantine,
    /// Leave it as it is and forget about it.
    Retain,
    /// Stop it and throw it away.
    Destroy,
}

/// How memory is written in a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// By zstd.
    Zstd,
}

impl Compression {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Reconciling is suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspend {
    /// Why, in the operator's words.
    pub reason: String,
    /// When it ends by itself; none for never.
    pub until: Option<Timestamp>,
}

/// What is seen of the VE's run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Whether it runs. `Absent` is the same as stopped with no exit known.
    pub run: Reading<Run>,
    /// The whole checkpoint that lies on disk, if one does.
    #[serde(default)]
    pub checkpoint: Reading<Checkpoint>,
}

/// A checkpoint that a VE can be resumed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// When it was made.
    pub at: Timestamp,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Whether a VE runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Run {
    /// No init.
    Stopped {
        /// How the last init ended, when the keeper or the kernel could tell.
        last_exit: Option<Exit>,
    },
    /// Init is there.
    Running {
        /// The host's pid of init.
        init_pid: u32,
        /// When init was started.
        started_at: Timestamp,
    },
}

/// The subsystem.
#[derive(Debug)]
pub struct Lifecycle;

impl Subsystem for Lifecycle {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Infallible;
    type Cold = Infallible;

    /// Policies are compared with what the ledger last accepted; what is fixed at a start with what the
    /// present run was started with. `state` is left to `plan::power`.
    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Infallible, Infallible> {
        let Observed { run, checkpoint: _ } = have;
        let applied = cx.entry.and_then(|entry| entry.applied.lifecycle.as_ref());
        let default = Desired::default();
        let mut changes = Changes::default();
        if let Reading::Unreadable(why) = run {
            changes.cannot_read("spec.state", why);
        }
        if applied != Some(want) {
            for (field, was, is) in pairs(applied.unwrap_or(&default), want) {
                if was != is {
                    let was = if applied.is_some() { was } else { Value::Null };
                    changes.field(Change::new(field, was, is, Disruption::Live));
                }
            }
        }
        let started = started_with(cx).filter(|_| matches!(run, Reading::Is(Run::Running { .. })));
        let before = started.or(applied.map(|a| &a.cold));
        let baseline = before.unwrap_or(&default.cold);
        if *baseline == want.cold {
            return changes;
        }
        let disk = cx.entry.and_then(|entry| entry.disk.as_ref());
        // The disk's own diff says that it can't be.
        let without_users = disk.is_some_and(|disk| disk.ready && !disk.backend.keeps_users());
        for (field, was, is) in cold_pairs(baseline, &want.cold, application_of(cx)) {
            if was != is && !(field == USERS && without_users) {
                let disruption = if started.is_some() { Disruption::Restart } else { Disruption::Live };
                let was = if before.is_some() { was } else { Value::Null };
                changes.field(Change::new(field, was, is, disruption));
            }
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Observed { run, checkpoint: _ } = have;
        let running = matches!(run, Reading::Is(Run::Running { .. }));
        let mut wrong = Vec::new();
        if !running {
            wrong.push(Mismatch::new("spec.state", json(&want.state), json(run), Disruption::Live));
        }
        if let Some(started) = started_with(cx) {
            for (field, have, want) in cold_pairs(started, &want.cold, application_of(cx)) {
                if have != want {
                    wrong.push(Mismatch::new(field, want, have, Disruption::Restart));
                }
            }
        }
        wrong
    }
}

/// What the image of the VE's root says of how to run it.
fn application_of<'a>(cx: &Cx<'a>) -> Option<&'a Application> {
    cx.entry?.application()
}

/// What the present run was started with.
fn started_with<'a>(cx: &Cx<'a>) -> Option<&'a ColdSpec> {
    Some(&cx.entry?.run.as_ref()?.cold)
}
