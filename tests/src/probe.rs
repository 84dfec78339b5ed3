//! What the kernel can do, tried out. Must leave nothing behind.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::needs::Quota;

/// How many hierarchies of one type are mounted (named ones have no controllers and don't count).
pub(crate) fn cgroup_mounts(kind: &str) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_one = |line: &&str| {
        let Some((_, right)) = line.split_once(" - ") else { return false };
        right.split(' ').next() == Some(kind) && !right.contains("name=")
    };
    mounts.lines().filter(is_one).count()
}

/// Major and minor number.
pub fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(['.', '-', '+']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether bridges look at VLANs: one is made in a network namespace that goes with it.
pub(crate) fn has_bridge_vlans() -> bool {
    let words = ["-n", "ip", "link", "add", "br0", "type", "bridge", "vlan_filtering", "1"];
    let ended = Command::new("unshare").args(words).stderr(Stdio::null()).status();
    ended.is_ok_and(|ended| ended.success())
}

/// Whether the version 2 tree has what VEs are limited by.
pub(crate) fn has_controllers() -> bool {
    let list = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    ["cpu", "io", "memory", "pids"].iter().all(|wanted| list.split_whitespace().any(|have| have == *wanted))
}

const MAKE_EXT4: &[&str] = &["mke2fs", "-q", "-t", "ext4", "-O", "quota,project", "-E", "quotatype=prjquota"];
const MAKE_XFS: &[&str] = &["mkfs.xfs", "-q"];

/// Why project quota can't be had on a file system; none if it can.
pub(crate) fn project_quota(quota: Quota) -> Option<String> {
    // A module that is not loaded by itself; built in or absent, this fails, and mount knows.
    drop(run(&["modprobe", "quota_v2"], &[]));
    match quota {
        Quota::Ext4 => mounted(16, MAKE_EXT4, "loop,prjquota", |_| None),
        // The smallest that xfsprogs makes.
        Quota::Xfs => mounted(300, MAKE_XFS, "loop,pquota", |_| None),
    }
}

/// Why quota groups of btrfs can't be had; none if they can.
pub(crate) fn btrfs() -> Option<String> {
    mounted(128, &["mkfs.btrfs", "-q"], "loop", |at| run(&["btrfs", "quota", "enable"], &[at]))
}

/// What goes wrong when a small file system is made, mounted, used and taken away.
fn mounted(
    mib: u64,
    make: &[&str],
    options: &str,
    then: impl FnOnce(&Path) -> Option<String>,
) -> Option<String> {
    let directory = match tempfile::tempdir() {
        Ok(directory) => directory,
        Err(error) => return Some(format!("no temporary directory: {error}")),
    };
    let (image, target) = (directory.path().join("image"), directory.path().join("mnt"));
    let made = std::fs::File::create(&image).and_then(|file| file.set_len(mib << 20));
    if let Err(error) = made.and_then(|()| std::fs::create_dir(&target)) {
        return Some(format!("no image: {error}"));
    }
    let lacking = run(make, &[&image]).or_else(|| run(&["mount", "-o", options], &[&image, &target]));
    lacking.or_else(|| {
        let (lacking, left) = (then(&target), run(&["umount"], &[&target]));
        lacking.or(left)
    })
}

/// What a program that fails says.
fn run(words: &[&str], paths: &[&Path]) -> Option<String> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(paths).stdin(Stdio::null()).stdout(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("{}: {}", words[0], String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("{}: {error}", words[0])),
    }
}

/// Whether a page that has just been written to is marked in the page map.
pub(crate) fn tracks_soft_dirty() -> bool {
    const SOFT_DIRTY: u64 = 1 << 55;
    const PAGE: usize = 4096;
    let page = std::hint::black_box(vec![1_u8; 2 * PAGE]);
    let Ok(map) = std::fs::File::open("/proc/self/pagemap") else { return false };
    let mut entry = [0; 8];
    let address = page.as_ptr().addr() + PAGE;
    let at = u64::try_from(address / PAGE * 8).unwrap_or(0);
    map.read_exact_at(&mut entry, at).is_ok() && u64::from_ne_bytes(entry) & SOFT_DIRTY != 0
}
