//! Lives of VEs: start, stop, halt, reboot, crash, pause.

use std::time::{Duration, Instant};

use serde_json::json;
use vzd_tests::{Process, Sandbox, eventually, holds_for, needs};

#[test]
fn a_file_becomes_a_running_ve() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    let pid = sandbox.until_ready("web");
    let report = sandbox.guest("web", &["report"]);
    assert_eq!(report["hostname"], "web");
    let status = sandbox.status("web").unwrap();
    let group = sandbox.cgroup(status.ctid().unwrap());
    assert!(group.join("ve/cgroup.procs").exists());
    assert!(Process::open(pid).unwrap().is_alive());
}

#[test]
fn apply_needs_no_controller() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(2);
    let pid = sandbox.init_pid("web");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    assert_eq!(sandbox.init_pid("web"), pid);
}

#[test]
fn tiny_starts_with_its_services() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "init": null, "template": "tiny" }));
    sandbox.apply();
    eventually("syslogd and crond run", || {
        let names = sandbox.sh("web", "cat /proc/[0-9]*/comm");
        ["init", "syslogd", "crond"].iter().all(|name| names.lines().any(|line| line == *name))
    });
}

#[test]
fn a_stop_lets_busybox_run_its_shutdown_scripts() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let told = sandbox.host_dir("told");
    let mount = json!([{ "source": told, "target": "/mnt/told", "idmap": true }]);
    sandbox.ve("web", json!({ "init": "/sbin/init", "mounts": mount }));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    // Before init has set its handlers up, a signal of its own would be lost.
    eventually("busybox has started", || sandbox.vzd(&["console", "web", "--log"]).stdout.contains("is up"));
    sandbox.ve("web", json!({ "init": "/sbin/init", "mounts": mount, "state": "stopped" }));
    sandbox.apply();
    assert_eq!(std::fs::read_to_string(told.join("rcK")).unwrap(), "stopped\n");
    assert!(Process::open(pid).is_none());
    assert_eq!(sandbox.status("web").unwrap().reason(), "Stopped");
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
}

#[test]
fn an_init_called_systemd_is_told_in_its_own_signal() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let template = sandbox.template_dir();
    std::fs::copy(template.join("bin/guest"), template.join("sbin/systemd")).unwrap();
    // The guest program, as systemd, powers off on SIGRTMIN+4; on SIGTERM it would exit, which is a crash.
    sandbox.ve("web", json!({ "init": ["/sbin/systemd", "init"], "stopTimeout": "20s" }));
    sandbox.apply();
    let start = Instant::now();
    sandbox.vzd(&["stop", "web"]).ok();
    assert!(start.elapsed() < Duration::from_secs(10), "it was killed after {:?}", start.elapsed());
    assert_eq!(sandbox.status("web").unwrap().reason(), "StoppedByOperator");
}

#[test]
fn a_stubborn_init_is_killed_with_all_its_processes() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let init = json!(["/bin/guest", "init", "--stubborn", "--children", "4"]);
    sandbox.ve("web", json!({ "init": init, "stopTimeout": "400ms" }));
    sandbox.apply();
    let init = Process::open(sandbox.init_pid("web")).unwrap();
    let group = sandbox.cgroup(sandbox.status("web").unwrap().ctid().unwrap());
    eventually("its children run", || {
        std::fs::read_to_string(group.join("ve/cgroup.procs")).unwrap().lines().count() == 5
    });
    let start = Instant::now();
    sandbox.vzd(&["stop", "web"]).ok();
    assert!(start.elapsed() >= Duration::from_millis(400), "it was not asked first");
    assert!(!init.is_alive());
    assert!(sandbox.cgroups().is_empty());
}

#[test]
fn a_forced_stop_does_not_ask() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "init": ["/bin/guest", "init", "--stubborn"], "stopTimeout": "60s" }));
    sandbox.apply();
    let start = Instant::now();
    sandbox.vzd(&["stop", "--force", "web"]).ok();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(sandbox.status("web").unwrap().reason(), "StoppedByOperator");
    sandbox.apply();
    assert_eq!(sandbox.status("web").unwrap().init_pid(), None, "a pass starts what an operator stopped");
    sandbox.vzd(&["start", "web"]).ok();
    sandbox.init_pid("web");
}

#[test]
fn an_owners_halt_is_respected_until_the_manifest_changes() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    sandbox.until_ready("web");
    // The guest program takes this for an order to power off, as busybox does.
    sandbox.signal_init("web", "USR2");
    let halted = sandbox.until("web", "halted", |ve| ve.reason() == "HaltedByOwner");
    assert_eq!(halted.init_pid(), None);
    daemon.reload();
    holds_for(Duration::from_millis(700), "it stays stopped", || {
        sandbox.status("web").unwrap().init_pid().is_none()
    });
    drop(daemon);
    let _daemon = sandbox.daemon();
    sandbox.until("web", "halted still", |ve| ve.reason() == "HaltedByOwner" && ve.init_pid().is_none());
    // A comment is no change.
    let text = sandbox.document("web", json!({}));
    sandbox.write("web.yaml", &format!("# a comment\n{text}"));
    holds_for(Duration::from_millis(500), "it stays stopped", || {
        sandbox.status("web").unwrap().init_pid().is_none()
    });
    sandbox.ve("web", json!({ "description": "again, please" }));
    sandbox.until_ready("web");
}

