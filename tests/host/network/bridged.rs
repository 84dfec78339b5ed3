//! Interfaces of VEs on bridges: who reaches whom, what of them changes live, what a VE can pretend.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use vzd_tests::{CLIENT, Guarded, Need, NetLab, Sandbox, assert_same, eventually, is_met, needs};

use super::{change, reaches};

const ADDRESSES: [&str; 2] = ["192.0.2.150/24", "fd00:2::150/64"];

/// A host whose wire is a port of the bridge `br0`, made by somebody else.
pub(super) fn bridged_lab() -> NetLab {
    let lab = NetLab::new();
    lab.host(&["link", "add", "br0", "address", "02:00:00:00:b0:00", "type", "bridge"]);
    lab.host(&["link", "set", "eth0", "master", "br0"]);
    lab.host(&["link", "set", "br0", "up"]);
    eventually("the bridge is up", || link(&lab, "br0")["operstate"] == "UP");
    lab
}

fn with(interfaces: Value) -> Value {
    json!({ "ctid": 101, "network": { "interfaces": interfaces } })
}

pub(super) fn link(lab: &NetLab, name: &str) -> Value {
    lab.on_host("ip", &["-j", "-d", "link", "show", name]).ok().json()[0].clone()
}

/// What vzd gives the host's end and a bridge of its own is never what the VE's end has.
#[test]
fn any_hardware_address_is_reached() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = bridged_lab();
    let sandbox = Sandbox::new();
    let macs = ["fe", "fa", "02", "06"].map(|first| format!("{first}:62:33:44:55:66"));
    let at = |n: usize, mac: &str, bridge: &str, net: &str| json!({ "name": format!("eth{n}"), "bridge": bridge, "mac": mac, "addresses": [format!("{net}.1/24")] });
    let interfaces: Vec<Value> = macs
        .iter()
        .enumerate()
        .map(|(n, mac)| at(n, mac, &format!("lan{n}"), &format!("10.5.{n}")))
        .collect();
    sandbox.ve("one", with(json!(interfaces)));
    sandbox.apply();
    for (n, mac) in macs.iter().enumerate() {
        let (port, bridge) = (link(&lab, &format!("veth101.{n}")), link(&lab, &format!("lan{n}")));
        assert!(port["address"] != **mac && bridge["address"] != **mac, "{mac}: {port} {bridge}");
        assert!(port["master"] == format!("lan{n}"), "{port}");
        lab.host(&["addr", "add", &format!("10.5.{n}.2/24"), "dev", &format!("lan{n}")]);
        reaches(&sandbox, "one", &format!("10.5.{n}.2"));
    }
}

/// Starts at once, each of which needs it: one makes it, and none takes it for somebody else's.
#[test]
fn a_bridge_is_never_seen_without_its_mark() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    let seen = sandbox.dir().join("seen");
    let mut monitor = Command::new("ip");
    monitor.args(["-o", "monitor", "link"]).stdin(Stdio::null());
    let monitor = Guarded::spawn(monitor.stdout(std::fs::File::create(&seen).unwrap()));
    let text = || std::fs::read_to_string(&seen).unwrap();
    eventually("it listens", || {
        lab.host(&["link", "set", "lo", "mtu", "65535"]);
        lab.host(&["link", "set", "lo", "mtu", "65536"]);
        text().contains(": lo: ")
    });
    let names: Vec<String> = (1..=6).map(|n| format!("ve{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let eth0 =
            json!({ "name": "eth0", "bridge": "vmlan", "addresses": [format!("10.5.0.{}/24", n + 1)] });
        sandbox.ve(name, json!({ "network": { "interfaces": [eth0] } }));
    }
    sandbox.apply();
    for n in 2..=6 {
        reaches(&sandbox, "ve1", &format!("10.5.0.{n}"));
    }
    eventually("it was told", || text().contains(": vmlan: "));
    drop(monitor);
    let told = text();
    // Each was called otherwise while it got its mark.
    let number = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let bridges: BTreeSet<String> =
        told.lines().filter(|line| line.contains(": vmlan: ")).map(number).collect();
    for bridge in &bridges {
        let first = told.lines().find(|line| number(line) == *bridge).unwrap();
        assert!(first.contains(": vzb"), "{first}");
    }
    let shown = lab.host(&["-o", "link", "show", "type", "bridge"]);
    assert!(shown.lines().count() == 1 && shown.contains(":bridge"), "{shown}");
    for name in &names {
        sandbox.unlink(&format!("{name}.yaml"));
    }
    sandbox.vzd(&["apply", "--allow-prune=6"]).ok();
    assert_same(&before, &lab.everything(), "after all");
}

