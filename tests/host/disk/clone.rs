//! Clones: another VE with the same files under ids of its own, on each of what keeps disks; of VEs that run and that don't.

mod running;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use serde_json::{Value, json};
use vzd_tests::{Sandbox, eventually, needs};

use super::snapshots::killed_at_each;
use super::{MB, On, World, check, limit, limited, on_each, on_images, on_projects, on_subvolumes, used};

on_each!(a_clone_has_what_the_ve_has_and_is_another);

mod in_a_directory {
    use super::On;

    #[test]
    fn a_clone_has_what_the_ve_has_and_is_another() {
        vzd_tests::needs!(Root, Cgroups, Busybox);
        super::a_clone_has_what_the_ve_has_and_is_another(On::Directory);
    }
}

#[test]
fn a_kill_leaves_no_clone_in_an_image_or_a_whole_one() {
    needs!(Root, Cgroups, Busybox, DiskImage, FaultPoints);
    a_kill_leaves_no_clone_or_a_whole_one(On::Image);
}

#[test]
fn a_kill_leaves_no_clone_on_btrfs_or_a_whole_one() {
    needs!(Root, Cgroups, Busybox, Btrfs, FaultPoints);
    a_kill_leaves_no_clone_or_a_whole_one(On::Btrfs);
}

/// What of a VE's files is kept by more than their content.
const LOOK: &str = "cat /root/data /srv/a /srv/b; stat -c %h /srv/a; ls /etc /root; stat -c '%n %u %g %a %h %s' /root/owned \
                    /etc/linked /root/hole / /root /srv; readlink /root/link; du -k /root/hole | cut -f 1";

/// A file of a running VE's, as the host sees it.
fn inside(world: &World, name: &str, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", world.init_pid(name)))
}

/// The host's id of a VE's root.
fn base(world: &World, name: &str) -> u32 {
    std::fs::metadata(inside(world, name, "/")).unwrap().uid()
}

