//! The controller and the keeper killed, restarted and doubled: VEs live on, and are found again.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use vzd_tests::{Ended, Guarded, LONG, Process, Sandbox, eventually, holds_for, needs, within};

/// An init that answers on its console.
const ECHO: &str = "echo up; while read line; do echo got-$line; done";

/// Types into a VE's console until it answers.
#[track_caller]
fn console_answers(sandbox: &Sandbox, name: &str, word: &str) {
    let mut command = sandbox.command(&["console", name]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut console = Guarded::spawn(&mut command);
    let mut typing = console.child.stdin.take().unwrap();
    let shown = BufReader::new(console.child.stdout.take().unwrap());
    let (send, lines) = std::sync::mpsc::channel();
    // Ends with the console.
    std::thread::spawn(move || shown.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    writeln!(typing, "{word}").unwrap();
    within(LONG, format!("the console of {name} answers"), || {
        lines.try_iter().any(|line| line.contains(&format!("got-{word}"))).then_some(())
    });
}

#[test]
fn killed_and_started_again_it_finds_its_ves() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    for name in ["a", "b"] {
        sandbox.ve(name, json!({ "init": ["/bin/sh", "-c", ECHO], "stopTimeout": "200ms" }));
    }
    let pids = ["a", "b"].map(|name| sandbox.until_ready(name));
    console_answers(&sandbox, "a", "before");
    daemon.kill9();
    // Meanwhile the commands do it by themselves.
    assert_eq!(["a", "b"].map(|name| sandbox.init_pid(name)), pids);
    sandbox.exec("a", &["true"]).ok();
    let _daemon = sandbox.daemon();
    assert_eq!(["a", "b"].map(|name| sandbox.until_ready(name)), pids);
    console_answers(&sandbox, "a", "after");
    console_answers(&sandbox, "b", "after");
    let log = sandbox.vzd(&["console", "a", "--log"]).ok();
    assert!(log.stdout.contains("got-before"), "{}", log.stdout);
}

#[test]
fn told_to_stop_it_leaves_its_ves_alone() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    let pid = sandbox.until_ready("web");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(sandbox.init_pid("web"), pid);
    let daemon = sandbox.daemon();
    assert_eq!(sandbox.until_ready("web"), pid);
    drop(daemon);
}

#[test]
fn what_ended_while_no_controller_ran_is_noticed() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    sandbox.ve("halts", json!({}));
    sandbox.ve("reboots", json!({}));
    let pids = ["halts", "reboots"].map(|name| sandbox.until_ready(name));
    daemon.kill9();
    sandbox.signal_init("halts", "USR2");
    sandbox.signal_init("reboots", "HUP");
    for pid in pids {
        eventually("its init ends", || Process::open(pid).is_none_or(|init| !init.is_alive()));
    }
    let _daemon = sandbox.daemon();
    sandbox.until("halts", "halted", |ve| ve.reason() == "HaltedByOwner");
    assert_ne!(sandbox.until_ready("reboots"), pids[1]);
}

#[test]
fn a_killed_keeper_costs_consoles_and_nothing_else() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    sandbox.ve("other", json!({}));
    let pid = sandbox.until_ready("web");
    sandbox.until_ready("other");
    let keeper = Process::keeper_of(&sandbox.run_dir()).unwrap();
    keeper.kill();
    assert!(keeper.wait(Duration::from_secs(5)));
    assert_eq!(sandbox.until_ready("web"), pid);
    sandbox.exec("web", &["true"]).ok();
    eventually("there is another keeper", || Process::keeper_of(&sandbox.run_dir()).is_some());
    sandbox.ve("other", json!({ "state": "stopped" }));
    sandbox.until("other", "stopped", |ve| ve.reason() == "Stopped" && ve.init_pid().is_none());
    sandbox.ve("other", json!({}));
    sandbox.until_ready("other");
}

