//! What a test needs of the machine. A need that isn't met is a skip with a name, which xtask counts and lists; where
//! `VZD_TEST_MUST_RUN` is set (CI) it is a failure, but for what some kernels can never have.
//!
//! With `VZD_TEST_LIST_NEEDS` a test only notes what it needs and returns: xtask asks so where each can run.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use crate::probe;

/// A file system that keeps quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
}

/// Something that a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The rights of root.
    Root,
    /// A cgroup version 2 tree, alone or beside version 1.
    Cgroups,
    /// The version 2 tree with all controllers, and no other.
    CgroupV2,
    /// A static busybox, which the `tiny` template is made of.
    Busybox,
    /// lxcfs, mounted where Debian mounts it.
    Lxcfs,
    /// /dev/net/tun.
    Tun,
    /// /dev/fuse.
    Fuse,
    /// `ip` of iproute2, which makes a test's network.
    Ip,
    /// Bridges that look at VLANs.
    BridgeVlans,
    /// CRIU, in a version that can dump this kernel's processes, where `cargo xtask setup` puts it.
    Criu,
    /// `nft` of nftables, which loads packet filters.
    Nft,
    /// A vzd with fault points: a debug build.
    FaultPoints,
    /// Roots of Debian: mmdebstrap and a mirror, or what they made elsewhere.
    Distribution,
    /// skopeo, and Debian's docker-registry for it to ask.
    Skopeo,
    /// The program `script` (bsdutils), which gives a command a terminal.
    Script,
    /// ext4 in an image file on a loop device.
    DiskImage,
    /// Quotas by project on such a file system, in a loop device.
    ProjectQuota(Quota),
    /// btrfs with quota groups, in a loop device.
    Btrfs,
    /// Programs at the kernel's security hooks.
    BpfLsm,
    /// Pages that were written to can be told from others, which iterative checkpoints need.
    SoftDirty,
    /// The kernel tells how a process ended to others than its parent (Linux 6.15).
    PidfdExit,
    /// A host whose swap is the test's to make: a guest of the lab.
    Swap,
    /// The rules of time zones, on the host.
    ZoneInfo,
    /// systemd is the host's init, and the host is the test's to reboot.
    Systemd,
    /// A second host that does what it is told; see [`crate::Peer`].
    TwoHosts,
    /// Somebody who wants to see tests go wrong.
    Broken,
}

