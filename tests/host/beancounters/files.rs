//! Open files, where the kernel lets programs count them: those past the barrier are refused, and what is closed is free
//! again, whoever closes it.

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs};

use super::{counter, held};

fn bounded(sandbox: &Sandbox, numfile: u64) {
    sandbox.ve("web", json!({ "beancounters": { "numfile": numfile } }));
    sandbox.apply();
}

/// Ends the guest programs of the VE with this init.
fn end(init: u32) {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inside = namespace(&init.to_string()).unwrap();
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    for pid in pids.filter(|pid| *pid != init.to_string() && namespace(pid).as_ref() == Some(&inside)) {
        if std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "guest") {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn files_past_the_barrier_are_refused_and_closed_ones_are_free_again() {
    needs!(Root, Cgroups, Busybox, BpfLsm);
    let sandbox = Sandbox::new();
    bounded(&sandbox, 200);
    let pid = sandbox.init_pid("web");
    let files = counter(&sandbox, "numfile");
    assert!(files["enforcement"]["enforced"].is_string() && files["failcnt"] == 0, "{files}");
    let before = held(&sandbox, "numfile");
    assert!((1..50).contains(&before), "{before}");
    // Each round as many as before, however often.
    let mut refused = 0;
    for _ in 0..2 {
        let driven = sandbox.drive("web", "files", 300);
        assert_eq!(driven.errno.as_deref(), Some("ENFILE"), "{driven:?}");
        assert!(
            driven.made + before <= 200 && driven.made + before + 10 > 200,
            "{driven:?}, {before} before"
        );
        let full = counter(&sandbox, "numfile");
        assert_eq!((&full["held"], &full["maxheld"]), (&json!(200), &json!(200)));
        // Not even a program can be started, which is counted like all others.
        assert!(full["failcnt"].as_u64() > Some(refused), "{full}");
        assert_ne!(sandbox.exec("web", &["/bin/true"]).code, 0);
        let failcnt = counter(&sandbox, "numfile")["failcnt"].as_u64().unwrap();
        assert!(failcnt > full["failcnt"].as_u64().unwrap(), "{failcnt}");
        refused = failcnt;
        // From outside, since nobody is let in.
        end(pid);
        eventually("all are closed", || held(&sandbox, "numfile") == before);
    }
    // Raised and lowered while it runs: none is taken away, one more is refused.
    bounded(&sandbox, 400);
    assert_eq!(sandbox.drive("web", "files", 300).made, 300);
    bounded(&sandbox, 100);
    assert!(held(&sandbox, "numfile") > 300);
    end(pid);
    eventually("all are closed", || held(&sandbox, "numfile") == before);
    sandbox.ve("web", json!({}));
    sandbox.apply();
    assert_eq!(sandbox.drive("web", "files", 900).made, 900);
    assert_eq!(sandbox.init_pid("web"), pid);
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
}

#[test]
fn files_that_others_close_are_counted_down_and_each_ve_has_its_own() {
    needs!(Root, Cgroups, Busybox, BpfLsm);
    let sandbox = Sandbox::new();
    for name in ["other", "web"] {
        sandbox.ve(name, json!({ "beancounters": { "numfile": 1200 } }));
    }
    sandbox.apply();
    let before = held(&sandbox, "numfile");
    // Many more than memory that was handed out anew can hide.
    for _ in 0..2 {
        assert_eq!(sandbox.drive("other", "files", 800).made, 800);
        assert_eq!(sandbox.drive("web", "files", 1000).made, 1000);
        // Descriptors in a socket that nobody has any more are closed by a thread of the kernel.
        assert_eq!(sandbox.drive("web", "files-in-flight", 30).made, 30);
        assert!(held(&sandbox, "numfile") > before + 1000);
        sandbox.let_go("web");
        eventually("all are closed", || held(&sandbox, "numfile") == before);
        sandbox.let_go("other");
    }
    // A VE that was stopped starts anew, beside one that goes on.
    sandbox.drive("other", "files", 500);
    sandbox.vzd(&["restart", "--force", "web"]).ok();
    assert!(held(&sandbox, "numfile") <= before + 5 && counter(&sandbox, "numfile")["failcnt"] == 0);
    assert_eq!(sandbox.drive("web", "files", 1000).made, 1000);
}

#[test]
fn files_go_on_being_counted_while_no_controller_runs() {
    needs!(Root, Cgroups, Busybox, BpfLsm);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "beancounters": { "numfile": 500 } }));
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    let before = held(&sandbox, "numfile");
    let pid = sandbox.init_pid("web");
    drop(daemon);
    assert_eq!(sandbox.drive("web", "files", 600).errno.as_deref(), Some("ENFILE"));
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    let files = counter(&sandbox, "numfile");
    assert!(files["held"] == 500 && files["failcnt"].as_u64() > Some(0), "{files}");
    sandbox.until_event("web", "LimitReached");
    end(pid);
    eventually("all are closed", || held(&sandbox, "numfile") == before);
    drop(daemon);
}

/// The kernel's programs of this name, as its table of symbols has them.
fn programs(name: &str) -> usize {
    let table = std::fs::read_to_string("/proc/kallsyms").unwrap();
    table.lines().filter(|line| line.ends_with("[bpf]") && line.contains(name)).count()
}

#[test]
fn the_program_at_the_top_goes_with_the_last_ve_that_is_counted() {
    needs!(Root, Cgroups, Busybox, BpfLsm);
    const TOP: &str = "vzd_file_free";
    let sandbox = Sandbox::new();
    for name in ["one", "two"] {
        sandbox.ve(name, json!({ "beancounters": { "numfile": 500 } }));
    }
    sandbox.apply();
    eventually("it is one for all", || programs(TOP) == 1);
    sandbox.vzd(&["stop", "one"]).ok();
    assert!(programs(TOP) > 0, "others are still counted");
    assert_eq!(sandbox.drive("two", "files", 600).errno.as_deref(), Some("ENFILE"));
    // There may be VEs of other tests beside these: then theirs is the last.
    eventually("the last takes it along", || {
        sandbox.vzd(&["start", "one"]).ok();
        sandbox.vzd(&["stop", "--force", "one", "two"]).ok();
        programs(TOP) == 0
    });
}
