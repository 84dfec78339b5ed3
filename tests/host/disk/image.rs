//! Disks in images of their own.

use std::path::PathBuf;

use serde_json::json;
use vzd_tests::{eventually, kernel_version, needs};

use super::{MB, On, World, check, limit, limited, loops};

#[test]
fn data_outlives_the_controller_the_ve_and_the_host() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = World::new(On::Image);
    limited(&sandbox, "web", json!({ "diskspace": "64M", "diskinodes": "1000" }));
    sandbox.apply();
    sandbox.sh("web", "echo precious > /root/data; sync");
    assert_eq!(loops(&sandbox).len(), 1);
    sandbox.vzd(&["restart", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    assert_eq!(loops(&sandbox).len(), 1);
    assert_eq!(limit(&sandbox, "web", "diskspace"), 64 * MB);
    assert_eq!(limit(&sandbox, "web", "diskinodes"), 1000);
    sandbox.vzd(&["stop", "web"]).ok();
    assert_eq!(loops(&sandbox), Vec::<PathBuf>::new());
    sandbox.vzd(&["start", "web"]).ok();
    sandbox.power_cut();
    eventually("the loop device goes with the VE", || loops(&sandbox).is_empty());
    // A run that ended so counts as a crash: the next one may have to wait.
    eventually("it runs again", || {
        sandbox.vzd(&["apply"]);
        sandbox.status("web").is_some_and(|ve| ve.is("Ready"))
    });
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    // Into quarantine and back.
    sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    sandbox.unlink("web.yaml");
    sandbox.apply();
    assert_eq!(loops(&sandbox), Vec::<PathBuf>::new());
    sandbox.vzd(&["undelete", "web"]).ok();
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    sandbox.ve("web", json!({ "state": "absent" }));
    sandbox.apply();
    assert_eq!(loops(&sandbox), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap().count(), 0);
}

#[test]
fn attributes_of_files_are_its_own() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = World::new(On::Image);
    limited(&sandbox, "web", json!({ "diskspace": "64M" }));
    sandbox.ve("other", json!({}));
    sandbox.apply();
    let outcome = |ve: &str, probe: &str| sandbox.guest(ve, &["probe", probe])[0]["outcome"].clone();
    for probe in ["project-by-copy-up", "project-by-copy-up-dir"] {
        assert_eq!(outcome("web", probe), "allowed", "{probe}");
        assert_ne!(outcome("other", probe), "allowed", "{probe}");
    }
    // What the kernel itself keeps for the host.
    for probe in ["project-id", "immutable"] {
        assert_eq!(outcome("web", probe), "refused", "{probe}");
    }
}

#[test]
fn another_backend_is_refused_and_nothing_is_lost() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = World::new(On::Image);
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "echo precious > /root/data");
    let pid = sandbox.init_pid("web");
    for (asked, field) in [
        (json!({ "backend": "image" }), "spec.disk.backend"),
        (json!({ "diskspace": "1G" }), "spec.disk.diskspace"),
    ] {
        sandbox.ve("web", json!({ "disk": asked }));
        sandbox.vzd(&["apply"]);
        let status = sandbox.until("web", "stalled", |ve| ve.is("Stalled"));
        let message = status.condition("Stalled").unwrap().message;
        assert!(message.contains(field), "{message}");
        assert_eq!(sandbox.init_pid("web"), pid);
        assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    }
}

#[test]
fn a_full_host_loses_nothing_that_was_synced() {
    needs!(Root, Cgroups, Busybox, DiskImage);
    let sandbox = World::new(On::Image);
    let state = sandbox.state_dir();
    std::fs::create_dir(&state).unwrap();
    let tmpfs = |words: &[&str]| {
        let mounted =
            std::process::Command::new("mount").args(words).arg("tmpfs").arg(&state).status().unwrap();
        assert!(mounted.success());
    };
    tmpfs(&["-t", "tmpfs", "-o", "size=64M"]);
    limited(&sandbox, "web", json!({ "diskspace": "100M" }));
    sandbox.apply();
    sandbox.sh("web", "echo precious > /root/data; sync");
    sandbox.exec("web", &["/bin/sh", "-c", "dd if=/dev/zero of=/root/big bs=1M count=90; sync"]);
    if kernel_version() >= (6, 15) {
        // Older kernels may shut such a file system down, and nothing is read either until the next start.
        assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    }
    tmpfs(&["-o", "remount,size=256M"]);
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    sandbox.sh("web", "rm -f /root/big; echo more > /root/more; sync");
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.images().iter().for_each(|image| check(image));
    sandbox.ve("web", json!({ "state": "absent" }));
    sandbox.apply();
    let unmounted = || std::process::Command::new("umount").arg(&state).status().unwrap().success();
    eventually("the state directory is unmounted", unmounted);
}
