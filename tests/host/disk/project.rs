//! Disks with quotas of projects: in the pool that vzd makes, and on file systems of the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use vzd_tests::{eventually, needs};

use super::{MB, On, World, check, disk, limit, limited, loops, on_projects, run, used};

on_projects!(
    data_outlives_the_controller_the_ve_and_the_host,
    no_file_of_the_template_is_a_way_out,
    another_kind_of_disk_is_refused_and_nothing_is_lost,
);

/// What of the VEs lies where the quotas are.
fn roots(world: &World) -> Vec<PathBuf> {
    if world.on != On::Pool {
        let ves = std::fs::read_dir(world.state_dir().join("ves")).unwrap();
        return ves.flatten().map(|entry| entry.path()).collect();
    }
    eventually("the pool is nobody's", || loops(world).is_empty());
    let (pool, point) = (world.state_dir().join("pool.img"), world.host_dir("pool"));
    run(&["mount", "-o", "loop,ro"], &[&pool, &point]);
    let entries = std::fs::read_dir(&point).unwrap().flatten().map(|entry| entry.path());
    let ours = entries.filter(|path| !path.ends_with("lost+found")).collect();
    run(&["umount"], &[&point]);
    ours
}

pub(super) fn data_outlives_the_controller_the_ve_and_the_host(on: On) {
    let sandbox = World::new(on);
    limited(&sandbox, "web", json!({ "diskspace": "64M", "diskinodes": "1000" }));
    sandbox.apply();
    assert_eq!(disk(&sandbox.status("web").unwrap())["backend"], on.backend());
    sandbox.sh("web", "echo precious > /root/data; sync");
    sandbox.vzd(&["restart", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    assert_eq!(limit(&sandbox, "web", "diskspace"), 64 * MB);
    if on.counts_inodes() {
        assert_eq!(limit(&sandbox, "web", "diskinodes"), 1000);
    }
    // Nothing of it is mounted or attached while no VE runs.
    sandbox.vzd(&["stop", "web"]).ok();
    assert_eq!(roots(&sandbox).len(), 1);
    sandbox.vzd(&["start", "web"]).ok();
    sandbox.power_cut();
    eventually("it runs again", || {
        sandbox.vzd(&["apply"]);
        sandbox.status("web").is_some_and(|ve| ve.is("Ready"))
    });
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    // Into quarantine and back.
    sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    sandbox.unlink("web.yaml");
    sandbox.apply();
    sandbox.vzd(&["undelete", "web"]).ok();
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    assert_eq!(limit(&sandbox, "web", "diskspace"), 64 * MB);
    let ids = sandbox.first_id("web");
    sandbox.ve("web", json!({ "state": "absent" }));
    sandbox.apply();
    assert_eq!(roots(&sandbox), Vec::<PathBuf>::new());
    // The next one with these ids begins with nothing.
    let ids = json!({ "userNamespace": { "start": ids } });
    sandbox.ve("web", json!({ "disk": { "diskspace": "32M" }, "security": ids }));
    sandbox.apply();
    assert!(used(&sandbox, "web", "diskspace") < MB);
    assert!(!on.counts_inodes() || used(&sandbox, "web", "diskinodes") < 10);
    assert_eq!(disk(&sandbox.status("web").unwrap())["diskinodes"]["limit"], Value::Null);
    assert_eq!(sandbox.exec("web", &["/bin/busybox", "test", "-e", "/root/data"]).code, 1);
}

fn no_file_of_the_template_is_a_way_out(on: On) {
    let sandbox = World::new(on);
    limited(&sandbox, "web", json!({ "diskspace": "8M", "diskinodes": "400" }));
    sandbox.apply();
    let tries = ["project-by-copy-up", "project-by-copy-up-dir", "project-id", "immutable"];
    for within in ["", "unshare -Ur "] {
        let script = format!("{within}/bin/guest probe {}", tries.join(" "));
        let findings: Vec<Value> = serde_json::from_str(&sandbox.sh("web", &script)).unwrap();
        for finding in findings {
            assert!(["refused", "absent"].contains(&finding["outcome"].as_str().unwrap()), "{finding}");
        }
    }
    // Directories and files of the template, copied up in every way there is.
    sandbox.sh(
        "web",
        "chmod 755 /etc; touch -c /usr; chown 1:1 /var; chown 0:0 /var; mv /bin/guest /bin/guest2; \
         ln /bin/guest2 /bin/guest; setfattr -n user.a -v b /srv 2>/dev/null; mv /srv /srv2 2>/dev/null; true",
    );
    for dir in ["/etc", "/usr", "/var", "/bin", "/new/dir"] {
        let script = format!("mkdir -p {dir}; dd if=/dev/zero of={dir}/big bs=64k count=1000 2>&1; sync");
        let said = sandbox.sh("web", &script);
        assert!(said.contains(on.refusal()), "{dir}: {said}");
        assert!(used(&sandbox, "web", "diskspace") <= 8 * MB, "{dir}");
        let script = format!(
            "rm {dir}/big; i=0; while [ $i -lt 600 ] && touch {dir}/n$i 2>/dev/null; do i=$((i+1)); done; echo $i"
        );
        let made: u64 = sandbox.sh("web", &script).parse().unwrap();
        assert!(made < 400 && used(&sandbox, "web", "diskinodes") <= 400, "{dir}: {made}");
        sandbox.sh("web", &format!("rm {dir}/n*; sync"));
    }
}

fn another_kind_of_disk_is_refused_and_nothing_is_lost(on: On) {
    let sandbox = World::new(on);
    limited(&sandbox, "web", json!({ "diskspace": "64M" }));
    sandbox.apply();
    sandbox.sh("web", "echo precious > /root/data");
    let pid = sandbox.init_pid("web");
    sandbox.ve("web", json!({ "disk": { "diskspace": "64M", "backend": "image" } }));
    sandbox.vzd(&["apply"]);
    let status = sandbox.until("web", "stalled", |ve| ve.is("Stalled"));
    let message = status.condition("Stalled").unwrap().message;
    assert!(message.contains("spec.disk.backend"), "{message}");
    assert_eq!(sandbox.init_pid("web"), pid);
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    // With leave it is made anew, and the old one is gone.
    let spec = json!({ "disk": { "diskspace": "64M", "backend": "image" }, "deletionPolicy": "Destroy" });
    sandbox.ve("web", spec);
    sandbox.vzd(&["apply"]);
    sandbox.until("web", "made anew", |ve| disk(ve)["backend"] == "image");
    sandbox.vzd(&["stop", "web"]).ok();
    if on == On::Pool {
        assert_eq!(roots(&sandbox), Vec::<PathBuf>::new());
    }
}

fn tmpfs(words: &[&str], at: &Path) {
    let mounted = Command::new("mount").args(words).arg("tmpfs").arg(at).status().unwrap();
    assert!(mounted.success());
}

#[test]
fn a_full_pool_loses_nothing_and_grows_with_its_host_or_as_that_says() {
    needs!(Root, Cgroups, Busybox, ProjectQuota(Ext4));
    let sandbox = World::new(On::Pool);
    let state = sandbox.state_dir();
    std::fs::create_dir(&state).unwrap();
    tmpfs(&["-t", "tmpfs", "-o", "size=96M"], &state);
    let says = |spec: &str| {
        let host =
            format!("{{apiVersion: vzd/v1, kind: Host, metadata: {{name: host}}, spec: {{{spec}}}}}\n");
        sandbox.write("host.yaml", &host);
    };
    let size = || std::fs::metadata(state.join("pool.img")).map(|file| file.len());
    for name in ["one", "two"] {
        limited(&sandbox, name, json!({ "diskspace": "1G" }));
    }
    // No more than there is.
    says("pool: {size: 1G}");
    sandbox.vzd(&["apply"]);
    let failed = sandbox.until_event("one", "ReconciliationFailed");
    assert!(failed["message"].as_str().unwrap().contains("spec.pool.size"), "{failed}");
    assert!(size().is_err());
    says("");
    eventually("they are made", || {
        sandbox.vzd(&["apply"]);
        ["one", "two"].iter().all(|name| sandbox.status(name).is_some_and(|ve| ve.is("Ready")))
    });
    sandbox.sh("one", "echo precious > /root/data");
    let full = sandbox.exec("two", &["/bin/sh", "-c", "dd if=/dev/zero of=/root/big bs=1M; sync"]);
    assert!(full.stderr.contains("No space left on device"), "{full:?}");
    // It is ext4 that is full, not what it lies on: all goes on.
    assert_eq!(sandbox.sh("one", "cat /root/data"), "precious");
    assert_ne!(sandbox.exec("one", &["dd", "if=/dev/zero", "of=/root/no", "bs=64k", "count=64"]).code, 0);
    sandbox.sh("two", "rm /root/big; sync");
    sandbox.sh(
        "one",
        "dd if=/dev/urandom of=/root/more bs=1M count=8 2>/dev/null; sync; cat /root/more >/dev/null",
    );
    tmpfs(&["-o", "remount,size=192M"], &state);
    says("pool: {size: 150M}");
    sandbox.vzd(&["restart", "two"]).ok();
    assert_eq!(size().unwrap(), 150 * MB);
    says("");
    sandbox.vzd(&["restart", "two"]).ok();
    assert!(size().unwrap() > 170 * MB);
    sandbox.sh("two", "dd if=/dev/zero of=/root/big bs=1M count=110 2>/dev/null; sync; rm /root/big");
    for name in ["one", "two"] {
        sandbox.ve(name, json!({ "state": "absent" }));
    }
    sandbox.apply();
    eventually("the pool is nobody's", || loops(&sandbox).is_empty());
    check(&state.join("pool.img"));
    sandbox.power_cut();
    let unmounted = || Command::new("umount").arg(&state).status().unwrap().success();
    eventually("the state directory is unmounted", unmounted);
}

#[test]
fn somebody_elses_project_is_left_alone() {
    needs!(Root, Cgroups, Busybox, ProjectQuota(Ext4));
    let sandbox = World::new(On::Ext4);
    // The first id of the only range that there is.
    const PROJECT: &str = "700000";
    sandbox.write(
        "host.yaml",
        "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}, spec: {subids: {start: 700000, count: 65536}}}\n",
    );
    let theirs = sandbox.state_dir().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    run(&["chattr", "-p", PROJECT, "+P"], &[&theirs]);
    limited(&sandbox, "web", json!({ "diskspace": "64M" }));
    sandbox.vzd(&["apply"]);
    let failed = sandbox.until_event("web", "ReconciliationFailed");
    assert!(failed["message"].as_str().unwrap().contains("project 700000"), "{failed}");
    std::fs::remove_dir(&theirs).unwrap();
    eventually("it is made", || {
        sandbox.vzd(&["apply"]);
        sandbox.status("web").is_some_and(|ve| ve.is("Ready"))
    });
}
