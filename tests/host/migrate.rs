//! VEs handed over from one vzd to another, there and back, and what stands in the way. Two sandboxes are two hosts: each has
//! directories, control groups and a ledger of its own.

mod ahead;
mod compressed;
mod declared;
mod faults;
mod openvz;
mod settled;
mod tls;
pub(crate) mod work;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vzd_tests::{Guarded, Sandbox, eventually, needs};

/// A command that reaches another sandbox's vzd; `more` is put into its environment.
pub(crate) fn via(there: &Sandbox, more: &str) -> String {
    let command = there.command(&[]);
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let variables: Vec<_> =
        variables.map(|(name, value)| format!("'{}={}'", name.display(), value.display())).collect();
    format!("env -i {} {more} '{}'", variables.join(" "), command.get_program().display())
}

fn migrate(from: &Sandbox, to: &Sandbox, name: &str) {
    from.vzd(&["migrate", name, "--via", &via(to, "")]).ok();
}

/// Something that counts in its memory, and writes down each number.
fn count(sandbox: &Sandbox, name: &str) {
    let counter = "i=0; while :; do i=$((i+1)); echo $i >> /root/told; sleep 0.05; done";
    sandbox.sh(name, &format!("setsid sh -c '{counter}' > /dev/null 2>&1 < /dev/null &"));
    eventually("it counts", || counted(sandbox, name) > 2);
}

/// How far it has come: every number is there, once.
#[track_caller]
fn counted(sandbox: &Sandbox, name: &str) -> usize {
    let text = sandbox.sh(name, "cat /root/told 2>/dev/null || true");
    let numbers: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().enumerate().all(|(at, number)| *number == at + 1), "{numbers:?}");
    numbers.len()
}

fn goes_on(sandbox: &Sandbox, name: &str) {
    let before = counted(sandbox, name);
    eventually("it counts on", || counted(sandbox, name) > before);
}

/// Two hosts, and a VE on the first that is at work.
fn two(spec: Value) -> (Sandbox, Sandbox) {
    let (here, there) = (Sandbox::new(), Sandbox::new());
    for sandbox in [&here, &there] {
        // A directory without manifests is not believed.
        sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    }
    let names = ["one", "two", "apart/three", "kept", "gone"]
        .map(|name| here.template_dir().join("links").join(name));
    let [one, two, three, kept, gone] = &names;
    std::fs::create_dir_all(three.parent().unwrap()).unwrap();
    [one, kept].iter().for_each(|file| std::fs::write(file, "as it was\n").unwrap());
    for (file, name) in [(one, two), (one, three), (kept, gone)] {
        std::fs::hard_link(file, name).unwrap();
    }
    here.ve("web", spec);
    here.apply();
    (here, there)
}

fn runs(sandbox: &Sandbox) -> bool {
    sandbox.status("web").is_some_and(|ve| ve.init_pid().is_some())
}

fn quarantined(sandbox: &Sandbox) -> bool {
    sandbox.status("web").is_none()
        && sandbox.list().iter().any(|ve| ve.condition("DeletionPending").is_some())
}

/// Everything on disk and in the kernel that a refusal must leave as it is.
fn trace(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut all = sandbox.cgroups();
    for dir in [sandbox.manifests(), sandbox.state_dir().join("ledger"), sandbox.state_dir().join("ves")] {
        all.extend(std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()));
    }
    all.sort();
    all
}

#[test]
fn a_ve_moves_with_its_memory_and_its_disk_there_and_back() {
    needs!(Root, Cgroups, Busybox, Criu);
    moves_there_and_back(&json!({}));
}

/// Its limits come with it, and are as exact there.
#[test]
fn a_disk_that_is_an_image_moves_too() {
    needs!(Root, Cgroups, Busybox, Criu, DiskImage);
    let (here, _there) =
        moves_there_and_back(&json!({ "backend": "image", "diskspace": "64M", "diskinodes": "1000" }));
    let fill = "dd if=/dev/zero of=/root/full bs=1M 2>/dev/null; stat -c %s /root/full; rm /root/full";
    let full: u64 = here.sh("web", fill).parse().unwrap();
    assert!((60 << 20..=64 << 20).contains(&full), "{full}");
}

#[test]
fn a_disk_in_a_pool_moves_too() {
    needs!(Root, Cgroups, Busybox, Criu, ProjectQuota(Ext4));
    moves_there_and_back(&json!({ "backend": "project", "diskspace": "64M", "diskinodes": "1000" }));
}