/// The last leaves while the next comes: the bridge is there for whoever comes, the old one or a new one.
#[test]
fn a_bridge_is_not_taken_from_whoever_joins_it() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    for round in 0..12 {
        for (n, name) in ["one", "two"].into_iter().enumerate() {
            let eth0 = json!({ "name": "eth0", "bridge": "vmlan", "addresses": [format!("10.5.0.{n}/24")] });
            let state = if round % 2 == n { "running" } else { "stopped" };
            sandbox.ve(name, json!({ "state": state, "network": { "interfaces": [eth0] } }));
        }
        sandbox.apply();
        let ports = lab.host(&["-o", "link", "show", "master", "vmlan"]);
        assert_eq!(ports.lines().count(), 1, "round {round}: {ports}");
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(0);
    }
}

/// Without a switch in the manifest: what it is given to is its own network.
#[test]
fn a_ve_makes_bridges_of_its_own() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    sandbox.ve("one", json!({}));
    sandbox.apply();
    sandbox.sh("one", "ip link add br7 type bridge && ip link set br7 up && ip addr add 10.7.0.1/24 dev br7");
    assert!(sandbox.sh("one", "ip link show br7").contains("UP"));
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    assert_same(&before, &lab.everything(), "it runs");
}

#[test]
fn a_ve_on_a_bridge_is_a_host_on_its_wire() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = bridged_lab();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    let eth0 = |more: Value| {
        let mut eth0 = json!({ "name": "eth0", "bridge": "br0", "addresses": ADDRESSES, "gateway": CLIENT });
        eth0.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        eth0
    };
    sandbox.ve("one", with(json!([eth0(json!({}))])));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    for address in CLIENT {
        reaches(&sandbox, "one", address);
    }
    assert!(lab.client_reaches("192.0.2.150") && lab.client_reaches("fd00:2::150"));
    assert!(sandbox.sh("one", "ip route").contains("default via 192.0.2.2 dev eth0"));
    assert_eq!(link(&lab, "veth101.0")["master"], "br0");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    let mac = sandbox.sh("one", "cat /sys/class/net/eth0/address");
    // What of it changes live.
    change(&sandbox, pid, with(json!([eth0(json!({ "mtu": 1400 }))])));
    assert_eq!(
        (&link(&lab, "veth101.0")["mtu"], &*sandbox.sh("one", "cat /sys/class/net/eth0/mtu")),
        (&json!(1400), "1400")
    );
    change(&sandbox, pid, with(json!([eth0(json!({ "addresses": ["192.0.2.151/24", ADDRESSES[1]] }))])));
    assert!(lab.client_reaches("192.0.2.151") && !lab.client_reaches("192.0.2.150"));
    assert_eq!(sandbox.sh("one", "cat /sys/class/net/eth0/mtu"), "1500");
    // The owner's own addresses stay.
    sandbox.sh("one", "ip addr add 192.0.2.160/24 dev eth0");
    change(&sandbox, pid, with(json!([eth0(json!({}))])));
    assert!(lab.client_reaches("192.0.2.160") && lab.client_reaches("192.0.2.150"));
    // A second one, on a bridge that nobody has made.
    let eth1 = json!({ "name": "eth1", "bridge": "vmlan", "addresses": ["10.5.0.1/24"] });
    change(&sandbox, pid, with(json!([eth0(json!({})), eth1])));
    assert_eq!(link(&lab, "veth101.1")["master"], "vmlan");
    sandbox.ve(
        "two",
        json!({ "network": { "interfaces": [
        { "name": "eth0", "bridge": "vmlan", "addresses": ["10.5.0.2/24"], "hostName": "two-lan" }] } }),
    );
    sandbox.apply();
    reaches(&sandbox, "two", "10.5.0.1");
    // It moves to another bridge while it runs.
    let moved = json!({ "name": "eth1", "bridge": "br0", "addresses": ["192.0.2.170/24"] });
    change(&sandbox, pid, with(json!([eth0(json!({})), moved])));
    assert!(lab.client_reaches("192.0.2.170"));
    // Another hardware address is another interface; the VE goes on.
    change(&sandbox, pid, with(json!([eth0(json!({ "mac": "02:00:00:00:99:01" }))])));
    lab.client_ip(&["neigh", "flush", "dev", "eth0"]);
    assert!(lab.client_reaches("192.0.2.150"));
    assert_eq!(sandbox.sh("one", "cat /sys/class/net/eth0/address"), "02:00:00:00:99:01");
    sandbox.ve("one", with(json!([eth0(json!({}))])));
    sandbox.apply();
    sandbox.vzd(&["restart", "one"]).ok();
    assert_eq!(
        sandbox.sh("one", "cat /sys/class/net/eth0/address"),
        mac,
        "it has another one after a restart"
    );
    sandbox.unlink("two.yaml");
    sandbox.ve("one", json!({ "ctid": 101 }));
    sandbox.vzd(&["apply", "--allow-prune=1"]).ok();
    assert_same(&before, &lab.everything(), "after all");
}

