//! Names, labels and mounts of VEs that run: changed live, and put right when they drift.

mod region;

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs};

/// A sandbox with a running VE `web` of this spec, and its init's pid.
fn running(spec: Value) -> (Sandbox, u32) {
    let sandbox = Sandbox::new();
    sandbox.ve("web", spec);
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    (sandbox, pid)
}

/// Applies a new spec to it, which must be a live change.
#[track_caller]
fn change(sandbox: &Sandbox, pid: u32, spec: Value) {
    sandbox.ve("web", spec);
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(2);
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(2);
    assert_eq!(sandbox.init_pid("web"), pid, "it was restarted");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}

#[test]
fn names_change_while_it_runs() {
    needs!(Root, Cgroups, Busybox);
    let (sandbox, pid) = running(json!({}));
    change(&sandbox, pid, json!({ "hostname": "one.example.net", "domainname": "yp.example" }));
    assert_eq!(sandbox.sh("web", "hostname; cat /proc/sys/kernel/domainname"), "one.example.net\nyp.example");
    change(&sandbox, pid, json!({}));
    let back = sandbox.sh("web", "hostname; cat /proc/sys/kernel/domainname");
    assert!(["web", "web\n(none)"].contains(&back.as_str()), "{back}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_ne!(host.trim(), "one.example.net");
}

#[test]
fn labels_and_notes_change_without_touching_it() {
    needs!(Root, Cgroups, Busybox);
    let (sandbox, pid) = running(json!({}));
    sandbox.write(
        "web.yaml",
        &sandbox.labelled("web", &json!({ "role": "web" }), json!({ "description": "a note" })),
    );
    sandbox.apply();
    assert_eq!(sandbox.init_pid("web"), pid);
    let status = sandbox.status("web").unwrap();
    assert_eq!(status.0["metadata"]["labels"]["role"], "web");
    assert_eq!(status.0["spec"]["description"], "a note");
    sandbox.vzd(&["get", "-l", "role=web", "-o", "json"]).ok().says("\"web\"");
    assert!(
        sandbox.vzd(&["get", "-l", "role=db", "-o", "json"]).ok().json()["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn mounts_come_and_go_while_it_runs() {
    needs!(Root, Cgroups, Busybox);
    let (sandbox, pid) = running(json!({}));
    let source = sandbox.host_dir("data");
    std::fs::write(source.join("file"), "from the host\n").unwrap();
    let mount = |read_only: bool| json!([{ "source": source, "target": "/srv/a/b", "readOnly": read_only, "idmap": true }]);
    change(&sandbox, pid, json!({ "mounts": mount(false) }));
    assert_eq!(
        sandbox.sh("web", "cat /srv/a/b/file; echo from inside > /srv/a/b/inside; stat -c %u /srv/a/b/file"),
        "from the host\n0"
    );
    assert_eq!(std::fs::metadata(source.join("inside")).unwrap().uid(), 0);
    change(&sandbox, pid, json!({ "mounts": mount(true) }));
    assert_ne!(sandbox.exec("web", &["touch", "/srv/a/b/new"]).code, 0);
    assert!(!source.join("new").exists());
    change(&sandbox, pid, json!({ "mounts": mount(false) }));
    sandbox.exec("web", &["touch", "/srv/a/b/new"]).ok();
    assert!(source.join("new").exists());
    change(&sandbox, pid, json!({}));
    sandbox.sh("web", "test ! -e /srv/a/b/file");
    assert!(source.join("file").exists());
    assert!(!vzd_tests::mountinfo_of(pid).contains("/srv/a/b"));
}

#[test]
fn a_read_only_mount_holds_against_root_inside() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let early = sandbox.host_dir("early");
    let late = sandbox.host_dir("late");
    let mount = |source: &std::path::Path, target: &str| json!({ "source": source, "target": target, "readOnly": true, "idmap": true });
    sandbox.ve("web", json!({ "mounts": [mount(&early, "/mnt/early")] }));
    sandbox.apply();
    sandbox.ve("web", json!({ "mounts": [mount(&early, "/mnt/early"), mount(&late, "/mnt/late")] }));
    sandbox.apply();
    for target in ["/mnt/early", "/mnt/late"] {
        let tries = [
            format!("mount -o remount,rw {target}"),
            format!("mount -o remount,rw,bind {target}"),
            format!(
                "mkdir -p /tmp/again && mount -o bind {target} /tmp/again && mount -o remount,rw,bind /tmp/again"
            ),
            format!("mount -o remount,suid,dev,bind,ro {target}"),
        ];
        for command in tries {
            let ended = sandbox.exec("web", &["/bin/sh", "-c", &command]);
            assert_ne!(ended.code, 0, "{command}");
            assert!(
                ended.stderr.contains("denied") || ended.stderr.contains("permitted"),
                "{command}: {}",
                ended.stderr
            );
        }
        assert_ne!(sandbox.exec("web", &["touch", &format!("{target}/x")]).code, 0);
        sandbox.exec("web", &["umount", "/tmp/again"]);
    }
    assert_eq!(std::fs::read_dir(&early).unwrap().count() + std::fs::read_dir(&late).unwrap().count(), 0);
}

#[test]
fn without_idmap_the_hosts_owners_are_nobody() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let source = sandbox.host_dir("data");
    std::fs::write(source.join("roots"), "").unwrap();
    std::fs::write(source.join("ves"), "").unwrap();
    sandbox.ve("web", json!({ "mounts": [{ "source": source, "target": "/srv" }] }));
    sandbox.apply();
    let base = sandbox.first_id("web");
    std::os::unix::fs::chown(source.join("ves"), Some(base), Some(base)).unwrap();
    assert_eq!(sandbox.sh("web", "cd /srv; stat -c '%n %u' roots ves"), "roots 65534\nves 0");
    assert_ne!(sandbox.exec("web", &["touch", "/srv/new"]).code, 0, "the host's root owns it");
}

#[test]
fn a_file_can_be_mounted_and_flags_hold() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let source = sandbox.host_dir("data");
    let script = source.join("script");
    std::fs::write(&script, "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mount = |noexec: bool| json!({ "mounts": [{ "source": script, "target": "/usr/bin/script", "noexec": noexec, "readOnly": true }] });
    sandbox.ve("web", mount(false));
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "/usr/bin/script"), "ran");
    sandbox.ve("web", mount(true));
    sandbox.apply();
    sandbox.exec("web", &["/usr/bin/script"]).ends(126);
}

