//! What this host and its kernel can do, as probed once at start by the reconciler.
//!
//! Plans consult this so that a wish the host cannot meet is refused with the name of what is missing.

use serde::{Deserialize, Serialize};

/// Whether something is there, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Feature {
    /// It works here.
    Yes,
    /// It does not, for this reason.
    No(String),
}

impl Feature {
    /// Why it is missing, or nothing when it is there.
    pub fn missing(&self) -> Option<&str> {
        match self {
            Self::Yes => None,
            Self::No(why) => Some(why),
        }
    }
}

/// How the host's control groups are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cgroups {
    /// One hierarchy with every controller.
    V2,
    /// Controllers in version 1 hierarchies, with a version 2 tree beside them.
    Hybrid,
    /// Version 1 hierarchies only.
    V1,
}

/// All that was probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// The kernel's id of this boot (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// The kernel's release.
    pub kernel: String,
    /// The layout of control groups.
    pub cgroups: Cgroups,
    /// User namespaces with a range of ids for each VE.
    pub user_namespaces: Feature,
    /// Freezing a VE's control group.
    pub freezer: Feature,
    /// BPF device programs on control groups: rules for devices.
    pub bpf_device: Feature,
    /// Idmapped mounts, as the `idmap` of a mount needs them.
    pub idmapped_mounts: Feature,
    /// Overlays over idmapped layers.
    pub overlay_idmap: Feature,
    /// Overlays whose layers are given as file descriptors.
    pub overlay_fd_layers: Feature,
    /// Where lxcfs is mounted, if it runs.
    pub lxcfs: Option<String>,
    /// Seccomp filters.
    pub seccomp: Feature,
    /// Exit status of a process that isn't a child (PIDFD_INFO_EXIT).
    pub pidfd_exit_info: Feature,
    /// TUN and TAP devices.
    pub tun: Feature,
    /// FUSE file systems.
    pub fuse: Feature,
}

impl Capabilities {
    /// A host on which everything but lxcfs is there: for tests and examples.
    pub fn full(boot_id: &str) -> Self {
        Self {
            boot_id: boot_id.to_owned(),
            kernel: "6.18.0".to_owned(),
            cgroups: Cgroups::V2,
            user_namespaces: Feature::Yes,
            freezer: Feature::Yes,
            bpf_device: Feature::Yes,
            idmapped_mounts: Feature::Yes,
            overlay_idmap: Feature::Yes,
            overlay_fd_layers: Feature::Yes,
            lxcfs: None,
            seccomp: Feature::Yes,
            pidfd_exit_info: Feature::Yes,
            tun: Feature::Yes,
            fuse: Feature::Yes,
        }
    }
}
