//! `guest report`: what a process inside sees, as one JSON object. Must not judge: the tests know what should be.

pub(crate) mod devices;
mod process;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use process::{Mount, fds, initial as initial_namespaces, mounts, namespaces, pids};

/// Everything in one object; a part that can't be read is absent or empty, and said so in `unreadable`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pid: u32,
    ppid: u32,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// Pids visible in /proc.
    pids: Vec<u32>,
    uid_map: Vec<[u64; 3]>,
    gid_map: Vec<[u64; 3]>,
    hostname: String,
    domainname: String,
    /// One entry a line of mountinfo.
    mounts: Vec<process::Mount>,
    /// Open file descriptors, without those that this program opened itself.
    fds: BTreeMap<u32, String>,
    environment: BTreeMap<String, String>,
    capabilities: process::Capabilities,
    seccomp: String,
    no_new_privs: bool,
    /// Inode number of each namespace.
    namespaces: BTreeMap<String, u64>,
    /// Those of them that are the machine's first ones, where that can be told.
    initial_namespaces: Vec<String>,
    cgroup: Vec<String>,
    devices: Vec<devices::Node>,
    rlimits: BTreeMap<String, [String; 2]>,
    tty: Option<String>,
    interfaces: Vec<String>,
    cwd: String,
    umask: String,
    oom_score_adj: Option<i32>,
    kernel: String,
    unreadable: Vec<String>,
}

/// Reads everything.
pub(crate) fn report() -> Report {
    let mut unreadable = Vec::new();
    let mut read = |path: &str| {
        std::fs::read_to_string(path).unwrap_or_else(|error| {
            unreadable.push(format!("{path}: {error}"));
            String::new()
        })
    };
    let status = process::Status::parse(&read("/proc/self/status"));
    let namespaces = process::namespaces();
    Report {
        pid: std::process::id(),
        ppid: status.number("PPid"),
        uid: status.number("Uid"),
        gid: status.number("Gid"),
        groups: status.numbers("Groups"),
        pids: process::pids(),
        uid_map: process::id_map(&read("/proc/self/uid_map")),
        gid_map: process::id_map(&read("/proc/self/gid_map")),
        hostname: read("/proc/sys/kernel/hostname").trim().to_owned(),
        domainname: read("/proc/sys/kernel/domainname").trim().to_owned(),
        mounts: process::mounts(&read("/proc/self/mountinfo")),
        fds: process::fds(),
        environment: std::env::vars_os()
            .map(|(key, value)| (key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect(),
        capabilities: process::Capabilities::of(&status),
        seccomp: match status.word("Seccomp").as_str() {
            "0" => "off".to_owned(),
            "1" => "strict".to_owned(),
            "2" => "filter".to_owned(),
            other => other.to_owned(),
        },
        no_new_privs: status.word("NoNewPrivs") == "1",
        initial_namespaces: process::initial(&namespaces),
        namespaces,
        cgroup: read("/proc/self/cgroup").lines().map(str::to_owned).collect(),
        devices: devices::under("/dev"),
        rlimits: process::limits(&read("/proc/self/limits")),
        tty: std::fs::read_link("/proc/self/fd/0")
            .ok()
            .map(|path| path.to_string_lossy().into_owned())
            .filter(|path| {
                path.starts_with("/dev/pts/") || path == "/dev/console" || path.starts_with("/dev/tty")
            }),
        interfaces: process::interfaces(&read("/proc/self/net/dev")),
        cwd: std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
        umask: status.word("Umask"),
        oom_score_adj: read("/proc/self/oom_score_adj").trim().parse().ok(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        unreadable,
    }
}
