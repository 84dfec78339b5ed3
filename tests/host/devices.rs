//! Devices of VEs that run: nodes and rules, added and removed live.

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs};

const OPEN_TUN: &str = "exec 3<>/dev/net/tun";

fn running(spec: Value) -> (Sandbox, u32) {
    let sandbox = Sandbox::new();
    sandbox.ve("web", spec);
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    (sandbox, pid)
}

#[track_caller]
fn change(sandbox: &Sandbox, pid: u32, spec: Value) {
    sandbox.ve("web", spec);
    sandbox.apply();
    assert_eq!(sandbox.init_pid("web"), pid, "it was restarted");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}

#[test]
fn a_plain_ve_has_only_the_safe_nodes() {
    needs!(Root, Cgroups, Busybox);
    let (sandbox, _) = running(json!({}));
    let report = sandbox.guest("web", &["report"]);
    let nodes = report["devices"].as_array().unwrap().iter().filter(|node| node["kind"] != "l");
    let mut names: Vec<_> = nodes.map(|node| node["path"].as_str().unwrap()).collect();
    names.retain(|name| !name.starts_with("/dev/pts/"));
    assert_eq!(
        names,
        ["/dev/console", "/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"]
    );
    sandbox.sh("web", "head -c 4 /dev/urandom > /dev/null; echo x > /dev/null");
    assert_ne!(sandbox.exec("web", &["/bin/sh", "-c", "echo x > /dev/full"]).code, 0);
}

#[test]
fn tun_opens_while_it_is_granted() {
    needs!(Root, Cgroups, Busybox, Tun);
    let (sandbox, pid) = running(json!({}));
    assert_ne!(sandbox.exec("web", &["/bin/sh", "-c", OPEN_TUN]).code, 0);
    change(&sandbox, pid, json!({ "security": { "features": { "tun": true } } }));
    sandbox.sh("web", OPEN_TUN);
    // A second name for the node stays when vzd takes its own away: then it is the rule that refuses.
    sandbox.sh("web", "touch /tmp/tun && mount -o bind /dev/net/tun /tmp/tun && exec 3<>/tmp/tun");
    change(&sandbox, pid, json!({}));
    sandbox.sh("web", "test ! -e /dev/net/tun");
    let ended = sandbox.exec("web", &["/bin/sh", "-c", "exec 3<>/tmp/tun"]);
    assert!(ended.stderr.contains("not permitted"), "{}", ended.stderr);
}

#[test]
fn a_device_has_the_mode_and_owner_that_its_manifest_says() {
    needs!(Root, Cgroups, Busybox, Tun);
    let device = |mode: &str, gid: u32| {
        json!({ "devices": [{ "path": "/dev/vpn/tap", "type": "char", "device": "10:200", "permissions": "rw",
                              "mode": mode, "gid": gid }] })
    };
    let (sandbox, pid) = running(device("0660", 5));
    let stat = "stat -c '%a %u %g %t:%T' /dev/vpn/tap";
    assert_eq!(sandbox.sh("web", stat), "660 0 5 a:c8");
    sandbox.sh("web", "exec 3<>/dev/vpn/tap");
    change(&sandbox, pid, device("0600", 0));
    assert_eq!(sandbox.sh("web", stat), "600 0 0 a:c8");
    sandbox.sh("web", "exec 3<>/dev/vpn/tap");
    change(&sandbox, pid, json!({}));
    sandbox.sh("web", "test ! -e /dev/vpn/tap");
}

#[test]
fn a_device_for_reading_only_is_not_written() {
    needs!(Root, Cgroups, Busybox, Tun);
    let (sandbox, _) =
        running(json!({ "devices": [{ "path": "/dev/net/tun", "permissions": "r", "mode": "0666" }] }));
    sandbox.sh("web", "exec 3</dev/net/tun");
    let ended = sandbox.exec("web", &["/bin/sh", "-c", OPEN_TUN]);
    assert!(ended.stderr.contains("not permitted"), "{}", ended.stderr);
}

#[test]
fn a_device_that_the_host_lacks_is_an_error_of_the_plan() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "devices": [{ "path": "/dev/no-such-device" }] }));
    sandbox.ve("good", json!({}));
    let ended = sandbox.vzd(&["apply"]);
    assert_ne!(ended.code, 0);
    assert!(
        ended.stderr.contains("spec.devices[0]") && ended.stderr.contains("web.yaml:"),
        "{}",
        ended.stderr
    );
    sandbox.init_pid("good");
}
