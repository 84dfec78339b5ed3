//! Action scripts of OpenVZ: their order, what they find, what one that fails means, and that nothing inside a VE profits.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::json;
use vzd_tests::{Process, Sandbox, eventually, needs};

use super::{openvz, tool};

/// A script of the host that notes its name, then does that.
pub(super) fn script(sandbox: &Sandbox, name: &str, text: &str) -> PathBuf {
    std::fs::create_dir_all(sandbox.scripts()).unwrap();
    let path = sandbox.scripts().join(name);
    let log = sandbox.dir().join("log");
    std::fs::write(&path, format!("#!/bin/sh\necho {name} >> {}\n{text}\n", log.display())).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// One that a VE's shell runs.
fn inside(sandbox: &Sandbox, name: &str, text: &str) {
    std::fs::create_dir_all(sandbox.scripts()).unwrap();
    std::fs::write(sandbox.scripts().join(name), text).unwrap();
}

/// The names of what has run on the host, in order.
fn log(sandbox: &Sandbox) -> String {
    let text = std::fs::read_to_string(sandbox.dir().join("log")).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same, of a moment when nothing runs: forgets them.
pub(super) fn ran(sandbox: &Sandbox) -> String {
    let all = log(sandbox);
    let _ = std::fs::remove_file(sandbox.dir().join("log"));
    all
}

pub(super) const UP: &str = "vps.premount 101.premount vps.mount 101.mount";
pub(super) const DOWN: &str = "101.umount vps.umount 101.postumount vps.postumount";

pub(super) fn all(sandbox: &Sandbox) {
    for name in UP.split(' ').chain(DOWN.split(' ')) {
        script(sandbox, name, "");
    }
}

#[test]
pub(super) fn scripts_run_in_order_and_find_what_openvz_gave_them() {
    needs!(Root, Cgroups, Busybox);
    for served in [false, true] {
        let sandbox = openvz();
        let _daemon = served.then(|| sandbox.daemon());
        all(&sandbox);
        let data = sandbox.host_dir("data");
        std::fs::write(data.join("hello"), "from the host\n").unwrap();
        let said = sandbox.dir().join("said");
        let mount = format!(
            ". \"$VE_CONFFILE\"\n[ -x \"$VE_ROOT/bin/busybox\" ] || exit 1\nmkdir -p $VE_ROOT/mnt/data\n\
             mount -n --bind {} $VE_ROOT/mnt/data\necho $VEID $VE_NAME $HOSTNAME $NUMPROC $DESCRIPTION > {}",
            data.display(),
            said.display()
        );
        script(&sandbox, "101.mount", &mount);
        // Before init: of which nobody can say more than that it is one.
        inside(
            &sandbox,
            "101.start",
            "hostname > /early; cat /proc/self/uid_map >> /early; cat /mnt/data/hello >> /early\n\
             grep -q guest /proc/1/cmdline && exit 1\ntrue\n",
        );
        inside(&sandbox, "101.stop", "grep -c guest /proc/1/cmdline > /late\n");
        let create = ["vzctl", "create", "101", "--config", "test", "--hostname", "web.example.net"];
        sandbox.vzd(&[&create[..], &["--description", "`touch /x` $(id) $HOME"]].concat()).ends(0);
        tool(&sandbox, "vzctl set 101 --numproc 77 --save").ends(0);
        assert_eq!(ran(&sandbox), "", "a VE that is made is not mounted");
        tool(&sandbox, "vzctl start 101").ends(0);
        assert_eq!(ran(&sandbox), UP);
        assert_eq!(
            std::fs::read_to_string(said).unwrap(),
            "101 101 web.example.net 77 `touch /x` $(id) $HOME\n"
        );

        let early = sandbox.sh("101", "cat /early");
        let lines: Vec<_> = early.lines().collect();
        assert_eq!((lines[0], lines[2]), ("web.example.net", "from the host"));
        let ids: Vec<_> = lines[1].split_whitespace().collect();
        assert!(ids[0] == "0" && ids[1] != "0" && ids[2] == "65536", "{early}");
        assert_eq!(sandbox.sh("101", "cat /mnt/data/hello"), "from the host");
        // For the VE alone, and not to be undone inside.
        sandbox.exec("101", &["umount", "/mnt/data"]).ends(1);
        assert_eq!(std::fs::read_dir(sandbox.run_dir().join("staging")).unwrap().count(), 0);
        assert_eq!(ran(&sandbox), "");

        tool(&sandbox, "vzctl stop 101").ends(0);
        assert_eq!(ran(&sandbox), DOWN);
        std::fs::remove_file(sandbox.scripts().join("101.stop")).unwrap();
        tool(&sandbox, "vzctl start 101").ends(0);
        assert_eq!(sandbox.sh("101", "cat /late"), "1");
        // However it ends.
        if served {
            ran(&sandbox);
            Process::open(sandbox.init_pid("101")).unwrap().signal(Signal::KILL);
            eventually("the VE is started again", || log(&sandbox) == format!("{DOWN} {UP}"));
        }
    }
}

#[test]
fn one_that_fails_refuses_the_start_and_nothing_else() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    tool(&sandbox, "vzctl create 102 --config test").ends(0);
    let refused = |why: &str| {
        tool(&sandbox, "vzctl start 101").ends(79).says("VZ0311").says(why);
        tool(&sandbox, "vzctl status 101").ends(0).says("unmounted down");
        assert!(!sandbox.cgroup(101).exists());
        ran(&sandbox)
    };
    all(&sandbox);
    script(&sandbox, "101.premount", "echo no disk; exit 3");
    assert_eq!(refused("101.premount: no disk"), "vps.premount 101.premount");
    script(&sandbox, "101.premount", "");
    script(&sandbox, "101.mount", "exit 3");
    assert_eq!(refused("101.mount: it exited with 3"), UP);
    let path = script(&sandbox, "101.mount", "");
    // A mount that is not taken back by a script of the host's is cleared up by one.
    inside(&sandbox, "101.start", "echo no shell; exit 4");
    assert_eq!(refused("101.start: no shell"), format!("{UP} {DOWN}"));
    std::fs::remove_file(sandbox.scripts().join("101.start")).unwrap();
    // Who could have written it is not root alone.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(refused("root's alone"), "");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(refused("not executable"), "");
    // Another VE starts all the while.
    tool(&sandbox, "vzctl start 102").ends(0);
    ran(&sandbox);
    script(&sandbox, "101.mount", "");
    tool(&sandbox, "vzctl start 101").ends(0);
    assert_eq!(ran(&sandbox), UP);

    // Later ones hold nothing up.
    inside(&sandbox, "101.stop", "exit 5");
    script(&sandbox, "101.umount", "exit 6");
    tool(&sandbox, "vzctl stop 101").ends(0);
    assert_eq!(ran(&sandbox), DOWN);
    let told = sandbox.events("101").into_iter().filter(|event| event["reason"] == "ActionScriptFailed");
    let told: Vec<_> = told.map(|event| event["message"].as_str().unwrap().to_owned()).collect();
    assert!(told.len() == 2 && told[0].contains("101.stop") && told[1].contains("101.umount"), "{told:?}");
}

#[test]
fn one_that_hangs_is_ended() {
    needs!(Root, Cgroups, Busybox);
    const HUNG: [(&str, &str); 3] = [("101", "101.premount"), ("102", "102.mount"), ("103", "103.start")];
    let sandbox = openvz();
    let _daemon = sandbox.daemon();
    for (name, hung) in HUNG {
        script(&sandbox, hung, "sleep 1000");
        sandbox.ve(
            name,
            json!({ "ctid": name.parse::<u32>().unwrap(), "startTimeout": "5s", "state": "stopped" }),
        );
    }
    sandbox.apply();
    std::thread::scope(|all| {
        for (name, hung) in HUNG {
            let sandbox = &sandbox;
            all.spawn(move || {
                let start = sandbox.vzd(&["start", name]).ends(1);
                start.says("VZ0311").says(hung).says("did not end in time");
            });
        }
    });
}

/// More hang than the controller has workers, all of them before the one that is to start, and fewer may start at a time.
#[test]
fn those_that_hang_keep_no_other_ve_from_starting() {
    needs!(Root, Cgroups, Busybox);
    const HUNG: std::ops::Range<u32> = 200..220;
    let sandbox = openvz();
    sandbox.write(
        "host.yaml",
        "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}, spec: {startParallel: 4}}\n",
    );
    for ctid in HUNG {
        script(&sandbox, &format!("{ctid}.mount"), "exec sleep 1000");
        sandbox.ve(&format!("ve{ctid}"), json!({ "ctid": ctid, "bootOrder": 9, "startTimeout": "10m" }));
    }
    sandbox.ve("web", json!({ "ctid": 101 }));
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    let hung = || log(&sandbox).split(' ').filter(|name| name.ends_with(".mount")).count();
    eventually("all others hang", || hung() == HUNG.len());
    assert_eq!(sandbox.list().iter().filter(|ve| ve.is("Ready")).count(), 1);
    // And what runs is still seen to.
    let before = sandbox.init_pid("web");
    Process::open(before).unwrap().signal(Signal::KILL);
    sandbox.until("web", "up again", |ve| ve.init_pid().is_some_and(|pid| pid != before));
}

#[test]
fn a_controller_that_is_killed_meanwhile_leaves_nothing_out() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    all(&sandbox);
    let fifo = sandbox.dir().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    // Waits for somebody who writes.
    script(&sandbox, "101.mount", &format!("read line < {}", fifo.display()));
    sandbox.ve("web", json!({ "ctid": 101 }));
    let daemon = sandbox.daemon();
    eventually("the script runs", || log(&sandbox) == UP);
    daemon.kill9();
    ran(&sandbox);
    script(&sandbox, "101.mount", "");
    let _daemon = sandbox.daemon();
    sandbox.until_ready("web");
    // What was begun is taken back, and begun anew.
    assert_eq!(ran(&sandbox), format!("{DOWN} {UP}"));
}

