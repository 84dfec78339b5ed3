//! OpenVZ's command line over real VEs: what scripts rely on: lines, exit codes, and what it does to manifests.

mod bare;
mod capacity;
mod global;
mod handbook;
mod listing;
mod mounting;
mod moving;
mod naming;
mod odds;
mod password;
mod registering;
mod scripts;
mod setting;
mod snapshots;
mod transient;
mod vzpkg;

use std::process::Command;

use serde_json::json;
use vzd_tests::{Ended, Sandbox, needs};

/// A sandbox in which `--config test` is what makes a container of the test's template.
fn openvz() -> Sandbox {
    let sandbox = Sandbox::new();
    let spec =
        json!({ "template": sandbox.template(), "init": ["/bin/guest", "init"], "stopTimeout": "10s" });
    let profile =
        json!({ "apiVersion": "vzd/v1", "kind": "Profile", "metadata": { "name": "test" }, "spec": spec });
    sandbox.write("profile.yaml", &format!("{profile}\n"));
    sandbox
}

/// Runs a tool: `tool(&sandbox, "vzctl set 101 --numproc 5 --save")`.
#[track_caller]
pub(crate) fn tool(sandbox: &Sandbox, line: &str) -> Ended {
    sandbox.vzd(&line.split_whitespace().collect::<Vec<_>>())
}

/// A container 101 that runs.
fn running() -> Sandbox {
    let sandbox = openvz();
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    tool(&sandbox, "vzctl start 101").ends(0);
    sandbox
}

fn manifest(sandbox: &Sandbox, file: &str) -> String {
    std::fs::read_to_string(sandbox.manifests().join(file)).unwrap()
}

#[test]
fn a_container_lives_as_under_openvz() {
    needs!(Root, Cgroups, Busybox);
    for served in [false, true] {
        let sandbox = openvz();
        let _daemon = served.then(|| sandbox.daemon());
        let status = |words: &str| {
            assert_eq!(tool(&sandbox, "vzctl status 101").ends(0).stdout, format!("CTID 101 {words}\n"));
        };
        status("deleted unmounted down");
        tool(&sandbox, "vzctl start 101").ends(14);
        tool(&sandbox, "vzctl create 101 --config test --hostname web.example.net --description note")
            .ends(0);
        assert_eq!(
            manifest(&sandbox, "101.yaml"),
            "apiVersion: vzd/v1\nkind: VE\nmetadata:\n  name: \"101\"\nspec:\n  ctid: 101\n  profile: test\n  state: stopped\n  \
             hostname: web.example.net\n  description: note\n"
        );
        tool(&sandbox, "vzctl create 101 --config test").ends(44);
        status("exist unmounted down");
        tool(&sandbox, "vzctl exec 101 true").ends(31);
        let started = tool(&sandbox, "vzctl start 101 --wait").ends(0).stdout;
        assert_eq!(started, "Starting container...\nContainer start in progress...\n");
        status("exist mounted running");
        assert!(manifest(&sandbox, "101.yaml").contains("  state: running\n"));
        tool(&sandbox, "vzctl start 101").ends(32);
        tool(&sandbox, "vzctl destroy 101").ends(32);
        assert_eq!(tool(&sandbox, "vzctl exec 101 hostname").ends(0).stdout, "web.example.net\n");

        let init = sandbox.init_pid("101");
        tool(&sandbox, "vzctl --quiet restart 101").ends(0);
        assert_ne!(sandbox.init_pid("101"), init);

        let stopped = tool(&sandbox, "vzctl stop 101").ends(0).stdout;
        assert_eq!(stopped, "Stopping container ...\nContainer was stopped\nContainer is unmounted\n");
        status("exist unmounted down");
        assert_eq!(tool(&sandbox, "vzctl stop 101").ends(0).stdout, "Container is not running\n");
        // A change of one that is down is saved, and starts nothing.
        tool(&sandbox, "vzctl set 101 --description other --save").ends(0);
        status("exist unmounted down");
        tool(&sandbox, "vzctl destroy 101").ends(0);
        status("deleted unmounted down");
        let files: Vec<_> =
            std::fs::read_dir(sandbox.manifests()).unwrap().map(|is| is.unwrap().file_name()).collect();
        assert!(files.iter().any(|name| name == "101.yaml.destroyed") && files.len() == 2, "{files:?}");
    }
}

