//! Checkpoints of VEs that run on: with the disk of the same moment, and gone back to.

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs};

use super::{told, tree, witness};
use crate::disk::snapshots::killed_at_each;

fn revert(sandbox: &Sandbox, name: &str) {
    sandbox.vzd(&["stop", "web", "--force"]).ok();
    sandbox.vzd(&["snapshot", "revert", "web", name, "--memory"]).ok();
    assert_eq!(sandbox.status("web").unwrap().reason(), "SuspendedByOperator");
    sandbox.vzd(&["resume", "web"]).ok();
}

#[test]
fn a_ve_runs_on_and_can_be_gone_back_to_with_its_disk() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    let mounts = json!([{ "source": sandbox.host_dir("data"), "target": "/mnt/data", "idmap": true }]);
    sandbox.ve("web", json!({ "mounts": mounts }));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    witness(&sandbox, "web");
    let before = tree(&sandbox, "web");
    let checkpoint = ["checkpoint", "web", "--leave-running", "--name", "then"];
    sandbox.vzd(&checkpoint).ok().says("then taken, with what runs in it");
    let then = told(&sandbox, "web");
    assert_eq!(sandbox.init_pid("web"), pid);
    assert_eq!(tree(&sandbox, "web"), before);
    eventually("it counts on", || told(&sandbox, "web") > then + 5);
    let again = sandbox.vzd(&checkpoint).ends(1);
    assert!(again.stderr.contains("VZ0310") && again.stderr.contains("there is one"), "{again:?}");
    let listed = sandbox.vzd(&["snapshot", "list", "web", "-o", "json"]).ok().json();
    assert_eq!(listed[0]["memory"], true);
    sandbox.sh("web", "echo later > /later; echo later > /run/later");
    // What it runs on from, and no other.
    for _ in 0..2 {
        revert(&sandbox, "then");
        let first = told(&sandbox, "web");
        eventually("it counts on", || told(&sandbox, "web") > first);
        assert_eq!(tree(&sandbox, "web"), before);
        assert_eq!(sandbox.sh("web", "cat /dev/shm/shared; ls -d /later /run/later 2>&1 | wc -l"), "kept\n2");
        assert_eq!(sandbox.sh("web", "ls /later /run/later 2>/dev/null || true"), "");
    }
    // The disk alone.
    sandbox.vzd(&["stop", "web", "--force"]).ok();
    sandbox.vzd(&["snapshot", "revert", "web", "then"]).ok();
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "ls /dev/shm"), "");
    assert!(told(&sandbox, "web") >= 3);
    let ves = std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap();
    let memory = ves.map(|ve| ve.unwrap().path().join("memory")).next().unwrap();
    let bytes = |name: &str| std::fs::metadata(memory.join("then").join(name)).unwrap().len();
    assert!(bytes("pages-1.img") > 0);
    sandbox.vzd(&["snapshot", "delete", "web", "then"]).ok();
    assert!(!memory.join("then").exists() && !memory.join("then.json").exists());
}

#[test]
fn one_that_cannot_be_copied_runs_on() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    let copy = ["checkpoint", "web", "--leave-running", "--name", "then"];
    sandbox.vzd(&["pause", "web"]).ok();
    sandbox.vzd(&copy).ends(1).says("VZ0310").says("it is paused");
    sandbox.vzd(&["resume", "web"]).ok();
    // What belongs to its memory cannot be copied: a directory is where the copy is to be made.
    let ves = std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap();
    let ve = ves.map(|ve| ve.unwrap().path()).next().unwrap();
    std::fs::write(ve.join("snapshots"), "").unwrap();
    sandbox.vzd(&copy).ends(1).says("VZ0310").says("snapshots");
    std::fs::remove_file(ve.join("snapshots")).unwrap();
    assert_eq!(sandbox.sh("web", "echo it runs"), "it runs");
    assert_eq!(sandbox.init_pid("web"), pid);
    sandbox.vzd(&["snapshot", "create", "web", "plain"]).ok();
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&copy).ends(1).says("it does not run");
    sandbox.vzd(&["snapshot", "revert", "web", "plain", "--memory"]).ends(1).says("without what ran");
    // What was left by a copy that was cut off goes with the next one.
    assert!(!ve.join("memory/then").join("checkpoint.json").exists());
}

#[test]
fn a_copy_that_is_not_as_it_was_written_changes_nothing() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    for name in ["web", "other"] {
        sandbox.ve(name, json!({}));
    }
    sandbox.apply();
    for name in ["web", "other"] {
        sandbox.vzd(&["checkpoint", name, "--leave-running", "--name", "then"]).ok();
    }
    let memory = |name: &str| {
        let uid = sandbox.vzd(&["get", name, "-o", "json"]).ok().json()["metadata"]["uid"].clone();
        sandbox.state_dir().join("ves").join(uid.as_str().unwrap()).join("memory/then")
    };
    let (web, other) = (memory("web"), memory("other"));
    sandbox.sh("web", "echo now > /now");
    sandbox.vzd(&["stop", "web"]).ok();
    let page = web.join("pages-1.img");
    let good = std::fs::read(&page).unwrap();
    std::fs::write(&page, &good[..good.len() - 1]).unwrap();
    let revert = ["snapshot", "revert", "web", "then", "--memory"];
    sandbox.vzd(&revert).ends(1).says("VZ0310").says("pages-1.img is not as it was written");
    std::fs::write(&page, &good).unwrap();
    // Another VE's.
    let aside = web.with_file_name("aside");
    std::fs::rename(&web, &aside).unwrap();
    std::fs::rename(&other, &web).unwrap();
    sandbox.vzd(&revert).ends(1).says("it is of VE");
    std::fs::rename(&web, &other).unwrap();
    std::fs::rename(&aside, &web).unwrap();
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /now"), "now", "the disk was not touched");
}

#[test]
fn a_kill_leaves_it_running_or_memory_with_its_own_disk() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    let data = |what: &str| sandbox.sh("web", &format!("echo {what} | tee /root/data > /run/data"));
    data("one");
    killed_at_each(&sandbox, &["checkpoint", "web", "--leave-running", "--name", "then"], || {
        sandbox.apply();
        assert_eq!(sandbox.init_pid("web"), pid);
        assert_eq!(sandbox.sh("web", "cat /root/data /run/data"), "one\none");
    });
    data("two");
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&["snapshot", "create", "web", "two"]).ok();
    killed_at_each(&sandbox, &["snapshot", "revert", "web", "then", "--memory"], || {
        sandbox.vzd(&["start", "web"]).ok();
        let found = sandbox.sh("web", "cat /root/data /run/data 2>/dev/null || true");
        assert!(["one", "two", "one\none"].contains(&found.as_str()), "{found}");
        sandbox.vzd(&["stop", "web"]).ok();
        sandbox.vzd(&["snapshot", "revert", "web", "two"]).ok();
    });
}
