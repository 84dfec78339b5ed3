//! User beancounters: what VEs hold is told truthfully, what the kernel can refuse is refused, and both
//! outlive the controller but not the VE's run.

mod driven;
mod files;
mod inside;
mod refusals;

use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Need, Sandbox, eventually, is_met, needs, within};

/// A counter of the VE `web`.
fn counter(sandbox: &Sandbox, name: &str) -> Value {
    let all = sandbox.vzd(&["ubc", "web", "-o", "json"]).ok().json();
    let counters = all[0]["counters"].as_array().unwrap();
    counters.iter().find(|counter| counter["name"] == name).unwrap().clone()
}

fn held(sandbox: &Sandbox, name: &str) -> u64 {
    counter(sandbox, name)["held"].as_u64().unwrap_or_else(|| panic!("{name} is not counted"))
}

#[test]
fn every_counter_is_shown_as_openvz_showed_it() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let counters = json!({ "kmemsize": "14372700:14790164", "numproc": 240, "numflock": "188:206" });
    sandbox.ve("web", json!({ "memory": { "ram": "256M", "swap": "512M" }, "beancounters": counters }));
    sandbox.apply();
    let text = sandbox.vzd(&["ubc", "web", "--text"]).ok().stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines.len()), ("Version: 2.5", 26));
    let row = |name: &str| -> Vec<u64> {
        let line = lines.iter().find(|line| line.contains(&format!("  {name} "))).unwrap();
        line[24..].split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    let unlimited = u64::try_from(i64::MAX).unwrap();
    assert_eq!(row("kmemsize")[2..], [14_372_700, 14_790_164, 0]);
    assert_eq!(row("numflock")[2..], [188, 206, 0]);
    // What follows from RAM and swap.
    assert_eq!(row("physpages")[2..], [0, 65536, 0]);
    assert_eq!(row("lockedpages")[2..], [65536, 65536, 0]);
    assert_eq!(row("vmguarpages")[2..], [196_608, unlimited, 0]);
    assert_eq!(row("numfile")[2..], [unlimited, unlimited, 0]);
    let [held, maxheld, ..] = row("numproc")[..] else { panic!("{text}") };
    assert!((1..=3).contains(&held) && maxheld >= held, "{text}");
    // All of it is said to be enforced or not, and why.
    let all = sandbox.vzd(&["ubc", "-o", "json"]).ok().json();
    assert_eq!(all[0]["counters"].as_array().unwrap().len(), 21);
    for counter in all[0]["counters"].as_array().unwrap() {
        let (enforced, why) = counter["enforcement"].as_object().unwrap().iter().next().unwrap();
        assert!(["enforced", "accounted"].contains(&enforced.as_str()) && why != "", "{counter}");
    }
    sandbox.vzd(&["ubc"]).ok().says("numproc").says("pids.max").says("COUNTER");
    sandbox.vzd(&["ubc", "nobody"]).ends(1);
}

#[test]
fn a_refusal_is_counted_told_and_outlives_the_controller_but_not_the_run() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "beancounters": { "numproc": 20 } }));
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    assert_eq!(counter(&sandbox, "numproc")["failcnt"], 0);
    drop(sandbox.exec("web", &["/bin/sh", "-c", "for i in $(seq 40); do sleep 1000 & done >/dev/null 2>&1"]));
    let refused = counter(&sandbox, "numproc");
    let failcnt = refused["failcnt"].as_u64().unwrap();
    assert!(failcnt > 0 && refused["maxheld"] == 20, "{refused}");
    let event = sandbox.until_event("web", "LimitReached");
    let message = event["message"].as_str().unwrap();
    assert!(
        message.contains("numproc") && message.contains("20") && message.contains("web.yaml:"),
        "{message}"
    );
    drop(daemon);
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    let after = counter(&sandbox, "numproc");
    assert_eq!((after["failcnt"].as_u64(), &after["maxheld"]), (Some(failcnt), &refused["maxheld"]));
    sandbox.vzd(&["restart", "--force", "web"]).ok();
    sandbox.until_ready("web");
    assert_eq!(counter(&sandbox, "numproc")["failcnt"], 0);
    assert!(counter(&sandbox, "numproc")["maxheld"].as_u64().unwrap() < 10);
    drop(daemon);
}

