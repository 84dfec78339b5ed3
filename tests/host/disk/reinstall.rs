//! `vzd reinstall`: a root anew, what it keeps, and where what it had has gone.

use serde_json::json;
use vzd_tests::{Sandbox, needs};

use super::{On, World, check, on_each, on_images, on_projects, on_subvolumes};

on_each!(a_root_is_made_anew_and_keeps_its_users);

#[test]
fn a_directory_is_made_anew_and_keeps_its_users() {
    needs!(Root, Cgroups, Busybox);
    a_root_is_made_anew_and_keeps_its_users(On::Directory);
}

const LOOK: &str =
    "cat /etc/release; cat /etc/passwd /etc/shadow; stat -c '%u %g %a' /etc /etc/shadow; ls /root";

/// A VE with a user of its own.
fn lived_in(sandbox: &Sandbox) {
    std::fs::write(sandbox.template_dir().join("etc/release"), "one\n").unwrap();
    std::fs::write(sandbox.template_dir().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    sandbox.ve("web", json!({ "ctid": 101 }));
    sandbox.apply();
    sandbox.sh(
        "web",
        "echo ann:x:1000:1000::/:/bin/sh >> /etc/passwd; echo ann:secret >/etc/shadow; chown 0:42 /etc/shadow; chmod 640 /etc/shadow; \
         echo data >/root/data; rm /etc/group; ln -s /etc/passwd /etc/gshadow",
    );
}

fn a_root_is_made_anew_and_keeps_its_users(on: On) {
    let sandbox = World::new(on);
    lived_in(&sandbox);
    let before = sandbox.sh("web", LOOK);
    let refused = sandbox.vzd(&["reinstall", "web"]).ends(1);
    assert!(refused.stderr.contains("VZ0203") && refused.stderr.contains("stop it first"), "{refused:?}");
    assert_eq!(sandbox.sh("web", LOOK), before);
    sandbox.vzd(&["stop", "web"]).ok();
    std::fs::write(sandbox.template_dir().join("etc/release"), "two\n").unwrap();
    sandbox.vzd(&["snapshot", "create", "web", "before"]).ok();
    let said = sandbox.vzd(&["reinstall", "web", "-o", "json"]).ok().json();
    let archive = said["archive"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.vzd(&["snapshot", "list", "web", "-o", "json"]).ok().json(), json!([]));
    sandbox.vzd(&["start", "web"]).ok();
    let after = before.replace("one", "two").replace("\ndata", "");
    assert_eq!(sandbox.sh("web", LOOK), after, "with {on:?}");
    assert_eq!(
        sandbox.sh("web", "cat /etc/group >/dev/null; echo more >> /etc/passwd; tail -n 1 /etc/passwd"),
        "more"
    );
    let plain = sandbox.host_dir("plain").join("web.tar");
    std::fs::write(&plain, zstd::decode_all(std::fs::File::open(&archive).unwrap()).unwrap()).unwrap();
    let listed = std::process::Command::new("tar").arg("-tf").arg(&plain).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.lines().any(|line| line.ends_with("root/data")), "{listed}");
    // As the template has it, and nothing is kept of what was.
    sandbox.vzd(&["stop", "web"]).ok();
    let exports = || std::fs::read_dir(sandbox.state_dir().join("exports")).unwrap().count();
    let kept = exports();
    sandbox.vzd(&["reinstall", "web", "--skip-backup", "--reset-users"]).ok();
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(sandbox.sh("web", "cat /etc/passwd"), "root:x:0:0::/root:/bin/sh");
    assert_eq!(exports(), kept);
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.images().iter().for_each(|image| check(image));
}

#[test]
fn another_template_is_taken_and_one_that_is_missing_costs_nothing() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = World::new(On::Directory);
    lived_in(&sandbox);
    sandbox.vzd(&["stop", "web"]).ok();
    sandbox.ve("web", json!({ "ctid": 101, "template": "dir:/no/such/template" }));
    let refused = sandbox.vzd(&["reinstall", "web", "--skip-backup"]).ends(1);
    assert!(refused.stderr.contains("VZ0304"), "{refused:?}");
    // What the manifest may not do by itself is done on order.
    let other = sandbox.host_dir("other");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(sandbox.template_dir().join(".")).arg(&other).status();
    assert!(copied.unwrap().success());
    std::fs::write(other.join("etc/release"), "other\n").unwrap();
    sandbox.ve("web", json!({ "ctid": 101, "template": format!("dir:{}", other.display()) }));
    sandbox.vzd(&["reinstall", "web", "--skip-backup"]).ok();
    sandbox.vzd(&["start", "web"]).ok();
    assert_eq!(
        sandbox.sh("web", "cat /etc/release; tail -n 1 /etc/passwd"),
        "other\nann:x:1000:1000::/:/bin/sh"
    );
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}

#[test]
fn whoever_is_killed_meanwhile_leaves_the_old_root_or_a_new_one() {
    needs!(Root, Cgroups, Busybox, FaultPoints);
    let mut whole = false;
    for at in 1..30 {
        let sandbox = World::new(On::Directory);
        lived_in(&sandbox);
        sandbox.vzd(&["stop", "web"]).ok();
        let mut command = sandbox.command(&["reinstall", "web", "--skip-backup"]);
        whole = command.env("VZD_FAULT_POINT", at.to_string()).output().unwrap().status.success();
        sandbox.vzd(&["apply"]).ok();
        sandbox.vzd(&["start", "web"]).ok();
        let said = sandbox.sh("web", "ls /root; cat /etc/release");
        assert!(["data\none", "one"].contains(&&*said), "point {at}: {said}");
        if whole {
            assert!(at > 3 && said == "one", "{at}: {said}");
            break;
        }
    }
    assert!(whole);
}
