//! Probes of other processes: those outside must be neither visible nor reachable.
//!
//! `--outside PID[:NAME],...` gives processes outside, as the host sees them, which a test knows and a guest can't.
//! Signals sent are number 0; ptrace only seizes, which doesn't stop its target, and ends with the probe.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::Probe;
use super::outcome::{Outcome, judge, worst};
use crate::sys::{Arg, Block, call, signal};

pub(super) const PROBES: &[Probe] = &[
    Probe::refused("signal-outside", "signal 0 to every pid that isn't in /proc", signals),
    Probe::refused("outside-visible", "find the given host processes in /proc", visible),
    Probe::refused("ptrace-outside", "trace, read the memory of and open the given host processes", ptrace),
    Probe::refused("parent-outside", "find a parent of PID 1", parent),
    Probe::refused("setns-outside", "find a namespace of the machine's first ones", setns),
];

/// Pids are looked for up to here, beside those given.
const SEARCHED: i32 = 65_536;

/// Processes outside: pid and, if known, name. Set once, before the first probe.
static OUTSIDE: OnceLock<Vec<(i32, String)>> = OnceLock::new();

/// Takes `PID[:NAME],...`.
pub(super) fn set_outside(list: &str) -> Result<(), String> {
    let parse = |word: &str| {
        let (pid, name) = word.split_once(':').unwrap_or((word, ""));
        Some((pid.parse().ok()?, name.to_owned()))
    };
    let outside: Option<Vec<_>> = list.split(',').map(parse).collect();
    let outside = outside.ok_or_else(|| format!("not a list of PID[:NAME]: {list}"))?;
    OUTSIDE.set(outside).map_err(|_| "--outside was given twice".to_owned())
}

fn outside() -> &'static [(i32, String)] {
    OUTSIDE.get().map(Vec::as_slice).unwrap_or_default()
}

/// Those that don't exist inside by chance, as another process.
fn absent_pids() -> impl Iterator<Item = i32> {
    outside().iter().map(|(pid, _)| *pid).filter(|pid| !in_proc(*pid))
}

fn in_proc(pid: i32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

fn signals() -> Outcome {
    let reachable = (2..SEARCHED).chain(absent_pids()).filter(|pid| match signal::send(*pid, 0) {
        Ok(()) => !in_proc(*pid),
        // Not allowed, but seen to exist: as bad.
        Err(errno) => errno.0 == libc::EPERM && !in_proc(*pid),
    });
    let found: Vec<(String, Outcome)> =
        reachable.take(10).map(|pid| (pid.to_string(), Outcome::allowed("exists"))).collect();
    if found.is_empty() { Outcome::absent("ESRCH for all of them") } else { worst(found) }
}

fn visible() -> Outcome {
    if outside().is_empty() {
        return Outcome::absent("none given with --outside");
    }
    worst(outside().iter().map(|(pid, outer_name)| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let outcome = match name.trim() {
            "" => Outcome::absent("not in /proc"),
            name if name == outer_name => Outcome::allowed(format!("is {name}")),
            name => Outcome::absent(format!("another process, {name}")),
        };
        (pid.to_string(), outcome)
    }))
}

fn ptrace() -> Outcome {
    const SEIZE: i64 = 0x4206;
    worst(absent_pids().flat_map(|pid| {
        let target = || Arg::Int(i64::from(pid));
        let mut local = Block::new();
        let address = local.address();
        local.put_u64(0, address + 64).put_u64(8, 8);
        let mut remote = Block::new();
        remote.put_u64(0, 0x40_0000).put_u64(8, 8);
        let read = [
            target(),
            Arg::Block(&mut local),
            Arg::Int(1),
            Arg::Block(&mut remote),
            Arg::Int(1),
            Arg::Int(0),
        ];
        [
            (
                format!("ptrace {pid}"),
                judge(call(libc::SYS_ptrace, [Arg::Int(SEIZE), target(), Arg::Int(0), Arg::Int(0)])),
            ),
            (format!("process_vm_readv {pid}"), judge(call(libc::SYS_process_vm_readv, read))),
            (format!("pidfd_open {pid}"), judge(call(libc::SYS_pidfd_open, [target(), Arg::Int(0)]))),
        ]
    }))
}

fn parent() -> Outcome {
    let status = std::fs::read_to_string("/proc/1/status").unwrap_or_default();
    match status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim) {
        Some("0") => Outcome::absent("PID 1 has no parent here"),
        Some(pid) => Outcome::allowed(format!("PID 1 is a child of {pid}")),
        None => Outcome::unclear("/proc/1/status has no PPid"),
    }
}

fn setns() -> Outcome {
    let namespaces = crate::report::namespaces();
    let shared = crate::report::initial_namespaces(&namespaces);
    // The time namespace is often shared, which is a decision and lets nothing through: the clocks can't be set.
    let found: Vec<(String, Outcome)> = shared
        .into_iter()
        .filter(|kind| kind != "time")
        .map(|kind| (kind, Outcome::allowed("is the machine's own")))
        .collect();
    if found.is_empty() { Outcome::harmless("each is the VE's own") } else { worst(found) }
}
