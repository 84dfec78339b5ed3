//! `kind: VE`: a virtual environment.

use super::defaults;
use super::lifecycle::{DeletionPolicy, RestartPolicy, State, SuspendReconcile, UpdatePolicy};
use super::macros::group;
use super::metadata::{ApiVersion, Metadata};
use super::scalars::{Command, CtId, Duration, HostName, LocaleName, Name, TimeZone};
use super::template::TemplateSource;
use super::{
    Beancounters, Checkpoint, Cpu, Device, Disk, Health, Io, Memory, Mount, Network, Packages, Security,
    Sparse, User,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A virtual environment: a system that runs on the host's kernel, apart from the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ve {
    /// The version of the format.
    pub api_version: ApiVersion,
    /// The kind of document.
    pub kind: VeKind,
    /// Name, labels, notes.
    pub metadata: Metadata,
    /// What the VE is to be.
    #[serde(default, skip_serializing_if = "crate::v1::is_default")]
    pub spec: VeSpec,
}

super::profile::kind_word!(
    /// The word `VE`.
    VeKind::Ve as "VE"
);

group! {
    /// What a VE is to be. With nothing but a template it is complete.
    pub struct VeSpec {
        /// The number by which OpenVZ's tools know the VE. Default: assigned, from 101, and kept.
        recreate ctid: Option<CtId>,
        /// The profile whose spec lies under this one. Default: the host's default profile, if any.
        live profile: Option<Name>,
        /// What the VE is to be: running or not, or gone.
        live state: Option<State> = defaults::STATE,
        /// The host that the VE is to be on; another that has it hands it over. Default: whichever reads this manifest.
        live host: Option<HostName>,
        /// A note.
        live description: Option<String>,
        /// Start the VE when the host starts.
        live on_boot: Option<bool> = defaults::ON_BOOT,
        /// When the host starts, VEs with a higher number start first.
        live boot_order: Option<i32> = defaults::BOOT_ORDER,
        /// How long a VE may take to stop before its processes are killed.
        live stop_timeout: Option<Duration> = defaults::STOP_TIMEOUT,
        /// How long a VE may take to start before that counts as failed.
        live start_timeout: Option<Duration> = defaults::START_TIMEOUT,
        /// When a VE whose init has ended is started again. One that its owner reboots always is.
        live restart_policy: Option<RestartPolicy> = defaults::RESTART_POLICY,
        /// What is done about a change that a running VE cannot take.
        live update_policy: Option<UpdatePolicy> = defaults::UPDATE_POLICY,
        /// What becomes of the VE when its manifest is gone.
        live deletion_policy: Option<DeletionPolicy> = defaults::DELETION_POLICY,
        /// How long the VE is kept after its manifest is gone, under `deletionPolicy: Quarantine`.
        #[serde(rename = "quarantineTTL")]
        live quarantine_ttl: Option<Duration> = defaults::QUARANTINE_TTL,
        /// Where the first content of the disk comes from. Default: the host's default template.
        recreate template: Option<TemplateSource>,
        /// The command that is process 1. Where the template is the image of a program, that program is the default.
        restart init: Option<Command> = defaults::INIT,
        /// The host name. Default: the VE's name.
        live hostname: Option<HostName>,
        /// The NIS domain name. Default: none.
        live domainname: Option<HostName>,
        /// The time zone, such as `Europe/Berlin`, by /etc/localtime. Default: the VE's own.
        live timezone: Option<TimeZone>,
        /// The language, such as `en_US.UTF-8`: what those are given who log in from then on. Default: the VE's own.
        live locale: Option<LocaleName>,
        /// CPU.
        live cpu: Sparse<Cpu>,
        /// Memory.
        live memory: Sparse<Memory>,
        /// Disk input and output.
        live io: Sparse<Io>,
        /// OpenVZ's user beancounters.
        live beancounters: Sparse<Beancounters>,
        /// Disk.
        live disk: Sparse<Disk>,
        /// Network.
        live network: Sparse<Network>,
        /// Devices of the host.
        live devices: Vec<Device>,
        /// Directories and files of the host.
        live mounts: Vec<Mount>,
        /// Rights.
        live security: Sparse<Security>,
        /// Users inside the VE.
        live users: Vec<User>,
        /// Software inside the VE.
        live packages: Sparse<Packages>,
        /// Checkpoints.
        live checkpoint: Sparse<Checkpoint>,
        /// How it is found out whether the VE does its work. Default: it does when it runs.
        live health: Option<Health>,
        /// VEs that must be ready before this one starts.
        live depends_on: Vec<Name>,
        /// Leave the VE alone for a while.
        live suspend_reconcile: Option<SuspendReconcile>,
    }
}
