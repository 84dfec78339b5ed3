//! Tests that fail, hang and kill their guest on purpose, by which `cargo xtask lab --self-test` tests the lab. Only there:
//! on a machine that is somebody's, one of them would end it.

use std::process::Command;

use vzd_tests::{Sandbox, needs};

/// Stops the test unless this is a guest of the lab.
fn in_the_lab() {
    assert!(std::env::var_os("VZD_LAB").is_some(), "only in a guest of the lab");
}

#[test]
fn passes() {
    needs!(Root);
    in_the_lab();
}

#[test]
fn fails() {
    needs!(Root);
    in_the_lab();
    panic!("broken on purpose");
}

#[test]
fn skips() {
    needs!(Root, Broken);
    unreachable!("nobody has this");
}

/// With a sandbox, a VE and a process of its own, all of which have to go with it.
#[test]
fn hangs() {
    needs!(Root, Cgroups, Busybox);
    in_the_lab();
    let sandbox = Sandbox::new();
    sandbox.ve("web", serde_json::json!({}));
    sandbox.apply();
    std::fs::write("/run/hangs", sandbox.cgroup_root()).expect("note the sandbox's name");
    Command::new("sleep").arg("100000").status().expect("sleep");
}

/// Runs after the one that hangs, and looks for what it left.
#[test]
fn goes_on() {
    needs!(Root);
    in_the_lab();
    let name = std::fs::read_to_string("/run/hangs").expect("read the sandbox's name");
    let places =
        [std::path::Path::new("/sys/fs/cgroup").join(&name), std::path::Path::new("/tmp").join(&name)];
    let left: Vec<_> = places.iter().filter(|place| place.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn panics_the_kernel() {
    needs!(Root);
    in_the_lab();
    std::fs::write("/proc/sysrq-trigger", "c").expect("crash the kernel");
}

/// Stops the agent, so that nothing more is heard from a guest whose kernel lives.
#[test]
fn silences_the_guest() {
    needs!(Root);
    in_the_lab();
    let agent = std::os::unix::process::parent_id().to_string();
    Command::new("kill").args(["-STOP", &agent]).status().expect("stop the agent");
}