#[test]
fn the_most_that_was_seen_is_kept_over_a_controllers_restart() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.sh(
        "web",
        "setsid sh -c 'exec 3<>/dev/ptmx 4<>/dev/ptmx; sleep 1000' >/dev/null 2>&1 & echo started",
    );
    eventually("two terminals are held", || held(&sandbox, "numpty") == 2);
    sandbox.sh("web", "killall sleep");
    eventually("none is", || held(&sandbox, "numpty") == 0);
    assert_eq!(counter(&sandbox, "numpty")["maxheld"], 2);
    drop(daemon);
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    assert_eq!(counter(&sandbox, "numpty")["maxheld"], 2);
}

/// How many of three terminals can be had.
fn terminals(sandbox: &Sandbox) -> usize {
    let script = "(exec 3<>/dev/ptmx) && echo 1; (exec 3<>/dev/ptmx 4<>/dev/ptmx) && echo 2; (exec 3<>/dev/ptmx 4<>/dev/ptmx 5<>/dev/ptmx) && echo 3; true";
    let ended = sandbox.exec("web", &["/bin/sh", "-c", script]).ok();
    ended.stdout.lines().count()
}

#[test]
fn terminals_are_limited_live() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "beancounters": { "numpty": 2 } }));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    let modes = || sandbox.sh("web", "grep ' /dev/pts ' /proc/mounts");
    assert!(modes().contains("max=2") && modes().contains("mode=620"), "{}", modes());
    assert_eq!(terminals(&sandbox), 2);
    sandbox.ve("web", json!({ "beancounters": { "numpty": 1 } }));
    sandbox.apply();
    assert_eq!(terminals(&sandbox), 1);
    assert!(
        modes().contains("max=1") && modes().contains("mode=620") && modes().contains("ptmxmode=666"),
        "{}",
        modes()
    );
    // By hand from inside, where the VE's root may: found and put right. Older kernels then reset the other options, also
    // when they refuse; what the owner has made of those is left alone.
    let by_hand = sandbox.exec("web", &["/bin/sh", "-c", "mount -o remount,max=9 /dev/pts"]);
    if by_hand.code == 0 {
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.beancounters.numpty");
        sandbox.apply();
        assert_eq!(terminals(&sandbox), 1);
    }
    sandbox.ve("web", json!({}));
    sandbox.apply();
    assert_eq!(terminals(&sandbox), 3);
    assert!(!modes().contains("max="), "{}", modes());
    assert_eq!(sandbox.init_pid("web"), pid);
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
}

#[test]
fn system_v_shared_memory_is_limited_live() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let create = || sandbox.exec("web", &["/bin/guest", "ipc", "sysv-shm", "create", "0x7b1"]);
    sandbox.ve("web", json!({ "beancounters": { "shmpages": 0 } }));
    sandbox.apply();
    let host = || std::fs::read_to_string("/proc/sys/kernel/shmall").unwrap();
    let before = host();
    let refused = create();
    assert!(!refused.stdout.contains("created"), "{refused:?}");
    sandbox.ve("web", json!({ "beancounters": { "shmpages": 1000 } }));
    sandbox.apply();
    assert!(create().stdout.contains("created"));
    assert_eq!(sandbox.sh("web", "cat /proc/sys/kernel/shmall"), "1000");
    sandbox.ve("web", json!({}));
    sandbox.apply();
    assert_ne!(sandbox.sh("web", "cat /proc/sys/kernel/shmall"), "1000");
    assert_eq!(host(), before, "the host's own is as it was");
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
}