/// A list that gives user 33 rights of its own, and a capability that counts for the VE's root.
fn marks(base: u32) -> [(&'static str, Vec<u8>); 2] {
    let entry = |tag: u8, id: u32| [&[tag, 0, 6, 0][..], &id.to_le_bytes()].concat();
    let all = [
        entry(1, u32::MAX),
        entry(2, base + 33),
        entry(4, u32::MAX),
        entry(0x10, u32::MAX),
        entry(0x20, u32::MAX),
    ];
    let acl = [&[2, 0, 0, 0][..], &all.concat()].concat();
    let capability = [&[1, 0, 0, 3, 0, 4, 0, 0][..], &[0; 12], &base.to_le_bytes()].concat();
    [("system.posix_acl_access", acl), ("security.capability", capability)]
}

fn a_clone_has_what_the_ve_has_and_is_another(on: On) {
    let world = World::new(on);
    let srv = world.template_dir().join("srv");
    std::fs::write(srv.join("a"), "of the template\n").unwrap();
    std::fs::hard_link(srv.join("a"), srv.join("b")).unwrap();
    limited(&world, "web", json!({ "diskspace": "48M", "diskinodes": "1000" }));
    // As people write them.
    let path = world.manifests().join("web.yaml");
    let said: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let spec = said["spec"].as_object().unwrap().iter().map(|(field, value)| format!("  {field}: {value}\n"));
    let head = "# The shop.\napiVersion: vzd/v1\nkind: VE\nmetadata: { name: web }\nspec:\n";
    let own = "  ctid: 140\n  hostname: shop # its sign\n";
    world.write("web.yaml", &[head, own, &spec.collect::<String>()].concat());
    world.apply();
    world.sh(
        "web",
        "echo one > /root/data; echo changed > /srv/a; rm /etc/group; echo owned > /root/owned; chown 33:34 /root/owned; \
         chmod 4750 /root/owned; ln /root/owned /etc/linked; truncate -s 64M /root/hole; ln -s /nowhere /root/link; \
         mkfifo /root/fifo; echo > /root/marked",
    );
    let was = world.sh("web", LOOK);
    let marked = |name: &str| inside(&world, name, "/root/marked");
    for (name, value) in marks(base(&world, "web")) {
        lsetxattr(marked("web"), name, &value, XattrFlags::empty()).unwrap();
    }
    world.vzd(&["snapshot", "create", "web", "before"]).ok();
    let init = world.init_pid("web");
    world.vzd(&["clone", "web", "copy"]).ok().says("left out").says("spec.ctid, spec.hostname");
    assert_eq!(world.init_pid("web"), init);
    assert_eq!(world.status("copy").unwrap().reason(), "Stopped");
    let described = std::fs::read_to_string(world.manifests().join("copy.yaml")).unwrap();
    assert!(described.starts_with("# The shop.\n") && !described.contains("shop #"), "{described}");

    world.vzd(&["start", "copy"]).ok();
    assert_eq!(world.sh("copy", LOOK), was);
    assert_eq!(world.sh("copy", "hostname"), "copy");
    assert_eq!(world.vzd(&["snapshot", "list", "copy", "-o", "json"]).ok().json(), json!([]));
    assert_ne!(base(&world, "copy"), base(&world, "web"));
    for (name, wanted) in marks(base(&world, "copy")) {
        let mut value = vec![0; 256];
        let length = lgetxattr(marked("copy"), name, &mut value).unwrap();
        assert_eq!(value[..length], wanted, "{name}");
    }
    // What each does now is its own, and links are still such.
    assert_eq!(world.sh("copy", "echo two > /root/data; echo again > /srv/b; cat /srv/a"), "again");
    assert_eq!(
        world.sh("web", "echo three >> /root/owned; cat /root/data /srv/a; echo > /etc/group"),
        "one\nchanged"
    );
    assert_eq!(world.sh("copy", "cat /root/owned; ls /etc/group 2>/dev/null || echo none"), "owned\nnone");
    if on != On::Directory {
        for name in ["web", "copy"] {
            assert_eq!(limit(&world, name, "diskspace"), 48 * MB);
            eventually("it is counted", || used(&world, name, "diskspace") > 0);
        }
        let full = "dd if=/dev/zero of=/root/big bs=1M count=80";
        assert_ne!(world.exec("copy", &["/bin/sh", "-c", full]).code, 0);
        world.sh("web", "dd if=/dev/zero of=/root/big bs=1M count=8 2>/dev/null; rm /root/big");
        world.sh("copy", "rm /root/big");
    }
    world.vzd(&["apply", "--detailed-exitcode"]).ends(0);

    // Of one that is down, to run at once.
    world.vzd(&["stop", "web"]).ok();
    let third = world
        .vzd(&["clone", "web", "third", "--ctid", "150", "--state", "running", "-o", "json"])
        .ok()
        .json();
    assert_eq!((&third["ctid"], &third["leftOut"][0]), (&json!(150), &json!("spec.hostname")));
    assert_eq!(world.sh("third", "cat /root/data; tail -n 1 /root/owned"), "one\nthree");
    world.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    for name in ["copy", "third"] {
        world.vzd(&["stop", name]).ok();
    }
    world.images().iter().for_each(|image| check(image));
    world.ve("web", json!({ "state": "absent" }));
    world.ve("third", json!({ "state": "absent" }));
    world.apply();
    world.vzd(&["start", "copy"]).ok();
    assert_eq!(world.sh("copy", "cat /root/data"), "two");
}

fn entries(dir: PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Nothing is left of a clone but what is `web`'s.
fn assert_nothing_is_left(sandbox: &Sandbox) {
    for dir in ["ves", "ledger"] {
        let left = entries(sandbox.state_dir().join(dir));
        assert_eq!(left.iter().filter(|name| !name.starts_with('.')).count(), 1, "{dir}: {left:?}");
    }
    let manifests = entries(sandbox.manifests());
    assert!(!manifests.iter().any(|name| name.contains("copy")), "{manifests:?}");
}

fn a_kill_leaves_no_clone_or_a_whole_one(on: On) {
    let world = World::new(on);
    limited(&world, "web", json!({ "diskspace": "48M", "diskinodes": "1000" }));
    world.apply();
    world.sh("web", "echo one > /root/data; chown 33 /root/data");
    let init = world.init_pid("web");
    killed_at_each(&world, &["clone", "web", "copy"], || {
        world.apply();
        assert_eq!(world.init_pid("web"), init);
        assert_eq!(world.sh("web", "cat /root/data"), "one");
        if !world.manifests().join("copy.yaml").exists() {
            return assert_nothing_is_left(&world);
        }
        world.vzd(&["apply", "--detailed-exitcode"]).ends(0);
        world.vzd(&["start", "copy"]).ok();
        assert_eq!(world.sh("copy", "cat /root/data; stat -c %u /root/data"), "one\n33");
        world.ve("copy", json!({ "state": "absent" }));
        world.apply();
        world.unlink("copy.yaml");
        world.apply();
        assert_nothing_is_left(&world);
    });
}

#[test]
fn a_controller_makes_no_other_of_a_clones_manifest() {
    needs!(Root, Cgroups, Busybox);
    let world = World::new(On::Directory);
    world.ve("web", json!({}));
    let daemon = world.daemon();
    let init = world.until_ready("web");
    world.sh("web", "echo one > /root/data");
    for name in ["first", "second"] {
        world.vzd(&["clone", "web", name, "--state", "running"]).ok();
        assert_eq!(world.sh(name, "cat /root/data"), "one");
        world.until_ready(name);
    }
    assert_eq!(world.init_pid("web"), init);
    let cloned = world.until_event("second", "Cloned");
    assert_eq!(cloned["message"], "made as a clone of VE web");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_cannot_be_a_clone_is_refused() {
    needs!(Root, Cgroups, Busybox);
    let world = World::new(On::Directory);
    world.ve("web", json!({}));
    world.apply();
    world.vzd(&["clone", "web", "web"]).ends(1).says("VZ0313").says("there is a VE named web already");
    world.vzd(&["clone", "db", "copy"]).ends(1).says("VZ0307");
    world.vzd(&["clone", "web", "No-Name"]).ends(1).says("VZ0405");
    world.vzd(&["clone", "web", "copy", "--ctid", "101"]).ends(1).says("VZ0206").says("101");
    world.write("copy.yaml", "not a manifest");
    world.vzd(&["clone", "web", "copy"]).ends(1).says("copy.yaml").says("already");
    world.unlink("copy.yaml");
    world.write(
        "host.yaml",
        "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}, spec: {manifestPolicy: refuse}}\n",
    );
    world.vzd(&["clone", "web", "copy"]).ends(1).says("VZ0313").says("manifestPolicy");
    world.unlink("host.yaml");
    // Found when everything is begun.
    let ves = world.state_dir().join("ves");
    let uid = world.status("web").unwrap().uid().unwrap().to_owned();
    std::fs::rename(ves.join(&uid).join("lower"), ves.join(&uid).join("aside")).unwrap();
    world.vzd(&["clone", "web", "copy"]).ends(1).says("VZ0313").says("lower");
    std::fs::rename(ves.join(&uid).join("aside"), ves.join(&uid).join("lower")).unwrap();
    assert_nothing_is_left(&world);
}
