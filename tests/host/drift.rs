//! What someone changes by hand is found, told as drift, and put right; unless that is suspended.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use vzd_tests::{Sandbox, eventually, holds_for, needs, within};

/// A sandbox with a VE that has something of everything, without a controller.
fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    let data = sandbox.host_dir("data");
    std::fs::write(data.join("file"), "").unwrap();
    let device = json!({ "path": "/dev/extra", "type": "char", "device": "1:3", "mode": "0666" });
    sandbox.ve(
        "web",
        json!({ "devices": [device], "mounts": [{ "source": data, "target": "/mnt/data", "readOnly": true }] }),
    );
    sandbox.apply();
    sandbox
}

/// Drift is told by `field`, corrected by a pass, reported as a correction, and then gone.
#[track_caller]
fn is_corrected(sandbox: &Sandbox, field: &str) {
    let pid = sandbox.init_pid("web");
    let before = sandbox.events("web").len();
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says(field).says("1 correction of drift");
    let plan = sandbox.vzd(&["plan", "-o", "json"]).ok().json();
    let causes: Vec<&Value> =
        plan["resource_changes"].as_array().unwrap().iter().map(|change| &change["cause"]).collect();
    assert!(causes.iter().all(|cause| **cause == "drift"), "{plan:#}");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(2);
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(0);
    assert_eq!(sandbox.init_pid("web"), pid, "it was restarted");
    let events = sandbox.events("web");
    let corrections =
        events.iter().skip(before.saturating_sub(1)).filter(|event| event["cause"] == "corrective");
    assert!(corrections.count() > 0, "no correction is told: {events:#?}");
}

#[test]
fn names_set_from_inside() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(0);
    sandbox.sh("web", "hostname by-hand");
    is_corrected(&sandbox, "spec.hostname");
    assert_eq!(sandbox.sh("web", "hostname"), "web");
}

#[test]
fn a_mount_taken_away_from_inside() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    sandbox.sh("web", "umount /mnt/data");
    is_corrected(&sandbox, "spec.mounts");
    sandbox.sh("web", "test -e /mnt/data/file");
}

#[test]
fn a_device_node_removed_or_replaced_from_inside() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    sandbox.sh("web", "rm /dev/extra");
    is_corrected(&sandbox, "spec.devices");
    sandbox.sh("web", "echo x > /dev/extra; chmod 600 /dev/extra");
    is_corrected(&sandbox, "spec.devices");
    assert_eq!(sandbox.sh("web", "stat -c %a /dev/extra"), "666");
}

#[test]
fn a_freeze_from_outside() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let freeze = sandbox.cgroup(sandbox.status("web").unwrap().ctid().unwrap()).join("cgroup.freeze");
    std::fs::write(&freeze, "1").unwrap();
    is_corrected(&sandbox, "spec.state");
    assert_eq!(std::fs::read_to_string(&freeze).unwrap().trim(), "0");
    sandbox.exec("web", &["true"]).ok();
}

#[test]
fn the_controller_corrects_by_itself() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.sh("web", "hostname by-hand");
    daemon.reload();
    eventually("it is put right", || sandbox.sh("web", "hostname") == "web");
    let event = within(Duration::from_secs(5), "the correction is told", || {
        sandbox.events("web").into_iter().find(|event| event["cause"] == "corrective")
    });
    assert_eq!(event["reason"], "ChangedLive", "{event}");
    assert!(sandbox.until_ready("web") > 0);
}

/// A manifest of `web` with annotations.
fn annotated(sandbox: &Sandbox, annotations: &Value, spec: Value) {
    let mut document: Value = serde_json::from_str(&sandbox.document("web", spec)).unwrap();
    document["metadata"]["annotations"] = annotations.clone();
    sandbox.write("web.yaml", &document.to_string());
}

#[test]
fn a_suspended_ve_is_left_alone() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    let suspend = json!({ "suspendReconcile": { "reason": "work at the disk" } });
    let ways: [&dyn Fn(); 2] = [&|| sandbox.ve("web", suspend.clone()), &|| {
        annotated(&sandbox, &json!({ "vzd/reconcile": "disabled" }), json!({}))
    }];
    for suspend in ways {
        suspend();
        sandbox.apply();
        sandbox.sh("web", "hostname by-hand");
        sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
        assert_eq!(sandbox.sh("web", "hostname"), "by-hand");
        let status = sandbox.status("web").unwrap();
        assert!(status.is("Suspended"), "{status:?}");
        sandbox.ve("web", json!({}));
        sandbox.apply();
        assert_eq!(sandbox.sh("web", "hostname"), "web");
        assert_eq!(sandbox.init_pid("web"), pid);
    }
}

#[test]
fn a_suspension_ends_at_its_time() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    sandbox.until_ready("web");
    let suspend = |time: Duration| {
        let until = SystemTime::now() + time;
        let seconds = until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let date = std::process::Command::new("date")
            .args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"])
            .output()
            .unwrap();
        let until = String::from_utf8(date.stdout).unwrap().trim().to_owned();
        sandbox.ve(
            "web",
            json!({ "hostname": "new", "suspendReconcile": { "reason": "wait", "until": until } }),
        );
    };
    // Long enough to be seen on any machine, then short.
    suspend(Duration::from_secs(3600));
    sandbox.until("web", "suspended", |ve| ve.is("Suspended"));
    assert_eq!(sandbox.sh("web", "hostname"), "web");
    suspend(Duration::from_secs(3));
    eventually("it is taken up again by itself", || sandbox.sh("web", "hostname") == "new");
}

#[test]
fn a_pass_with_nothing_to_do_writes_nothing() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    sandbox.ve("still", json!({ "state": "stopped" }));
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.until("still", "stopped", |ve| ve.reason() == "Stopped");
    let pass = || sandbox.vzd(&["status", "-o", "json"]).ok().json()["lastPass"].clone();
    let files = || {
        let mut found: Vec<_> = ["ledger", "."]
            .into_iter()
            .flat_map(|dir| std::fs::read_dir(sandbox.state_dir().join(dir)).unwrap())
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.metadata().unwrap().modified().unwrap(), path))
            .collect();
        found.sort();
        found
    };
    // The pass that a controller begins with may still be settling.
    let quiet = within(Duration::from_secs(10), "a pass ends", || {
        let before = pass()["count"].as_u64();
        daemon.reload();
        holds_for(Duration::from_millis(100), "time passes", || true);
        pass()["count"].as_u64().filter(|now| before.is_some() && Some(*now) > before)
    });
    let before = files();
    daemon.reload();
    let next = within(Duration::from_secs(10), "another pass", || {
        Some(pass()).filter(|pass| pass["count"].as_u64().is_some_and(|count| count > quiet))
    });
    assert_eq!(next["writes"], 0, "{next}");
    assert_eq!(next["ves"], 2);
    assert_eq!(files(), before);
}
