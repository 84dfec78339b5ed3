//! Control groups of VEs: where they are, whose they are, and that a freeze and a kill take everything.

#[path = "cgroup/edits.rs"]
mod edits;
#[path = "cgroup/fairness.rs"]
mod fairness;
#[path = "cgroup/limits.rs"]
mod limits;

use std::os::unix::fs::MetadataExt;

use serde_json::json;
use vzd_tests::{Process, Sandbox, eventually, needs, status_field};

#[test]
fn a_ve_owns_its_delegated_group_and_nothing_above() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let status = sandbox.status("web").unwrap();
    let group = sandbox.cgroup(status.ctid().unwrap());
    let owner = |path: &str| std::fs::metadata(group.join(path)).unwrap().uid();
    let root =
        status_field(status.init_pid().unwrap(), "Uid").split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!((owner("ve"), owner("ve/cgroup.procs")), (root, root));
    assert_eq!((owner("."), owner("cgroup.freeze"), owner("ve/cgroup.freeze")), (0, 0, 0));
    // Inside it looks like the top.
    assert_eq!(
        sandbox.guest("web", &["report"])["cgroup"].as_array().unwrap().last().unwrap(),
        "0::/../exec"
    );
    assert_eq!(owner("exec"), 0);
    sandbox.sh("web", "mkdir /sys/fs/cgroup/child && rmdir /sys/fs/cgroup/child");
}

#[test]
fn our_subtree_may_lie_deep_in_the_hierarchies() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    // Version 1 makes a cpuset without CPUs, and lets nothing with CPUs be made below it.
    let root = format!("{}/machines/vzd", sandbox.cgroup_root());
    let words = ["--cgroup-root", root.as_str()];
    sandbox.vzd(&[&["apply"], &words[..]].concat()).ok();
    let shown = sandbox.vzd(&[&["get", "web", "-o", "json"], &words[..]].concat()).ok().json();
    assert!(shown["status"]["cgroup"].as_str().unwrap().contains(&root), "{shown}");
    assert!(shown["status"]["initPid"].as_i64().is_some(), "{shown}");
}

#[test]
fn a_stop_takes_groups_of_the_ves_own_making() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "mkdir -p /sys/fs/cgroup/a/b/c /sys/fs/cgroup/d");
    sandbox.vzd(&["stop", "web"]).ok();
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
}

#[test]
fn a_program_that_exec_left_behind_ends_with_the_ve() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "setsid sleep 1000 >/dev/null 2>&1 & echo started");
    let group = sandbox.cgroup(sandbox.status("web").unwrap().ctid().unwrap());
    let left = || {
        let text = std::fs::read_to_string(group.join("exec/cgroup.procs")).unwrap_or_default();
        text.lines().next().and_then(|pid| pid.parse().ok())
    };
    eventually("the program runs on", || left().is_some());
    let sleeping = Process::open(left().unwrap()).unwrap();
    sandbox.vzd(&["stop", "web"]).ok();
    eventually("it is gone", || !sleeping.is_alive());
    assert!(sandbox.cgroups().is_empty());
}

#[test]
fn a_frozen_ve_can_be_killed() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "state": "paused" }));
    sandbox.apply();
    let init = Process::open(sandbox.init_pid("web")).unwrap();
    sandbox.vzd(&["stop", "--force", "web"]).ok();
    assert!(!init.is_alive());
    assert!(sandbox.cgroups().is_empty());
}

/// A path of groups that is longer than the kernel takes one, with the VE's first process at its end.
#[test]
fn groups_deeper_than_a_path_may_be_long_hold_nothing_up() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let deep = "cd /sys/fs/cgroup; for level in $(seq 40); do mkdir $0$level beside && cd -P $0$level || exit 1; done; \
                echo 1 > cgroup.procs && exec sleep 1000";
    let spec = |numproc: u32| {
        let init = ["/bin/sh", "-c", deep, &"deep".repeat(50)];
        json!({ "init": init, "stopTimeout": "1s", "beancounters": { "numproc": numproc } })
    };
    sandbox.ve("web", spec(50));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    eventually("it is down there", || sandbox.sh("web", "ps").contains("sleep 1000"));
    sandbox.ve("web", spec(60));
    sandbox.apply();
    assert_eq!(sandbox.init_pid("web"), pid);
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
    assert!(sandbox.vzd(&["ubc", "web"]).ok().stdout.contains("numproc"));
    sandbox.vzd(&["pause", "web"]).ok();
    sandbox.vzd(&["resume", "web"]).ok();
    assert_eq!(sandbox.init_pid("web"), pid);
    sandbox.vzd(&["restart", "web"]).ok();
    eventually("it is down there", || sandbox.sh("web", "ps").contains("sleep 1000"));
    sandbox.vzd(&["stop", "web"]).ok();
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
}
