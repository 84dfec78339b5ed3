//! What this host and its kernel can do, as probed once at start by the reconciler.
//!
//! Plans consult this so that a wish the host cannot meet is refused with the name of what is missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vzd_schema::v1::CpuList;

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

/// A controller of control groups that limits something for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// Which CPUs and NUMA nodes.
    Cpuset,
    /// Memory.
    Memory,
    /// Disks: `io`, in version 1 `blkio`.
    Io,
    /// Processes.
    Pids,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cpuset, Self::Memory, Self::Io, Self::Pids];

    /// What the kernel calls it in version 2.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Io => "io",
            Self::Pids => "pids",
        }
    }
}

/// In which hierarchy a controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Version {
    /// One of its own.
    V1,
    /// The one of all.
    V2,
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
    /// The controllers that there are.
    pub controllers: BTreeMap<Controller, Version>,
    /// The CPUs that VEs may be given.
    pub cpus: CpuList,
    /// The NUMA nodes that VEs may be given.
    pub nodes: CpuList,
    /// Size of a page in bytes.
    pub page_size: u64,
    /// Limits of swap.
    pub swap_limit: Feature,
    /// Memory that is not taken away from a group (memory.low).
    pub memory_low: Feature,
    /// The disk that holds the VEs' files, as `major:minor`, if it is one.
    pub io_disk: Option<String>,
    /// Shares of a disk against others.
    pub io_weight: Feature,
    /// Why such a share has no effect as the disk is set up now.
    pub io_weight_note: Option<String>,
    /// User namespaces with a range of ids for each VE.
    pub user_namespaces: Feature,
    /// Freezing a VE's control group.
    pub freezer: Feature,
    /// BPF device programs on control groups: rules for devices.
    pub bpf_device: Feature,
    /// BPF programs on control groups that count sockets and refuse them.
    pub socket_counters: Feature,
    /// BPF programs at the kernel's security hooks that count open files and refuse them.
    pub file_counters: Feature,
    /// Idmapped mounts, as the `idmap` of a mount needs them.
    pub idmapped_mounts: Feature,
    /// Overlays over idmapped layers.
    pub overlay_idmap: Feature,
    /// Overlays whose layers are given as file descriptors.
    pub overlay_fd_layers: Feature,
    /// File systems in image files, for VEs with limits of their disks.
    pub disk_image: Feature,
    /// Quotas of projects, on the host's own file system or on one that vzd makes for that.
    pub disk_project: Feature,
    /// Quota groups of btrfs, on the host's own file system.
    pub disk_btrfs: Feature,
    /// Quotas of users and groups beside those of projects, and a filter that tells of calls (Linux 5.14).
    pub disk_users: Feature,
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
    /// Routed links whose packets are filtered by source: veth, and BPF programs on interfaces.
    pub venet: Feature,
    /// Interfaces on top of others (macvlan).
    pub macvlan: Feature,
    /// VLANs of bridges' ports.
    pub bridge_vlans: Feature,
    /// Limits of bandwidth: token buckets (HTB) on intermediate devices (IFB).
    pub shaping: Feature,
    /// Rules that say which routing table a packet is looked up in.
    pub routing_rules: Feature,
    /// Packet filters of VEs: nftables, and its program on the host.
    pub firewall: Feature,
    /// Checkpoints: CRIU, in a version that this kernel's processes can be dumped with.
    pub checkpoint: Feature,
    /// What tells which memory was written to: soft-dirty marks.
    pub memory_marks: Feature,
}

impl Capabilities {
    /// In which hierarchy a controller is, or that it is in none.
    pub fn controller(&self, controller: Controller) -> Result<Version, String> {
        let there = self.controllers.get(&controller).copied();
        there.ok_or_else(|| format!("the kernel has no {} controller", controller.name()))
    }

    /// The same host with its controllers in hierarchies of their own: for tests.
    pub fn hybrid(self) -> Self {
        let why = "the memory controller is version 1, which has no memory.low";
        Self {
            cgroups: Cgroups::Hybrid,
            controllers: Controller::ALL.map(|controller| (controller, Version::V1)).into(),
            memory_low: Feature::No(why.to_owned()),
            ..self
        }
    }

    /// A host on which everything but lxcfs is there: for tests and examples.
    pub fn full(boot_id: &str) -> Self {
        Self {
            boot_id: boot_id.to_owned(),
            kernel: "6.18.0".to_owned(),
            cgroups: Cgroups::V2,
            controllers: Controller::ALL.map(|controller| (controller, Version::V2)).into(),
            cpus: CpuList::up_to(4),
            nodes: CpuList::up_to(2),
            page_size: 4096,
            swap_limit: Feature::Yes,
            memory_low: Feature::Yes,
            io_disk: Some("8:0".to_owned()),
            io_weight: Feature::Yes,
            io_weight_note: None,
            user_namespaces: Feature::Yes,
            freezer: Feature::Yes,
            bpf_device: Feature::Yes,
            socket_counters: Feature::Yes,
            file_counters: Feature::Yes,
            idmapped_mounts: Feature::Yes,
            overlay_idmap: Feature::Yes,
            overlay_fd_layers: Feature::Yes,
            disk_image: Feature::Yes,
            disk_project: Feature::Yes,
            disk_btrfs: Feature::No("the state directory is not on btrfs".to_owned()),
            disk_users: Feature::Yes,
            lxcfs: None,
            seccomp: Feature::Yes,
            pidfd_exit_info: Feature::Yes,
            tun: Feature::Yes,
            fuse: Feature::Yes,
            venet: Feature::Yes,
            macvlan: Feature::Yes,
            bridge_vlans: Feature::Yes,
            shaping: Feature::Yes,
            routing_rules: Feature::Yes,
            firewall: Feature::Yes,
            checkpoint: Feature::Yes,
            memory_marks: Feature::Yes,
        }
    }
}
