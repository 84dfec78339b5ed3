//! Scripts in containers that are down: these run for that alone, and are then as they were.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use vzd_tests::{Sandbox, eventually, needs};

use super::{manifest, openvz, tool};

fn script(sandbox: &Sandbox, text: &str) -> PathBuf {
    let path = sandbox.host_dir("scripts").join("script");
    std::fs::write(&path, text).unwrap();
    path
}

fn runscript(sandbox: &Sandbox, text: &str) -> Command {
    let path = script(sandbox, text);
    sandbox.command(&["vzctl", "runscript", "101", path.to_str().unwrap(), "word"])
}

fn is_down(sandbox: &Sandbox) -> bool {
    tool(sandbox, "vzctl status 101").ends(0).stdout == "CTID 101 exist unmounted down\n"
}

#[test]
fn a_container_that_is_down_runs_a_script_and_nothing_else() {
    needs!(Root, Cgroups, Busybox);
    for served in [false, true] {
        let sandbox = openvz();
        let _daemon = served.then(|| sandbox.daemon());
        tool(&sandbox, "vzctl create 101 --config test").ends(0);
        tool(&sandbox, "vzctl set 101 --numproc 77 --save").ends(0);
        let before = manifest(&sandbox, "101.yaml");
        let text = "touch /root/here; echo $0 $1 $(cat /proc/1/comm); exit 6\n";
        let path = script(&sandbox, text);
        let ended = vzd_tests::Ended::of(&mut runscript(&sandbox, text)).ends(6);
        assert_eq!(ended.stdout.trim(), format!("{} word sh", path.display()));
        assert!(is_down(&sandbox));
        assert_eq!(manifest(&sandbox, "101.yaml"), before);
        sandbox.vzd(&["vzctl", "runscript", "101", "/no/such/script"]).ends(11);
        tool(&sandbox, "vzctl exec 101 true").ends(31);

        let chpasswd = "printf '#!/bin/sh\\ncat > /root/told\\n' > /bin/chpasswd; chmod 755 /bin/chpasswd\n\
             grep -q ^root: /etc/passwd || echo root:x:0:0::/:/bin/sh >> /etc/passwd\n";
        vzd_tests::Ended::of(&mut runscript(&sandbox, chpasswd)).ends(0);
        tool(&sandbox, "vzctl set 101 --userpasswd root:secret").ends(0);
        assert!(is_down(&sandbox));

        // Its own init starts as ever, and has found nothing of it but what the script did.
        tool(&sandbox, "vzctl start 101").ends(0);
        assert_eq!(
            sandbox.sh("101", "cat /root/told; ls /root/here; cat /proc/1/comm"),
            "root:secret\n/root/here\nguest"
        );
    }
}

#[test]
fn one_whose_caller_is_killed_is_down_again_by_itself() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = openvz();
    let _daemon = sandbox.daemon();
    tool(&sandbox, "vzctl create 101 --config test").ends(0);
    let mut caller = runscript(&sandbox, "echo up; read line; echo done > /root/done\n")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    caller.stdout.take().unwrap().read_exact(&mut up).unwrap();
    assert!(!is_down(&sandbox));
    // Nothing else is done with it meanwhile.
    for order in ["start", "suspend"] {
        let ended = tool(&sandbox, &format!("vzctl {order} 101"));
        assert_ne!(ended.code, 0, "{order}: {ended:?}");
    }
    caller.kill().unwrap();
    caller.wait().unwrap();
    eventually("it is down", || is_down(&sandbox));
    tool(&sandbox, "vzctl start 101").ends(0);
    assert_eq!(sandbox.sh("101", "cat /proc/1/comm"), "guest");
}
