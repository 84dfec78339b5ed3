//! The same of plans with networks: what the host has for a VE is what it would have, and nothing is left when it stops.

use serde_json::{Value, json};
use vzd_tests::{NetLab, Sandbox, eventually, needs};

use super::{Case, survives, survives_and_tells};

fn networked(addresses: &[&str], bridge: &str) -> Value {
    let eth0 = json!({ "name": "eth0", "bridge": bridge, "addresses": ["10.90.0.1/24"] });
    json!({ "ctid": 101, "network": { "addresses": addresses, "interfaces": [eth0] } })
}

#[test]
fn a_start_with_a_network() {
    needs!(Root, Cgroups, Busybox, FaultPoints, Ip);
    let _lab = NetLab::new();
    survives(&Case {
        before: |_| {},
        change: |sandbox| sandbox.ve("web", networked(&["192.0.2.101"], "one")),
        command: &["apply"],
    });
}

#[test]
fn a_network_changed_live() {
    needs!(Root, Cgroups, Busybox, FaultPoints, Ip);
    let _lab = NetLab::new();
    survives(&Case {
        before: |sandbox| {
            sandbox.ve("web", networked(&["192.0.2.101", "192.0.2.102"], "one"));
            sandbox.apply();
        },
        change: |sandbox| sandbox.ve("web", networked(&["192.0.2.102", "192.0.2.103"], "two")),
        command: &["apply"],
    });
}

/// With limits, a packet filter, masquerade and a published port.
fn limited(rate: &str, own: &str, port: u16) -> Value {
    let rule = json!({ "action": "accept", "protocol": "tcp", "ports": [port] });
    let eth0 =
        json!({ "name": "eth0", "bridge": "one", "addresses": ["10.90.0.1/24"], "rate": { "out": own } });
    json!({ "ctid": 101, "network": {
        "addresses": ["192.0.2.101"], "interfaces": [eth0], "rate": { "in": rate }, "masquerade": port == 80,
        "firewall": { "policy": "drop", "rules": [rule], "confirm": "1s" },
        "publish": [{ "host": port, "ve": 80 }] } })
}

/// With interfaces on top of the host's and handed over.
fn linked() -> Value {
    let eth0 = json!({ "name": "eth0", "parent": "eth0", "addresses": ["192.0.2.150/24"] });
    json!({ "ctid": 101, "network": { "interfaces": [eth0], "devices": [{ "name": "lan7" }] } })
}

/// A host, and what its network was before there was any VE.
struct Host {
    lab: NetLab,
    before: String,
}

impl Host {
    /// With an interface `lan7` that can be handed over.
    fn new() -> Host {
        let lab = NetLab::new();
        lab.host(&["link", "add", "lan7", "type", "veth", "peer", "name", "wire7"]);
        let before = everything(&lab);
        Host { lab, before }
    }

    /// Kills a plan at each point: what the host has for the VE in the end, and what is in the VE, is what it would be. Then
    /// the VE is stopped, and the host is as it was.
    #[track_caller]
    fn survives(&self, case: &Case) {
        survives_and_tells(case, &|sandbox| {
            let told = self.told(sandbox);
            sandbox.vzd(&["stop", "web"]).ok();
            // The kernel takes a macvlan from its parent some time after the last process of its namespace.
            eventually("the host's network is as it was", || everything(&self.lab) == self.before);
            told
        });
    }

    fn told(&self, sandbox: &Sandbox) -> Value {
        let queues = self.lab.on_host("tc", &["qdisc", "show"]).ok().stdout;
        let mut queues: Vec<&str> = queues.lines().collect();
        queues.sort_unstable();
        let pid = sandbox.init_pid("web").to_string();
        let inside = |program: &str, words: &[&str]| {
            let all = [&["-t", &pid, "-n", program][..], words].concat();
            self.lab.on_host("nsenter", &all).ok().stdout
        };
        // Without the numbers of the other ends (`venet0@if7`).
        let own = inside("ip", &["-br", "-4", "addr"]);
        let own = own.split_whitespace().map(|word| word.split('@').next());
        json!({
            "links": links(&self.lab), "queues": queues, "own": own.collect::<Vec<_>>(),
            "translated": rules(&self.lab.on_host("nft", &["list", "ruleset"]).ok().stdout),
            "filtered": rules(&inside("nft", &["list", "ruleset"])),
        })
    }
}

/// All but the other end, which shows where this one is.
fn everything(lab: &NetLab) -> String {
    let all = lab.everything();
    let lines = all.lines().filter(|line| !line.contains("wire7") || line.contains("lan7@wire7"));
    lines.map(|line| format!("{line}\n")).collect()
}

fn links(lab: &NetLab) -> Vec<Value> {
    let shown = lab.on_host("ip", &["-j", "link", "show"]).ok().json();
    let tell = |link: &Value| json!([link["ifname"], link["master"], link["operstate"], link["mtu"]]);
    shown.as_array().unwrap().iter().map(tell).collect()
}

/// Rules of nftables, without what is another in each sandbox: the name of the table and the VE's uid.
fn rules(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.contains("table "));
    lines.map(|line| line.split(" comment ").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_start_with_limits_filter_and_translation() {
    needs!(Root, Cgroups, Busybox, FaultPoints, Ip, Nft);
    Host::new().survives(&Case {
        before: |_| {},
        change: |sandbox| sandbox.ve("web", limited("8M", "4M", 80)),
        command: &["apply"],
    });
}

#[test]
fn limits_filter_and_translation_changed_live() {
    needs!(Root, Cgroups, Busybox, FaultPoints, Ip, Nft);
    Host::new().survives(&Case {
        before: |sandbox| {
            sandbox.ve("web", limited("8M", "4M", 80));
            sandbox.apply();
        },
        change: |sandbox| sandbox.ve("web", limited("16M", "2M", 81)),
        command: &["apply"],
    });
}

#[test]
fn a_macvlan_and_a_device_given_live() {
    needs!(Root, Cgroups, Busybox, FaultPoints, Ip, Nft);
    Host::new().survives(&Case {
        before: |sandbox| {
            sandbox.ve("web", json!({ "ctid": 101 }));
            sandbox.apply();
        },
        change: |sandbox| sandbox.ve("web", linked()),
        command: &["apply"],
    });
}

#[test]
fn a_start_with_a_macvlan_and_a_device() {
    needs!(Root, Cgroups, Busybox, FaultPoints, Ip, Nft);
    Host::new().survives(&Case {
        before: |_| {},
        change: |sandbox| sandbox.ve("web", linked()),
        command: &["apply"],
    });
}
