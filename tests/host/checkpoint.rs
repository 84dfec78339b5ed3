//! VEs written to disk and resumed: by their manifest, by an order, after a power cut; and those that cannot be.

pub(crate) mod compressed;
mod counts;
mod kept;
mod policies;
mod running;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use vzd_tests::{Process, Sandbox, eventually, needs};

/// A tree that notices whatever it loses: it counts in its memory, tells each number through a pipe to a process that
/// writes it down, and holds files and a lock open.
const WITNESS: &str = r#"
mkfifo /tmp/pipe
echo kept > /dev/shm/shared
ln -s /tmp /dev/link
(exec 7> /tmp/gone; rm /tmp/gone; i=0; while :; do i=$((i+1)); echo $i; echo $i >&7; sleep 0.05; done > /tmp/pipe) & echo $! > /tmp/pids
(while read n; do echo $n >> /tmp/told; done < /tmp/pipe) & echo $! >> /tmp/pids
"#;

/// Starts it, and waits until it is at work.
pub(crate) fn witness(sandbox: &Sandbox, name: &str) {
    sandbox.sh(name, &format!("setsid sh -c '{WITNESS} wait' > /dev/null 2>&1 < /dev/null &"));
    eventually("the witness counts", || told(sandbox, name) > 3);
}

/// How far it has come; every number up to that must be there once.
pub(crate) fn told(sandbox: &Sandbox, name: &str) -> usize {
    let text = sandbox.sh(name, "cat /tmp/told 2>/dev/null || true");
    let numbers: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().enumerate().all(|(at, number)| *number == at + 1), "{numbers:?}");
    numbers.len()
}

/// The witness's two processes by pid, with their names and parents.
pub(crate) fn tree(sandbox: &Sandbox, name: &str) -> String {
    let tree = sandbox.sh(name, "for p in $(cat /tmp/pids); do cut -d ' ' -f 1-6 /proc/$p/stat; done");
    assert_eq!(tree.lines().count(), 2, "{tree}");
    tree.replace(" R ", " S ")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

pub(crate) fn checkpoint(sandbox: &Sandbox) -> PathBuf {
    let ves = std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap();
    ves.map(|entry| entry.unwrap().path().join("checkpoint")).next().unwrap()
}

#[test]
fn a_manifest_suspends_a_ve_and_resumes_it() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    let mounts = json!([{ "source": sandbox.host_dir("data"), "target": "/mnt/data", "idmap": true }]);
    let ve = |state: &str, numproc: u32| {
        let spec = json!({ "state": state, "mounts": mounts, "beancounters": { "numproc": numproc } });
        sandbox.ve("web", spec);
        sandbox.apply();
        let plan = sandbox.vzd(&["plan", "--detailed-exitcode"]);
        assert_eq!(plan.code, 0, "{}", plan.stdout);
    };
    ve("running", 100);
    let pid = sandbox.init_pid("web");
    witness(&sandbox, "web");
    let before = tree(&sandbox, "web");
    let plan = {
        let spec = json!({ "state": "suspended", "mounts": mounts, "beancounters": { "numproc": 100 } });
        sandbox.ve("web", spec);
        sandbox.vzd(&["plan"]).ok().stdout
    };
    assert!(plan.contains("spec.state") && plan.contains(r#""running" -> "suspended""#), "{plan}");
    ve("suspended", 100);
    assert!(Process::open(pid).is_none());
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
    let status = sandbox.status("web").unwrap();
    assert_eq!(status.reason(), "SuspendedToDisk");
    assert!(sandbox.vzd(&["get", "web"]).stdout.contains("suspended"));
    // What changes meanwhile is so when it goes on.
    ve("suspended", 90);
    ve("running", 90);
    let told_first = told(&sandbox, "web");
    eventually("it counts on", || told(&sandbox, "web") > told_first);
    assert_eq!(tree(&sandbox, "web"), before);
    assert_eq!(
        sandbox.sh("web", "cat /dev/shm/shared; readlink /dev/link; ls -d /mnt/data"),
        "kept\n/tmp\n/mnt/data"
    );
    assert!(!checkpoint(&sandbox).exists());
    assert!(sandbox.cgroups().iter().any(|group| read(&group.join("pids.max")) == "90"));
    // Masks are not the VE's to take away.
    let masks = sandbox.sh("web", "umount /proc/kallsyms /proc/sys 2>/dev/null; cat /proc/kallsyms | wc -c");
    assert_eq!(masks, "0");
    // Again, and its end is noticed as that of any other.
    ve("suspended", 90);
    ve("running", 90);
    let daemon = sandbox.daemon();
    sandbox.until_ready("web");
    sandbox.signal_init("web", "USR2");
    sandbox.until("web", "halted", |ve| ve.reason() == "HaltedByOwner" || ve.reason() == "BackOff");
    drop(daemon);
}

#[test]
fn an_order_suspends_across_a_power_cut() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "init": null, "template": "tiny" }));
    sandbox.apply();
    witness(&sandbox, "web");
    sandbox.vzd(&["suspend", "web"]).ok();
    assert_eq!(sandbox.status("web").unwrap().reason(), "SuspendedByOperator");
    let directory = std::fs::metadata(checkpoint(&sandbox)).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&directory.permissions()) & 0o777, 0o700);
    sandbox.power_cut();
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    sandbox.vzd(&["resume", "web"]).ok();
    let first = told(&sandbox, "web");
    eventually("it counts on", || told(&sandbox, "web") > first);
    let names = sandbox.sh("web", "ps -o comm");
    assert!(["syslogd", "crond"].iter().all(|name| names.lines().any(|line| line == *name)), "{names}");
    sandbox.sh("web", "logger -t test resumed");
    eventually("syslogd hears", || sandbox.sh("web", "cat /var/log/messages").contains("resumed"));
}