#[test]
fn frames_of_another_hardware_address_stay_in_the_ve() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = bridged_lab();
    let sandbox = Sandbox::new();
    let eth0 = |filter: bool| {
        with(json!([{ "name": "eth0", "bridge": "br0", "addresses": ADDRESSES, "macFilter": filter }]))
    };
    sandbox.ve("one", eth0(true));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    let pretend = |mac: &str| {
        sandbox.sh(
            "one",
            &format!("ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up"),
        );
        lab.client_ip(&["neigh", "flush", "dev", "eth0"]);
        lab.client_reaches("192.0.2.150")
    };
    let mac = sandbox.sh("one", "cat /sys/class/net/eth0/address");
    assert!(lab.client_reaches("192.0.2.150"));
    assert!(!pretend("02:00:00:00:77:77"));
    assert!(pretend(&mac));
    change(&sandbox, pid, eth0(false));
    assert!(pretend("02:00:00:00:77:77"));
    change(&sandbox, pid, eth0(true));
    assert_eq!(sandbox.sh("one", "cat /sys/class/net/eth0/address"), mac, "it was put right");
    lab.client_ip(&["neigh", "flush", "dev", "eth0"]);
    assert!(lab.client_reaches("192.0.2.150"));
}

#[test]
fn a_meddled_with_interface_is_put_right() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = bridged_lab();
    let sandbox = Sandbox::new();
    sandbox.ve(
        "one",
        with(json!([{ "name": "eth0", "bridge": "br0", "addresses": ADDRESSES, "gateway": [CLIENT[0]], "mtu": 1450 }])),
    );
    sandbox.apply();
    let put_right = |what: &str| {
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2);
        sandbox.apply();
        sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
        assert!(lab.client_reaches("192.0.2.150"), "after {what}");
    };
    let on_host: [&[&str]; 5] = [
        &["link", "set", "veth101.0", "down"],
        &["link", "set", "veth101.0", "nomaster"],
        &["link", "set", "veth101.0", "mtu", "1300"],
        &["link", "set", "veth101.0", "down", "name", "elsewhere"],
        &["link", "del", "veth101.0"],
    ];
    for words in on_host {
        // A link that is up keeps its name.
        if words.contains(&"name") {
            lab.host(&["link", "set", "veth101.0", "down"]);
            lab.host(&["link", "set", "veth101.0", "name", "elsewhere"]);
        } else {
            lab.host(words);
        }
        put_right(&words.join(" "));
    }
    for script in
        ["ip link set eth0 down", "ip addr flush dev eth0", "ip route del default", "ip link del eth0"]
    {
        sandbox.sh("one", script);
        put_right(script);
    }
    lab.on_host("tc", &["qdisc", "del", "dev", "veth101.0", "clsact"]).ok();
    put_right("the filter is gone");
}

