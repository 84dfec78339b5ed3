//! The same of plans with action scripts: what they do to the host is there while a VE runs and gone when it does not,
//! wherever the controller was killed.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs};

use super::{Case, survives_and_tells};

/// Scripts that take something of the host's for a VE and give it back, mount something, and do something inside.
fn scripts(sandbox: &Sandbox) {
    let (dir, data, taken) = (sandbox.scripts(), sandbox.host_dir("data"), sandbox.dir().join("taken"));
    std::fs::write(data.join("file"), "").unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    let (data, taken) = (data.display(), taken.display());
    for (name, text) in [
        ("101.premount", format!("mkdir -p {taken}/host")),
        (
            "101.mount",
            format!("mkdir -p {taken}/root $VE_ROOT/mnt/data && mount --bind {data} $VE_ROOT/mnt/data"),
        ),
        ("101.start", "echo started > /root/data".to_owned()),
        ("101.umount", format!("rm -rf {taken}/root")),
        ("vps.postumount", format!("rm -rf {taken}")),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

/// What is taken of the host now.
fn taken(sandbox: &Sandbox) -> Value {
    let entries = std::fs::read_dir(sandbox.dir().join("taken")).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    json!(names)
}

fn running(sandbox: &Sandbox) {
    scripts(sandbox);
    sandbox.ve("web", json!({ "ctid": 101 }));
    sandbox.apply();
    assert_eq!(taken(sandbox), json!(["host", "root"]));
}

#[test]
fn a_start_with_scripts() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    let case = Case {
        before: scripts,
        change: |sandbox| sandbox.ve("web", json!({ "ctid": 101 })),
        command: &["apply"],
    };
    survives_and_tells(&case, &|sandbox| {
        assert_eq!(taken(sandbox), json!(["host", "root"]));
        taken(sandbox)
    });
}

#[test]
fn a_stop_with_scripts() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    let stopped = |sandbox: &Sandbox| sandbox.ve("web", json!({ "ctid": 101, "state": "stopped" }));
    survives_and_tells(&Case { before: running, change: stopped, command: &["apply"] }, &|sandbox| {
        assert_eq!(taken(sandbox), json!([]));
        taken(sandbox)
    });
}

#[test]
fn a_restart_with_scripts() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    let again = |sandbox: &Sandbox| {
        let init = json!(["/bin/guest", "init", "--children", "1"]);
        sandbox.ve("web", json!({ "ctid": 101, "init": init, "updatePolicy": "Restart" }));
    };
    survives_and_tells(&Case { before: running, change: again, command: &["apply"] }, &|sandbox| {
        taken(sandbox)
    });
}