#[test]
fn an_operator_starts_what_its_owner_halted() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({ "init": null, "template": "tiny" }));
    sandbox.until_ready("web");
    let poweroff = sandbox.exec("web", &["poweroff"]);
    // Init may end it as well before it has ended.
    assert!([0, 128 + 9, 128 + 15].contains(&poweroff.code), "{poweroff:?}");
    sandbox.until("web", "halted", |ve| ve.reason() == "HaltedByOwner");
    sandbox.vzd(&["start", "web"]).ok();
    sandbox.until_ready("web");
}

#[test]
fn with_restart_policy_always_a_halt_is_a_restart() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({ "restartPolicy": "Always" }));
    let first = sandbox.until_ready("web");
    sandbox.signal_init("web", "USR2");
    sandbox.until("web", "running again", |ve| ve.init_pid().is_some_and(|pid| pid != first));
}

#[test]
fn an_owners_reboot_starts_it_again() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    let first = sandbox.until_ready("web");
    sandbox.sh("web", "touch /root/kept");
    sandbox.signal_init("web", "HUP");
    sandbox.until("web", "running again", |ve| ve.init_pid().is_some_and(|pid| pid != first));
    sandbox.sh("web", "test -e /root/kept");
    sandbox.until_event("web", "Ended");
}

#[test]
fn a_crash_is_restarted_with_a_growing_delay() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({ "init": ["/bin/guest", "init", "--exit-after", "50:3"] }));
    sandbox.until("web", "waiting after a crash", |ve| ve.reason() == "BackOff");
    let starts = || {
        let events = sandbox.events("web");
        let of_kind = |reason: &str| {
            let found = events.iter().filter(|event| event["reason"] == reason);
            found.map(|event| event["count"].as_u64().unwrap_or(0)).sum::<u64>()
        };
        of_kind("Started")
    };
    eventually("it is started a third time", || starts() >= 3);
    // A new spec starts over.
    sandbox.ve("web", json!({ "description": "cured" }));
    sandbox.until_ready("web");
}

#[test]
fn with_restart_policy_never_a_crash_is_final() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let init = json!(["/bin/guest", "init", "--exit-after", "300:3"]);
    sandbox.ve("web", json!({ "init": init, "restartPolicy": "Never" }));
    sandbox.until("web", "crashed", |ve| ve.reason() == "Crashed" && ve.init_pid().is_none());
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
    holds_for(Duration::from_millis(1200), "it stays stopped", || {
        sandbox.status("web").unwrap().init_pid().is_none()
    });
}

#[test]
fn pause_freezes_and_resume_goes_on() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let told = sandbox.host_dir("told");
    let count = "while :; do n=$((n+1)); echo $n > /mnt/told/n; sleep 0.01; done";
    let spec = json!({
        "init": ["/bin/sh", "-c", count],
        "mounts": [{ "source": told, "target": "/mnt/told", "idmap": true }],
        "stopTimeout": "200ms",
    });
    sandbox.ve("web", spec.clone());
    let _daemon = sandbox.daemon();
    let pid = sandbox.until_ready("web");
    // Empty for the moment in which it is written.
    let counter =
        || std::fs::read_to_string(told.join("n")).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let counts_on = || {
        let before = counter().unwrap_or(0);
        eventually("it counts", || counter().is_some_and(|now| now > before));
    };
    counts_on();
    sandbox.vzd(&["pause", "web"]).ok();
    let frozen = counter();
    holds_for(Duration::from_millis(400), "it is frozen", || counter() == frozen);
    assert_eq!(sandbox.status("web").unwrap().reason(), "PausedByOperator");
    sandbox.vzd(&["resume", "web"]).ok();
    counts_on();
    let mut paused = spec.clone();
    paused["state"] = json!("paused");
    sandbox.ve("web", paused);
    sandbox.until("web", "paused", |ve| ve.reason() == "Paused");
    let frozen = counter();
    holds_for(Duration::from_millis(300), "it is frozen", || counter() == frozen);
    assert_eq!(sandbox.init_pid("web"), pid);
    // Straight from there to stopped.
    let mut stopped = spec;
    stopped["state"] = json!("stopped");
    sandbox.ve("web", stopped);
    sandbox.until("web", "stopped", |ve| ve.reason() == "Stopped" && ve.init_pid().is_none());
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "init": ["/no/such/init"] }));
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(6).says("/no/such/init");
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
    assert!(Process::keeper_of(&sandbox.run_dir()).is_none_or(|keeper| keeper.wait(Duration::from_secs(5))));
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.init_pid("web");
}

