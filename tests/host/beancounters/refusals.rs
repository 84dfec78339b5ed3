//! Refusals are told as they happen, with what was short and for whom.

use std::time::Duration;

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs, within};

use super::{counter, held};

/// Sooner than counters are looked at by themselves.
const AT_ONCE: Duration = Duration::from_secs(8);

#[test]
fn refusals_are_told_as_they_happen_and_folded() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "beancounters": { "numproc": 20 } }));
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    let told = || {
        let mut events = sandbox.events("web");
        events.retain(|event| event["reason"] == "LimitReached");
        events
    };
    for round in 1..=3 {
        let before = told().first().map_or(0, |event| event["count"].as_u64().unwrap());
        sandbox
            .sh("web", "setsid timeout -s KILL 2 /bin/guest drive processes 30 >/dev/null 2>&1 </dev/null &");
        within(AT_ONCE, format!("refusals of round {round} are told"), || {
            told().first().filter(|event| event["count"].as_u64() > Some(before)).map(drop)
        });
        eventually("it is gone", || held(&sandbox, "numproc") < 5);
    }
    let [event] = &told()[..] else { panic!("{:?}", told()) };
    let message = event["message"].as_str().unwrap();
    for part in ["numproc", "barrier 20, limit 20", "web.yaml:"] {
        assert!(message.contains(part), "{message}");
    }
    let failcnt = counter(&sandbox, "numproc")["failcnt"].clone();
    assert!(failcnt.as_u64() >= Some(3), "{failcnt}");
    eventually("all of them are in it", || told().first().is_some_and(|event| event["count"] == failcnt));
}

#[test]
fn a_kill_for_lack_of_memory_is_told_with_its_process() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "memory": { "ram": "64M" } }));
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.sh("web", "setsid /bin/guest drive touched-pages 1000000 >/dev/null 2>&1 </dev/null &");
    let event = within(AT_ONCE, "the kill is told", || {
        sandbox.events("web").into_iter().find(|event| event["reason"] == "OomKilled")
    });
    let message = event["message"].as_str().unwrap();
    for part in ["physpages", "limit 16384", "web.yaml:", "(guest)"] {
        assert!(message.contains(part), "{message}");
    }
    let pages = counter(&sandbox, "physpages");
    assert_eq!((&pages["failcnt"], &counter(&sandbox, "oomguarpages")["failcnt"]), (&json!(1), &json!(1)));
}
