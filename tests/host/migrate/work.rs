//! VEs that are at work while they are handed over, there and back: nothing of it is lost or done twice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use vzd_tests::{Sandbox, eventually, needs, within};

use super::{migrate, two};

/// As often as a test has time for; `VZD_TEST_MOVES=50` for those who have minutes.
pub(crate) fn moves() -> usize {
    std::env::var("VZD_TEST_MOVES").map_or(2, |moves| moves.parse().unwrap())
}

fn number(sandbox: &Sandbox, file: &str) -> u64 {
    sandbox.sh("web", &format!("cat {file} 2>/dev/null || echo 0")).parse().unwrap()
}

/// The processes in the VE that are called so, by their numbers there.
fn pids(sandbox: &Sandbox, called: &str) -> BTreeSet<String> {
    let found = sandbox.sh("web", &format!("pidof {called} || true"));
    found.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_tree_of_twenty_with_memory_moves_back_and_forth() {
    needs!(Root, Cgroups, Busybox, Criu);
    const MEGABYTES: u64 = 200;
    let (here, there) = two(json!({}));
    here.sh("web", &format!("setsid guest remember {MEGABYTES} /root/passes > /dev/null 2>&1 < /dev/null &"));
    // Each the child of the one before, and each counts.
    let tree = "n=$1; if [ $n -gt 1 ]; then sh /root/tree $((n-1)) & fi; i=0; while :; do i=$((i+1)); echo $i > /root/c$n.new; \
                mv /root/c$n.new /root/c$n; sleep 0.1; done";
    here.sh(
        "web",
        &format!(
            "cat > /root/tree <<'END'\n{tree}\nEND\nsetsid sh /root/tree 20 > /dev/null 2>&1 < /dev/null &"
        ),
    );
    let counts =
        |sandbox: &Sandbox| (1..=20).map(|n| number(sandbox, &format!("/root/c{n}"))).collect::<Vec<_>>();
    eventually("all of them count", || counts(&here).iter().all(|count| *count > 0));
    let long = Duration::from_secs(120);
    within(long, "memory is full", || (number(&here, "/root/passes") > 0).then_some(()));
    let (mut from, mut to) = (&here, &there);
    for _ in 0..moves() {
        let (passes, before) = (number(from, "/root/passes"), counts(from));
        migrate(from, to, "web");
        within(long, "all of it goes on", || {
            let on = counts(to).iter().zip(&before).all(|(now, before)| now > before);
            (on && number(to, "/root/passes") > passes + 1).then_some(())
        });
        assert_eq!(to.sh("web", "ls /root | grep torn || true"), "");
        (from, to) = (to, from);
    }
}

/// A Debian with sysvinit, a web server and a database, as an archive.
fn debian(sandbox: &Sandbox) -> PathBuf {
    let archive = sandbox.host_dir("debian").join("root.tar");
    let packages = "apache2,cron,initscripts,procps,sqlite3,sysv-rc,sysvinit-core";
    // Terminals that a VE has not.
    let terminals = "sed -i -E 's/^([1-6]:.*getty.*)$/#\\1/' \"$1\"/etc/inittab";
    let mut made = Command::new("mmdebstrap");
    made.args(["--quiet", "--variant=minbase", "--mode=root", &format!("--include={packages}")]);
    made.args([&format!("--customize-hook={terminals}"), "bookworm"]).arg(&archive);
    let made = made.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    archive
}

#[test]
fn a_debian_moves_with_its_web_server_its_database_and_its_clock() {
    needs!(Root, Cgroups, Busybox, Criu, Mirror);
    let (here, there) = (Sandbox::new(), Sandbox::new());
    let archive = debian(&here);
    for sandbox in [&here, &there] {
        sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
        let archive: &Path = &archive;
        sandbox.vzd(&["template", "add", "debian", archive.to_str().unwrap()]).ok();
    }
    here.ve("web", json!({ "template": "debian", "init": null, "stopTimeout": "30s" }));
    here.apply();
    let long = Duration::from_secs(60);
    within(long, "its services are up", || {
        (!pids(&here, "apache2").is_empty() && !pids(&here, "cron").is_empty()).then_some(())
    });
    // Rows that follow each other, each in a transaction of its own. Files have other numbers at another host, and SQLite, which
    // compares, refuses to write to a database that it opened before: it is to be opened again.
    let writer = "sqlite3 /root/db 'create table t (n integer primary key)'; n=0; while :; do n=$((n+1)); \
                  until sqlite3 -cmd \".timeout 20000\" /root/db \"insert into t values ($n)\" 2>> /root/failed; do :; done; done";
    here.sh(
        "web",
        &format!("setsid sh -c '{}' > /dev/null 2>&1 < /dev/null &", writer.replace('\'', "'\\''")),
    );
    here.sh("web", "echo '* * * * * date >> /root/minutes' | crontab -");
    let page = "exec 3<>/dev/tcp/127.0.0.1/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3";
    let answers = |sandbox: &Sandbox| {
        let ended = sandbox.vzd(&["exec", "web", "--", "bash", "-c", page]);
        ended.stdout.contains("200 OK")
    };
    let rows = |sandbox: &Sandbox| {
        let ended = sandbox.vzd(&[
            "exec",
            "web",
            "--",
            "sqlite3",
            "-cmd",
            ".timeout 20000",
            "/root/db",
            "select count(*), max(n) from t",
        ]);
        let (count, last) = ended
            .stdout
            .trim()
            .split_once('|')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap_or_default();
        assert_eq!(count, last, "a row is missing");
        count.parse::<u64>().unwrap_or(0)
    };
    within(long, "the database is written", || (rows(&here) > 0).then_some(()));
    eventually("the web server answers", || answers(&here));
    let services = ["init", "apache2", "cron"].map(|called| pids(&here, called));
    let (mut from, mut to) = (&here, &there);
    for _ in 0..moves() {
        let before = rows(from);
        migrate(from, to, "web");
        assert_eq!(["init", "apache2", "cron"].map(|called| pids(to, called)), services);
        eventually("the web server answers", || answers(to));
        eventually("the database is written", || rows(to) > before);
        assert_eq!(to.sh("web", "sqlite3 -cmd '.timeout 20000' /root/db 'pragma integrity_check'"), "ok");
        assert_eq!(to.sh("web", "grep -v 'attempt to write a readonly database' /root/failed || true"), "");
        (from, to) = (to, from);
    }
    let minutes = || from.sh("web", "grep -c . /root/minutes || true").parse::<u64>().unwrap_or(0);
    let before = minutes();
    within(Duration::from_secs(90), "cron goes on", || (minutes() > before).then_some(()));
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
    eprintln!("XX {}", here.sh("web", "for p in /proc/[0-9]*; do for f in $p/fd/*; do l=$(readlink $f); case $l in /proc*|/sys*|/) echo $f $l; grep mnt_id $p/fdinfo/${f##*/};; esac; done; done; cat /proc/self/mountinfo"));
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
    from.sh("web", "systemctl restart count && journalctl -q -u count -n 1 | grep -q Started");
    from.vzd(&["stop", "web"]).ok();
}