#[test]
fn a_new_keeper_understands_how_those_end_that_it_did_not_start() {
    needs!(Root, Cgroups, Busybox, PidfdExit);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    let pid = sandbox.until_ready("web");
    Process::keeper_of(&sandbox.run_dir()).unwrap().kill();
    assert_eq!(sandbox.until_ready("web"), pid);
    eventually("there is another keeper", || Process::keeper_of(&sandbox.run_dir()).is_some());
    sandbox.signal_init("web", "USR2");
    sandbox.until("web", "stopped", |ve| ve.init_pid().is_none());
    assert_eq!(sandbox.until("web", "halted", |ve| !ve.reason().is_empty()).reason(), "HaltedByOwner");
}

#[test]
fn controller_and_keeper_may_both_go() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    let pid = sandbox.until_ready("web");
    daemon.kill9();
    Process::keeper_of(&sandbox.run_dir()).unwrap().kill();
    let _daemon = sandbox.daemon();
    assert_eq!(sandbox.until_ready("web"), pid);
    sandbox.vzd(&["stop", "web"]).ok();
    assert!(sandbox.cgroups().is_empty());
}

#[test]
fn a_stop_goes_on_where_a_killed_controller_left_it() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let stubborn = json!(["/bin/guest", "init", "--stubborn"]);
    sandbox.ve("web", json!({ "init": stubborn, "stopTimeout": "1500ms" }));
    let pid = sandbox.until_ready("web");
    sandbox.ve("web", json!({ "init": stubborn, "stopTimeout": "1500ms", "state": "stopped" }));
    let record = || {
        let entry = std::fs::read_dir(sandbox.state_dir().join("ledger")).unwrap().next().unwrap().unwrap();
        std::fs::read_to_string(entry.path()).unwrap_or_default()
    };
    eventually("the stop is on record", || record().contains("\"stopping\":\"spec\""));
    daemon.kill9();
    assert!(Process::open(pid).unwrap().is_alive());
    let _daemon = sandbox.daemon();
    sandbox.until("web", "stopped", |ve| ve.reason() == "Stopped" && ve.init_pid().is_none());
    // An ordered stop is no crash.
    holds_for(Duration::from_millis(500), "it stays stopped", || {
        sandbox.status("web").unwrap().init_pid().is_none()
    });
}

#[test]
fn a_controller_killed_at_any_point_of_a_start_is_followed_by_one_that_ends_it() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    let mut reached = 0;
    for at in 1..60 {
        let sandbox = Sandbox::new();
        sandbox.ve("web", json!({}));
        let mut first = sandbox.daemon_with(|command| {
            command.env("VZD_FAULT_POINT", at.to_string());
        });
        let survived = within(LONG, "it is Ready, or the controller is killed", || {
            let ready = || sandbox.status("web").is_some_and(|ve| ve.is("Ready"));
            match first.has_ended() {
                true => Some(false),
                false => ready().then_some(true),
            }
        });
        drop(first);
        let _second = sandbox.daemon();
        let pid = sandbox.until_ready("web");
        let group = sandbox.cgroup(sandbox.status("web").unwrap().ctid().unwrap());
        let inits = std::fs::read_to_string(group.join("ve/cgroup.procs")).unwrap();
        assert_eq!(inits.trim(), pid.to_string(), "fault point {at}");
        if survived {
            reached = at - 1;
            break;
        }
    }
    assert!(reached > 3, "{reached} fault points were reached");
}

#[test]
fn two_controllers_do_not_see_each_other() {
    needs!(Root, Cgroups, Busybox);
    let (one, two) = (Sandbox::new(), Sandbox::new());
    let (_first, second) = (one.daemon(), two.daemon());
    one.ve("web", json!({ "hostname": "one" }));
    two.ve("web", json!({ "hostname": "two" }));
    let pid = one.until_ready("web");
    assert_ne!(pid, two.until_ready("web"));
    assert_eq!((one.sh("web", "hostname"), two.sh("web", "hostname")), ("one".to_owned(), "two".to_owned()));
    two.ve("web", json!({ "state": "absent" }));
    two.until("web", "destroyed", |ve| ve.init_pid().is_none() && ve.uid().is_none());
    drop(second);
    assert_eq!(one.until_ready("web"), pid);
}

