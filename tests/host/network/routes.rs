//! Routes of a manifest in the VE: they come, change and go live, and the owner's own stay.

use serde_json::{Value, json};
use vzd_tests::{CLIENT, NetLab, Sandbox, needs};

use super::{ONE, change, reaches};

fn with(routes: Value) -> Value {
    json!({ "network": { "addresses": ONE, "routes": routes } })
}

#[test]
fn routes_come_and_go_live() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    let router = json!({ "via": "169.254.1.1", "dev": "venet0" });
    let to = |network: &str, more: Value| {
        let mut route = router.clone();
        route["to"] = network.into();
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        route
    };
    let shown = |more: &str| sandbox.sh("one", &format!("ip route show table {more}"));
    sandbox.ve("one", with(json!([to("10.7.0.0/16", json!({}))])));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    assert!(shown("main").contains("10.7.0.0/16 via 169.254.1.1 dev venet0"), "not there at the start");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    let v6 = json!({ "to": "fd00:7::/64", "via": "fe80::1", "dev": "venet0", "metric": 70 });
    change(
        &sandbox,
        pid,
        with(json!([
            to("10.7.0.0/16", json!({ "metric": 7 })),
            to("10.8.0.0/16", json!({ "table": 700 })),
            v6
        ])),
    );
    assert!(
        shown("main").contains("10.7.0.0/16 via 169.254.1.1 dev venet0")
            && shown("main").contains("metric 7")
    );
    assert!(shown("700").contains("10.8.0.0/16"));
    assert!(sandbox.sh("one", "ip -6 route").contains("fd00:7::/64 via fe80::1 dev venet0"));
    // A route that leads another way is changed in its place; the owner's own stay.
    sandbox.sh("one", "ip route add 10.9.0.0/16 dev venet0");
    change(&sandbox, pid, with(json!([{ "to": "10.7.0.0/16", "dev": "venet0", "metric": 7 }])));
    let main = shown("main");
    assert!(main.contains("10.9.0.0/16 dev venet0") && !main.contains("10.7.0.0/16 via"), "{main}");
    assert!(!shown("700").contains("10.8.0.0/16"));
    assert!(!sandbox.sh("one", "ip -6 route").contains("fd00:7::/64"));
    // What was meddled with is put right.
    sandbox.sh("one", "ip route del 10.7.0.0/16 metric 7");
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.network.routes[10.7.0.0/16 metric 7]");
    sandbox.apply();
    assert!(shown("main").contains("10.7.0.0/16"));
    reaches(&sandbox, "one", CLIENT[0]);
    assert!(lab.client_reaches(ONE[0]));
    change(&sandbox, pid, json!({ "network": { "addresses": ONE } }));
    let main = shown("main");
    assert!(main.contains("10.9.0.0/16") && !main.contains("10.7.0.0/16"), "{main}");
}

#[test]
fn a_route_that_cannot_be_says_why() {
    needs!(Root, Cgroups, Busybox, Ip);
    let _lab = NetLab::new();
    let sandbox = Sandbox::new();
    // What the VE makes itself may come later: the start does not wait for it.
    let wanted = with(json!([{ "to": "10.7.0.0/16", "dev": "tun7" }]));
    sandbox.ve("one", wanted.clone());
    sandbox.vzd(&["apply"]).ends(1).says("the VE has no interface tun7");
    let pid = sandbox.init_pid("one");
    sandbox.sh("one", "ip link add tun7 type bridge; ip link set tun7 up");
    change(&sandbox, pid, wanted);
    assert!(sandbox.sh("one", "ip route").contains("10.7.0.0/16 dev tun7"));
    sandbox.sh("one", "ip route add 10.8.0.0/16 dev tun7");
    sandbox.ve("one", with(json!([{ "to": "10.8.0.0/16", "dev": "venet0" }])));
    sandbox.vzd(&["apply"]).ends(1).says("another route there that is not vzd's");
    assert!(sandbox.sh("one", "ip route").contains("10.8.0.0/16 dev tun7"));
}
