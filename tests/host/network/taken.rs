//! An address of a VE that somebody else on the wire has too: that is told, with whose it is, and stops nothing.

use vzd_tests::{NetLab, Sandbox, assert_same, eventually, needs};

use super::{ONE, TWO, with};

#[test]
fn an_address_that_another_has_is_told_until_he_has_it_no_more() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let mac = lab.client_ip(&["-j", "link", "show", "eth0"]);
    let mac = serde_json::from_str::<serde_json::Value>(&mac).unwrap()[0]["address"].clone();
    let mac = mac.as_str().unwrap();
    lab.client_ip(&["addr", "add", &format!("{}/24", ONE[0]), "dev", "eth0"]);
    lab.client_ip(&["addr", "add", &format!("{}/64", ONE[1]), "dev", "eth0", "nodad"]);
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(&ONE));
    sandbox.ve("two", with(&TWO));
    let daemon = sandbox.daemon();
    let pids = ["one", "two"].map(|name| sandbox.until_ready(name));
    let told = |name: &str| {
        sandbox.vzd(&["apply"]);
        sandbox.status(name).and_then(|ve| ve.condition("AddressConflict")).map(|is| is.message)
    };
    let whose = |address: &str| format!("{address} is also {mac}'s on eth0");
    eventually("both are told", || {
        told("one").is_some_and(|told| ONE.iter().all(|one| told.contains(&whose(one))))
    });
    sandbox.until_event("one", "AddressTaken");
    assert_eq!(told("two"), None);
    // The other has them no more.
    lab.client_ip(&["addr", "del", &format!("{}/24", ONE[0]), "dev", "eth0"]);
    lab.client_ip(&["addr", "del", &format!("{}/64", ONE[1]), "dev", "eth0"]);
    eventually("it is over", || told("one").is_none());
    // One that answers for others, as another host with VEs does; of an address that is given live.
    lab.client("sysctl", &["-qw", "net.ipv4.ip_forward=1", "net.ipv4.neigh.eth0.proxy_delay=0"]).ok();
    lab.client_ip(&["route", "add", "192.0.2.103/32", "dev", "lo"]);
    lab.client_ip(&["neigh", "add", "proxy", "192.0.2.103", "dev", "eth0"]);
    sandbox.ve("two", with(&[TWO[0], TWO[1], "192.0.2.103"]));
    eventually("it is told", || told("two") == Some(whose("192.0.2.103")));
    sandbox.ve("two", with(&TWO));
    eventually("it is over", || told("two").is_none());
    assert_eq!(["one", "two"].map(|name| sandbox.init_pid(name)), pids, "it was restarted");
    daemon.stop();
    sandbox.unlink("one.yaml");
    sandbox.unlink("two.yaml");
    sandbox.vzd(&["apply", "--allow-prune=2"]).ok();
    assert_same(&before, &lab.everything(), "after all");
}
