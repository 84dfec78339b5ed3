//! Interfaces of VEs on top of the host's: who reaches whom, what of them changes live, what is left of them.

use std::process::Stdio;

use serde_json::{Value, json};
use vzd_tests::{CLIENT, Guarded, NetLab, Sandbox, eventually, needs};

use super::{Stream, change, kill, reaches};

const ADDRESSES: [&str; 2] = ["192.0.2.150/24", "fd00:2::150/64"];

fn eth0(more: Value) -> Value {
    let mut eth0 = json!({ "name": "eth0", "parent": "eth0", "addresses": ADDRESSES });
    eth0.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "ctid": 101, "network": { "interfaces": [eth0] } })
}

/// The kernel takes a macvlan from its parent some time after the last process of its namespace.
fn until_same(lab: &NetLab, before: &str) {
    eventually("the host's network is as it was", || lab.everything() == before);
}

#[test]
fn a_macvlan_is_a_host_on_the_wire_of_its_parent() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    sandbox.ve("one", json!({ "ctid": 101 }));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    change(&sandbox, pid, eth0(json!({ "gateway": CLIENT })));
    for address in CLIENT {
        reaches(&sandbox, "one", address);
    }
    assert!(lab.client_reaches("192.0.2.150") && lab.client_reaches("fd00:2::150"));
    assert!(sandbox.sh("one", "ip route").contains("default via 192.0.2.2 dev eth0"));
    let words = ["exec", "one", "--", "/bin/busybox", "nc", "-ll", "-p", "7", "-e", "/bin/cat"];
    let _server = Guarded::spawn(sandbox.command(&words).stdin(Stdio::null()).stdout(Stdio::null()));
    let mut stream = Stream::open(&lab, "192.0.2.150", 7);
    // What of it changes live, while the stream goes on.
    change(&sandbox, pid, eth0(json!({ "mtu": 1400 })));
    assert_eq!(sandbox.sh("one", "cat /sys/class/net/eth0/mtu"), "1400");
    stream.goes_on("another largest packet");
    change(&sandbox, pid, eth0(json!({ "addresses": [ADDRESSES[0], "192.0.2.151/24"] })));
    assert!(lab.client_reaches("192.0.2.151") && !lab.client_reaches("fd00:2::150"));
    assert_eq!(sandbox.sh("one", "cat /sys/class/net/eth0/mtu"), "1500");
    stream.goes_on("other addresses");
    change(&sandbox, pid, eth0(json!({})));
    stream.goes_on("the first addresses");
    let shown = sandbox.vzd(&["net", "one", "-o", "json"]).ok().json();
    let link = &shown[0]["links"][0];
    assert_eq!((&link["name"], &link["parent"]), (&json!("eth0"), &json!("eth0")), "{shown}");
    // Two on one parent reach each other.
    let two = json!({ "network": { "interfaces": [
        { "name": "lan", "parent": "eth0", "addresses": ["192.0.2.160/24"] }] } });
    sandbox.ve("two", two);
    sandbox.apply();
    reaches(&sandbox, "two", "192.0.2.150");
    // Another hardware address, or another link, is another interface; the VE goes on.
    change(&sandbox, pid, eth0(json!({ "mac": "02:00:00:00:99:01" })));
    assert_eq!(sandbox.sh("one", "cat /sys/class/net/eth0/address"), "02:00:00:00:99:01");
    lab.client_ip(&["neigh", "flush", "dev", "eth0"]);
    assert!(lab.client_reaches("192.0.2.150"));
    lab.host(&["link", "add", "eth7", "type", "veth", "peer", "name", "wire7"]);
    change(&sandbox, pid, eth0(json!({ "parent": "eth7" })));
    assert!(!lab.client_reaches("192.0.2.150"));
    let on_bridge = json!({ "name": "eth0", "bridge": "vmlan", "addresses": ["10.5.0.1/24"] });
    change(&sandbox, pid, json!({ "ctid": 101, "network": { "interfaces": [on_bridge] } }));
    assert!(lab.host(&["link", "show", "veth101.0"]).contains("master vmlan"));
    change(&sandbox, pid, eth0(json!({})));
    lab.client_ip(&["neigh", "flush", "dev", "eth0"]);
    assert!(lab.client_reaches("192.0.2.150"));
    lab.host(&["link", "del", "eth7"]);
    change(&sandbox, pid, json!({ "ctid": 101 }));
    assert_eq!(sandbox.exec("one", &["/bin/busybox", "ip", "link", "show", "eth0"]).code, 2);
    sandbox.unlink("two.yaml");
    sandbox.vzd(&["apply", "--allow-prune=1"]).ok();
    until_same(&lab, &before);
}

#[test]
fn a_macvlan_is_there_from_the_start_and_goes_with_its_ve() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    sandbox.ve("one", eth0(json!({ "gateway": [CLIENT[0]] })));
    sandbox.apply();
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
    assert!(lab.client_reaches("192.0.2.150"));
    let mac = sandbox.sh("one", "cat /sys/class/net/eth0/address");
    for script in
        ["ip link set eth0 down", "ip addr flush dev eth0", "ip route del default", "ip link del eth0"]
    {
        sandbox.sh("one", script);
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2);
        sandbox.apply();
        sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
        assert!(lab.client_reaches("192.0.2.150"), "after {script}");
    }
    // One that its owner calls otherwise is still the same.
    sandbox.sh("one", "ip link set eth0 down; ip link set eth0 name lan; ip link set lan up");
    sandbox.apply();
    assert!(sandbox.exec("one", &["/bin/busybox", "ip", "link", "show", "eth0"]).code != 0, "there are two");
    sandbox.vzd(&["restart", "one"]).ok();
    assert_eq!(sandbox.sh("one", "cat /sys/class/net/eth0/address"), mac);
    kill(&lab, sandbox.init_pid("one"));
    sandbox.vzd(&["stop", "one"]).ok();
    until_same(&lab, &before);
    let wrong = |parent: Value, says: &str| {
        sandbox.ve("one", eth0(parent));
        sandbox.vzd(&["start", "one"]).ends(1).says(says);
    };
    wrong(json!({ "parent": "eno9" }), "the host has no interface eno9");
    wrong(json!({ "mtu": 9000 }), "eth0's largest packet is 1500");
    until_same(&lab, &before);
}
