//! Options of the mount of a VE's root: in force from the start, not to be undone inside, and held for the next start when
//! they change.

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs};

fn spec(options: &[&str]) -> Value {
    json!({ "disk": { "mountOptions": options } })
}

/// What the kernel says of the mount, from outside.
fn in_force(sandbox: &Sandbox) -> Vec<String> {
    let mounts = vzd_tests::mountinfo_of(sandbox.init_pid("web"));
    let root =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[4] == "/").unwrap();
    root[5].split(',').map(str::to_owned).collect()
}

/// Whether reading a file renews its time of access.
fn renews(sandbox: &Sandbox) -> bool {
    let script = "echo x > /root/f; touch -d '2020-01-01 00:00' /root/f; touch -a -d '2020-01-02 00:00' /root/f; \
                  a=$(stat -c %X /root/f); cat /root/f > /dev/null; test $a != $(stat -c %X /root/f) && echo yes || echo no";
    sandbox.sh("web", script) == "yes"
}

#[test]
fn options_are_locked_in_and_change_at_a_start() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({}));
    sandbox.apply();
    let plain = in_force(&sandbox);
    assert!(plain.contains(&"relatime".to_owned()) && plain.contains(&"nodev".to_owned()), "{plain:?}");
    assert!(renews(&sandbox), "it is older than a day");
    let pid = sandbox.init_pid("web");
    sandbox.ve("web", spec(&["noatime", "nosuid"]));
    sandbox.vzd(&["plan"]).ok().says("spec.disk.mountOptions").says("takes effect at the next start");
    sandbox.apply();
    assert_eq!((sandbox.init_pid("web"), in_force(&sandbox)), (pid, plain.clone()));
    assert!(sandbox.status("web").unwrap().is("RestartRequired"));
    sandbox.vzd(&["restart", "web"]).ok();
    let options = in_force(&sandbox);
    assert!(
        ["noatime", "nosuid", "nodev"].iter().all(|one| options.contains(&(*one).to_owned())),
        "{options:?}"
    );
    assert!(!renews(&sandbox));
    let status = sandbox.vzd(&["get", "web", "-o", "json"]).ok().json();
    assert_eq!(status["status"]["resources"]["disk"]["mountOptions"], json!(["noatime", "nosuid", "nodev"]));
    // Neither its own root nor the host's can take them off as it runs.
    for undo in ["mount -o remount,bind,suid,noatime /", "mount -o remount,bind,nosuid,relatime /"] {
        sandbox.vzd(&["exec", "web", "--", "/bin/sh", "-c", undo]);
        let target = sandbox.init_pid("web").to_string();
        let words: Vec<&str> =
            ["-t", &target, "-m", "--", "/bin/busybox"].into_iter().chain(undo.split(' ')).collect();
        std::process::Command::new("nsenter").args(words).status().unwrap();
        assert_eq!(in_force(&sandbox), options, "after {undo}");
    }
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    sandbox.ve("web", spec(&["strictatime", "nodiratime"]));
    sandbox.vzd(&["restart", "web"]).ok();
    let options = in_force(&sandbox);
    assert!(
        options.contains(&"nodiratime".to_owned()) && !options.contains(&"nosuid".to_owned()),
        "{options:?}"
    );
    assert!(!options.contains(&"relatime".to_owned()) && renews(&sandbox));
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    sandbox.ve("web", json!({}));
    sandbox.vzd(&["restart", "web"]).ok();
    assert_eq!(in_force(&sandbox), plain);
}

#[test]
fn a_resumed_ve_keeps_those_it_was_started_with() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    sandbox.ve("web", spec(&["noatime", "nosuid"]));
    sandbox.apply();
    let options = in_force(&sandbox);
    sandbox.vzd(&["suspend", "web"]).ok();
    sandbox.ve("web", spec(&["strictatime"]));
    sandbox.vzd(&["resume", "web"]).ok();
    assert_eq!(in_force(&sandbox), options);
    assert!(sandbox.status("web").unwrap().is("RestartRequired"));
    assert!(!renews(&sandbox));
}