#[test]
fn lxcfs_shows_the_ves_share() {
    needs!(Root, Cgroups, Busybox, Lxcfs);
    let (sandbox, pid) = running(json!({}));
    assert!(vzd_tests::mountinfo_of(pid).contains("fuse.lxcfs"));
    sandbox.sh("web", "grep MemTotal /proc/meminfo; grep processor /proc/cpuinfo");
}

#[test]
fn what_needs_a_restart_is_held_and_said() {
    needs!(Root, Cgroups, Busybox);
    let (sandbox, pid) = running(json!({ "description": "x" }));
    let spec = json!({
        "description": "x",
        "hostname": "already-new",
        "init": ["/bin/guest", "init", "--children", "2"],
        "security": { "capabilities": { "drop": ["NET_RAW"] } },
    });
    sandbox.ve("web", spec);
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(2).says("restart");
    sandbox.apply();
    assert_eq!(sandbox.init_pid("web"), pid);
    assert_eq!(sandbox.sh("web", "hostname"), "already-new", "what is live is done");
    let status = sandbox.status("web").unwrap();
    let held = status.condition("RestartRequired").unwrap();
    assert_eq!(held.status, "True");
    assert!(held.message.contains("spec.init (") && held.message.contains("web.yaml:"), "{}", held.message);
    assert!(held.message.contains("capabilities"), "{}", held.message);
    let bounding =
        |sandbox: &Sandbox| sandbox.guest("web", &["report"])["capabilities"]["bounding"].to_string();
    assert!(bounding(&sandbox).contains("NET_RAW"), "exec gives what the run was started with");
    sandbox.vzd(&["restart", "web"]).ok();
    let status = sandbox.status("web").unwrap();
    assert_ne!(status.init_pid(), Some(pid));
    assert!(!status.is("RestartRequired"));
    assert!(!bounding(&sandbox).contains("NET_RAW"));
}