#[test]
fn a_ve_for_which_no_ids_are_left_is_told() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let host = json!({
        "apiVersion": "vzd/v1", "kind": "Host", "metadata": { "name": "host" },
        "spec": { "subids": { "start": 700_000_000, "count": 65536 } },
    });
    sandbox.write("host.yaml", &host.to_string());
    sandbox.ve("a", json!({ "state": "stopped" }));
    sandbox.apply();
    sandbox.ve("b", json!({ "state": "stopped" }));
    sandbox.vzd(&["plan"]).ends(1).says("VZ0206").says("700000000:65536");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(4).says("VZ0206").says("0 steps done, 1 failed");
    let asks = json!({ "state": "stopped", "ctid": sandbox.status("a").unwrap().ctid() });
    sandbox.ve("b", asks);
    sandbox.vzd(&["plan"]).ends(1).says("belongs to VE a").says("b.yaml:");
    sandbox.ve("b", json!({ "state": "stopped" }));
    sandbox.write("a.yaml", &sandbox.document("a", json!({ "state": "absent" })));
    // One goes while the other is tried.
    sandbox.vzd(&["apply"]);
    sandbox.apply();
    assert_eq!(sandbox.status("b").unwrap().reason(), "Stopped");
}

#[test]
fn a_probe_that_fails_makes_it_unhealthy_and_others_wait() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let probe = json!({ "exec": ["/bin/busybox", "test", "-e", "/run/well"], "interval": "100ms",
        "failureThreshold": 2 });
    sandbox.ve("web", json!({ "health": probe }));
    sandbox.ve("after", json!({ "dependsOn": ["web"] }));
    let ve = sandbox.until("web", "unhealthy", |ve| {
        ve.condition("Healthy").is_some_and(|healthy| healthy.status == "False")
    });
    let healthy = ve.condition("Healthy").unwrap();
    assert_eq!(healthy.message, "the probe exited with 1 [VZ0309]");
    assert_eq!(ve.reason(), "HealthCheckFailed");
    assert_eq!(sandbox.status("after").unwrap().reason(), "DependencyNotReady");
    let pid = sandbox.init_pid("web");
    sandbox.sh("web", "touch /run/well");
    sandbox.until_ready("web");
    sandbox.until_ready("after");
    assert_eq!(sandbox.init_pid("web"), pid, "a probe never restarts");
}

#[test]
fn what_an_operator_starts_is_no_correction_of_drift() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    sandbox.until_ready("web");
    sandbox.signal_init("web", "USR2");
    sandbox.until("web", "halted", |ve| ve.reason() == "HaltedByOwner");
    sandbox.vzd(&["start", "web"]).ok();
    sandbox.until_ready("web");
    let events = sandbox.events("web");
    let starts: Vec<_> = events.iter().filter(|event| event["reason"] == "Started").collect();
    assert_eq!(starts.len(), 2, "{events:#?}");
    assert!(starts.iter().all(|event| event["cause"] != "corrective"), "{events:#?}");
}

#[test]
fn data_is_not_thrown_away_for_a_template_that_cannot_be_had() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "deletionPolicy": "Destroy" }));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    sandbox.sh("web", "echo precious > /root/data");
    let missing = sandbox.dir().join("missing");
    let template = format!("dir:{}", missing.display());
    sandbox.ve("web", json!({ "deletionPolicy": "Destroy", "template": template }));
    let apply = sandbox.vzd(&["apply"]).ends(1).says("VZ0304").says("missing");
    assert!(apply.stderr.contains("No such file or directory"), "the cause is told: {}", apply.stderr);
    assert_eq!(sandbox.init_pid("web"), pid, "it was stopped");
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
    // It stops, as it was told. That its root still cannot be made anew is another matter.
    sandbox.vzd(&["stop", "web"]).ends(0);
    assert_eq!(sandbox.status("web").unwrap().init_pid(), None);
    sandbox.vzd(&["apply"]).ends(1).says("VZ0304");
    sandbox.ve("web", json!({ "deletionPolicy": "Destroy" }));
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "cat /root/data"), "precious");
}

#[test]
fn a_change_that_is_refused_is_an_error_and_the_rest_is_done() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    sandbox.ve("web", json!({ "template": "tiny", "hostname": "new" }));
    for words in [&["plan"][..], &["plan", "--detailed-exitcode"]] {
        sandbox.vzd(words).ends(1).says("VZ0203");
    }
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(6).says("error[VZ0203]: web: spec.template");
    assert_eq!((sandbox.init_pid("web"), sandbox.sh("web", "hostname").as_str()), (pid, "new"));
    sandbox.vzd(&["apply"]).ends(1).says("VZ0203");
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(0);
    assert_eq!(sandbox.status("web").unwrap().reason(), "RecreateRefused");
}

#[test]
fn an_order_holds_for_the_manifest_as_it_is_even_if_nobody_has_read_that_yet() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.ve("web", json!({ "description": "changed" }));
    sandbox.vzd(&["stop", "web"]).ok();
    assert!(sandbox.status("web").unwrap().init_pid().is_none());
    sandbox.apply();
    assert!(
        sandbox.status("web").unwrap().init_pid().is_none(),
        "the order outlasts the pass that takes the manifest over"
    );
    sandbox.ve("web", json!({ "description": "changed again" }));
    sandbox.apply();
    sandbox.until_ready("web");
}
