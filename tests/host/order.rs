//! The order in which VEs start, and the host's boot.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, holds_for, needs};

/// Makes it look as if the host had booted since.
fn boot(sandbox: &Sandbox) {
    sandbox.power_cut();
    sandbox.edit_records(|record| {
        assert!(record["run"]["bootId"].is_string(), "{record}");
        record["run"]["bootId"] = json!("0d1a9a5c-0000-4000-8000-000000000000");
    });
}

#[test]
fn at_boot_a_higher_order_starts_first() {
    needs!(Root, Cgroups, Busybox);
    for by_controller in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.write(
            "host.yaml",
            "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}, spec: {startParallel: 1}}\n",
        );
        // Names in an order that would be another.
        let wanted = [("m", 30), ("a", 20), ("z", 10), ("k", 0), ("b", -5)];
        for (name, order) in wanted {
            sandbox.ve(name, json!({ "bootOrder": order }));
        }
        sandbox.apply();
        boot(&sandbox);
        let _daemon = by_controller.then(|| sandbox.daemon());
        if !by_controller {
            sandbox.apply();
        }
        wanted.iter().for_each(|(name, _)| {
            sandbox.until_ready(name);
        });
        let log = sandbox.vzd(&["events", "-o", "json"]).json();
        let is_boot = |event: &&Value| event["message"] == "start (boot)";
        let started = log["items"].as_array().unwrap().iter().filter(is_boot);
        let order: Vec<_> = started.map(|event| event["ve"].as_str().unwrap().to_owned()).collect();
        assert_eq!(order, wanted.map(|(name, _)| name));
    }
}

#[test]
fn a_ve_waits_for_what_it_depends_on() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let health = json!({ "exec": ["/bin/busybox", "test", "-e", "/root/ready"], "interval": "200ms" });
    sandbox.ve("app", json!({ "dependsOn": ["db"] }));
    sandbox.ve("db", json!({ "health": health }));
    let waits = sandbox.until("app", "waiting", |ve| ve.reason() == "DependencyNotReady");
    assert!(waits.condition("Ready").unwrap().message.contains("db"), "{waits:?}");
    let db = sandbox.until("db", "running", |ve| ve.init_pid().is_some());
    assert!(!db.is("Ready"));
    holds_for(Duration::from_millis(600), "app waits", || {
        sandbox.status("app").unwrap().init_pid().is_none()
    });
    sandbox.sh("db", "touch /root/ready");
    sandbox.until_ready("db");
    let app = sandbox.until_ready("app");
    // What is up stays up when what it depends on is not Ready any more.
    sandbox.sh("db", "rm /root/ready");
    sandbox.until("db", "unhealthy", |ve| ve.condition("Healthy").is_some_and(|it| it.status == "False"));
    assert_eq!(sandbox.init_pid("app"), app);
}

#[test]
fn one_apply_starts_a_chain() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("a", json!({ "dependsOn": ["b"], "bootOrder": 5 }));
    sandbox.ve("b", json!({ "dependsOn": ["c"], "bootOrder": 4 }));
    sandbox.ve("c", json!({}));
    sandbox.apply();
    for name in ["a", "b", "c"] {
        sandbox.init_pid(name);
    }
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}

#[test]
fn after_a_boot_those_marked_on_boot_start() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("server", json!({}));
    sandbox.ve("toy", json!({ "onBoot": false }));
    sandbox.apply();
    let before = sandbox.init_pid("server");
    sandbox.init_pid("toy");
    boot(&sandbox);
    sandbox.apply();
    assert_ne!(sandbox.init_pid("server"), before);
    let toy = sandbox.status("toy").unwrap();
    assert_eq!((toy.reason().as_str(), toy.init_pid()), ("NotOnBoot", None));
    let server = sandbox.status("server").unwrap();
    assert!(server.is("Ready"));
    sandbox.vzd(&["start", "toy"]).ok();
    sandbox.init_pid("toy");
}

#[test]
fn a_host_that_goes_down_stops_them_in_order_until_its_next_boot() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    for (name, order) in [("early", 10), ("middle", 5), ("late", -1), ("halted", 3)] {
        sandbox.ve(name, json!({ "bootOrder": order }));
    }
    sandbox.ve("toy", json!({ "onBoot": false }));
    for name in ["early", "middle", "late", "halted", "toy"] {
        sandbox.until_ready(name);
    }
    sandbox.vzd(&["stop", "halted"]).ok();
    sandbox.vzd(&["stop", "--all", "--until-boot"]).ok();
    let ends = sandbox.vzd(&["events", "-o", "json"]).ok().json()["items"].as_array().unwrap().clone();
    let ends =
        ends.iter().filter(|event| event["reason"] == "Stopped").map(|event| event["ve"].as_str().unwrap());
    let ends: Vec<_> = ends.filter(|name| !["halted", "toy"].contains(name)).map(str::to_owned).collect();
    assert_eq!(ends, ["late", "middle", "early"]);
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
    let reason = |name: &str| sandbox.status(name).unwrap().reason();
    assert_eq!([reason("early"), reason("halted")], ["HostShutdown", "StoppedByOperator"]);
    // In the same boot it stays so, whoever looks.
    drop(daemon);
    let daemon = sandbox.daemon();
    holds_for(Duration::from_millis(500), "they stay stopped", || sandbox.cgroups().is_empty());
    drop(daemon);
    std::fs::write(sandbox.state_dir().join("host-stop"), "another boot").unwrap();
    let _daemon = sandbox.daemon();
    for name in ["early", "middle", "late"] {
        sandbox.until_ready(name);
    }
    assert_eq!([reason("halted"), reason("toy")], ["StoppedByOperator", "NotOnBoot"]);
    assert!(!sandbox.state_dir().join("host-stop").exists());
}

#[test]
fn a_host_that_goes_down_suspends_what_can_be_suspended() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    let host = json!({ "apiVersion": "vzd/v1", "kind": "Host", "metadata": { "name": "host" }, "spec": { "shutdown": "suspend" } });
    sandbox.write("host.yaml", &format!("{host}\n"));
    let daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    sandbox.ve("toy", json!({ "onBoot": false }));
    // What a script has mounted keeps a VE from being suspended: it is stopped.
    let (data, script) = (sandbox.host_dir("data"), sandbox.scripts().join("150.mount"));
    std::fs::create_dir_all(sandbox.scripts()).unwrap();
    let text = format!("#!/bin/sh\nmount -n --bind {} $VE_ROOT/mnt\n", data.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    sandbox.ve("bound", json!({ "ctid": 150 }));
    for name in ["web", "toy", "bound"] {
        sandbox.until_ready(name);
    }
    for name in ["web", "toy"] {
        sandbox.sh(name, "touch /run/here");
    }
    sandbox.vzd(&["stop", "--all", "--until-boot"]).ok();
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
    let state = |name: &str| sandbox.vzd(&["vzctl", "status", name]).ends(0).stdout;
    assert!(state("web").ends_with("down suspended\n") && state("toy").ends_with("down suspended\n"));
    assert!(state("bound").ends_with("unmounted down\n"), "{}", state("bound"));
    drop(daemon);
    let daemon = sandbox.daemon();
    holds_for(Duration::from_millis(300), "they stay so", || sandbox.cgroups().is_empty());
    drop(daemon);
    std::fs::write(sandbox.state_dir().join("host-stop"), "another boot").unwrap();
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.until_ready("bound");
    sandbox.sh("web", "ls /run/here");
    assert!(state("toy").ends_with("down suspended\n"), "{}", state("toy"));
    sandbox.vzd(&["start", "toy"]).ok();
    sandbox.sh("toy", "ls /run/here");
}
