//! Hosts that a manifest names: VEs go where the line says, whichever host reads it first, and are made on one host only.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use vzd_tests::{Daemon, LONG, Sandbox, VeStatus, eventually, holds_for, needs, within};

use super::{count, counted, goes_on, quarantined, runs, via};

/// Two hosts that know each other, and whether they can be reached.
pub(super) struct Two {
    pub a: Sandbox,
    pub b: Sandbox,
    spec: serde_json::Value,
}

impl Two {
    pub(super) fn new() -> Two {
        Self::with(|hosts| {
            let peers = hosts.map(|host| {
                std::fs::write(gate(host), "").unwrap();
                let via = format!("test -e {} && {}", gate(host).display(), via(host, ""));
                json!({ "name": host.host, "via": via })
            });
            json!({ "peers": peers })
        })
    }

    /// With a manifest that both read.
    pub(super) fn with(spec: impl FnOnce([&Sandbox; 2]) -> serde_json::Value) -> Two {
        let mut two = Two { a: Sandbox::new(), b: Sandbox::new(), spec: json!({}) };
        (two.a.host, two.b.host) = ("a", "b");
        let spec = spec([&two.a, &two.b]);
        for sandbox in [&two.a, &two.b] {
            sandbox.write("host.yaml", &host_document(&spec));
        }
        two
    }

    /// What one host reads now: that the VE is to be there.
    pub(super) fn read(&self, host: &Sandbox, named: &str) {
        let mut spec = self.spec.clone();
        spec["host"] = json!(named);
        host.write("web.yaml", &self.a.document("web", spec));
    }

    /// Waits for it to run there and nowhere else; it never runs twice meanwhile.
    #[track_caller]
    pub(super) fn until_on(&self, on: &Sandbox) -> VeStatus {
        let what =
            || format!("it runs on {}: {:#?}", on.host, [&self.a, &self.b].map(|host| host.events("web")));
        let start = std::time::Instant::now();
        loop {
            assert!(start.elapsed() < vzd_tests::slow(LONG), "{}", what());
            assert!(!(runs(&self.a) && runs(&self.b)), "it runs twice");
            if let Some(ve) = on.status("web").filter(|ve| ve.init_pid().is_some() && ve.is("Ready")) {
                return ve;
            }
        }
    }
}

/// The text of a host's manifest.
pub(super) fn host_document(spec: &serde_json::Value) -> String {
    let metadata = json!({ "name": "hosts" });
    format!("{}\n", json!({ "apiVersion": "vzd/v1", "kind": "Host", "metadata": metadata, "spec": spec }))
}

fn gate(host: &Sandbox) -> PathBuf {
    host.dir().join("reachable")
}

fn is_told(host: &Sandbox, words: &str) -> bool {
    let told = host.status("web").and_then(|ve| ve.condition("Reconciling"));
    told.is_some_and(|told| told.message.contains(words))
}

#[test]
fn a_ve_goes_where_its_line_says_whichever_host_reads_it_first() {
    needs!(Root, Cgroups, Busybox, Criu);
    let two = Two::new();
    let Two { a, b, .. } = &two;
    two.read(a, "a");
    two.read(b, "a");
    let (_a, _b) = (a.daemon(), b.daemon());
    two.until_on(a);
    count(a, "web");
    let refused = b.vzd(&["describe", "web"]).ends(1);
    assert!(refused.stderr.contains("its manifest names host a"), "{refused:?}");
    // It is not for commands to say.
    let refused = a.vzd(&["migrate", "web", "--via", &via(b, "")]).ends(1);
    assert!(
        refused.stderr.contains("VZ0503") && refused.stderr.contains("change `spec.host`"),
        "{refused:?}"
    );
    // The new host reads it first.
    two.read(b, "b");
    eventually("it waits", || is_told(b, "a has it"));
    holds_for(Duration::from_millis(300), "it stays", || runs(a) && !runs(b));
    two.read(a, "b");
    two.until_on(b);
    goes_on(b, "web");
    eventually("it has gone", || quarantined(a));
    assert!(a.manifests().join("web.yaml").exists());
    // The old host reads it first.
    two.read(b, "a");
    let moved = two.until_on(a);
    goes_on(a, "web");
    assert!(is_told(a, "still names b"), "{moved:?}");
    holds_for(Duration::from_millis(300), "it stays", || runs(a) && !runs(b));
    two.read(a, "a");
    eventually("it is as wanted", || {
        a.status("web").is_some_and(|ve| ve.is("Ready") && ve.condition("Reconciling").is_none())
    });
    assert_eq!(a.init_pid("web"), moved.init_pid().unwrap());
    // To and fro before the other host has read anything of it.
    two.read(a, "b");
    two.until_on(b);
    two.read(a, "a");
    two.until_on(a);
    goes_on(a, "web");
    two.read(b, "a");
    assert!(counted(a, "web") > 10 && !runs(b));
}