#[test]
fn what_is_only_counted_is_counted() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    // Where files are refused, one is not enough for an init.
    let refused = is_met(Need::BpfLsm);
    let numfile = if refused { 1000 } else { 1 };
    sandbox.ve("web", json!({ "beancounters": { "numfile": numfile, "numflock": 0 } }));
    sandbox.apply();
    let unenforced = sandbox.status("web").unwrap().condition("Unenforced");
    assert_eq!(unenforced.is_some_and(|is| is.message.contains("numfile: ")), !refused);
    let names =
        ["numtcpsock", "numothersock", "numfile", "numflock", "shmpages", "privvmpages", "oomguarpages"];
    let before = names.map(|name| held(&sandbox, name));
    let start = |what: &str| {
        sandbox.sh("web", &format!("setsid {what} >/dev/null 2>&1 </dev/null & echo started"));
    };
    for port in 7001..7006 {
        start(&format!("nc -l -p {port}"));
    }
    for _ in 0..3 {
        start("ping 127.0.0.1");
    }
    start("sh -c 'sleep 1000 | /bin/guest ipc posix-lock hold /tmp/lock'");
    sandbox.sh("web", "dd if=/dev/zero of=/dev/shm/held bs=4096 count=1000 2>/dev/null");
    let grown = |at: usize| held(&sandbox, names[at]).saturating_sub(before[at]);
    let is = |at: usize, least: u64, most: u64| {
        within(
            Duration::from_secs(10),
            format!("{} grew by {least} to {most}, not {}", names[at], grown(at)),
            || (least..=most).contains(&grown(at)).then_some(()),
        );
    };
    is(0, 5, 5);
    is(1, 3, 3);
    is(3, 1, 1);
    is(4, 1000, 1000);
    // Each nc has at least a socket and three more; nothing is refused above a bound that is only counted.
    assert!(grown(2) >= 8 * 4, "{}", grown(2));
    assert!(grown(5) > 0 && grown(6) > 0);
    let files = counter(&sandbox, "numfile");
    assert_eq!((&files["barrier"], &files["failcnt"]), (&json!(numfile), &json!(0)));
    assert_eq!(files["enforcement"]["enforced"].is_string(), refused, "{files}");
}

#[test]
fn page_counters_are_memory_limits() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "beancounters": { "physpages": "0:65536", "swappages": "0:131072" } }));
    sandbox.apply();
    let limits = sandbox.status("web").unwrap().0["status"]["resources"]["limits"].clone();
    assert_eq!(limits["memory.ram"]["kernel"]["memoryMax"], 268_435_456, "{limits}");
    sandbox.ve("web", json!({ "memory": { "ram": "256M" }, "beancounters": { "physpages": "0:1000" } }));
    sandbox.vzd(&["validate"]).ends(65).says("VZ0115");
}

/// How many of so many listening sockets can be had, each by a process of its own.
fn listeners(sandbox: &Sandbox, ports: std::ops::Range<u32>) {
    for port in ports {
        sandbox.sh("web", &format!("setsid nc -l -p {port} >/dev/null 2>&1 </dev/null & echo started"));
    }
}

/// The host has programs that count sockets: every kernel that vzd runs on can.
#[track_caller]
fn assert_counts_sockets(sandbox: &Sandbox) {
    let told = sandbox.vzd(&["status", "-o", "json"]).json();
    assert_eq!(told["capabilities"]["socketCounters"], "yes");
}

#[test]
fn sockets_are_counted_down_however_many_there_were() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    assert_counts_sockets(&sandbox);
    sandbox.ve("web", json!({ "beancounters": { "numtcpsock": 100, "numothersock": 9500 } }));
    sandbox.apply();
    let before = held(&sandbox, "numothersock");
    // More than have a place of their own.
    for _ in 0..2 {
        assert_eq!(sandbox.drive("web", "udp-sockets", 9000).made, 9000);
        assert_eq!(held(&sandbox, "numothersock"), before + 9000);
        sandbox.let_go("web");
        eventually("all are released", || held(&sandbox, "numothersock") == before);
    }
    assert_eq!(held(&sandbox, "numtcpsock"), 0);
    assert_eq!(counter(&sandbox, "numothersock")["failcnt"], 0);
}