impl Need {
    /// Why it isn't met; none if it is.
    fn lacking(self) -> Option<String> {
        let exists = |path: &str| Path::new(path).exists();
        let absent = |path: &str| (!exists(path)).then(|| format!("there is no {path}"));
        let without = |so: bool, why: &str| (!so).then(|| why.to_owned());
        match self {
            Need::Root => without(rustix::process::geteuid().is_root(), "not root"),
            Need::Cgroups => without(probe::cgroup_mounts("cgroup2") > 0, "no cgroup2 is mounted"),
            Need::CgroupV2 => without(
                probe::cgroup_mounts("cgroup") == 0 && probe::has_controllers(),
                "controllers are in version 1 hierarchies",
            ),
            Need::Busybox => without(
                exists("/bin/busybox") || exists("/usr/bin/busybox"),
                "busybox-static is not installed",
            ),
            Need::Lxcfs => absent("/var/lib/lxcfs/proc/meminfo"),
            Need::Tun => absent("/dev/net/tun"),
            Need::Fuse => absent("/dev/fuse"),
            Need::Ip => without(
                exists("/usr/sbin/ip") || exists("/usr/bin/ip") || exists("/sbin/ip"),
                "iproute2 is not installed",
            ),
            Need::BridgeVlans => {
                without(probe::has_bridge_vlans(), "the kernel has no CONFIG_BRIDGE_VLAN_FILTERING")
            }
            Need::Criu => absent(crate::CRIU),
            Need::Nft => absent("/usr/sbin/nft"),
            Need::Distribution => {
                absent("/usr/bin/mmdebstrap").filter(|_| crate::distribution::archives().is_none())
            }
            Need::Skopeo => absent("/usr/bin/skopeo").or(absent("/usr/bin/docker-registry")),
            Need::Script => absent("/usr/bin/script"),
            Need::FaultPoints => without(
                !crate::vzd_binary().components().any(|part| part.as_os_str() == "release"),
                "vzd is a release build",
            ),
            Need::DiskImage => match (exists("/dev/loop-control"), exists("/usr/sbin/mke2fs")) {
                (true, true) => None,
                (false, _) => Some("the kernel has no loop devices".to_owned()),
                (true, false) => Some("e2fsprogs is not installed".to_owned()),
            },
            Need::ProjectQuota(quota) => probe::project_quota(quota),
            Need::Btrfs => probe::btrfs(),
            Need::BpfLsm => {
                let list = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
                without(list.trim().split(',').any(|name| name == "bpf"), "bpf is not among the LSMs")
            }
            Need::SoftDirty => {
                without(probe::tracks_soft_dirty(), "the kernel does not track which pages are written to")
            }
            Need::PidfdExit => without(
                probe::kernel_version() >= (6, 15),
                "before Linux 6.15 only its parent learns how a process ended",
            ),
            Need::Swap => {
                without(std::env::var_os("VZD_LAB").is_some(), "the host's swap is not the test's to make")
            }
            Need::ZoneInfo => absent("/usr/share/zoneinfo/Europe/Berlin"),
            Need::Systemd => without(
                exists("/run/systemd/system") && std::env::var_os("VZD_LAB").is_some(),
                "not a guest with systemd",
            ),
            Need::TwoHosts => without(std::env::var_os("VZD_LAB_PEER").is_some(), "there is no second host"),
            Need::Broken => Some("nobody has it".to_owned()),
        }
    }

    /// Whether CI's machine has to have it: it can install programs, but not another kernel, and lxcfs needs to be
    /// running. What it can't have, the lab has.
    fn must_be_met(self) -> bool {
        matches!(
            self,
            Need::Root
                | Need::Cgroups
                | Need::Busybox
                | Need::FaultPoints
                | Need::Ip
                | Need::Nft
                | Need::Criu
                | Need::Distribution
                | Need::Script
                | Need::Skopeo
                | Need::DiskImage
        )
    }
}

/// Tells whether a test can run; if not, says so where xtask finds it.
#[track_caller]
pub fn is_met(need: Need) -> bool {
    let Some(why) = need.lacking() else { return true };
    let test = test_name();
    assert!(
        std::env::var_os("VZD_TEST_MUST_RUN").is_none() || !need.must_be_met(),
        "{test} must run here, but {need:?} is lacking: {why}"
    );
    // Both may be gone or closed: a skip is no reason to fail.
    drop(writeln!(std::io::stderr(), "skipped {test}: needs {need:?}: {why}"));
    if let Some(file) = std::env::var_os("VZD_TEST_SKIPS") {
        note(&file, &format!("{test}\t{need:?}\t{why}\n"));
    }
    false
}

/// Tells whether a test can run; notes what it needs, and that it can't, if that is all that was asked.
#[track_caller]
pub fn are_met(needs: &[Need]) -> bool {
    let Some(file) = std::env::var_os("VZD_TEST_LIST_NEEDS") else {
        return needs.iter().all(|need| is_met(*need));
    };
    let mut line = format!("{}\t", test_name());
    for need in needs {
        let _ = write!(line, "{need:?} ");
    }
    note(&file, &format!("{line}\n"));
    false
}

fn test_name() -> String {
    std::thread::current().name().unwrap_or("?").to_owned()
}

fn note(file: &std::ffi::OsStr, line: &str) {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
    drop(opened.and_then(|mut file| file.write_all(line.as_bytes())));
}

/// Returns from the test, noting a skip, unless the machine has all of these. The first line of each test.
#[macro_export]
macro_rules! needs {
    ($($need:ident $(($of:ident))?),+ $(,)?) => {
        if !$crate::are_met(&[$($crate::Need::$need $(($crate::Quota::$of))?),+]) { return; }
    };
}