#[test]
fn a_ve_is_in_its_vlan_only() {
    needs!(Root, Cgroups, Busybox, Ip, BridgeVlans);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    let on = |n: u8, vlan: Value| {
        let eth0 = json!({ "name": "eth0", "bridge": "vzlan", "vlan": vlan, "addresses": [format!("10.5.0.{n}/24")] });
        json!({ "ctid": 100 + u32::from(n), "network": { "interfaces": [eth0] } })
    };
    let hears = |n: u8| {
        let address = format!("10.5.0.{n}");
        sandbox.exec("one", &["/bin/busybox", "ping", "-c", "1", "-W", "1", &address]).code == 0
    };
    sandbox.ve("one", on(1, json!(7)));
    sandbox.ve("two", on(2, json!(7)));
    sandbox.ve("three", on(3, json!(8)));
    sandbox.ve("four", on(4, Value::Null));
    sandbox.apply();
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    assert_eq!([2, 3, 4].map(hears), [true, false, false]);
    sandbox.vzd(&["net", "one"]).ends(0).says("vzlan VLAN 7");
    // It changes live, and back to the bridge's usual one.
    let pid = sandbox.init_pid("one");
    change(&sandbox, pid, on(1, json!(8)));
    assert_eq!([2, 3, 4].map(hears), [false, true, false]);
    change(&sandbox, pid, on(1, Value::Null));
    assert_eq!([2, 3, 4].map(hears), [false, false, true]);
    // What was meddled with is put right.
    change(&sandbox, pid, on(1, json!(7)));
    lab.on_host("bridge", &["vlan", "add", "dev", "veth101.0", "vid", "8"]).ok();
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.network.interfaces[eth0].vlan");
    sandbox.apply();
    assert!(!lab.on_host("bridge", &["vlan", "show", "dev", "veth101.0"]).ok().stdout.contains(" 8"));
    assert_eq!([2, 3, 4].map(hears), [true, false, false]);
    // Somebody else's bridge is left as it is.
    lab.host(&["link", "add", "plain", "type", "bridge"]);
    let eth0 = json!({ "name": "eth0", "bridge": "plain", "vlan": 7 });
    sandbox.ve("one", json!({ "ctid": 101, "network": { "interfaces": [eth0] } }));
    sandbox.vzd(&["apply"]).ends(1).says("set its vlan_filtering to 1");
    lab.host(&["link", "del", "plain"]);
    for name in ["one", "two", "three", "four"] {
        sandbox.unlink(&format!("{name}.yaml"));
    }
    sandbox.vzd(&["apply", "--allow-prune=4"]).ok();
    assert_same(&before, &lab.everything(), "after all");
}

#[test]
fn where_bridges_know_no_vlans_that_is_said_at_plan_time() {
    needs!(Root, Cgroups, Busybox, Ip);
    if is_met(Need::BridgeVlans) {
        return;
    }
    let _lab = NetLab::new();
    let sandbox = Sandbox::new();
    let eth0 = json!({ "name": "eth0", "bridge": "vzlan", "vlan": 7 });
    sandbox.ve("one", json!({ "network": { "interfaces": [eth0] } }));
    sandbox.vzd(&["plan"]).says("CONFIG_BRIDGE_VLAN_FILTERING").says("VZ0201");
}
