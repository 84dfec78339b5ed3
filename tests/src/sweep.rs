//! Taking a sandbox away: its VEs, its keeper, its control groups, its mounts, its files.
//!
//! Must touch nothing that doesn't bear the sandbox's name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use crate::{Must, Process};

/// Where the version 2 tree is mounted.
pub(crate) fn v2() -> PathBuf {
    hierarchies("cgroup2").into_iter().next().must("a cgroup2 mount")
}

/// Mount points of one type of file system.
fn hierarchies(kind: &str) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").must("read mountinfo");
    let of_kind =
        |line: &&str| line.split_once(" - ").is_some_and(|(_, rest)| rest.split(' ').next() == Some(kind));
    text.lines().filter(of_kind).filter_map(|line| line.split(' ').nth(4).map(PathBuf::from)).collect()
}

/// Our subtree in each hierarchy.
fn roots(name: &str) -> Vec<PathBuf> {
    let tops = hierarchies("cgroup").into_iter().chain(hierarchies("cgroup2"));
    tops.map(|top| top.join(name)).collect()
}

/// Whether any control group of this name is there.
pub(crate) fn exists(name: &str) -> bool {
    roots(name).iter().any(|root| root.exists())
}

/// The groups right below our subtrees: those of VEs.
pub(crate) fn groups_below(name: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = roots(name).iter().flat_map(|root| subdirs(root)).collect();
    found.sort();
    found
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Takes everything away and returns what could not be.
pub(crate) fn clear(name: &str, run_dir: &Path, dir: &Path) -> Vec<String> {
    let mut left = end_all(name, run_dir);
    left.extend(unmount_below(dir));
    if let Err(error) = std::fs::remove_dir_all(dir) {
        left.push(format!("{}: {error}", dir.display()));
    }
    left
}

/// Ends every process of the sandbox, and takes its groups away.
pub(crate) fn end_all(name: &str, run_dir: &Path) -> Vec<String> {
    assert!(name.starts_with("vzdt-"), "{name} is no sandbox");
    let mut left = Vec::new();
    // The keeper first: it would start nothing by itself, but might be starting something.
    while let Some(keeper) = Process::keeper_of(run_dir) {
        keeper.kill();
        if !keeper.wait(Duration::from_secs(5)) {
            left.push(format!("keeper {}", keeper.pid));
            break;
        }
    }
    let root = v2().join(name);
    // Kills what is in this subtree, and nothing else; without it there is nothing to kill.
    drop(std::fs::write(root.join("cgroup.kill"), "1"));
    let events = root.join("cgroup.events");
    let populated = || std::fs::read_to_string(&events).is_ok_and(|text| text.contains("populated 1"));
    // Not `eventually`: its panic would be a second one where a test has failed.
    (0..1000).take_while(|_| populated()).for_each(|_| std::thread::sleep(Duration::from_millis(10)));
    left.extend(roots(name).iter().flat_map(|root| remove_group(root)));
    left
}

fn remove_group(dir: &Path) -> Vec<String> {
    let mut left: Vec<String> = subdirs(dir).iter().flat_map(|child| remove_group(child)).collect();
    // The kernel lets go of the last process's group a moment after it ended.
    for _ in 0..100 {
        match std::fs::remove_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                left.push(format!("{}: {error}", dir.display()));
                return left;
            }
            _ => return left,
        }
    }
    left.push(format!("{}: busy", dir.display()));
    left
}

/// Of no test is a mount left on the host; one that is found is told, and taken away all the same.
fn unmount_below(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let targets: Vec<PathBuf> =
        text.lines().filter_map(|line| line.split(' ').nth(4).map(PathBuf::from)).collect();
    let ours: Vec<&PathBuf> = targets.iter().filter(|target| target.starts_with(dir)).collect();
    for target in ours.iter().rev() {
        let _ = unmount(target.as_path(), UnmountFlags::DETACH);
    }
    ours.into_iter().map(|target| format!("mount {}", target.display())).collect()
}
