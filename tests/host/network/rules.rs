//! Rules of routing of a manifest in the VE: they come, change and go live, and the owner's own stay.

use serde_json::{Value, json};
use vzd_tests::{CLIENT, NetLab, Sandbox, needs};

use super::{ONE, change};

/// In a table of its own, the way to the client leads to a router that there isn't.
fn with(rules: &Value) -> Value {
    let nowhere = json!({ "to": "default", "via": "169.254.1.99", "dev": "venet0", "table": 700 });
    json!({ "network": { "addresses": ONE, "routes": [nowhere], "rules": rules } })
}

#[test]
fn rules_come_and_go_live() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    let rules = |family: &str| sandbox.sh("one", &format!("ip {family} rule"));
    let from = |priority: u32| json!({ "priority": priority, "table": 700, "from": ONE[0] });
    // There at the start, and packets go by it.
    sandbox.ve("one", with(&json!([from(100)])));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    assert!(rules("").contains(&format!("100:\tfrom {} lookup 700", ONE[0])), "{}", rules(""));
    assert!(!lab.client_reaches(ONE[0]), "it answers by another table");
    assert!(lab.client_reaches(ONE[1]), "the rule is not about IPv6");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    // The owner's own stay, also one at the same place.
    sandbox.sh(
        "one",
        "ip rule add from 10.9.0.0/16 table 9 pref 100; ip -6 rule add from fd00:9::/64 table 9 pref 9",
    );
    let marked = json!({ "priority": 200, "table": 701, "iif": "venet0", "fwmark": "0x10/0xf0" });
    let there = json!({ "priority": 100, "table": 700, "from": ONE[0], "to": "203.0.113.0/24" });
    change(&sandbox, pid, with(&json!([there, marked])));
    assert!(lab.client_reaches(ONE[0]), "the rule is about another target");
    let (v4, v6) = (rules(""), rules("-6"));
    assert!(
        v4.contains("100:\tfrom 10.9.0.0/16 lookup 9") && v6.contains("9:\tfrom fd00:9::/64"),
        "{v4}{v6}"
    );
    assert!(v4.contains("to 203.0.113.0/24 lookup 700") && v4.matches("100:").count() == 2, "{v4}");
    for family in [&v4, &v6] {
        assert!(family.contains("200:\tfrom all fwmark 0x10/0xf0 iif venet0 lookup 701"), "{family}");
    }
    let shown = sandbox.vzd(&["net", "one"]).ends(0);
    shown
        .says(&format!("rule 100: from {} to 203.0.113.0/24 table 700", ONE[0]))
        .says("rule 200 IPv6: from all iif venet0 fwmark 0x10/0xf0 table 701");
    // What was meddled with is put right.
    sandbox.sh("one", "ip -6 rule del pref 200");
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.network.rules[200 IPv6]");
    sandbox.apply();
    assert!(rules("-6").contains("200:"));
    // All of vzd's go, and nothing else does.
    change(&sandbox, pid, json!({ "network": { "addresses": ONE } }));
    let (v4, v6) = (rules(""), rules("-6"));
    assert!(v4.contains("10.9.0.0/16") && v6.contains("fd00:9::/64"), "{v4}{v6}");
    assert!(!v4.contains("lookup 70") && !v6.contains("lookup 70"), "{v4}{v6}");
    assert!(lab.client_reaches(CLIENT[0]) && lab.client_reaches(ONE[0]));
}
