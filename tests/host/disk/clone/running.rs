//! Clones of what runs: the same processes in two VEs, each with ids, groups and files of its own.

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs};

use super::{assert_nothing_is_left, base};
use crate::checkpoint::{told, tree, witness};
use crate::disk::snapshots::killed_at_each;
use crate::disk::{On, World, limited};

/// Whatever a checkpoint has to keep, each made by a process of its own.
const KINDS: [&str; 25] = [
    "pipe",
    "unix-pair",
    "unix-listener",
    "udp",
    "tcp-listener",
    "open-file",
    "deleted-file",
    "flock",
    "threads",
    "devices",
    "process",
    "child",
    "mounts",
    "inotify",
    "timers",
    "eventfd",
    "signals",
    "posix-lock",
    "pty",
    "seccomp",
    "memfd",
    "shared-memory",
    "sysv-shm",
    "sysv-sem",
    "sysv-msg",
];

/// What a process says that has its clone's name: all else is as it was.
const RENAMED: &str = r#"process:lost: [("hostname: web", "hostname: copy")]"#;

/// How many of them say so.
fn count(sandbox: &Sandbox, name: &str, word: &str) -> usize {
    let said = sandbox.sh(name, &format!("cd /root; cat *.err; grep -s . {} || true", KINDS.join(" ")));
    let said = said.replace(RENAMED, "process:kept");
    let is_fine = |line: &&str| line.ends_with(":ready") || line.ends_with(":kept");
    let lost: Vec<&str> = said.lines().filter(|line| !is_fine(line)).collect();
    assert!(lost.is_empty(), "{name}: {lost:?}");
    said.lines().filter(|line| line.ends_with(word)).count()
}

/// Who owns what is kept in no file of the disk's.
const OWNERS: &str = "stat -c '%n %u %g %a' /dev/shm/own /dev/own /mnt/mine /sys/fs/cgroup/sub/below /sys/fs/cgroup/sub/below/cgroup.procs \
                      /sys/fs/cgroup/sub/cgroup.procs; \
                      cat /dev/shm/shared";

#[test]
fn what_runs_goes_on_in_both_in_images() {
    needs!(Root, Cgroups, Busybox, DiskImage, Criu);
    what_runs_goes_on_in_both(On::Image);
}

#[test]
fn what_runs_goes_on_in_both_on_btrfs() {
    needs!(Root, Cgroups, Busybox, Btrfs, Criu);
    what_runs_goes_on_in_both(On::Btrfs);
}

fn what_runs_goes_on_in_both(on: On) {
    let world = World::new(on);
    // With a controller and without one.
    let _daemon = (on == On::Image).then(|| world.daemon());
    limited(&world, "web", json!({ "diskspace": "64M" }));
    world.apply();
    world.sh(
        "web",
        &format!(
            "mkdir /mnt/mine; mount -t tmpfs -o uid=33,gid=34,mode=750 tmpfs /mnt/mine; \
             mkdir -p /sys/fs/cgroup/sub/below; mkfifo /dev/own; echo > /dev/shm/own; \
             chown 33:34 /sys/fs/cgroup/sub/below /sys/fs/cgroup/sub/below/cgroup.procs /sys/fs/cgroup/sub/below/cgroup.threads /sys/fs/cgroup/sub/below/cgroup.subtree_control /dev/own /dev/shm/own; \
             for kind in {}; do setsid sh -c \"guest keep $kind /root/$kind; true\" > /root/$kind.err 2>&1 < /dev/null & done",
            KINDS.join(" ")
        ),
    );
    witness(&world, "web");
    eventually("all is made", || count(&world, "web", "ready") == KINDS.len());
    let (init, before, owners) = (world.init_pid("web"), tree(&world, "web"), world.sh("web", OWNERS));
    assert!(
        owners.contains("/sys/fs/cgroup/sub/below 33 34") && owners.contains("/mnt/mine 33 34 750"),
        "{owners}"
    );
    world.vzd(&["clone", "--running", "web", "copy"]).ok().says("made as a clone of web");
    assert_eq!(world.init_pid("web"), init);
    for name in ["web", "copy"] {
        let then = told(&world, name);
        eventually("it counts on", || told(&world, name) > then);
        assert_eq!(tree(&world, name), before);
        assert_eq!(world.sh(name, OWNERS), owners, "{name}");
        assert_eq!(world.sh(name, "hostname"), name);
        // Each looks at its own.
        let go: Vec<_> = KINDS.iter().map(|kind| format!("/root/{kind}.go")).collect();
        world.sh(name, &format!("touch {}", go.join(" ")));
        eventually("all is kept", || count(&world, name, "kept") == KINDS.len());
    }
    assert_ne!(base(&world, "copy"), base(&world, "web"));
    let map = |name| std::fs::read_to_string(format!("/proc/{}/uid_map", world.init_pid(name))).unwrap();
    assert_ne!(map("copy"), map("web"));
    world.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    assert!(world.status("copy").unwrap().is("Ready"));
    // And is a VE like any other.
    let then = told(&world, "copy");
    world.vzd(&["suspend", "copy"]).ok();
    world.vzd(&["resume", "copy"]).ok();
    eventually("it counts on", || told(&world, "copy") > then);
    world.vzd(&["restart", "copy", "--force"]).ok();
    assert_eq!(world.sh("copy", "ls /dev/shm; stat -c %u /tmp/told"), "0");
}

