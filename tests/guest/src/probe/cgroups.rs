//! Probes of limits: those set on the VE from outside must be neither writable nor avoidable from inside.
//!
//! Limit files are opened for writing and never written.

use super::Probe;
use super::outcome::{Outcome, judge, worst};
use super::procfs::writable;
use super::scratch;
use crate::sys::{Arg, call, isolated_mounts};

pub(super) const PROBES: &[Probe] = &[
    Probe::refused(
        "cgroup-v1-mount",
        "mount the v1 controllers in an own cgroup namespace, and open their limits",
        v1,
    ),
    Probe::refused("cgroup-own-limits", "open the limits of the VE's own top cgroup for writing", own_limits),
    Probe::refused("cgroup-above", "see or reach a cgroup above the VE's own", above),
    Probe::allowed("cgroup-make-child", "make a cgroup below the delegated one", make_child),
];

const TOP: &str = "/sys/fs/cgroup";
/// The files of each controller whose writing would lift a limit; release_agent runs a program on the host.
const V1: [(&str, &[&str]); 6] = [
    ("memory", &["memory.limit_in_bytes", "memory.oom_control", "release_agent"]),
    ("devices", &["devices.allow", "devices.deny", "release_agent"]),
    ("pids", &["pids.max", "release_agent"]),
    ("cpu", &["cpu.shares", "cpu.cfs_quota_us", "release_agent"]),
    ("cpuset", &["cpuset.cpus", "release_agent"]),
    ("freezer", &["freezer.state", "release_agent"]),
];
const V2: [&str; 8] = [
    "memory.max",
    "memory.high",
    "pids.max",
    "cpu.max",
    "cgroup.freeze",
    "cgroup.kill",
    "cgroup.max.depth",
    "cgroup.max.descendants",
];

fn v1() -> Outcome {
    let new_namespace = call(libc::SYS_unshare, [Arg::Int(i64::from(libc::CLONE_NEWCGROUP))]);
    if let Err(errno) = new_namespace.map(drop).and_then(|()| isolated_mounts()) {
        return Outcome::unclear(format!("no namespaces to try in: {errno}"));
    }
    worst(V1.iter().flat_map(|(controller, files)| {
        let target = scratch::directory(&format!("cgroup-{controller}"));
        if let Err(errno) = super::mounts::mount("none", &target, "cgroup", 0, controller) {
            // EINVAL and EBUSY: this kernel or host doesn't have the controller in v1.
            let outcome = super::outcome::judge_with(Err::<(), _>(errno), &[libc::EINVAL, libc::EBUSY]);
            return vec![((*controller).to_owned(), outcome)];
        }
        let mut tries: Vec<(String, Outcome)> =
            files.iter().map(|file| ((*file).to_owned(), writable(&format!("{target}/{file}")))).collect();
        tries.push((format!("mkdir in {controller}"), mkdir(&format!("{target}/vzd-probe"))));
        tries
    }))
}

fn own_limits() -> Outcome {
    // Where a VE is shown the v1 hierarchies, its own directory is the top of each.
    let v1 = V1
        .iter()
        .flat_map(|(controller, files)| files.iter().map(move |file| format!("{controller}/{file}")));
    let files = V2.iter().map(|file| (*file).to_owned()).chain(v1);
    worst(files.map(|file| {
        let outcome = writable(&format!("{TOP}/{file}"));
        (file, outcome)
    }))
}

fn above() -> Outcome {
    let seen = |pid: &str, sign: &str| {
        let lines = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let found = lines.lines().find(|line| line.contains(sign)).map(str::to_owned);
        found.map(|line| (format!("/proc/{pid}/cgroup"), Outcome::allowed(line)))
    };
    // PID 1's path starts at the root of the cgroup namespace. A process that was put in from outside may be in a sibling
    // of it (/../exec), which says nothing of the host; two levels up, or a path with the host's names, would.
    let signs = [seen("1", ":/.."), seen("1", "/vzd"), seen("self", "/../.."), seen("self", "/vzd")];
    let found: Vec<(String, Outcome)> = signs.into_iter().flatten().collect();
    let names = std::fs::read_dir(format!("{TOP}/..")).into_iter().flatten().flatten();
    // The directory above the mount is sysfs's, whatever is mounted.
    let outside =
        names.filter(|entry| entry.path().join("cgroup.procs").exists() && entry.file_name() != "cgroup");
    let outside = outside.map(|entry| (entry.path().display().to_string(), Outcome::allowed("is a cgroup")));
    let found: Vec<_> = found.into_iter().chain(outside).collect();
    if found.is_empty() {
        Outcome::harmless("the own cgroup is the root of what is seen")
    } else {
        worst(found)
    }
}

fn make_child() -> Outcome {
    mkdir(&format!("{TOP}/vzd-probe"))
}

fn mkdir(path: &str) -> Outcome {
    let made = call(libc::SYS_mkdir, [Arg::Text(&crate::sys::text(path)), Arg::Int(0o755)]);
    if made.is_ok() {
        drop(std::fs::remove_dir(path));
    }
    judge(made)
}