fn moves_there_and_back(disk: &Value) -> (Sandbox, Sandbox) {
    let (here, there) = two(json!({ "hostname": "moving", "disk": disk }));
    count(&here, "web");
    let files = "mkdir -p /root/d; echo data > /root/d/file; ln /root/d/file /root/other; ln -s d/file /root/link; \
                 mkfifo /root/pipe; chown 7:8 /root/d/file; chmod 4711 /root/d/file; rm -r /etc/group; \
                 dd if=/dev/zero of=/root/holes bs=1 count=1 seek=10M 2>/dev/null; touch -d '2001-02-03 04:05:06' /root/d; \
                 echo more >> /links/one; rm /links/gone";
    here.sh("web", files);
    let look = "cd /root; cat d/file link; stat -c '%n %s %F %u %g %a %h %Y' d d/file other pipe holes; ls /etc; \
                readlink link; hostname; cat /proc/1/cmdline; cd /links; ls; cat kept one two apart/three; \
                stat -c '%n %s %h %u' kept one two apart/three; test one -ef apart/three";
    let before = here.sh("web", look);
    let status = here.status("web").unwrap();
    migrate(&here, &there, "web");
    assert!(quarantined(&here), "{:?}", here.list());
    assert!(here.cgroups().is_empty(), "{:?}", here.cgroups());
    assert_eq!(there.sh("web", look), before);
    goes_on(&there, "web");
    let moved = there.status("web").unwrap();
    assert_eq!((moved.ctid(), moved.generation()), (status.ctid(), status.generation()));
    assert!(moved.is("Ready"), "{moved:?}");
    there.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    // It is no VE of the first host's any more, and does not come back there by itself.
    let refused = here.vzd(&["undelete", "web"]).ends(1);
    assert!(
        refused.stderr.contains("VZ0503") && refused.stderr.contains("it was handed over to"),
        "{refused:?}"
    );
    here.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    migrate(&there, &here, "web");
    assert!(quarantined(&there), "{:?}", there.list());
    assert_eq!(here.sh("web", look), before);
    goes_on(&here, "web");
    // It ends like any other.
    here.vzd(&["restart", "web"]).ok();
    assert_eq!(here.sh("web", "cat /root/d/file"), "data");
    (here, there)
}

/// Its disk is sent while it runs, and what it changes meanwhile is sent too, in whatever way it does that.
#[test]
fn a_disk_is_sent_ahead_and_nothing_of_it_is_torn() {
    needs!(Root, Cgroups, Busybox, Criu);
    const BALLAST: u64 = 24 << 20;
    let (here, there) = two(json!({}));
    count(&here, "web");
    here.sh("web", &format!("dd if=/dev/urandom of=/root/ballast bs=1M count={} 2>/dev/null", BALLAST >> 20));
    here.sh("web", "setsid guest mapped /root/mapped > /dev/null 2>&1 < /dev/null &");
    eventually("memory is mapped", || here.sh("web", "ls /root").contains("mapped"));
    // Files that come and go, change their names and their kinds.
    let restless = "mkdir /root/r; cd /root/r; while :; do rm -rf dir link; mkdir dir; echo x > dir/file; ln -s dir link; mv dir \
                    other; rm -rf other; mv link other; sleep 0.02; rm other; done";
    here.sh("web", &format!("setsid sh -c '{restless}' > /dev/null 2>&1 < /dev/null &"));
    let sum = here.sh("web", "md5sum /root/ballast");
    // What was written a moment ago is sent again: it could have been written to once more in the same step of the clock.
    let age = "echo $(($(date +%s) - $(stat -c %Z /root/ballast)))";
    let (mut from, mut to) = (&here, &there);
    for _ in 0..2 {
        eventually("the ballast has been at rest", || from.sh("web", age).parse::<u64>().unwrap() > 1);
        let moved = from.vzd(&["migrate", "web", "--via", &via(to, ""), "-o", "json"]).ok().json();
        let (all, still) = (moved["bytes"].as_u64().unwrap(), moved["stillBytes"].as_u64().unwrap());
        assert!(all > BALLAST && still < BALLAST / 2, "{moved}");
        assert!(moved["stillMs"].as_u64().is_some(), "{moved}");
        goes_on(to, "web");
        assert_eq!(to.sh("web", "md5sum /root/ballast; ls /root/mapped.torn 2>/dev/null || true"), sum);
        (from, to) = (to, from);
    }
}

