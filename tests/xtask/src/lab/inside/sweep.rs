//! What a test leaves: its processes, and the sandboxes that bear its number. Must run in a guest only: it knows nobody
//! but the tests there.

use std::fmt::Write as _;
use std::fs::{read_dir, read_to_string, remove_dir};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const TOP: &str = "/sys/fs/cgroup";
/// A group is empty a moment after its last process was killed; under emulation the moment is long.
const PATIENCE: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 60;

/// What a hung test was at: its processes, where in the kernel they wait, and what its controllers said last.
pub(super) fn state_of(group: &Path, pid: u32) -> String {
    let mut text = String::from("\n---- hung; its processes:\n");
    for pid in read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        let of =
            |file: &str| read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default().replace('\0', " ");
        let stack = of("stack").replace('\n', "; ");
        let _ = writeln!(text, "{pid} {} [{}] {stack}", of("cmdline"), of("wchan"));
    }
    for sandbox in sandboxes(Path::new("/tmp"), pid) {
        let log = read_to_string(sandbox.join("controller.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let _ = writeln!(text, "---- {}", sandbox.display());
        let _ = writeln!(text, "{}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
    }
    text
}

/// Ends and removes all of it; returns what could not be.
pub(super) fn clear(group: &Path, pid: u32) -> Vec<String> {
    let mut left = Vec::new();
    for group in [group.to_owned()].into_iter().chain(sandboxes(Path::new(TOP), pid)) {
        drop(std::fs::write(group.join("cgroup.kill"), "1"));
        remove(&group, Instant::now() + PATIENCE, &mut left);
    }
    for sandbox in sandboxes(Path::new("/tmp"), pid) {
        let mounts = read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4)).rev();
        for target in targets.filter(|target| Path::new(target).starts_with(&sandbox)) {
            drop(Command::new("umount").args(["-l", target]).status());
        }
        if let Err(error) = std::fs::remove_dir_all(&sandbox) {
            left.push(format!("{}: {error}", sandbox.display()));
        }
    }
    left
}

/// What in `directory` bears the name of a sandbox of process `pid`.
fn sandboxes(directory: &Path, pid: u32) -> Vec<PathBuf> {
    let start = format!("vzdt-{pid}-");
    let entries = read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&start))
        .map(|e| e.path())
        .collect()
}

fn remove(group: &Path, deadline: Instant, left: &mut Vec<String>) {
    let children = read_dir(group).into_iter().flatten().flatten();
    for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&child.path(), deadline, left);
    }
    while let Err(error) = remove_dir(group) {
        if error.kind() == ErrorKind::NotFound {
            return;
        }
        if Instant::now() > deadline {
            left.push(format!("{}: {error}", group.display()));
            return;
        }
        // cgroup.events could be waited for, but a group stays busy for a moment after it says so.
        std::thread::sleep(Duration::from_millis(20));
    }
}
