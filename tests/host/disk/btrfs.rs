//! Disks in subvolumes of the host's btrfs.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use vzd_tests::{eventually, kernel_version, needs};

use crate::migrate::via;

use super::project::data_outlives_the_controller_the_ve_and_the_host;
use super::{MB, On, World, disk, fill, limit, limited, on_subvolumes, run, used};

on_subvolumes!(data_outlives_the_controller_the_ve_and_the_host);

/// Has a btrfs count what its subvolumes refer to.
pub(super) fn count(at: &Path) {
    run(&["btrfs", "quota", "enable"], &[at]);
    run(&["btrfs", "quota", "rescan", "-w"], &[at]);
}

/// Paths of the subvolumes that there are.
fn subvolumes(world: &World) -> BTreeSet<String> {
    let list = Command::new("btrfs").args(["subvolume", "list"]).arg(world.state_dir()).output().unwrap();
    assert!(list.status.success(), "{list:?}");
    let list = String::from_utf8(list.stdout).unwrap();
    list.lines().map(|line| line.split_once(" path ").unwrap().1.to_owned()).collect()
}

/// How many quota groups there are.
fn groups(world: &World) -> usize {
    run(&["sync", "-f"], &[&world.state_dir()]);
    let list = Command::new("btrfs").args(["qgroup", "show"]).arg(world.state_dir()).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    list.lines().filter(|line| line.starts_with("0/")).count()
}

#[test]
fn nothing_is_left_of_a_disk_that_goes() {
    needs!(Root, Cgroups, Busybox, Btrfs);
    let sandbox = World::new(On::Btrfs);
    limited(&sandbox, "one", json!({ "diskspace": "16M" }));
    limited(&sandbox, "two", json!({ "diskspace": "16M" }));
    sandbox.apply();
    sandbox.vzd(&["snapshot", "create", "one", "first"]).ok();
    // Full, which must not keep anybody from taking snapshots and removing all of it.
    fill(&sandbox, "one", "/root/big");
    sandbox.vzd(&["snapshot", "create", "one", "full"]).ok();
    sandbox.vzd(&["stop", "one"]).ok();
    sandbox.vzd(&["snapshot", "revert", "one", "full"]).ok();
    sandbox.vzd(&["start", "one"]).ok();
    assert_eq!(limit(&sandbox, "one", "diskspace"), 16 * MB);
    assert_ne!(sandbox.exec("one", &["dd", "if=/dev/zero", "of=/root/no", "bs=64k", "count=16"]).code, 0);
    assert_eq!(subvolumes(&sandbox).len(), 5, "{:?}", subvolumes(&sandbox));
    sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    sandbox.ve("one", json!({ "state": "absent" }));
    sandbox.apply();
    assert_eq!(subvolumes(&sandbox).len(), 2, "{:?}", subvolumes(&sandbox));
    assert_eq!(std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap().count(), 1);
    sandbox.sh("two", "echo more > /root/data");
    if kernel_version() >= (6, 11) {
        run(&["btrfs", "subvolume", "sync"], &[&sandbox.state_dir()]);
        // Those of the file system itself, of the blank subvolume and of the other VE.
        eventually("their quota groups go as well", || groups(&sandbox) == 3);
    }
}

#[test]
fn root_inside_finds_no_way_out_of_its_quota_group() {
    needs!(Root, Cgroups, Busybox, Btrfs);
    let sandbox = World::new(On::Btrfs);
    limited(&sandbox, "web", json!({ "diskspace": "8M" }));
    sandbox.apply();
    let before = subvolumes(&sandbox);
    let tries = ["btrfs", "project-by-copy-up", "project-by-copy-up-dir", "project-id", "immutable"];
    for within in ["", "unshare -Ur "] {
        let script = format!("{within}/bin/guest probe {}", tries.join(" "));
        let findings: Vec<Value> = serde_json::from_str(&sandbox.sh("web", &script)).unwrap();
        for finding in findings {
            assert!(["refused", "absent"].contains(&finding["outcome"].as_str().unwrap()), "{finding}");
        }
    }
    assert_eq!(subvolumes(&sandbox), before);
    // What is shared with the template or within the VE counts like everything else, once.
    for dir in ["/root", "/etc", "/new/dir", "/var"] {
        let script = format!("mkdir -p {dir}; dd if=/dev/zero of={dir}/big bs=64k count=1000 2>&1; sync");
        let said = sandbox.sh("web", &script);
        assert!(said.contains(On::Btrfs.refusal()), "{dir}: {said}");
        assert!(used(&sandbox, "web", "diskspace") <= 8 * MB, "{dir}");
        sandbox.sh("web", &format!("rm {dir}/big; sync"));
    }
}

