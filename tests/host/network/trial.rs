//! A packet filter on trial: one that cuts the VE off goes by itself, one that does not stays, and so it is when the
//! controller is killed in the middle.

use serde_json::{Value, json};
use vzd_tests::{LONG, NetLab, Sandbox, eventually, needs, within};

use super::{ONE, change};

/// How a controller ends at a fault point.
const KILLED: i32 = 137;

/// The port on which the VE listens.
const PORT: u16 = 7;

fn with(firewall: Value) -> Value {
    json!({ "network": { "addresses": ONE, "firewall": firewall } })
}

/// Nothing gets in.
fn cutting_off(confirm: &str) -> Value {
    with(json!({ "policy": "drop", "confirm": confirm }))
}

/// Nothing but what the VE serves.
fn letting_in(confirm: &str) -> Value {
    let rule = json!({ "action": "accept", "protocol": "tcp", "ports": [PORT] });
    with(json!({ "policy": "drop", "rules": [rule], "confirm": confirm }))
}

/// A VE that serves, and who reaches it.
fn serving(lab: &NetLab, sandbox: &Sandbox) {
    sandbox.ve("one", with(json!({ "policy": "accept" })));
    sandbox.apply();
    sandbox.sh("one", &format!("nc -ll -p {PORT} -e cat </dev/null >/dev/null 2>&1 & echo $! >/server"));
    within(LONG, "the client reaches the VE", || reached(lab).then_some(()));
}

fn reached(lab: &NetLab) -> bool {
    let to: std::net::SocketAddr = (ONE[0].parse::<std::net::IpAddr>().unwrap(), PORT).into();
    lab.in_client(|| std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(1)).is_ok())
}

#[test]
fn a_filter_that_cuts_the_ve_off_is_rolled_back() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    serving(&lab, &sandbox);
    let pid = sandbox.init_pid("one");
    // Without a controller the command itself waits for what comes of it.
    sandbox.ve("one", cutting_off("1h"));
    sandbox.vzd(&["apply"]).ends(1).says("the host does not reach the VE any more");
    assert!(reached(&lab), "the client is still cut off");
    assert!(lab.client_reaches(ONE[0]), "the filter of before is not back");
    sandbox.until_event("one", "FirewallRolledBack");
    // It is not tried again, and everything else of the manifest is carried out.
    let mut other = cutting_off("1h");
    other["description"] = "new".into();
    sandbox.ve("one", other);
    sandbox.vzd(&["apply"]).ends(1).says("it was rolled back");
    assert!(reached(&lab));
    let stalled = sandbox.status("one").and_then(|ve| ve.condition("Stalled")).unwrap();
    assert!(stalled.message.contains("the host does not reach the VE any more"), "{}", stalled.message);
    // Nor when it starts anew.
    sandbox.vzd(&["restart", "one"]);
    assert_ne!(sandbox.init_pid("one"), pid);
    assert!(lab.client_reaches(ONE[0]), "what failed was loaded at the start");
    // Another text is tried.
    let pid = sandbox.init_pid("one");
    change(&sandbox, pid, with(json!({ "policy": "reject" })));
    assert!(!lab.client_reaches(ONE[0]));
}

#[test]
fn a_filter_that_lets_the_ve_be_reached_stays() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    serving(&lab, &sandbox);
    change(&sandbox, sandbox.init_pid("one"), letting_in("1s"));
    sandbox.until_event("one", "FirewallConfirmed");
    assert!(reached(&lab) && !lab.client_reaches(ONE[0]));
}

#[test]
fn a_trial_goes_on_after_the_controller_was_killed() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    serving(&lab, &sandbox);
    let controller = sandbox.daemon();
    sandbox.ve("one", letting_in("1h"));
    eventually("the new filter is there", || !lab.client_reaches(ONE[0]));
    assert!(reached(&lab));
    controller.kill9();
    // Meanwhile the VE falls silent, which the one that comes after cannot tell from being cut off.
    sandbox.sh("one", "kill $(cat /server)");
    let _after = sandbox.daemon();
    sandbox.until_event("one", "FirewallRolledBack");
    eventually("the filter of before is back", || lab.client_reaches(ONE[0]));
}

#[test]
fn a_kill_at_any_point_leaves_nobody_cut_off() {
    needs!(Root, Cgroups, Busybox, FaultPoints, Ip, Nft);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    serving(&lab, &sandbox);
    let mut kills = 0;
    for at in 1..20 {
        change(&sandbox, sandbox.init_pid("one"), with(json!({ "policy": "accept" })));
        sandbox.ve("one", cutting_off("1h"));
        let ended = sandbox.command(&["apply"]).env("VZD_FAULT_POINT", at.to_string()).output().unwrap();
        if ended.status.code() != Some(KILLED) {
            break;
        }
        kills += 1;
        sandbox.vzd(&["apply"]).ends(1).says("it was rolled back");
        assert!(reached(&lab), "cut off after a kill at fault point {at}");
    }
    // Before and after the filter is loaded, and before and after that of before is.
    assert!((4..19).contains(&kills), "{kills} fault points were reached");
}

#[test]
fn a_health_probe_that_fails_has_it_rolled_back() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    let probed = |firewall: Value| {
        let mut spec = with(firewall);
        let ask = ["/bin/sh", "-c", "test ! -e /sick"];
        spec["health"] = json!({ "exec": ask, "interval": "1s", "failureThreshold": 1 });
        spec
    };
    sandbox.ve("one", probed(json!({ "policy": "accept" })));
    let _controller = sandbox.daemon();
    eventually("it is healthy", || sandbox.status("one").is_some_and(|ve| ve.is("Healthy")));
    sandbox.ve("one", probed(json!({ "policy": "drop", "confirm": "1h" })));
    eventually("the new filter is there", || !lab.client_reaches(ONE[0]));
    sandbox.sh("one", "touch /sick");
    let event = sandbox.until_event("one", "FirewallRolledBack");
    assert!(event["message"].as_str().unwrap().contains("the probe exited with 1"), "{event}");
    eventually("the filter of before is back", || lab.client_reaches(ONE[0]));
}