#[test]
fn sockets_past_the_barrier_are_refused_and_those_released_are_free_again() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    assert_counts_sockets(&sandbox);
    sandbox.ve("web", json!({ "beancounters": { "numtcpsock": 3, "numothersock": 1 } }));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    assert!(counter(&sandbox, "numtcpsock")["enforcement"]["enforced"].is_string());
    let running = |wanted: &str| {
        within(Duration::from_secs(10), format!("{wanted} nc run"), || {
            (sandbox.sh("web", "pidof nc | wc -w") == wanted).then_some(())
        });
    };
    listeners(&sandbox, 7001..7004);
    running("3");
    eventually("three are held", || held(&sandbox, "numtcpsock") == 3);
    assert_eq!(counter(&sandbox, "numtcpsock")["failcnt"], 0);
    let refused = sandbox.exec("web", &["nc", "-l", "-p", "7010"]);
    assert!(refused.code != 0 && refused.stderr.contains("No buffer space"), "{refused:?}");
    // nc tries IPv6 and then IPv4.
    let failcnt = counter(&sandbox, "numtcpsock")["failcnt"].clone();
    assert!(failcnt == 1 || failcnt == 2, "{failcnt}");
    // Released ones can be had again, however often.
    for round in 0..3 {
        sandbox.sh("web", "killall nc");
        running("0");
        listeners(&sandbox, 7020 + round * 10..7023 + round * 10);
        running("3");
    }
    assert_eq!(counter(&sandbox, "numtcpsock")["failcnt"], failcnt);
    // Of the other kind one more is another matter.
    let ping = |count: &str| sandbox.exec("web", &["ping", "-c", count, "127.0.0.1"]).code;
    assert_eq!(ping("1"), 0);
    // A lower bound refuses at once and takes nothing away; a higher one lets in at once.
    sandbox.ve("web", json!({ "beancounters": { "numtcpsock": 1, "numothersock": 0 } }));
    sandbox.apply();
    running("3");
    assert_ne!(ping("1"), 0);
    assert!(counter(&sandbox, "numothersock")["failcnt"].as_u64() >= Some(1));
    assert_ne!(sandbox.exec("web", &["nc", "-l", "-p", "7010"]).code, 0);
    sandbox.ve("web", json!({}));
    sandbox.apply();
    listeners(&sandbox, 7060..7065);
    running("8");
    assert_eq!(sandbox.init_pid("web"), pid);
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
}

#[test]
fn sockets_of_a_ve_that_runs_are_bounded_from_then_on() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    assert_counts_sockets(&sandbox);
    sandbox.ve("web", json!({}));
    sandbox.apply();
    listeners(&sandbox, 7001..7002);
    eventually("one is held", || held(&sandbox, "numtcpsock") == 1);
    sandbox.ve("web", json!({ "beancounters": { "numtcpsock": 0 } }));
    sandbox.apply();
    assert_ne!(sandbox.exec("web", &["nc", "-l", "-p", "7010"]).code, 0);
    // What is released without having been counted is not counted down.
    sandbox.sh("web", "killall nc");
    eventually("none is held", || held(&sandbox, "numtcpsock") == 0);
    assert_ne!(sandbox.exec("web", &["nc", "-l", "-p", "7010"]).code, 0);
    let failcnt = counter(&sandbox, "numtcpsock")["failcnt"].as_u64().unwrap();
    assert!((2..=4).contains(&failcnt), "{failcnt}");
}

#[test]
fn packet_filter_rules_are_those_of_the_ves_own_namespace() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    for name in ["web", "other"] {
        sandbox.ve(name, json!({ "beancounters": { "numiptent": 16 } }));
    }
    sandbox.apply();
    assert_eq!(held(&sandbox, "numiptent"), 0);
    let sockets = held(&sandbox, "numothersock");
    let driven = sandbox.drive("other", "rules", 5);
    assert_eq!((driven.made, driven.errno), (5, None));
    assert_eq!(held(&sandbox, "numiptent"), 0, "those of another VE");
    let driven = sandbox.drive("web", "rules", 200);
    assert_eq!((driven.made, driven.errno), (200, None));
    let rules = counter(&sandbox, "numiptent");
    assert_eq!((&rules["held"], &rules["failcnt"], &rules["barrier"]), (&json!(200), &json!(0), &json!(16)));
    assert!(rules["enforcement"]["accounted"].is_string(), "{rules}");
    // That of the program; none of those that rules were read through.
    assert_eq!(held(&sandbox, "numothersock"), sockets + 1);
}
