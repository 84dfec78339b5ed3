//! Takes away a world that a demonstration made: processes, cgroups, mounts and files below names of its own.
//!
//! Must touch nothing outside the given cgroup name and directory (and processes that were started with it), and must go on after an error, telling all of them.
#![expect(unsafe_code, reason = "pidfds and umount2 have no safe form in std or libc")]

use std::ffi::CString;
use std::fs::{read_dir, read_to_string, remove_dir, remove_dir_all};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::run::{Context, Result};

/// What one demonstration owns. Dropping it takes everything away.
pub(crate) struct World {
    /// Name of the cgroup at the top of each hierarchy.
    pub(crate) cgroup: String,
    /// Manifests, state, sockets, root file systems.
    pub(crate) directory: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        for problem in self.remove() {
            eprintln!("clean-up: {problem}");
        }
    }
}

impl World {
    /// A directory in /tmp and a cgroup of this name. From now on ^C ends the commands that run, not this process, which
    /// then fails and cleans up.
    pub(crate) fn new(name: &str) -> Result<World> {
        let name = format!("vzd-{name}-{}", std::process::id());
        let world = World { directory: std::env::temp_dir().join(&name), cgroup: name };
        std::fs::create_dir_all(&world.directory).context(world.directory.display())?;
        // VEs' users are others than root on the host, and have to get through to their root file systems.
        let passable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&world.directory, passable).context(world.directory.display())?;
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: the handler does nothing; unlike SIG_IGN it is not inherited by the commands.
            unsafe { libc::signal(signal, (ignore as extern "C" fn(i32)) as libc::sighandler_t) };
        }
        Ok(world)
    }

    fn remove(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let tops: Vec<PathBuf> =
            hierarchies().into_iter().map(|top| top.join(&self.cgroup)).filter(|top| top.is_dir()).collect();
        for top in &tops {
            end_all(|| members(top));
        }
        // The keeper goes on with what a VE has left until somebody asks for it, and is in nobody's cgroup.
        end_all(|| named(&self.directory));
        for top in &tops {
            remove_cgroups(top, &mut problems);
        }
        unmount_below(&self.directory, &mut problems);
        // With a mount left below, removing would reach into it.
        if !mounts().iter().any(|mount| mount.starts_with(&self.directory))
            && self.directory.is_dir()
            && let Err(error) = remove_dir_all(&self.directory)
        {
            problems.push(format!("{}: {error}", self.directory.display()));
        }
        problems
    }
}

extern "C" fn ignore(_signal: i32) {}

fn mountinfo() -> Vec<(PathBuf, String)> {
    let table = read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let entry = |line: &str| {
        let target = line.split(' ').nth(4)?.replace("\\040", " ");
        let kind = line.split_once(" - ")?.1.split(' ').next()?.to_owned();
        Some((PathBuf::from(target), kind))
    };
    table.lines().filter_map(entry).collect()
}

fn mounts() -> Vec<PathBuf> {
    mountinfo().into_iter().map(|(target, _)| target).collect()
}

fn hierarchies() -> Vec<PathBuf> {
    mountinfo().into_iter().filter(|(_, kind)| kind.starts_with("cgroup")).map(|(target, _)| target).collect()
}

/// `directory` and everything below, deepest first.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let children = read_dir(directory).into_iter().flatten().flatten();
    let directories = children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut all: Vec<PathBuf> = directories.flat_map(|entry| tree(&entry.path())).collect();
    all.push(directory.to_owned());
    all
}

fn members(directory: &Path) -> Vec<i32> {
    let lists =
        tree(directory).into_iter().filter_map(|cgroup| read_to_string(cgroup.join("cgroup.procs")).ok());
    lists.flat_map(|list| list.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>()).collect()
}

/// Processes whose command line names something in `directory`.
fn named(directory: &Path) -> Vec<i32> {
    let pids = read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let inside = directory.join("").into_os_string().into_encoded_bytes();
    let names = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != own && line.split(|byte| *byte == 0).any(|word| word.starts_with(&inside))
    };
    pids.filter(names).collect()
}

fn end_all(list: impl Fn() -> Vec<i32>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let pids = list();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            end(pid, &list);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills it by pidfd, once that it is known to be still a process that is listed.
fn end(pid: i32, list: impl Fn() -> Vec<i32>) {
    // SAFETY: takes numbers; the descriptor, if there is one, is new and ours.
    let fd = unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid, 0) {
            fd if fd >= 0 => OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)),
            _ => return,
        }
    };
    if list().contains(&pid) {
        // SAFETY: takes numbers and a null siginfo.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<u8>(),
                0,
            )
        };
    }
}

fn remove_cgroups(top: &Path, problems: &mut Vec<String>) {
    let deadline = Instant::now() + Duration::from_secs(5);
    for cgroup in tree(top) {
        // A process that has just ended holds its cgroup for a moment.
        while let Err(error) = remove_dir(&cgroup) {
            if Instant::now() > deadline {
                problems.push(format!("{}: {error}", cgroup.display()));
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn unmount_below(directory: &Path, problems: &mut Vec<String>) {
    for target in mounts().into_iter().rev().filter(|target| target.starts_with(directory)) {
        let Ok(path) = CString::new(target.as_os_str().as_bytes()) else { continue };
        // SAFETY: the path is NUL-terminated and lives through the call.
        if unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) } != 0 {
            problems.push(format!("umount {}: {}", target.display(), std::io::Error::last_os_error()));
        }
    }
}
