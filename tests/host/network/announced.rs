//! Neighbours that know another owner of an address are told when it becomes a VE's.

use serde_json::{Value, json};
use vzd_tests::{NetLab, Sandbox, eventually, needs};

use super::bridged::{bridged_lab, link};
use super::{ONE, TWO, with};

/// Has the client believe that a stranger has these addresses.
fn mislead(lab: &NetLab, addresses: &[&str]) {
    for address in addresses {
        let stranger =
            ["neigh", "replace", address, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "reachable"];
        lab.client_ip(&stranger);
    }
}

/// Whom the client believes to have an address.
fn believed(lab: &NetLab, address: &str) -> String {
    let shown = lab.client_ip(&["-j", "neigh", "show", address]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown[0]["lladdr"].as_str().unwrap_or_default().to_owned()
}

fn until_believed(lab: &NetLab, addresses: &[&str], mac: &str) {
    for address in addresses {
        eventually(format!("the client is told of {address}"), || believed(lab, address) == mac);
    }
}

#[test]
fn neighbours_are_told_of_routed_addresses() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let mac = link(&lab, "eth0")["address"].as_str().unwrap().to_owned();
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(&ONE));
    mislead(&lab, &ONE);
    mislead(&lab, &TWO);
    sandbox.apply();
    until_believed(&lab, &ONE, &mac);
    assert!(TWO.iter().all(|address| believed(&lab, address) != mac), "it was told of what no VE has");
    // Of one that is given live as well.
    sandbox.ve("one", with(&[ONE[0], ONE[1], TWO[0], TWO[1]]));
    sandbox.apply();
    until_believed(&lab, &TWO, &mac);
}

#[test]
fn neighbours_are_told_of_addresses_of_interfaces() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = bridged_lab();
    let sandbox = Sandbox::new();
    let eth0 = |addresses: &[&str]| {
        let mac = "02:00:00:00:77:01";
        let eth0 = json!({ "name": "eth0", "bridge": "br0", "mac": mac, "addresses": addresses });
        sandbox.ve("one", json!({ "network": { "interfaces": [eth0] } }));
        sandbox.apply();
        mac
    };
    let (first, second) = (["192.0.2.150", "fd00:2::150"], ["192.0.2.151", "fd00:2::151"]);
    mislead(&lab, &first);
    mislead(&lab, &second);
    let mac = eth0(&["192.0.2.150/24", "fd00:2::150/64"]);
    until_believed(&lab, &first, mac);
    assert!(second.iter().all(|address| believed(&lab, address) != mac), "it was told of what no VE has");
    eth0(&["192.0.2.150/24", "fd00:2::150/64", "192.0.2.151/24", "fd00:2::151/64"]);
    until_believed(&lab, &second, mac);
}