/// Told to end in the middle, the command gives the hand-over up, and the VE has noticed nothing.
#[test]
fn a_hand_over_is_given_up_by_a_signal_and_goes_no_faster_than_it_may() {
    needs!(Root, Cgroups, Busybox, Criu);
    let (here, there) = two(json!({}));
    count(&here, "web");
    here.sh("web", "dd if=/dev/urandom of=/root/ballast bs=1M count=2 2>/dev/null");
    let (pid, before) = (here.init_pid("web"), trace(&there));
    let mut command = here.command(&["migrate", "web", "--via", &via(&there, ""), "--limit", "20K"]);
    let mut moving = Guarded::spawn(command.stderr(Stdio::piped()));
    eventually("some of it has arrived", || trace(&there) != before);
    goes_on(&here, "web");
    let signalled = rustix::process::Pid::from_child(&moving.child);
    rustix::process::kill_process(signalled, rustix::process::Signal::INT).unwrap();
    assert_eq!(moving.wait(Duration::from_secs(20)), 1);
    let mut told = String::new();
    moving.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("VZ0503") && told.contains("it was given up"), "{told}");
    eventually("nothing of it is left there", || trace(&there) == before);
    assert_eq!(here.init_pid("web"), pid);
    goes_on(&here, "web");
    // 2 MB and more take as long as they have to.
    let began = Instant::now();
    here.vzd(&["migrate", "web", "--via", &via(&there, ""), "--limit", "2M"]).ok();
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    goes_on(&there, "web");
}

#[test]
fn controllers_on_both_sides_hand_a_ve_over_and_start_no_second_one() {
    needs!(Root, Cgroups, Busybox, Criu);
    let (here, there) = two(json!({}));
    let (_here, _there) = (here.daemon(), there.daemon());
    here.until_ready("web");
    count(&here, "web");
    migrate(&here, &there, "web");
    goes_on(&there, "web");
    eventually("it is gone here", || quarantined(&here));
    assert!(there.until("web", "Ready", |ve| ve.is("Ready")).init_pid().is_some());
    // A manifest that names it starts nothing here: it is somewhere else.
    migrate(&there, &here, "web");
    here.until_ready("web");
    let text = std::fs::read_to_string(here.manifests().join("web.yaml")).unwrap();
    here.write("more.yaml", &format!("{text}---\n{}", here.document("other", json!({ "state": "stopped" }))));
    here.unlink("web.yaml");
    here.until("other", "Stopped", |ve| ve.reason() == "Stopped");
    let told = here.vzd(&["migrate", "web", "--via", &via(&there, "")]).ok();
    assert!(told.stderr.contains("a manifest here still names it"), "{told:?}");
    let left = here.until("web", "HandedOver", |ve| ve.reason() == "HandedOver");
    assert!(left.init_pid().is_none());
    let refused = here.vzd(&["start", "web"]).ends(1);
    assert!(refused.stderr.contains("VZ0503"), "{refused:?}");
    goes_on(&there, "web");
}

/// They are kept by the file system that its files are on, which is another one there.
#[test]
fn quotas_of_its_users_go_along() {
    needs!(Root, Cgroups, Busybox, Criu, ProjectQuota(Ext4));
    let (here, there) = two(json!({ "disk": { "diskspace": "64M", "quotaugidlimit": 3 } }));
    let hard = |sandbox: &Sandbox| sandbox.guest("web", &["quota", "group", "7"])["hard"].clone();
    here.guest("web", &["quota", "group", "7", "100"]);
    here.guest("web", &["grace", "group", "600"]);
    migrate(&here, &there, "web");
    assert_eq!((hard(&there), there.guest("web", &["grace", "group"])), (json!(100), json!(600)));
    there.vzd(&["stop", "web", "--force"]).ok();
    migrate(&there, &here, "web");
    here.vzd(&["start", "web"]).ok();
    assert_eq!((hard(&here), here.guest("web", &["grace", "group"])), (json!(100), json!(600)));
}