#[test]
fn programs_end_with_the_codes_that_openvz_gives() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let words = |command: &'static str, script: &'static str| sandbox.vzd(&["vzctl", command, "101", script]);
    words("exec", "exit 3").ends(8);
    words("exec", "true && echo a b").ends(0).says("a b");
    words("exec2", "exit 3").ends(3);
    words("exec2", "no-such-program").ends(127);
    sandbox.vzd(&["vzctl", "exec3", "101", "/bin/sh", "-c", "exit 5"]).ends(5);
    sandbox.vzd(&["vzctl", "exec2", "101", "echo", "$((40", "+", "2))"]).ends(0).says("42");
    assert_eq!(
        sandbox.vzd_with_input(&["vzctl", "exec2", "101", "-"], b"echo x$1; exit 4\n").ends(4).stdout,
        "x\n"
    );
    assert_eq!(
        sandbox.vzd_with_input(&["vzctl", "exec", "101", "cat"], b"through").ends(0).stdout,
        "through"
    );
    let script = sandbox.host_dir("scripts").join("hello");
    std::fs::write(&script, "read line\necho hello $line from $(hostname)\nexit 6\n").unwrap();
    let script = script.to_str().unwrap();
    let said = sandbox.vzd_with_input(&["vzctl", "runscript", "101", script], b"there\n").ends(6).stdout;
    assert_eq!(said, "hello there from 101\n");
    sandbox.vzd(&["vzctl", "runscript", "101", "/no/such/script"]).ends(11);
    sandbox.vzd(&["vzctl", "enter", "101", "--exec", "exit 7"]).ends(7);
    words("exec", "").ends(0);
    sandbox.sh("101", "rm /bin/sh");
    for command in ["exec", "exec2", "enter"] {
        let argv: &[&str] = if command == "enter" { &["--exec", "true"] } else { &["true"] };
        sandbox.vzd(&[&["vzctl", command, "101"], argv].concat()).ends(47);
    }
    sandbox.vzd(&["vzctl", "runscript", "101", script]).ends(47);
    sandbox.vzd(&["vzctl", "exec3", "101", "/no/such"]).ends(127);
}

#[test]
fn what_is_said_wrongly_has_its_code() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    for (line, code) in [
        ("vzctl", 20),
        ("vzctl frobnicate 101", 20),
        ("vzctl --frobnicate start 101", 21),
        ("vzctl start", 21),
        ("vzctl start --wait", 21),
        ("vzctl start 101 now", 20),
        ("vzctl start 101 --frobnicate", 21),
        ("vzctl start 4000000000", 21),
        ("vzctl start nobody", 21),
        ("vzctl start 999", 14),
        ("vzctl set 0 --numproc 5 --save", 1),
        ("vzctl set 0 --cpuunits 1000", 2),
        ("vzctl set 0 --ioprio 3 --save", 148),
        ("vzctl set 0 --onboot yes --save", 21),
        ("vzctl set 0 --numproc 5M --save", 21),
        ("vzctl start 0", 21),
        ("vzctl exec 999 true", 14),
        ("vzctl exec 101", 20),
        ("vzctl create 50 --config test", 21),
        ("vzctl create 102 --config nothing", 82),
        ("vzctl create 102 --name No/Name --config test", 131),
        ("vzctl create 102 --ostemplate no-such-template", 91),
        ("vzctl set 101 --numproc 5M --save", 21),
        ("vzctl set 101 --nump 5 --save", 21),
        ("vzctl set 101 --kmemsize 2:1 --save", 21),
        ("vzctl set 101 --ipadd 300.0.0.1 --save", 21),
        ("vzctl set 101 --onboot yes", 20),
        ("vzctl set 101 --force", 21),
        ("vzctl set 101 --name web", 131),
        ("vzctl set 101 --userpasswd root:x --save", 74),
        ("vzctl set 101 --applyconfig nothing --save", 109),
        ("vzctl set 101 --pci_add 0:0.0 --save", 21),
        ("vzctl set 101 --setmode never --save", 21),
        ("vzctl set 101 --reset_ub --save", 21),
        ("vzctl set 101 --reset_ub", 0),
        ("vzctl set 101", 0),
        ("vzctl quotaon 101", 60),
        ("vzctl quotainit 101", 61),
        ("vzctl quotaoff 101", 66),
        ("vzctl mount 101", 0),
        ("vzctl umount 101", 32),
        ("vzctl suspend 101 --kill", 16),
        ("vzctl suspend 101 --dump --kill", 20),
        ("vzctl restore 101 --undump --kill", 20),
        ("vzctl resume 101", 17),
        ("vzctl convert 101", 155),
        ("vzctl compact 101", 0),
        ("vzctl reinstall 101", 32),
        ("vzctl reinstall 101 --frobnicate", 21),
        ("vzctl register /vz/private/101 101", 140),
        ("vzctl register /vz/private/101", 20),
        ("vzctl register /vz/private/999 999", 140),
        ("vzctl register /vz/private/99 99", 21),
        ("vzctl snapshot-mount 101 --id x", 20),
        ("vzctl snapshot-mount 101 --id x --target /mnt", 160),
        ("vzctl snapshot-umount 101 --id x", 161),
        ("vzctl --version", 0),
        ("vzctl --skiplock --verbose status 101", 0),
    ] {
        let ended = tool(&sandbox, line);
        assert_eq!(ended.code, code, "{line}: {ended:?}");
        assert!(code == 0 || !ended.stderr.is_empty(), "{line} says nothing");
    }
    assert!(!sandbox.manifests().join("102.yaml").exists(), "what could not be created leaves no manifest");
    assert!(sandbox.status("102").is_none());
    // Frozen in memory, and back.
    tool(&sandbox, "vzctl suspend 101 --suspend").ends(0);
    tool(&sandbox, "vzctl chkpnt 101 --resume").ends(0);
    tool(&sandbox, "vzctl exec 101 true").ends(0);
    tool(&sandbox, "vzctl unregister 101").ends(0);
    assert!(sandbox.status("101").is_none());
    sandbox.vzd(&["get", "--all"]).ok().says("101");
}