#[test]
fn one_that_cannot_be_suspended_runs_on() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    let mut entered = sandbox.command(&["exec", "web", "--", "sleep", "1000"]).spawn().unwrap();
    eventually("it is entered", || sandbox.sh("web", "ps -o comm").contains("sleep"));
    let refused = sandbox.vzd(&["suspend", "web"]).ends(1);
    assert!(refused.stderr.contains("VZ0501"), "{refused:?}");
    assert!(refused.stderr.contains("(sleep) was put into it by exec or enter"), "{refused:?}");
    assert_eq!(sandbox.init_pid("web"), pid);
    assert!(!checkpoint(&sandbox).exists());
    sandbox.vzd(&["resume", "web"]).ok();
    assert!(sandbox.status("web").unwrap().is("Ready"));
    assert_eq!(sandbox.init_pid("web"), pid);
    entered.kill().unwrap();
    entered.wait().unwrap();
    sandbox.sh("web", "pkill sleep || true");
}

/// It is told before, since it would never be resumed.
#[test]
fn none_is_suspended_where_its_root_may_not_pass() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    let mode = |mode| std::fs::set_permissions(sandbox.dir(), Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    let refused = sandbox.vzd(&["suspend", "web"]).ends(1);
    let why = format!("below {}: it has mode 0700", sandbox.dir().display());
    assert!(refused.stderr.contains("VZ0201") && refused.stderr.contains(&why), "{refused:?}");
    assert_eq!(sandbox.init_pid("web"), pid);
    mode(0o711);
    sandbox.vzd(&["suspend", "web"]).ok();
    sandbox.vzd(&["resume", "web"]).ok();
    mode(0o755);
}

#[test]
fn a_checkpoint_that_is_not_as_it_was_written_is_refused_and_kept() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.vzd(&["suspend", "web"]).ok();
    let file = checkpoint(&sandbox).join("pages-1.img");
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    let refused = sandbox.vzd(&["resume", "web"]).ends(1);
    assert!(refused.stderr.contains("VZ0502"), "{refused:?}");
    assert!(refused.stderr.contains("pages-1.img is not as it was written"), "{refused:?}");
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
    std::fs::write(&file, &good).unwrap();
    // What it names elsewhere is not looked at, let alone written.
    let (inside, outside) =
        (checkpoint(&sandbox).join("pstree.img"), sandbox.host_dir("data").join("pstree.img"));
    std::fs::rename(&inside, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &inside).unwrap();
    let refused = sandbox.vzd(&["resume", "web"]).ends(1);
    assert!(refused.stderr.contains("VZ0502") && refused.stderr.contains("it is no file"), "{refused:?}");
    std::fs::rename(&outside, &inside).unwrap();
    let list = checkpoint(&sandbox).join("checkpoint.json");
    let text = read(&list);
    for name in ["../evil.img", "/tmp/evil.img", "a/b.img", ".."] {
        std::fs::write(&list, text.replace("pstree.img", name)).unwrap();
        let refused = sandbox.vzd(&["resume", "web"]).ends(1);
        assert!(refused.stderr.contains("is no name of a file in it"), "{name}: {refused:?}");
    }
    std::fs::write(&list, &text[..text.len() / 2]).unwrap();
    let refused = sandbox.vzd(&["resume", "web"]).ends(1);
    assert!(refused.stderr.contains("VZ0502") && refused.stderr.contains("checkpoint.json"), "{refused:?}");
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
    std::fs::write(&list, text).unwrap();
    sandbox.vzd(&["resume", "web"]).ok();
    sandbox.until_ready("web");
}

#[test]
fn a_stop_gives_a_checkpoint_up() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.sh("web", "touch /run/here");
    sandbox.vzd(&["suspend", "web"]).ok();
    sandbox.vzd(&["stop", "web"]).ok();
    assert!(!checkpoint(&sandbox).exists());
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "ls /run"), "");
    // One that does not run is not started to be suspended.
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.vzd(&["suspend", "web"]).ok();
    assert_eq!(sandbox.status("web").unwrap().reason(), "Stopped");
}

#[test]
fn a_host_without_criu_says_so_before_it_does_anything() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    sandbox.ve("web", json!({ "state": "suspended" }));
    let mut command = sandbox.command(&["plan"]);
    let plan = command.env("VZD_CRIU", "/nonexistent/criu").output().unwrap();
    let text = String::from_utf8_lossy(&plan.stdout);
    assert!(text.contains("VZ0201") && text.contains("/nonexistent/criu"), "{text}");
    let mut command = sandbox.command(&["apply"]);
    drop(command.env("VZD_CRIU", "/nonexistent/criu").output().unwrap());
    assert_eq!(sandbox.init_pid("web"), pid);
}

#[test]
fn one_that_has_lost_its_console_runs_on() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let init = sandbox.init_pid("web");
    let keeper = Process::keeper_of(&sandbox.run_dir()).unwrap();
    keeper.kill();
    assert!(keeper.wait(vzd_tests::LONG));
    sandbox.vzd(&["suspend", "web"]).ends(1).says("its console was lost");
    sandbox.vzd(&["resume", "web"]).ok();
    assert_eq!(sandbox.init_pid("web"), init);
    sandbox.vzd(&["restart", "web"]).ok();
    sandbox.vzd(&["suspend", "web"]).ok();
    sandbox.vzd(&["resume", "web"]).ok();
}
