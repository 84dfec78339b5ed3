//! VEs that are at work while they are handed over, there and back: nothing of it is lost or done twice.

use std::time::Duration;

use serde_json::json;
use vzd_tests::{Sandbox, Work, eventually, moves, needs, within};

use super::migrate;

fn number(sandbox: &Sandbox, file: &str) -> u64 {
    sandbox.sh("web", &format!("cat {file} 2>/dev/null || echo 0")).parse().unwrap()
}

#[test]
fn a_debian_at_work_moves_back_and_forth() {
    needs!(Root, Cgroups, Busybox, Criu, Distribution);
    let (here, there) = (Sandbox::new(), Sandbox::new());
    let archive = here.debian_at_work();
    for sandbox in [&here, &there] {
        sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
        sandbox.vzd(&["template", "add", "debian", archive.to_str().unwrap()]).ok();
    }
    here.ve("web", json!({ "template": "debian", "init": null, "stopTimeout": "30s" }));
    here.apply();
    here.put_guest("web");
    let (mut from, mut to) = (&here, &there);
    let look = |sandbox: &Sandbox| Work::look(&|script| sandbox.sh("web", script));
    Work::start(&|script| here.sh("web", script), None);
    let long = Duration::from_secs(60);
    let mut before = within(long, "all of it is at work", || look(from));
    for _ in 0..moves() {
        migrate(from, to, "web");
        before = within(long, "all of it goes on", || look(to).filter(|now| now.is_on_from(&before)));
        (from, to) = (to, from);
    }
    let sh = |script: &str| from.sh("web", script);
    within(Duration::from_secs(90), "cron goes on", || before.cron_went_on(&sh).then_some(()));
    from.vzd(&["stop", "web"]).ok();
}

/// A service of systemd's that counts.
const SERVICE: &str = "[Service]\nMemoryMax=64M\nTasksMax=77\nExecStart=/bin/sh -c 'i=0; while :; do i=$((i+1)); echo $i > /root/n.new; mv /root/n.new /root/n; sleep 0.2; done'\n";

#[test]
fn a_debian_with_systemd_moves_alive() {
    needs!(Root, Cgroups, Criu, Distribution);
    let (here, there) = (Sandbox::new(), Sandbox::new());
    for sandbox in [&here, &there] {
        sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    }
    here.distribution("debian-13");
    let listed = here.vzd(&["template", "list", "-o", "json"]).ok().json();
    let archive =
        listed.as_array().unwrap().iter().find(|is| is["name"] == "debian-13").unwrap()["path"].clone();
    there.vzd(&["template", "add", "debian-13", archive.as_str().unwrap()]).ok();
    here.ve("web", json!({ "template": "debian-13", "init": null, "stopTimeout": "30s" }));
    here.apply();
    let long = Duration::from_secs(60);
    let state =
        |sandbox: &Sandbox| sandbox.exec("web", &["systemctl", "is-system-running"]).stdout.trim().to_owned();
    within(long, "it is up", || (state(&here) == "running").then_some(()));
    here.sh("web", &format!("cat > /etc/systemd/system/count.service <<'END'\n{SERVICE}END\nsystemctl daemon-reload; systemctl start count"));
    eventually("it counts", || number(&here, "/root/n") > 0);
    let services = |sandbox: &Sandbox| {
        sandbox.sh("web", "for of in $(systemctl list-units --type=service --state=running --plain --no-legend | cut -d' ' -f1); do systemctl show -p MainPID $of; done")
    };
    // With the limits that systemd has set, where a VE can set any.
    let groups = |sandbox: &Sandbox| {
        sandbox.sh("web", "cd /sys/fs/cgroup; find . -type d -printf '%p %u\\n' | sort; cat system.slice/count.service/*.max 2>&1 || true")
    };
    let before = (services(&here), groups(&here));
    here.vzd(&["suspend", "web"]).ok();
    here.vzd(&["resume", "web"]).ok();
    assert_eq!((services(&here), groups(&here)), before);
    let (mut from, mut to) = (&here, &there);
    for _ in 0..moves() {
        let counted = number(from, "/root/n");
        migrate(from, to, "web");
        eventually("it counts on", || number(to, "/root/n") > counted);
        assert_eq!((services(to), groups(to)), before);
        assert_eq!(state(to), "running");
        (from, to) = (to, from);
    }
    // It works: with its bus, its groups, its journal.
    from.sh("web", "systemctl restart count");
    let journal = ["journalctl", "-q", "-u", "count"];
    eventually("its journal tells of it", || from.exec("web", &journal).stdout.contains("Stopped"));
    from.vzd(&["stop", "web"]).ok();
}
