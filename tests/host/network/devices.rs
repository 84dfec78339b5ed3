//! Interfaces of the host that VEs have for themselves: they come back whatever ends the VE, and as they were.

use std::process::Stdio;

use serde_json::{Value, json};
use vzd_tests::{Guarded, NetLab, Sandbox, assert_same, eventually, needs};

use super::{ONE, Stream, change, kill};

fn with(devices: Value) -> Value {
    json!({ "ctid": 101, "network": { "devices": devices } })
}

/// A host with an interface `lan7` to hand over, and its other end.
fn lab() -> (NetLab, String) {
    let lab = NetLab::new();
    lab.host(&[
        "link",
        "add",
        "lan7",
        "address",
        "02:00:00:00:07:01",
        "type",
        "veth",
        "peer",
        "name",
        "wire7",
    ]);
    lab.host(&["link", "set", "lan7", "alias", "to the garden"]);
    lab.host(&["addr", "add", "10.7.0.1/24", "dev", "wire7"]);
    lab.host(&["link", "set", "wire7", "addrgenmode", "none", "up"]);
    let before = everything(&lab);
    (lab, before)
}

/// All but the other end, which shows where this one is.
fn everything(lab: &NetLab) -> String {
    lab.everything()
        .lines()
        .filter(|line| !line.contains("wire7") || line.contains("lan7@wire7"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[track_caller]
fn is_back(lab: &NetLab, before: &str, when: &str) {
    assert_same(before, &everything(lab), when);
}

fn reaches_wire(sandbox: &Sandbox, link: &str) {
    sandbox.sh("one", &format!("ip addr add 10.7.0.2/24 dev {link}; ip link set {link} up"));
    eventually("the wire is reached", || {
        sandbox.exec("one", &["/bin/busybox", "ping", "-c", "1", "-W", "1", "10.7.0.1"]).code == 0
    });
}

fn is_on_host(lab: &NetLab) -> bool {
    lab.on_host("ip", &["link", "show", "lan7"]).code == 0
}

#[test]
fn an_interface_comes_and_goes_while_the_ve_runs() {
    needs!(Root, Cgroups, Busybox, Ip);
    let (lab, before) = lab();
    let sandbox = Sandbox::new();
    let routed = |devices: Value| json!({ "ctid": 101, "network": { "addresses": ONE, "devices": devices } });
    sandbox.ve("one", routed(json!([])));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    let words = ["exec", "one", "--", "/bin/busybox", "nc", "-ll", "-p", "7", "-e", "/bin/cat"];
    let server = Guarded::spawn(sandbox.command(&words).stdin(Stdio::null()).stdout(Stdio::null()));
    let mut stream = Stream::open(&lab, ONE[0], 7);
    change(&sandbox, pid, routed(json!([{ "name": "lan7" }])));
    assert!(!is_on_host(&lab));
    reaches_wire(&sandbox, "lan7");
    stream.goes_on("an interface that came");
    let shown = sandbox.vzd(&["net", "one", "-o", "json"]).ok().json();
    let links = shown[0]["links"].as_array().unwrap();
    assert!(links.iter().any(|link| link["device"] == "lan7" && link["name"] == "lan7"), "{shown}");
    // Another name, and what its root does to it.
    sandbox.sh("one", "ip link set lan7 down");
    change(&sandbox, pid, routed(json!([{ "name": "lan7", "rename": "eth5" }])));
    reaches_wire(&sandbox, "eth5");
    sandbox.sh(
        "one",
        "ip link set eth5 down; ip link set eth5 name mine; ip link set mine address 02:00:00:00:77:77",
    );
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.network.devices[lan7]");
    sandbox.apply();
    reaches_wire(&sandbox, "eth5");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    sandbox.sh("one", "ip link set eth5 down; ip link set eth5 name mine; ip link set mine mtu 1300");
    change(&sandbox, pid, routed(json!([])));
    stream.goes_on("an interface that went");
    drop((server, stream));
    change(&sandbox, pid, json!({ "ctid": 101 }));
    is_back(&lab, &before, "given back");
    // What cannot be handed over is said, and nothing is moved.
    let wrong = |name: &str, says: &str| {
        sandbox.ve("one", with(json!([{ "name": name, "rename": "eth5" }])));
        sandbox.vzd(&["apply"]).ends(1).says(says);
        is_back(&lab, &before, "nothing was moved");
    };
    wrong("eno9", "the host has none of that name");
    wrong("lo", "each namespace has its own");
    assert_eq!(sandbox.init_pid("one"), pid);
}

#[test]
fn a_start_that_fails_leaves_the_interface_to_the_host() {
    needs!(Root, Cgroups, Busybox, Ip);
    let (lab, before) = lab();
    let sandbox = Sandbox::new();
    let devices = json!([{ "name": "lan7" }]);
    let sysctls = json!({ "net.ipv4.no_such_thing": "1" });
    sandbox.ve("one", json!({ "network": { "devices": devices, "sysctls": sysctls } }));
    sandbox.vzd(&["apply"]).ends(1).says("net/ipv4/no_such_thing");
    is_back(&lab, &before, "it did not start");
}

#[test]
fn whatever_ends_the_ve_the_interface_comes_back() {
    needs!(Root, Cgroups, Busybox, Ip);
    let (lab, before) = lab();
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(json!([{ "name": "lan7", "rename": "eth5" }])));
    sandbox.apply();
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
    assert!(!is_on_host(&lab));
    reaches_wire(&sandbox, "eth5");
    sandbox.vzd(&["restart", "one"]).ok();
    reaches_wire(&sandbox, "eth5");
    // The VE dies while no controller runs: the interface outlives it, and the next one finds it.
    kill(&lab, sandbox.init_pid("one"));
    assert!(!is_on_host(&lab));
    sandbox.vzd(&["stop", "one"]).ok();
    is_back(&lab, &before, "it died by itself");
    sandbox.vzd(&["start", "one"]).ok();
    reaches_wire(&sandbox, "eth5");
    // The controller is killed, and then the VE.
    let daemon = sandbox.daemon();
    sandbox.until_ready("one");
    daemon.kill9();
    kill(&lab, sandbox.init_pid("one"));
    sandbox.unlink("one.yaml");
    sandbox.vzd(&["apply", "--allow-prune=1"]).ok();
    is_back(&lab, &before, "both were killed");
    assert_eq!(std::fs::read_dir(sandbox.run_dir().join("interfaces")).unwrap().count(), 0);
}