#[test]
fn a_kill_leaves_no_running_clone_or_a_whole_one() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    let world = World::new(On::Directory);
    world.ve("web", json!({}));
    world.apply();
    let init = world.init_pid("web");
    world.sh("web", "echo one | tee /root/data > /run/data");
    killed_at_each(&world, &["clone", "--running", "web", "copy"], || {
        world.apply();
        assert_eq!(world.init_pid("web"), init);
        assert_eq!(world.sh("web", "cat /root/data /run/data"), "one\none");
        if !world.manifests().join("copy.yaml").exists() {
            assert_eq!(world.list().len(), 1);
            return assert_nothing_is_left(&world);
        }
        world.vzd(&["apply", "--detailed-exitcode"]).ends(0);
        assert_eq!(world.sh("copy", "cat /root/data /run/data"), "one\none");
        world.ve("copy", json!({ "state": "absent" }));
        world.apply();
        world.unlink("copy.yaml");
        world.apply();
        assert_nothing_is_left(&world);
    });
}

#[test]
fn what_cannot_go_on_elsewhere_is_refused_and_nothing_is_left() {
    needs!(Root, Cgroups, Busybox, Criu);
    let world = World::new(On::Directory);
    let data = world.host_dir("data");
    world.ve("web", json!({ "mounts": [{ "source": data, "target": "/mnt/data", "idmap": true }] }));
    world.apply();
    let init = world.init_pid("web");
    let clone = ["clone", "--running", "web", "copy"];
    let refused = |why: &str| {
        world.vzd(&clone).ends(1).says("VZ0313").says(why);
        assert_nothing_is_left(&world);
    };
    world.vzd(&["clone", "--running", "--state", "stopped", "web", "copy"]).ends(64);
    world.vzd(&["pause", "web"]).ok();
    refused("it is paused");
    world.vzd(&["resume", "web"]).ok();
    let sockets = || world.sh("web", "cat /proc/net/tcp /proc/net/tcp6");
    let run = |command: &str| world.sh("web", &format!("setsid {command} > /dev/null 2>&1 < /dev/null &"));
    world.sh("web", "ip addr add 192.0.2.7/32 dev lo");
    run("httpd -f -p 192.0.2.7:80");
    eventually("it listens", || sockets().contains("070200C0:0050"));
    refused("has a socket at 192.0.2.7:80, an address that its clone does not have");
    world.sh("web", "kill $(pidof httpd)");
    // What is only found when the clone is to go on.
    std::fs::rename(&data, data.with_file_name("aside")).unwrap();
    refused("what runs in it does not go on in a clone");
    std::fs::rename(data.with_file_name("aside"), &data).unwrap();
    assert_eq!(world.init_pid("web"), init);

    // A connection is the VE's alone; what listens everywhere does so in both.
    run("nc -ll -p 81 -e cat");
    let listens = |sockets: &str| sockets.contains("0000:0051 ");
    eventually("it listens", || listens(&sockets()));
    run("sh -c 'guest pause | nc 192.0.2.7 81'");
    let connected = |sockets: &str| sockets.contains("070200C0:0051 01");
    eventually("it is connected", || connected(&sockets()));
    world.vzd(&clone).ok();
    assert!(connected(&sockets()));
    let theirs = world.sh("copy", "cat /proc/net/tcp /proc/net/tcp6");
    assert!(!connected(&theirs) && listens(&theirs), "{theirs}");

    world.vzd(&["stop", "web"]).ok();
    world.vzd(&["clone", "--running", "web", "other"]).ends(1).says("VZ0313").says("it does not run");
}
