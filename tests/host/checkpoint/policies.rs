//! What the manifest says of checkpoints: where they are kept, and whether the VE runs on.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use vzd_tests::{Sandbox, needs};

use super::checkpoint;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_checkpoint_is_kept_where_the_manifest_says() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    let there = sandbox.host_dir("checkpoints");
    let ve = |state: &str, directory: &Path| {
        sandbox.ve("web", json!({ "state": state, "checkpoint": { "directory": directory } }));
    };
    ve("running", &there);
    sandbox.apply();
    sandbox.sh("web", "touch /run/here");
    let uid = sandbox.status("web").unwrap().uid().unwrap().to_owned();
    // One that somebody else could get into, and one that is not there: it runs on.
    std::fs::create_dir(there.join(&uid)).unwrap();
    std::fs::set_permissions(there.join(&uid), std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.vzd(&["suspend", "web"]).ends(1).says("VZ0501").says("no directory of root's alone");
    std::fs::remove_dir(there.join(&uid)).unwrap();
    sandbox.vzd(&["resume", "web"]).ok();
    ve("suspended", &there.join("missing"));
    sandbox.vzd(&["apply"]).ends(1).says("VZ0501").says("missing");
    assert_eq!(sandbox.sh("web", "ls /run"), "here");
    ve("suspended", &there);
    sandbox.apply();
    let link = checkpoint(&sandbox);
    assert_eq!(std::fs::read_link(&link).unwrap(), there.join(&uid).join("checkpoint"));
    assert_eq!((mode(&there.join(&uid)), mode(&link)), (0o700, 0o700));
    assert!(there.join(&uid).join("checkpoint/pages-1.img").exists());
    // The next one is somewhere else; this is where it is.
    let elsewhere = sandbox.host_dir("elsewhere");
    ve("suspended", &elsewhere);
    sandbox.apply();
    ve("running", &elsewhere);
    sandbox.apply();
    assert_eq!(sandbox.sh("web", "ls /run"), "here");
    assert!(!link.is_symlink() && !there.join(&uid).exists());
    // What is destroyed is so there too.
    ve("suspended", &elsewhere);
    sandbox.apply();
    assert!(elsewhere.join(&uid).exists());
    sandbox.ve("web", json!({ "state": "absent", "checkpoint": { "directory": elsewhere } }));
    sandbox.apply();
    assert!(!elsewhere.join(&uid).exists());
}

#[test]
fn one_that_is_to_run_on_does() {
    needs!(Root, Cgroups, Busybox, Criu);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "checkpoint": { "keepRunning": true } }));
    sandbox.apply();
    let pid = sandbox.init_pid("web");
    sandbox.vzd(&["checkpoint", "web", "--name", "then"]).ok();
    assert_eq!(sandbox.init_pid("web"), pid);
    assert_eq!(sandbox.vzd(&["snapshot", "list", "web", "-o", "json"]).ok().json()[0]["memory"], true);
    sandbox.ve("web", json!({}));
    sandbox.apply();
    sandbox.vzd(&["checkpoint", "web"]).ok();
    assert_eq!(sandbox.status("web").unwrap().reason(), "SuspendedByOperator");
    sandbox.vzd(&["resume", "web"]).ok();
}
