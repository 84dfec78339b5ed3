//! What stands in the way of writing a running VE to disk, as far as a look from outside tells: asked before anything is
//! begun for it. CRIU has the last word, and says more.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dump::{IN_ROOT, OWN_CGROUPS, open_root};
use crate::error::SysResult;
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::{net, procfs};

/// Namespaces that no process may have of its own, by their names in /proc.
const NAMESPACES: [&str; 6] = ["user", "pid", "cgroup", "time", "uts", "ipc"];

/// Files that cannot be kept, as links in /proc/PID/fd show them, and what they are.
const FILES: [(&str, &str); 4] = [
    ("anon_inode:[io_uring]", "io_uring"),
    ("anon_inode:[userfaultfd]", "userfaultfd"),
    ("anon_inode:seccomp notify", "a user-notified system call filter"),
    ("anon_inode:[perf_event]", "perf events"),
];

/// All that is found. `pids` are those of the VE, `entered` is the control group of processes that were put into it, `interfaces` are
/// those that vzd has given it.
pub fn obstacles(init: i32, pids: &[i32], entered: &Path, interfaces: &[String]) -> SysResult<Vec<String>> {
    let mut found = unkept(init, pids)?;
    found.extend(stranger(init, entered).into_iter().chain(lost_console(init)));
    let netns = Namespace::of(init, Kind::Net)?;
    found.extend(ns::on_thread_in(&netns, || net::made_inside(interfaces))?.map(made));
    let own = NAMESPACES.map(|name| namespace(init, name));
    for pid in pids {
        let who = || format!("process {pid} ({})", procfs::name(*pid));
        for (name, own) in NAMESPACES.iter().zip(&own) {
            // One that has ended has none.
            if namespace(*pid, name).is_some_and(|is| Some(is) != *own) {
                found.insert(format!("{} has a {name} namespace of its own", who()));
            }
        }
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links: BTreeSet<_> = files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
        let kinds = FILES.iter().filter(|(link, _)| links.contains(Path::new(link)));
        found.extend(kinds.map(|(_, what)| format!("{} uses {what}", who())));
    }
    Ok(found.into_iter().collect())
}

/// What CRIU writes without a word, and cannot bring back.
pub fn unkept(init: i32, pids: &[i32]) -> SysResult<BTreeSet<String>> {
    let whole =
        procfs::mounts(init)?.into_iter().find(|line| line.target == OWN_CGROUPS).map(|line| line.root);
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for pid in pids {
        let part = namespace(*pid, "mnt").filter(|mounts| seen.insert(mounts.clone()));
        let part = part
            .and_then(|_| part_of_groups(*pid, whole.as_deref()))
            .map(|path| format!("has {path} mounted"));
        let watched = watched(*pid).map(|path| format!("watches {path}"));
        found.extend(
            part.into_iter()
                .chain(watched)
                .map(|what| format!("process {pid} ({}) {what}", procfs::name(*pid))),
        );
    }
    Ok(found)
}

/// What a process watches for pressure (Documentation/accounting/psi.rst). CRIU opens it again without the watch, and whoever
/// waits there is woken up for ever.
fn watched(pid: i32) -> Option<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    files.map(|file| file.path()).find_map(|file| {
        let path = std::fs::read_link(&file).ok()?.into_os_string().into_string().ok()?;
        let is_pressure = path.ends_with(".pressure") || path.starts_with("/proc/pressure/");
        // Who watches has written to it what for.
        let is_written = std::fs::symlink_metadata(&file).is_ok_and(|is| is.mode() & 0o200 != 0);
        (is_pressure && is_written).then_some(path)
    })
}

/// Where a process has a part of the VE's control groups mounted. CRIU takes each for the whole.
fn part_of_groups(pid: i32, whole: Option<&str>) -> Option<String> {
    let lines = procfs::mounts(pid).ok()?.into_iter();
    let mut parts =
        lines.filter(|line| line.fs_type.starts_with("cgroup") && Some(line.root.as_str()) != whole);
    parts.next().map(|line| line.target)
}

fn namespace(pid: i32, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok()
}

/// Something in the VE's network that would not be there again.
pub(super) fn made(what: String) -> String {
    format!("{what} in its network is not one that vzd makes, and would not be there again")
}

/// Why the console of a VE cannot be had again, if so: the other end of its terminal went with a keeper. CRIU would keep the
/// VE's end, and never find another for it.
pub(super) fn lost_console(init: i32) -> Option<String> {
    const TERMINALS: u32 = 136;
    // A device that the VE put there would not open: it has none of its own.
    let root = open_root(init).ok()?;
    let console =
        rustix::fs::openat2(&root, "dev/console", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), IN_ROOT);
    let console = console.ok()?;
    let is = rustix::fs::fstat(&console).ok()?;
    if FileType::from_raw_mode(is.st_mode) != FileType::CharacterDevice
        || rustix::fs::major(is.st_rdev) != TERMINALS
    {
        return None;
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(format!("/proc/self/fd/{}", console.as_raw_fd()), flags, Mode::empty());
    let why = "its console was lost with an earlier keeper; a restart gives it a new one";
    matches!(opened, Err(Errno::IO)).then(|| why.to_owned())
}

/// One that an `exec` or `enter` put into the VE, if there is any: these are children of the host's, and CRIU would neither keep them
/// nor hold them still.
pub(super) fn stranger(init: i32, entered: &Path) -> Option<String> {
    let own = namespace(init, "pid");
    let text = std::fs::read_to_string(entered.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).find_map(|pid| {
        // One whose parent has ended is a child of the VE's init, and as good as any other.
        let parent = procfs::parent(pid)?;
        let is_own = namespace(parent, "pid") == own;
        (!is_own).then(|| format!("process {pid} ({}) was put into it by exec or enter", procfs::name(pid)))
    })
}