#[test]
fn a_new_ve_is_made_on_the_host_that_is_named_only() {
    needs!(Root, Cgroups, Busybox);
    let two = Two::new();
    let Two { a, b, .. } = &two;
    std::fs::remove_file(gate(a)).unwrap();
    let (_a, _b) = (a.daemon(), b.daemon());
    two.read(a, "b");
    two.read(b, "b");
    let waits = b.until("web", "waiting", |ve| {
        ve.reason() == "OtherHost" && is_told(b, "a may have it and is not heard")
    });
    assert!(waits.init_pid().is_none() && waits.ctid().is_none(), "{waits:?}");
    let plan = b.vzd(&["plan"]).ok();
    assert!(plan.stdout.contains("spec.host") && plan.stdout.contains("0 to add"), "{plan:?}");
    std::fs::write(gate(a), "").unwrap();
    two.until_on(b);
    assert!(a.list().is_empty() && a.cgroups().is_empty(), "{:?}", a.list());
    // Nobody knows how it would get there.
    two.read(b, "elsewhere");
    let stays = b.until("web", "stuck", |ve| ve.is("Stalled"));
    assert_eq!(stays.condition("Stalled").unwrap().reason, "HostUnknown");
    assert!(stays.init_pid().is_some());
    let told = b.vzd(&["plan"]);
    assert!(told.stderr.contains("VZ0207") && told.stderr.contains("web.yaml:"), "{told:?}");
}

/// Without controllers: a command asks before it makes a VE.
#[test]
fn commands_ask_the_other_host_too() {
    needs!(Root, Cgroups, Busybox);
    let two = Two::new();
    let Two { a, b, .. } = &two;
    two.read(a, "a");
    two.read(b, "b");
    // Each is to have it.
    for host in [a, b] {
        host.apply();
        assert!(!runs(host) && host.status("web").is_some_and(|ve| ve.reason() == "OtherHost"));
    }
    two.read(a, "b");
    b.apply();
    assert!(runs(b) && !runs(a));
    two.read(b, "a");
    b.apply();
    a.apply();
    assert!(runs(b) && a.status("web").is_none());
}

#[test]
fn controllers_that_are_killed_in_the_middle_end_with_one() {
    needs!(Root, Cgroups, Busybox, Criu);
    survive_kills(&Two::new(), &[(0, "frozen"), (1, "receiving"), (0, "ceded"), (1, "arrived")]);
}

/// Whether a host has a VE on record that has come so far on its way.
pub(super) fn on_record(host: &Sandbox, stage: &str) -> bool {
    let dir = std::fs::read_dir(host.state_dir().join("ledger"));
    let text = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.ok()?.path()).ok();
    let stage = format!("\"stage\":\"{stage}\"");
    dir.into_iter().flatten().filter_map(text).any(|text| text.contains(&stage))
}

/// Kills both controllers whenever a record of the first host or the second one is so, at a hand-over each.
pub(super) fn survive_kills(two: &Two, moments: &[(usize, &str)]) {
    let Two { a, b, .. } = two;
    two.read(a, "a");
    two.read(b, "a");
    let mut daemons = Some((a.daemon(), b.daemon()));
    two.until_on(a);
    count(a, "web");
    let (mut from, mut to) = (a, b);
    for &(at, stage) in moments {
        two.read(to, to.host);
        two.read(from, to.host);
        let seen = [from, to][at];
        within(LONG, format!("it is {stage}"), || (0..200).any(|_| on_record(seen, stage)).then_some(()));
        if let Some((one, other)) = daemons.take() {
            Daemon::kill9(one);
            Daemon::kill9(other);
        }
        daemons = Some((a.daemon(), b.daemon()));
        two.until_on(to);
        goes_on(to, "web");
        eventually("it has gone", || quarantined(from));
        (from, to) = (to, from);
    }
}
