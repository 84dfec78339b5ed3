//! Lives of VEs: start, stop, halt, reboot, crash, pause, removal.

use serde_json::json;
use vzd_tests::{Process, Sandbox, needs};

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
fn an_owners_halt_is_respected() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({ "init": null, "template": "tiny" }));
    sandbox.until_ready("web");
    sandbox.exec("web", &["poweroff"]).ok();
    let halted = sandbox.until("web", "halted", |ve| ve.reason() == "HaltedByOwner");
    assert_eq!(halted.init_pid(), None);
    sandbox.vzd(&["start", "web"]).ok();
    sandbox.until_ready("web");
}
