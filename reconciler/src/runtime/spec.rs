//! What a VE is started with: the message from the controller to the starter.
//!
//! Plain data, all of it decided before; the starter decides nothing. The keeper of an older vzd refuses a
//! field that it does not know: nothing is started with less than was asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vzd_schema::v1::MountOption;
use vzd_state::application::User;
use vzd_state::subsystem::network::{Files, Route, Rule};

use crate::kernel::net::{Bridged, HandOver, Macvlan, Shape, Venet};
use crate::runtime::quotas::UserQuotas;
use crate::runtime::scripts::Scripts;

/// A VE that is to be started. All host paths are absolute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartSpec {
    /// Identity in the keeper: the VE's uid.
    pub uid: String,
    /// First host id of its range; the VE's root is this host user.
    pub id_base: u32,
    /// Ids in its range.
    pub id_count: u32,
    /// UTS node name.
    pub hostname: String,
    /// UTS domain name; empty for none.
    pub domainname: String,
    /// Command line of PID 1; the first word is a path inside the VE, or looked up in its `PATH`.
    pub init: Vec<String>,
    /// Environment of PID 1, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory of PID 1, made if it is not there; `/` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Whom PID 1 runs as; root if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Version 2 cgroup that the VE sees as its root.
    pub cgroup_delegated: PathBuf,
    /// Version 1 cgroups it is put into.
    pub cgroup_v1: Vec<PathBuf>,
    /// Its root file system.
    pub root: RootSpec,
    /// Directory of the host that the VE reads about itself in, at /dev/vzd.
    pub shown: PathBuf,
    /// Mounts from the host.
    pub mounts: Vec<MountSpec>,
    /// Device nodes beside the safe ones that every VE has.
    pub devices: Vec<NodeSpec>,
    /// Its routed link to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venet: Option<Venet>,
    /// Whom to tell of its routed addresses, by interface of the host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub neighbours: BTreeMap<String, Vec<IpAddr>>,
    /// Its interfaces on bridges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bridged: Vec<Bridged>,
    /// Its interfaces on top of the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macvlans: Vec<Macvlan>,
    /// Interfaces of the host that it has for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed: Option<HandOver>,
    /// Settings of its network namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<(String, String)>,
    /// Limits of its bandwidth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<Shape>,
    /// Its packet filter: what is in vzd's table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<String>,
    /// Its routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Its rules of routing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Its time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Its locale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Lines of its files that are vzd's.
    #[serde(default, skip_serializing_if = "Files::is_empty")]
    pub files: Files,
    /// Capabilities it keeps, as a bit mask in the kernel's numbering.
    pub capabilities: u64,
    /// Text of a seccomp profile; the default filter alone when absent.
    pub seccomp_profile: Option<String>,
    /// It may set attributes of its files.
    #[serde(default)]
    pub own_attributes: bool,
    /// Go on from there instead of executing an init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSpec>,
    /// What the host's administrator has run at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scripts: Option<Box<Scripts>>,
    /// Leave /proc and /sys without masks, so that container engines inside can mount their own.
    pub nesting: bool,
}

impl StartSpec {
    /// Whether its network is linked to anything.
    pub fn is_linked(&self) -> bool {
        self.venet.is_some() || !self.bridged.is_empty() || !self.macvlans.is_empty() || self.handed.is_some()
    }
}

/// What a VE is resumed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointSpec {
    /// CRIU.
    pub criu: PathBuf,
    /// The directory of the checkpoint.
    pub dir: PathBuf,
    /// The groups that the VE is to be in, by controller.
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
}

/// An overlay over a read-only template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RootSpec {
    /// The template's directory, with plain ids.
    pub lower: PathBuf,
    /// Where the VE's own files go, with the ids of its range.
    pub upper: PathBuf,
    /// overlayfs's working directory, on the same file system as `upper`.
    pub work: PathBuf,
    /// An empty directory to put the tree together on.
    pub staging: PathBuf,
    /// The file system that `upper` and `work` lie on, if it is to be mounted for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeSpec>,
    /// Nothing of it can be written once the VE runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// How it is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<MountOption>,
    /// Quotas that the VE's root sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<UserQuotas>,
}

/// A file system on a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeSpec {
    /// Its type.
    pub kind: String,
    /// The device.
    pub device: PathBuf,
    /// Options without a value.
    pub options: Vec<String>,
    /// Where to mount it.
    pub at: PathBuf,
}

/// A mount from the host into a VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountSpec {
    /// Directory or file on the host.
    pub source: PathBuf,
    /// Absolute path inside the VE.
    pub target: PathBuf,
    /// Not writable, and not to be made so from inside.
    pub read_only: bool,
    /// Set-user-id bits are ignored.
    pub nosuid: bool,
    /// Programs on it are not executed.
    pub noexec: bool,
    /// Device nodes on it do not open.
    pub nodev: bool,
    /// Show its files with the VE's ids (host id 0 is the VE's root).
    pub idmap: bool,
}

impl MountSpec {
    /// The mount attributes that its flags ask for.
    pub fn attrs(&self) -> crate::kernel::mount::Attr {
        use crate::kernel::mount::Attr;
        let flags = [
            (self.read_only, Attr::MOUNT_ATTR_RDONLY),
            (self.nosuid, Attr::MOUNT_ATTR_NOSUID),
            (self.noexec, Attr::MOUNT_ATTR_NOEXEC),
            (self.nodev, Attr::MOUNT_ATTR_NODEV),
        ];
        flags.into_iter().filter(|(on, _)| *on).fold(Attr::empty(), |all, (_, flag)| all | flag)
    }
}

/// A device node in a VE's /dev.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// Path below /dev: `net/tun`.
    pub path: PathBuf,
    /// A block device; else a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner inside the VE.
    pub uid: u32,
    /// Group inside the VE.
    pub gid: u32,
}

/// What the starter says when the VE's init runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Started {
    /// The host's pid of the VE's init.
    pub pid: i32,
}
