//! Hand-overs by command that were left half done: controllers of hosts that know each other bring them to their end, and where
//! the other host is lost an operator does.

use std::time::Duration;

use serde_json::json;
use vzd_tests::{Sandbox, needs, within};

use super::declared::{Two, on_record};
use super::{count, goes_on, migrate, runs, two, via};

/// Fewer moments than a hand-over has, and more.
const LEAST: usize = 6;
const MOST: usize = 80;
const SETTLES: Duration = Duration::from_secs(60);

/// Kills a command that hands it over, at a moment; tells whether it came to that, and what it said.
fn killed_at(from: &Sandbox, to: &Sandbox, moment: usize) -> (bool, String) {
    let mut command = from.command(&["migrate", "web", to.host]);
    let output = command.env("VZD_FAULT_POINT", moment.to_string()).output().unwrap();
    (!output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn controllers_bring_to_its_end_what_a_command_has_left() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    let two = Two::new();
    let Two { a, b, .. } = &two;
    a.ve("web", json!({}));
    let (_a, _b) = (a.daemon(), b.daemon());
    two.until_on(a);
    count(a, "web");
    let (mut from, mut to) = (a, b);
    let moments = (1..MOST).find(|moment| {
        let (struck, told) = killed_at(from, to, *moment);
        let stages = ["frozen", "ceded", "receiving", "arrived"];
        let on = within(SETTLES, format!("moment {moment}: it settles: {told}"), || {
            let is_half_done = [a, b].iter().any(|host| stages.iter().any(|stage| on_record(host, stage)));
            match (runs(from), runs(to)) {
                (true, true) => panic!("moment {moment}: it runs twice: {told}"),
                (false, false) => None,
                _ if is_half_done => None,
                (true, false) => Some((from, to)),
                (false, true) => Some((to, from)),
            }
        });
        (from, to) = on;
        goes_on(from, "web");
        !struck
    });
    assert!(moments.is_some_and(|moments| moments > LEAST), "{moments:?}");
}

/// Which is the only thing that nobody can tell by asking.
#[test]
fn where_the_host_that_it_came_from_is_lost_an_operator_says_so() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    let (here, there) = two(json!({}));
    count(&here, "web");
    let arrived = (1..MOST).find(|moment| {
        let killed = via(&there, &format!("VZD_FAULT_POINT={moment}"));
        let ended = here.vzd(&["migrate", "web", "--via", &killed]);
        assert_ne!(ended.code, 0, "moment {moment}: {ended:?}");
        let arrived = on_record(&there, "arrived");
        if !arrived {
            within(SETTLES, format!("moment {moment}: it goes on: {ended:?}"), || {
                for host in [&there, &here] {
                    drop(host.vzd(&["apply"]));
                }
                if here.status("web").is_some_and(|ve| ve.reason() == "HandedOver") {
                    drop(here.vzd(&["migrate", "web", "--via", &via(&there, "")]));
                }
                runs(&here).then_some(())
            });
        }
        arrived
    });
    assert!(arrived.is_some(), "it never arrives");
    here.power_cut();
    there.apply();
    goes_on(&there, "web");
    let third = Sandbox::new();
    let refused = there.vzd(&["migrate", "web", "--via", &via(&third, "")]).ends(1);
    assert!(refused.stderr.contains("VZ0503") && refused.stderr.contains("--take-back"), "{refused:?}");
    assert!(third.list().is_empty());
    let said = there.vzd(&["migrate", "web", "--take-back"]).ok();
    assert_eq!(said.stdout, "web: is this host's alone now\n");
    migrate(&there, &third, "web");
    goes_on(&third, "web");
}
