//! What stands in the way of writing a running VE to disk, as far as a look from outside tells: asked before anything is
//! begun for it. CRIU has the last word, and says more.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dump::{IN_ROOT, open_root};
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
    let mut found: BTreeSet<String> = stranger(init, entered).into_iter().chain(lost_console(init)).collect();
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