#[test]
fn no_file_has_the_number_of_another_one() {
    needs!(Root, Cgroups, Busybox, Btrfs);
    let sandbox = World::new(On::Btrfs);
    let template = sandbox.state_dir().join("mine");
    run(&["cp", "-a"], &[sandbox.template_dir(), &template]);
    for name in ["one", "two"] {
        let spec =
            json!({ "template": format!("dir:{}", template.display()), "disk": { "diskspace": "16M" } });
        sandbox.ve(name, spec);
    }
    sandbox.apply();
    let make = "i=0; while [ $i -lt 500 ]; do echo > /root/$i; i=$((i+1)); done; echo changed > /etc/group";
    for name in ["one", "two"] {
        sandbox.sh(name, make);
        let twice =
            sandbox.sh(name, "find / -xdev ! -type d -links 1 -exec stat -c %i {} + | sort | uniq -d");
        assert_eq!(twice, "");
    }
    // Also after what has the highest numbers is gone and the file system was read anew.
    sandbox.vzd(&["stop", "one"]).ok();
    let highest = std::fs::metadata(template.join("etc/group")).unwrap().ino();
    sandbox.vzd(&["start", "one"]).ok();
    sandbox.sh("one", "rm /root/*; sync");
    sandbox.vzd(&["snapshot", "create", "one", "empty"]).ok();
    sandbox.vzd(&["stop", "one"]).ok();
    sandbox.vzd(&["snapshot", "revert", "one", "empty"]).ok();
    sandbox.vzd(&["start", "one"]).ok();
    let number: u64 = sandbox.sh("one", "echo > /root/new; stat -c %i /root/new").parse().unwrap();
    assert!(number > highest, "{number} {highest}");
}

#[test]
fn it_moves_to_a_host_that_has_the_same() {
    needs!(Root, Cgroups, Busybox, Btrfs);
    let (here, there, other) = (World::new(On::Btrfs), World::new(On::Btrfs), World::new(On::Directory));
    for world in [&here, &there, &other] {
        world.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    }
    limited(&here, "web", json!({ "diskspace": "16M" }));
    here.ve("plain", json!({}));
    here.apply();
    here.sh("web", "echo precious > /root/data; rm /etc/group; sync");
    here.sh("plain", "echo compressed > /root/zip; sync");
    here.vzd(&["stop", "web"]).ok();
    here.vzd(&["stop", "plain"]).ok();
    // Without limits it can go anywhere, and a mark that only btrfs takes does not hold it.
    let roots = std::fs::read_dir(here.state_dir().join("ves")).unwrap().flatten();
    let mut files = roots.map(|root| root.path().join("fs/upper/root/zip")).filter(|file| file.exists());
    run(&["btrfs", "property", "set", files.next().unwrap().to_str().unwrap(), "compression", "zlib"], &[]);
    here.vzd(&["migrate", "plain", "--via", &via(&other, "")]).ok();
    other.vzd(&["start", "plain"]).ok();
    assert_eq!(other.sh("plain", "cat /root/zip"), "compressed");
    let refused = here.vzd(&["migrate", "web", "--via", &via(&other, "")]);
    assert!(refused.code != 0 && refused.stderr.contains("its disk's backend is btrfs"), "{refused:?}");
    here.vzd(&["migrate", "web", "--via", &via(&there, "")]).ok();
    there.vzd(&["start", "web"]).ok();
    assert_eq!(there.sh("web", "cat /root/data"), "precious");
    assert_eq!(there.exec("web", &["/bin/busybox", "test", "-e", "/etc/group"]).code, 1);
    assert_eq!(limit(&there, "web", "diskspace"), 16 * MB);
    assert_ne!(there.exec("web", &["dd", "if=/dev/zero", "of=/root/big", "bs=64k", "count=400"]).code, 0);
}