#[test]
fn update_policy_restart_does_not_wait() {
    needs!(Root, Cgroups, Busybox);
    let (sandbox, pid) = running(json!({ "updatePolicy": "Restart" }));
    let profile = sandbox.host_dir("etc").join("profile");
    std::fs::write(&profile, "# no new names\nsethostname\n").unwrap();
    sandbox.exec("web", &["hostname", "by-hand"]).ok();
    sandbox.ve("web", json!({ "updatePolicy": "Restart", "security": { "seccomp": profile } }));
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(3);
    sandbox.apply();
    assert_ne!(sandbox.init_pid("web"), pid);
    let refused = sandbox.exec("web", &["hostname", "by-hand"]);
    assert_ne!(refused.code, 0);
    assert_eq!(sandbox.sh("web", "hostname"), "web");
}

#[test]
fn lxcfs_is_taken_from_where_the_host_says() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let lxcfs = sandbox.host_dir("lxcfs");
    let host = |dir: &std::path::Path| {
        let spec = json!({ "lxcfs": dir });
        let host =
            json!({ "apiVersion": "vzd/v1", "kind": "Host", "metadata": { "name": "host" }, "spec": spec });
        sandbox.write("host.yaml", &host.to_string());
    };
    std::fs::create_dir(lxcfs.join("proc")).unwrap();
    for view in ["cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "swaps", "uptime"] {
        std::fs::write(lxcfs.join("proc").join(view), format!("view of {view}\n")).unwrap();
    }
    host(&lxcfs);
    sandbox.ve("web", json!({}));
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "cat /proc/uptime"), "view of uptime");
    // Broken settings take nothing away, also where no good version of them is in memory.
    sandbox.write("host.yaml", "kind: Host\nspec: {lxcfs");
    sandbox.vzd(&["apply"]).ends(1);
    assert_eq!(sandbox.sh("web", "cat /proc/uptime"), "view of uptime");
    // Nothing is there: that is said, and the views go.
    host(&sandbox.host_dir("elsewhere"));
    sandbox.vzd(&["plan"]).ok().says("warning[VZ0201]: lxcfs does not answer").says("host.yaml:1:");
    sandbox.apply();
    assert_ne!(sandbox.sh("web", "cat /proc/uptime"), "view of uptime");
}

#[test]
fn why_tells_values_defaults_and_what_is_in_force() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let data = sandbox.host_dir("data");
    let spec = json!({ "mounts": [{ "source": data, "target": "/data" }] });
    sandbox.write("web.yaml", &sandbox.labelled("web", &json!({ "role": "web" }), spec.clone()));
    sandbox.apply();
    let why = |field: &str| sandbox.vzd(&["why", "web", field, "-o", "json"]).ok().json();
    assert_eq!(
        (&why("startTimeout")["value"], &why("startTimeout")["default"]),
        (&json!(null), &json!("1m"))
    );
    sandbox.vzd(&["why", "web", "startTimeout"]).ok().says("1m").says("it is the default");
    let labels = why("metadata.labels");
    assert_eq!(labels["value"], json!({ "role": "web" }));
    assert!(labels["source"].as_str().unwrap().contains("web.yaml"), "{labels}");
    let mounts = why("mounts")["observed"].clone();
    assert_eq!(
        mounts.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["/data"],
        "no view of lxcfs is meant"
    );
    let mut changed = spec;
    changed["security"] = json!({ "capabilities": { "drop": ["NET_RAW"] } });
    sandbox.write("web.yaml", &sandbox.labelled("web", &json!({ "role": "web" }), changed));
    sandbox.apply();
    let held = why("spec.security.capabilities");
    assert_eq!(held["observed"], json!({ "add": [], "drop": [] }));
    assert!(held["held"].is_string(), "{held}");
    // A name and a label: both have to fit.
    assert_eq!(sandbox.vzd(&["get", "web", "-l", "role=db", "-o", "json"]).ok().json()["items"], json!([]));
    sandbox.vzd(&["get", "web", "-l", "role=web"]).ok().says("running");
}
