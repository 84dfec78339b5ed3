//! Many VEs on one host: all of them are reached, and nothing of them is left.

use serde_json::json;
use vzd_tests::{CLIENT, NetLab, Sandbox, assert_same, needs};

use super::reaches;

fn addresses(n: usize) -> [String; 2] {
    [format!("10.66.{}.{}", n / 250, n % 250 + 1), format!("fd00:66::{:x}", n + 1)]
}

/// As many as a test has time for; `VZD_TEST_VES=500` for those who have minutes.
fn ves() -> usize {
    std::env::var("VZD_TEST_VES").map_or(100, |ves| ves.parse().unwrap())
}

#[test]
fn many_ves_are_reached_and_leave_nothing_behind() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let ves = ves();
    let lab = NetLab::new();
    // By default the host leads everything to the wire: there it answers for them.
    lab.host(&["route", "add", "default", "via", CLIENT[0]]);
    lab.host(&["route", "add", "default", "via", CLIENT[1]]);
    let before = lab.everything();
    // The client has no other way to them than to look for them on its wire.
    lab.client_ip(&["route", "add", "10.66.0.0/16", "dev", "eth0"]);
    lab.client_ip(&["route", "add", "fd00:66::/64", "dev", "eth0"]);
    let sandbox = Sandbox::new();
    for n in 0..ves {
        let publish = json!([{ "host": 10_000 + n, "ve": 80 }]);
        sandbox
            .ve(&format!("ve{n}"), json!({ "network": { "addresses": addresses(n), "publish": publish } }));
    }
    sandbox.apply();
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    for n in (0..ves).step_by(ves.div_ceil(100)) {
        for address in addresses(n) {
            assert!(lab.client_reaches(&address), "{address} is not reached");
        }
    }
    for n in (0..ves).step_by(ves.div_ceil(10)) {
        for address in addresses(ves - 1 - n) {
            reaches(&sandbox, &format!("ve{n}"), &address);
        }
    }
    // One table and its chains, however many VEs there are.
    let ruleset = lab.on_host("nft", &["list", "ruleset"]).ok().stdout;
    assert_eq!(ruleset.matches("chain ").count(), 4, "{ruleset}");
    (0..ves).for_each(|n| sandbox.unlink(&format!("ve{n}.yaml")));
    sandbox.vzd(&["apply", &format!("--allow-prune={ves}")]).ok();
    assert_same(&before, &lab.everything(), "after all");
}