#[test]
fn a_suspended_ve_is_prepared_for_and_not_mounted_again() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = openvz();
    all(&sandbox);
    inside(&sandbox, "101.start", "echo started >> /started");
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    tool(&sandbox, "vzctl start 101").ends(0);
    ran(&sandbox);
    tool(&sandbox, "vzctl suspend 101").ends(0);
    assert_eq!(ran(&sandbox), "101.postumount vps.postumount");
    tool(&sandbox, "vzctl resume 101").ends(0);
    assert_eq!(ran(&sandbox), "vps.premount 101.premount");
    assert_eq!(sandbox.sh("101", "cat /started"), "started");
}

#[test]
fn what_a_script_has_mounted_keeps_a_ve_from_being_suspended() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = openvz();
    let data = sandbox.host_dir("data");
    std::fs::write(data.join("hello"), "from the host\n").unwrap();
    let mount = format!("mkdir -p $VE_ROOT/mnt/data && mount --bind {} $VE_ROOT/mnt/data", data.display());
    script(&sandbox, "101.mount", &mount);
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    tool(&sandbox, "vzctl start 101").ends(0);
    tool(&sandbox, "vzctl suspend 101").ends(16).says("VZ0501");
    // It goes on, with all it had.
    assert_eq!(sandbox.sh("101", "cat /mnt/data/hello"), "from the host");
}
