//! `vzctl mount` and `umount`: the root of a container that is down, on the host.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use vzd_tests::{Sandbox, needs};

use super::scripts::{all, ran};
use super::{openvz, running, tool};

fn root(sandbox: &Sandbox) -> PathBuf {
    sandbox.run_dir().join("root/101")
}

fn is(sandbox: &Sandbox, words: &str) {
    assert_eq!(tool(sandbox, "vzctl status 101").ends(0).stdout, format!("CTID 101 exist {words}\n"));
}

#[test]
fn files_of_a_container_that_is_down_are_changed_by_the_host() {
    needs!(Root, Cgroups, Busybox);
    for served in [false, true] {
        let sandbox = running();
        let daemon = served.then(|| sandbox.daemon());
        sandbox.sh("101", "echo mine > /mine; chown 5:6 /mine; rm /etc/group");
        tool(&sandbox, "vzctl umount 101").ends(32);
        assert_eq!(tool(&sandbox, "vzctl mount 101").ends(0).stdout, "Container is already mounted\n");
        tool(&sandbox, "vzctl stop 101").ends(0);
        tool(&sandbox, "vzctl umount 101").ends(40);
        tool(&sandbox, "vzctl mount 101").ends(0);
        tool(&sandbox, "vzctl mount 101").ends(0);
        is(&sandbox, "mounted down");
        let root = root(&sandbox);
        let listed = tool(&sandbox, "vzlist -a -H -o ctid,status,root").ends(0).stdout;
        assert_eq!(listed, format!("       101 mounted   {}\n", root.display()));
        assert_eq!(tool(&sandbox, "vzlist -S -H -o status").ends(0).stdout, "mounted\n");
        // Who is who inside is who it is here; nobody but root comes near it.
        let owner = |path: &str| {
            let is = std::fs::symlink_metadata(root.join(path)).unwrap();
            (is.uid(), is.gid())
        };
        assert_eq!((owner("mine"), owner("bin/busybox"), owner("")), ((5, 6), (0, 0), (0, 0)));
        let above = std::fs::metadata(root.parent().unwrap()).unwrap();
        assert_eq!(above.mode() & 0o777, 0o700);
        assert!(!root.join("etc/group").exists(), "what it has removed is removed");
        std::fs::write(root.join("etc/put"), "there\n").unwrap();
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
        std::fs::remove_file(root.join("mine")).unwrap();
        std::fs::write(root.join("given"), "").unwrap();
        chown(root.join("given"), Some(7), Some(8)).unwrap();
        tool(&sandbox, "vzctl destroy 101").ends(41);
        // Whoever is there holds it; any controller finds it.
        if let Some(daemon) = daemon {
            daemon.kill9();
        }
        let stays = std::fs::File::open(root.join("bin")).unwrap();
        tool(&sandbox, "vzctl umount 101").ends(51).says("in use").says("VZ0312");
        tool(&sandbox, "vzctl start 101").ends(7).says("in use");
        is(&sandbox, "mounted down");
        drop(stays);
        tool(&sandbox, "vzctl umount 101").ends(0);
        is(&sandbox, "unmounted down");
        assert!(!root.exists());
        tool(&sandbox, "vzctl mount 101").ends(0);
        // A start takes it for the container itself.
        tool(&sandbox, "vzctl start 101").ends(0);
        assert!(!root.exists());
        let found = sandbox
            .sh("101", "cat /etc/put; cat /etc/passwd; stat -c %u:%g /etc/put /etc/passwd /given; ls /mine 2>/dev/null || echo gone");
        assert_eq!(found, "there\nroot:x:0:0:root:/:/bin/sh\n0:0\n0:0\n7:8\ngone");
        tool(&sandbox, "vzctl stop 101 --skip-umount").ends(0);
        is(&sandbox, "mounted down");
        tool(&sandbox, "vzctl umount 101").ends(0);
        tool(&sandbox, "vzctl destroy 101").ends(0);
    }
}

#[test]
fn a_mounted_container_is_where_vz_conf_says() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    let roots = sandbox.host_dir("roots");
    std::fs::create_dir_all(sandbox.scripts()).unwrap();
    let conf = sandbox.scripts().parent().unwrap().join("vz.conf");
    std::fs::write(conf, format!("VE_ROOT=\"{}/$VEID\"\n", roots.display())).unwrap();
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    tool(&sandbox, "vzctl mount 101").ends(0);
    assert!(roots.join("101/bin/busybox").exists());
    // What the manifest wants comes before what the host looks at.
    let text = super::manifest(&sandbox, "101.yaml").replace("state: stopped", "state: absent");
    sandbox.write("101.yaml", &text);
    sandbox.vzd(&["apply"]).ok();
    assert!(!roots.join("101").exists());
    assert_eq!(std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap().count(), 0);
}

#[test]
fn scripts_of_mounts_run_with_them() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    all(&sandbox);
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    tool(&sandbox, "vzctl mount 101").ends(0);
    assert_eq!(ran(&sandbox), super::scripts::UP);
    tool(&sandbox, "vzctl umount 101").ends(0);
    assert_eq!(ran(&sandbox), super::scripts::DOWN);
    let said = sandbox.dir().join("said");
    super::scripts::script(&sandbox, "101.mount", &format!("ls $VE_ROOT/bin > {}; exit 3", said.display()));
    tool(&sandbox, "vzctl mount 101").ends(79);
    is(&sandbox, "unmounted down");
    assert!(std::fs::read_to_string(said).unwrap().contains("busybox"));
    super::scripts::script(&sandbox, "101.mount", "");
    super::scripts::script(&sandbox, "101.umount", "exit 4");
    tool(&sandbox, "vzctl mount 101").ends(0);
    tool(&sandbox, "vzctl umount 101").ends(79);
    is(&sandbox, "mounted down");
    ran(&sandbox);
    // It is told, and holds no start up.
    tool(&sandbox, "vzctl start 101").ends(0);
    assert_eq!(ran(&sandbox), format!("{} {}", super::scripts::DOWN, super::scripts::UP));
}

#[test]
fn a_suspended_container_is_only_looked_at() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = running();
    sandbox.sh("101", "echo mine > /mine");
    tool(&sandbox, "vzctl suspend 101").ends(0);
    tool(&sandbox, "vzctl mount 101").ends(0);
    is(&sandbox, "mounted down suspended");
    let root = root(&sandbox);
    assert_eq!(std::fs::read_to_string(root.join("mine")).unwrap(), "mine\n");
    let refused = std::fs::write(root.join("mine"), "other").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    tool(&sandbox, "vzctl resume 101").ends(0);
    is(&sandbox, "mounted running");
    assert!(!root.exists());
}