#[test]
fn a_stopped_ve_moves_with_its_disk() {
    needs!(Root, Cgroups, Busybox);
    let (here, there) = two(json!({}));
    here.sh("web", "echo data > /root/file");
    here.vzd(&["stop", "web"]).ok();
    migrate(&here, &there, "web");
    let moved = there.status("web").unwrap();
    assert_eq!((moved.init_pid(), moved.reason().as_str()), (None, "StoppedByOperator"));
    there.vzd(&["start", "web"]).ok();
    assert_eq!(there.sh("web", "cat /root/file"), "data");
    // Asked again, the other host says the same.
    migrate(&here, &there, "web");
    here.vzd(&["undelete", "web"]).ends(1);
    // That host burns down.
    there.power_cut();
    here.vzd(&["migrate", "web", "--take-back"]).ok();
    here.vzd(&["undelete", "web"]).ok();
    here.vzd(&["start", "web"]).ok();
    assert_eq!(here.sh("web", "cat /root/file"), "data");
}

#[test]
fn what_stands_in_the_way_changes_nothing() {
    needs!(Root, Cgroups, Busybox, Criu, Nft);
    let (here, there) = two(json!({}));
    let pid = here.init_pid("web");
    // It would fit.
    let before = (trace(&here), trace(&there));
    let plan = here.vzd(&["migrate", "web", "--via", &via(&there, ""), "--dry-run"]).ok();
    assert!(
        plan.stdout.contains("> web to ") && plan.stdout.contains(" a second, as just measured, "),
        "{plan:?}"
    );
    let plan =
        here.vzd(&["migrate", "web", "--via", &via(&there, ""), "--dry-run", "-o", "json"]).ok().json();
    assert!(plan["bytesPerSecond"].as_u64().unwrap() > 0 && plan["stillMs"].is_u64(), "{plan}");
    assert_eq!((trace(&here), trace(&there)), before);
    let refused = |why: &[&str], more: &str| {
        let before = (trace(&here), trace(&there));
        for words in [&["--dry-run"][..], &[]] {
            let via = via(&there, more);
            let words = [&["migrate", "web", "--via", &via], words].concat();
            let ended = here.vzd(&words).ends(1);
            assert!(ended.stderr.contains("VZ0503"), "{ended:?}");
            assert!(why.iter().all(|why| ended.stderr.contains(why)), "{why:?}: {ended:?}");
        }
        assert_eq!((trace(&here), trace(&there)), before);
        assert_eq!(here.init_pid("web"), pid);
    };
    // What CRIU would fail of is found before anything is sent.
    let mut session = here.command(&["exec", "web", "--", "sleep", "60"]);
    let session = Guarded::spawn(session.stdin(Stdio::null()));
    eventually("a session is there", || here.sh("web", "ps").contains("sleep 60"));
    refused(&["was put into it by exec or enter"], "");
    here.sh("web", "kill $(pidof sleep)");
    drop(session);
    here.sh("web", "setsid unshare -p -f sleep 61 > /dev/null 2>&1 < /dev/null &");
    eventually("a namespace is there", || here.sh("web", "ps").contains("sleep 61"));
    refused(&["has a pid namespace of its own"], "");
    here.sh("web", "kill $(pidof sleep)");
    // As systemd's services with ProtectHostname= have.
    here.sh("web", "setsid unshare -u sleep 62 > /dev/null 2>&1 < /dev/null &");
    eventually("a namespace is there", || here.sh("web", "ps").contains("sleep 62"));
    refused(&["has a uts namespace of its own"], "");
    here.sh("web", "kill $(pidof sleep)");
    here.sh("web", "ip link add mine type bridge");
    refused(&["interface mine in its network is not one that vzd makes"], "");
    here.sh("web", "ip link del mine");
    let nft = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        let ended = command.args(["-t", &pid.to_string(), "-n", "nft"]).args(words).status().unwrap();
        assert!(ended.success(), "{words:?}");
    };
    nft(&["add", "table", "inet", "vzd"]);
    nft(&["add", "table", "ip6", "mine"]);
    refused(&["table ip6 mine in its network is not one that vzd makes"], "");
    nft(&["delete", "table", "ip6", "mine"]);
    assert!(here.status("web").unwrap().is("Migratable"));
    refused(&["there it cannot be resumed", "/nonexistent/criu"], "VZD_CRIU=/nonexistent/criu");
    there.ve("web", json!({ "state": "stopped", "template": here.template() }));
    there.apply();
    refused(&["there is a VE named web already", "ctid 101 belongs to VE web"], "");
    // Somebody who is no vzd.
    let ended = here.vzd(&["migrate", "web", "--via", "echo hello there;:"]).ends(1);
    assert!(ended.stderr.contains("VZ0503"), "{ended:?}");
    assert_eq!(here.init_pid("web"), pid);
}