#[test]
fn a_container_is_checkpointed_and_restored() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = running();
    tool(&sandbox, "vzctl exec 101 touch /run/here").ends(0);
    tool(&sandbox, "vzctl resume 101").ends(17);
    for (down, up) in [("suspend", "resume"), ("chkpnt", "restore")] {
        tool(&sandbox, &format!("vzctl {down} 101")).ends(0);
        tool(&sandbox, "vzctl status 101").ends(0).says("CTID 101 exist unmounted down suspended");
        let listed = tool(&sandbox, "vzlist -S -H -o ctid,status").ends(0);
        assert_eq!(listed.stdout, "       101 suspended\n");
        tool(&sandbox, &format!("vzctl {down} 101")).ends(31);
        tool(&sandbox, &format!("vzctl {up} 101")).ends(0);
        tool(&sandbox, "vzctl status 101").ends(0).says("CTID 101 exist mounted running");
    }
    tool(&sandbox, "vzctl exec 101 ls /run/here").ends(0);
}

#[test]
fn a_checkpoint_is_made_and_used_in_stages() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = running();
    let is = |state: &str| {
        let told = tool(&sandbox, "vzctl status 101").ends(0).stdout;
        assert_eq!(told.trim(), format!("CTID 101 exist {state}"));
    };
    tool(&sandbox, "vzctl exec 101 touch /run/here").ends(0);
    for last in ["resume", "kill"] {
        tool(&sandbox, "vzctl chkpnt 101 --suspend").ends(0);
        is("mounted running");
        tool(&sandbox, "vzctl chkpnt 101 --kill").ends(16).says("--dump comes first");
        tool(&sandbox, "vzctl chkpnt 101 --dump").ends(0);
        is("unmounted down suspended");
        tool(&sandbox, &format!("vzctl chkpnt 101 --{last}")).ends(0);
    }
    is("unmounted down suspended");
    for last in ["kill", "resume"] {
        tool(&sandbox, "vzctl restore 101 --undump").ends(0);
        is("mounted running");
        assert!(sandbox.status("101").unwrap().0["status"]["frozen"].as_bool().unwrap());
        tool(&sandbox, &format!("vzctl restore 101 --{last}")).ends(0);
    }
    is("mounted running");
    tool(&sandbox, "vzctl exec 101 ls /run/here").ends(0);
}

#[test]
fn a_dump_file_is_good_for_its_own_suspension() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = running();
    let dir = sandbox.host_dir("dumps");
    let (first, second) = (dir.join("first"), dir.join("second"));
    let suspend = |to: &std::path::Path| {
        tool(&sandbox, &format!("vzctl chkpnt 101 --dumpfile {}", to.display())).ends(0);
    };
    let restore =
        |from: &std::path::Path| tool(&sandbox, &format!("vzctl restore 101 --dumpfile {}", from.display()));
    tool(&sandbox, "vzctl exec 101 touch /run/here").ends(0);
    suspend(&first);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&first).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    restore(&dir.join("none")).ends(17);
    restore(&first).ends(0);
    suspend(&second);
    restore(&first).ends(17).says("it is not of this suspension");
    // What was lost of the checkpoint is in it.
    let ves = std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap();
    let checkpoint = ves.map(|ve| ve.unwrap().path().join("checkpoint")).next().unwrap();
    std::fs::remove_file(checkpoint.join("pages-1.img")).unwrap();
    tool(&sandbox, "vzctl restore 101").ends(17).says("pages-1.img is missing");
    let good = std::fs::read(&second).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&second, bad).unwrap();
    restore(&second).ends(17);
    std::fs::write(&second, good).unwrap();
    restore(&second).ends(0);
    tool(&sandbox, "vzctl exec 101 ls /run/here").ends(0);
}

#[test]
fn one_program_is_all_tools_by_name() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let bin = sandbox.host_dir("bin");
    let dir = bin.to_str().unwrap();
    std::fs::write(bin.join("vzlist"), "mine").unwrap();
    sandbox.vzd(&["compat", "install", dir]).ends(1).says("is not a link");
    assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 1, "all or nothing");
    std::fs::remove_file(bin.join("vzlist")).unwrap();
    sandbox.vzd(&["compat", "install", dir]).ok();
    sandbox.vzd(&["compat", "install", dir]).ok();
    let names = sandbox.vzd(&["compat", "list"]).ok().stdout;
    assert_eq!(std::fs::read_dir(&bin).unwrap().count(), names.lines().count());
    let command = sandbox.command(&[]);
    let environment: Vec<_> =
        command.get_envs().map(|(key, value)| (key.to_owned(), value.unwrap().to_owned())).collect();
    let output = Command::new(bin.join("vzctl"))
        .args(["status", "101"])
        .env_clear()
        .envs(environment)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "CTID 101 exist mounted running\n");
    sandbox.vzd(&["compat", "uninstall", dir]).ok();
    assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 0);
}