#[test]
fn a_second_controller_of_the_same_state_is_refused() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let other_run_dir = sandbox.dir().join("run2");
    let second = sandbox.command(&["run"]).env("VZD_RUN_DIR", &other_run_dir).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("VZ0402"), "{second:?}");
    // Nor may a command that doesn't reach the controller change anything.
    sandbox.ve("web", json!({}));
    let apply = sandbox.command(&["apply"]).env("VZD_RUN_DIR", &other_run_dir).output().unwrap();
    assert!(String::from_utf8_lossy(&apply.stderr).contains("VZ0402"), "{apply:?}");
    sandbox.until_ready("web");
}

#[test]
fn commands_give_the_same_answers_with_and_without_a_controller() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let ask = || {
        let get = sandbox.vzd(&["get", "web", "-o", "json"]).ok().json();
        let mut conditions = get["status"]["conditions"].clone();
        for condition in conditions.as_array_mut().unwrap() {
            condition.as_object_mut().unwrap().remove("lastTransitionTime");
        }
        let plan = sandbox.vzd(&["plan"]).ok().stdout;
        let why = sandbox.vzd(&["why", "web", "hostname", "-o", "json"]).ok().json();
        (get["spec"].clone(), get["status"]["initPid"].clone(), conditions, plan, why)
    };
    let without = ask();
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    assert_eq!(ask(), without);
    sandbox.vzd(&["stop", "web"]).ok();
    drop(daemon);
    assert_eq!(sandbox.status("web").unwrap().reason(), "StoppedByOperator");
    sandbox.vzd(&["start", "web"]).ok();
    sandbox.vzd(&["wait", "web", "--for", "condition=Ready", "--timeout", "5s"]).ok();
    sandbox.vzd(&["wait", "web", "--for", "condition=Suspended", "--timeout", "200ms"]).ends(124);
}

#[test]
fn it_says_that_it_is_ready_once_its_ves_are_up() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    let path = sandbox.dir().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let _daemon = sandbox.daemon_with(|command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let mut said = [0; 512];
    loop {
        let length = socket.recv(&mut said).unwrap();
        if String::from_utf8_lossy(&said[..length]).contains("READY=1") {
            break;
        }
    }
    assert!(sandbox.status("web").unwrap().init_pid().is_some(), "it was ready before its VE ran");
}

#[test]
fn a_controller_that_stops_leaves_no_empty_group() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    sandbox.ve("web", json!({}));
    sandbox.until_ready("web");
    let group = sandbox.cgroup(sandbox.status("web").unwrap().ctid().unwrap());
    let root = group.parent().unwrap();
    sandbox.ve("web", json!({ "state": "absent" }));
    eventually("it is destroyed", || !group.exists());
    assert!(root.exists());
    assert_eq!(daemon.stop(), 0);
    assert!(!root.exists(), "{} is left", root.display());
}

/// Such as one whose checkout of a repository they are.
#[test]
fn manifests_of_another_user_are_followed_if_that_is_named() {
    needs!(Root, Cgroups, Busybox);
    const DEPLOYS: u32 = 12345;
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    for path in [sandbox.manifests(), sandbox.manifests().join("web.yaml")] {
        std::os::unix::fs::chown(path, Some(DEPLOYS), None).unwrap();
    }
    let apply = |user: &str| Ended::of(sandbox.command(&["apply"]).env("VZD_MANIFEST_USER", user));
    let refused = apply("54321");
    assert!(refused.code != 0 && refused.stderr.contains("it belongs to user 12345"), "{refused:?}");
    assert!(sandbox.status("web").is_none());
    apply(&DEPLOYS.to_string()).ok();
    sandbox.exec("web", &["true"]).ok();
    let unknown = apply("nobody-of-that-name").ends(64);
    assert!(unknown.stderr.contains("there is no such user"), "{unknown:?}");
}