#[test]
fn a_full_file_system_loses_nothing() {
    needs!(Root, Cgroups, Busybox, Btrfs);
    let sandbox = World::new(On::Btrfs);
    for name in ["one", "two"] {
        limited(&sandbox, name, json!({ "diskspace": "2G" }));
    }
    sandbox.apply();
    sandbox.sh("one", "echo precious > /root/data; sync");
    let full = sandbox.exec("two", &["/bin/sh", "-c", "dd if=/dev/zero of=/root/big bs=1M; sync"]);
    assert!(full.stderr.contains("No space left on device"), "{full:?}");
    assert_eq!(sandbox.sh("one", "cat /root/data"), "precious");
    sandbox.sh("two", "rm /root/big; sync");
    sandbox.sh("one", "dd if=/dev/zero of=/root/more bs=1M count=20 2>/dev/null; sync; rm /root/more");
    for name in ["one", "two"] {
        sandbox.vzd(&["restart", name]).ok();
    }
    assert_eq!(sandbox.sh("one", "cat /root/data"), "precious");
}

#[test]
fn a_kill_leaves_no_half_of_a_disk() {
    needs!(Root, Cgroups, Busybox, FaultPoints, Btrfs);
    let sandbox = World::new(On::Btrfs);
    sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    let killed_at = |at: u32| {
        let ended = sandbox.command(&["apply"]).env("VZD_FAULT_POINT", at.to_string()).output().unwrap();
        sandbox.apply();
        ended.status.code() == Some(137)
    };
    let mut points = 1..60;
    let made_and_gone = |at: u32| {
        limited(&sandbox, "web", json!({ "diskspace": "16M" }));
        let making = killed_at(at);
        assert_eq!(limit(&sandbox, "web", "diskspace"), 16 * MB, "{at}");
        assert_eq!(subvolumes(&sandbox).len(), 2, "{at}: {:?}", subvolumes(&sandbox));
        sandbox.ve("web", json!({ "state": "absent" }));
        let removing = killed_at(at);
        assert_eq!(subvolumes(&sandbox), ["blank".to_owned()].into(), "{at}");
        making || removing
    };
    let reached = points.find(|at| !made_and_gone(*at)).unwrap();
    assert!(reached > 5, "{reached} fault points were reached");
}

#[test]
fn inodes_that_nobody_counts_are_told() {
    needs!(Root, Cgroups, Busybox, Btrfs);
    let sandbox = World::new(On::Btrfs);
    sandbox.ve("web", json!({ "disk": { "diskspace": "16M", "diskinodes": "100", "backend": "btrfs" } }));
    sandbox.apply();
    let status = sandbox.status("web").unwrap();
    let told = status.condition("Unenforced").unwrap();
    assert!(told.message.contains("diskinodes: btrfs does not count them"), "{told:?}");
    assert_eq!(disk(&status)["diskinodes"], Value::Null);
    assert!(status.is("Ready"), "{status:?}");
    sandbox.sh("web", "i=0; while [ $i -lt 200 ]; do echo > /root/$i; i=$((i+1)); done");
    sandbox.ve("web", json!({ "disk": { "diskspace": "16M", "backend": "btrfs" } }));
    sandbox.apply();
    assert!(!sandbox.status("web").unwrap().is("Unenforced"));
}

#[test]
fn quotas_that_are_off_stay_off() {
    needs!(Root, Cgroups, Busybox, Btrfs);
    let sandbox = World::new(On::Btrfs);
    run(&["btrfs", "quota", "disable"], &[&sandbox.state_dir()]);
    sandbox.ve("web", json!({ "disk": { "diskspace": "16M", "backend": "btrfs" } }));
    sandbox.vzd(&["apply"]);
    let message =
        sandbox.until("web", "refused", |ve| ve.is("Stalled")).condition("Stalled").unwrap().message;
    assert!(message.contains("btrfs quota enable"), "{message}");
    assert_eq!(groups(&sandbox), 0);
    // A controller that runs already sees that they are on now.
    let daemon = sandbox.daemon();
    count(&sandbox.state_dir());
    sandbox.vzd(&["apply"]).ok();
    sandbox.until_ready("web");
    assert_eq!(disk(&sandbox.status("web").unwrap())["backend"], "btrfs");
    drop(daemon);
    sandbox.sh("web", "echo precious > /root/data; sync");
    // Somebody switches them off below a VE that runs: that is told, and it is not started without its limit.
    run(&["btrfs", "quota", "disable"], &[&sandbox.state_dir()]);
    sandbox.vzd(&["apply"]);
    let ready = sandbox.status("web").unwrap().condition("Ready").unwrap();
    assert!(ready.message.contains("btrfs quota enable"), "{ready:?}");
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&["start", "web"]).says("btrfs quota enable");
    count(&sandbox.state_dir());
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    assert_eq!(limit(&sandbox, "web", "diskspace"), 16 * MB);
}
