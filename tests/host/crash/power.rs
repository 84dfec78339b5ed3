//! The power lost at every fault point: what was on the disk then, and nothing else, is what the next boot finds.
//!
//! The state directory is an ext4 file system in a file. A copy of that file holds what the file system had written by
//! then: neither what it had in memory nor what processes had not synced.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, eventually, needs};

use super::{Case, World, carry_out, ends_alike, ends_in};

/// A sandbox whose state directory is a disk.
struct Host {
    sandbox: Sandbox,
    disk: PathBuf,
}

fn run(program: &str, words: &[&str], paths: &[&Path]) {
    let output = Command::new(program).args(words).args(paths).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Host {
    fn new() -> Host {
        const SIZE: u64 = 256 << 20;
        let sandbox = Sandbox::new();
        let disk = sandbox.dir().join("disk");
        std::fs::File::create(&disk).unwrap().set_len(SIZE).unwrap();
        run("mke2fs", &["-q", "-t", "ext4"], &[&disk]);
        std::fs::create_dir(sandbox.state_dir()).unwrap();
        let host = Host { sandbox, disk };
        host.mount(&host.disk);
        host
    }

    fn mount(&self, disk: &Path) {
        run("mount", &["-o", "loop"], &[disk, &self.sandbox.state_dir()]);
    }

    fn unmount(&self) {
        let state = self.sandbox.state_dir();
        let done = || Command::new("umount").arg(&state).output().is_ok_and(|output| output.status.success());
        eventually("the disk is nobody's", done);
    }

    /// The power goes and comes again.
    fn lose_power(&self) {
        let kept = self.disk.with_extension("kept");
        run("cp", &["--sparse=always"], &[&self.disk, &kept]);
        self.sandbox.power_cut();
        std::fs::remove_dir_all(self.sandbox.run_dir()).unwrap();
        self.unmount();
        self.mount(&kept);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.sandbox.power_cut();
        self.unmount();
    }
}

#[track_caller]
fn survives(case: &Case) {
    ends_alike(&|at| -> (World, bool) {
        let host = Host::new();
        let killed = carry_out(case, at, &host.sandbox);
        host.lose_power();
        (ends_in(case, killed, &host.sandbox), killed)
    });
}

fn disk(space: &str, inodes: &str) -> Value {
    json!({ "disk": { "backend": "image", "diskspace": space, "diskinodes": inodes } })
}

/// Runs, and what it has is on the disk.
fn synced(sandbox: &Sandbox) {
    sandbox.ve("web", disk("32M", "500"));
    sandbox.apply();
    sandbox.sh("web", "echo precious > /root/data; sync");
    run("sync", &[], &[]);
}

#[test]
fn while_creating() {
    needs!(Root, Cgroups, Busybox, FaultPoints, DiskImage);
    survives(&Case {
        before: |_| {},
        change: |sandbox| sandbox.ve("web", disk("32M", "500")),
        command: &["apply"],
    });
}

#[test]
fn while_resizing() {
    needs!(Root, Cgroups, Busybox, FaultPoints, DiskImage);
    survives(&Case {
        before: synced,
        change: |sandbox| sandbox.ve("web", disk("16M", "600")),
        command: &["apply"],
    });
}

#[test]
fn while_taking_a_snapshot() {
    needs!(Root, Cgroups, Busybox, FaultPoints, DiskImage);
    survives(&Case { before: synced, change: |_| {}, command: &["snapshot", "create", "web", "one"] });
}

#[test]
fn while_putting_it_into_quarantine() {
    needs!(Root, Cgroups, Busybox, FaultPoints, DiskImage);
    survives(&Case { before: synced, change: |sandbox| sandbox.unlink("web.yaml"), command: &["apply"] });
}

#[test]
fn while_destroying_it() {
    needs!(Root, Cgroups, Busybox, FaultPoints, DiskImage);
    survives(&Case {
        before: synced,
        change: |sandbox| sandbox.ve("web", json!({ "state": "absent" })),
        command: &["apply"],
    });
}
