//! VEs that have no way to the resolver: they ask at their own loopback, and get nothing else by it.

use domain::base::iana::Rtype;
use serde_json::json;
use vzd_tests::{NetLab, Sandbox, assert_same, eventually, needs};

use super::{ONE, RESOLVER, TWO, ask, host, inheriting, servers, upstream};

const WITHIN: &str = "127.118.122.53";

#[test]
fn a_ve_on_a_bridge_asks_at_its_own_loopback() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    upstream(&sandbox, "192.0.2.254");
    host(&sandbox, true);
    let eth0 =
        json!({ "name": "eth0", "bridge": "vmlan", "addresses": ["10.5.0.1/24"], "gateway": ["10.5.0.9"] });
    let bridged = json!({ "network": { "interfaces": [eth0], "nameservers": "inherit" } });
    sandbox.ve("one", bridged.clone());
    sandbox.ve("two", inheriting(&TWO));
    sandbox.ve("alone", json!({ "network": { "nameservers": "inherit" } }));
    let daemon = sandbox.daemon();
    for ve in ["one", "two", "alone"] {
        sandbox.until_ready(ve);
    }
    assert_eq!(servers(&sandbox, "one"), [WITHIN, "192.0.2.254"]);
    assert_eq!(servers(&sandbox, "alone"), ["192.0.2.254"]);
    let asked = |ve: &str, name: &str, qtype| ask(&sandbox, ve, WITHIN, name, qtype);
    assert_eq!(asked("one", "two", Rtype::A), format!("NOERROR {}", TWO[0]));
    assert_eq!(asked("one", "one", Rtype::A), "NOERROR 10.5.0.1");
    assert_eq!(ask(&sandbox, "two", RESOLVER[0], "one", Rtype::A), "NOERROR 10.5.0.1");
    assert!(sandbox.sh("one", "nslookup two").contains(TWO[0]));
    // Nobody is there for those who have another way, or none at all.
    assert_eq!((asked("two", "one", Rtype::A), asked("alone", "one", Rtype::A)), Default::default());
    // It has no link that it was not given.
    assert_eq!(sandbox.sh("one", "ls /sys/class/net | grep -v -e lo -e eth0 || true"), "");
    let pid = sandbox.init_pid("one");
    // A way of its own, live: the socket within is gone, and comes back.
    let mut routed = bridged.clone();
    routed["network"]["interfaces"][0]["gateway"] = json!([]);
    routed["network"]["addresses"] = json!([ONE[0]]);
    sandbox.ve("one", routed);
    eventually("it asks over its link", || servers(&sandbox, "one") == [RESOLVER[0], "192.0.2.254"]);
    eventually("nobody is within", || asked("one", "two", Rtype::A).is_empty());
    sandbox.ve("one", bridged.clone());
    eventually("it is answered within", || asked("one", "two", Rtype::A) == format!("NOERROR {}", TWO[0]));
    assert_eq!(sandbox.init_pid("one"), pid);
    // Another run has another namespace.
    sandbox.vzd(&["restart", "one"]).ok();
    eventually("the next run is answered", || asked("one", "two", Rtype::A) == format!("NOERROR {}", TWO[0]));
    // Off and on.
    host(&sandbox, false);
    eventually("nobody is asked", || servers(&sandbox, "one") == ["192.0.2.254"]);
    eventually("nobody answers", || asked("one", "two", Rtype::A).is_empty());
    host(&sandbox, true);
    eventually("it answers", || asked("one", "two", Rtype::A) == format!("NOERROR {}", TWO[0]));
    // No socket keeps what the VE had: an interface of the host's comes back with its end.
    lab.host(&["link", "add", "lan7", "type", "veth", "peer", "name", "wire7"]);
    let mut owner = bridged.clone();
    owner["network"]["devices"] = json!([{ "name": "lan7" }]);
    sandbox.ve("one", owner);
    eventually("the interface is in the VE", || lab.on_host("ip", &["link", "show", "lan7"]).code != 0);
    sandbox.vzd(&["stop", "one", "--force"]).ok();
    eventually("the interface is back", || lab.on_host("ip", &["link", "show", "lan7"]).code == 0);
    lab.host(&["link", "del", "lan7"]);
    for ve in ["one", "two", "alone"] {
        sandbox.unlink(&format!("{ve}.yaml"));
    }
    sandbox.vzd(&["apply", "--allow-prune=3"]).ok();
    assert_eq!(daemon.stop(), 0);
    assert_same(&before, &lab.everything(), "after all");
}

#[test]
fn a_ve_that_is_answered_within_is_suspended_and_goes_on() {
    needs!(Root, Cgroups, Busybox, Ip, Criu);
    let _lab = NetLab::new();
    let sandbox = Sandbox::new();
    upstream(&sandbox, "192.0.2.254");
    host(&sandbox, true);
    let eth0 = json!({ "name": "eth0", "bridge": "vmlan", "addresses": ["10.5.0.1/24"] });
    sandbox.ve("one", json!({ "network": { "interfaces": [eth0], "nameservers": "inherit" } }));
    let daemon = sandbox.daemon();
    sandbox.until_ready("one");
    let is_answered = || ask(&sandbox, "one", WITHIN, "one", Rtype::A) == "NOERROR 10.5.0.1";
    assert!(is_answered());
    sandbox.vzd(&["suspend", "one"]).ok();
    sandbox.vzd(&["resume", "one"]).ok();
    eventually("it is answered again", is_answered);
    drop(daemon);
}
