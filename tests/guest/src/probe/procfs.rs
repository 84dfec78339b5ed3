//! Probes of kernel settings and kernel secrets in /proc and /sys. A write gives back what was read, or stops at open(2).

use super::Probe;
use super::outcome::{Outcome, judge, worst};
use crate::sys::{Errno, open};

pub(super) const PROBES: &[Probe] = &[
    Probe::refused("sysctl-write", "write the host's sysctls (with the value they have)", sysctls),
    Probe::refused("sysrq-trigger", "open /proc/sysrq-trigger for writing", || {
        openable(&["/proc/sysrq-trigger"])
    }),
    Probe::refused(
        "ns-last-pid",
        "write ns_last_pid and user.max_* (with the value they have)",
        namespace_sysctls,
    ),
    Probe::refused("sysfs-write", "open settings of the machine in /sys for writing", sysfs),
    Probe::refused("uevent-write", "open uevent files of devices for writing", uevents),
    Probe::refused("binfmt-register", "open the host's binfmt_misc for writing", || {
        openable(&["/proc/sys/fs/binfmt_misc/register", "/proc/sys/fs/binfmt_misc/status"])
    }),
    Probe::refused("kallsyms", "read kernel addresses from /proc/kallsyms", kallsyms),
    Probe::refused("proc-secrets", "read kernel files that no VE needs", secrets),
    Probe::policy("proc-leaks", "read files that say something of the host", leaks),
    Probe::policy(
        "net-sysctl-write",
        "write ip_forward of the own network namespace (with the value it has)",
        || worst([rewrite("/proc/sys/net/ipv4/ip_forward"), rewrite("/proc/sys/net/core/somaxconn")]),
    ),
];

fn sysctls() -> Outcome {
    worst(
        [
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/kernel/panic",
            "/proc/sys/kernel/randomize_va_space",
            "/proc/sys/kernel/kptr_restrict",
            "/proc/sys/vm/overcommit_memory",
            "/proc/sys/vm/swappiness",
            "/proc/sys/fs/file-max",
            "/proc/sys/fs/protected_symlinks",
            "/proc/sys/net/netfilter/nf_conntrack_max",
        ]
        .map(rewrite)
        .into_iter()
        // Writing drop_caches does something whatever the value is.
        .chain([("/proc/sys/vm/drop_caches", writable("/proc/sys/vm/drop_caches"))]),
    )
}

fn namespace_sysctls() -> Outcome {
    worst(
        [
            "/proc/sys/kernel/ns_last_pid",
            "/proc/sys/user/max_user_namespaces",
            "/proc/sys/user/max_mnt_namespaces",
            "/proc/sys/user/max_cgroup_namespaces",
        ]
        .map(rewrite),
    )
}

fn sysfs() -> Outcome {
    openable(&[
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/kernel/uevent_helper",
        "/sys/power/state",
        "/sys/power/disk",
        "/sys/module/kernel/parameters/panic",
        "/sys/kernel/mm/ksm/run",
        "/sys/fs/cgroup/release_agent",
    ])
}

fn uevents() -> Outcome {
    let mut paths = Vec::new();
    for class in ["block", "mem", "tty", "net", "misc"] {
        let devices = std::fs::read_dir(format!("/sys/class/{class}")).into_iter().flatten().flatten();
        paths.extend(devices.take(4).map(|device| device.path().join("uevent").display().to_string()));
    }
    worst(paths.into_iter().map(|path| (path.clone(), writable(&path))))
}

fn kallsyms() -> Outcome {
    let text = match read_some("/proc/kallsyms") {
        Ok(text) => text,
        Err(errno) => return judge(Err::<(), _>(errno)),
    };
    let shown = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .find(|address| address.chars().any(|c| c != '0'));
    match shown {
        Some(address) => Outcome::allowed(format!("shows {address}")),
        None if text.is_empty() => Outcome::absent("empty"),
        None => Outcome::harmless("all addresses are 0"),
    }
}

fn secrets() -> Outcome {
    readable(&[
        "/proc/kcore",
        "/proc/keys",
        "/proc/locks",
        "/proc/kpagecount",
        "/proc/kpageflags",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/latency_stats",
        "/proc/vmallocinfo",
        "/proc/slabinfo",
        "/sys/firmware/dmi/tables/DMI",
        "/sys/kernel/debug/sched/debug",
        "/dev/mem",
        "/dev/port",
    ])
}

fn leaks() -> Outcome {
    readable(&[
        "/proc/iomem",
        "/proc/ioports",
        "/proc/interrupts",
        "/proc/modules",
        "/proc/cmdline",
        "/proc/partitions",
        "/sys/kernel/notes",
    ])
}

fn openable(paths: &[&'static str]) -> Outcome {
    worst(paths.iter().map(|path| (*path, writable(path))))
}

/// Whether it opens for writing; nothing is written.
pub(super) fn writable(path: &str) -> Outcome {
    match open(path, libc::O_WRONLY) {
        Ok(_) => Outcome::allowed("opens for writing"),
        Err(errno) => judge(Err::<(), _>(errno)),
    }
}

fn rewrite(path: &'static str) -> (&'static str, Outcome) {
    let outcome = match std::fs::read_to_string(path) {
        Ok(value) => match std::fs::write(path, value.trim_end()) {
            Ok(()) => Outcome::allowed("written"),
            Err(error) => judge(Err::<(), _>(Errno::of(&error))),
        },
        // Unreadable and unwritable is as good; unreadable and writable would be a find.
        Err(error) => match writable(path) {
            Outcome::Absent { .. } => Outcome::absent(Errno::of(&error).to_string()),
            other => other,
        },
    };
    (path, outcome)
}

fn readable(paths: &[&'static str]) -> Outcome {
    worst(paths.iter().map(|path| {
        let outcome = match read_some(path) {
            Ok(text) if text.is_empty() => Outcome::absent("empty"),
            Ok(text) => Outcome::allowed(format!("{} bytes", text.len())),
            Err(errno) => judge(Err::<(), _>(errno)),
        };
        (*path, outcome)
    }))
}

/// At most a page: some of these files are as large as memory.
fn read_some(path: &str) -> Result<String, Errno> {
    use std::io::Read;
    let file = std::fs::File::from(open(path, libc::O_RDONLY | libc::O_NONBLOCK)?);
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes).map_err(|error| Errno::of(&error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
