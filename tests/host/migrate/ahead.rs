//! Memory that is written ahead while a VE runs, where the kernel marks what changes: a move and a suspension have less to do
//! while it stands still, and nothing of it is lost.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vzd_tests::{Need, Sandbox, is_met, needs, within};

use super::{two, via};
use crate::checkpoint::checkpoint;

const MEGABYTES: u64 = 16;
const LONG: Duration = Duration::from_secs(120);

/// Something that changes a megabyte of its memory a second: a guest without KVM is slow.
fn remember(sandbox: &Sandbox) {
    let program = format!("guest remember {MEGABYTES} /root/passes 1");
    sandbox.sh("web", &format!("setsid {program} > /dev/null 2>&1 < /dev/null &"));
    within(LONG, "memory is full", || (passes(sandbox) > 0).then_some(()));
}

fn passes(sandbox: &Sandbox) -> u64 {
    sandbox.sh("web", "cat /root/passes 2>/dev/null || echo 0").parse().unwrap()
}

/// All of its memory is as it left it: it looks at three megabytes in each pass.
#[track_caller]
fn all_is_whole(sandbox: &Sandbox) {
    let before = passes(sandbox);
    within(LONG, "it looks at all of its memory", || {
        (passes(sandbox) > before + MEGABYTES / 3 + 1).then_some(())
    });
    assert_eq!(sandbox.sh("web", "ls /root | grep torn || true"), "");
}

#[test]
fn memory_is_sent_ahead_and_the_rest_while_it_stands_still() {
    needs!(Root, Cgroups, Busybox, Criu, SoftDirty);
    let (here, there) = two(json!({}));
    remember(&here);
    let all = MEGABYTES << 20;
    let (mut from, mut to) = (&here, &there);
    for one_pass in [false, true] {
        let via = via(to, "");
        let mut words = vec!["migrate", "web", "--via", &via, "-o", "json"];
        words.extend(one_pass.then_some("--one-pass"));
        let moved = from.vzd(&words).ok().json();
        let still = moved["stillBytes"].as_u64().unwrap();
        assert_eq!(still > all, one_pass, "{moved}");
        assert!(moved["bytes"].as_u64().unwrap() > all, "{moved}");
        (from, to) = (to, from);
    }
    all_is_whole(&here);
    let left = std::fs::read_dir(here.state_dir().join("ves")).unwrap().flatten();
    let left: Vec<_> = left.map(|ve| ve.path().join("checkpoint")).filter(|dir| dir.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_suspension_writes_memory_ahead_if_its_manifest_says_so() {
    needs!(Root, Cgroups, Busybox, Criu, SoftDirty);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "checkpoint": { "preDump": true } }));
    sandbox.apply();
    remember(&sandbox);
    let dir = checkpoint(&sandbox);
    sandbox.vzd(&["suspend", "web"]).ok();
    let pages = |dir: &Path| -> u64 {
        let files = std::fs::read_dir(dir).unwrap().flatten();
        let pages = files.filter(|file| file.file_name().to_string_lossy().starts_with("pages-"));
        pages.map(|file| file.metadata().unwrap().len()).sum()
    };
    let (ahead, rest) = (pages(&dir.join("ahead-1")), pages(&dir));
    assert!(ahead > MEGABYTES << 20 && rest < ahead / 2, "{ahead} {rest}");
    // What does not lead where it did is not followed.
    let link = dir.join("parent");
    let was = std::fs::read_link(&link).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let refused = sandbox.vzd(&["resume", "web"]).ends(1);
    assert!(refused.stderr.contains("parent does not lead to the round before"), "{refused:?}");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(was, &link).unwrap();
    sandbox.vzd(&["resume", "web"]).ok();
    all_is_whole(&sandbox);
}

#[test]
fn what_is_written_ahead_is_compressed_if_the_rest_is() {
    needs!(Root, Cgroups, Busybox, Criu, SoftDirty);
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "checkpoint": { "preDump": true, "compress": "zstd" } }));
    sandbox.apply();
    let program = format!("guest remember-text {MEGABYTES} /root/passes 1");
    sandbox.sh("web", &format!("setsid {program} > /dev/null 2>&1 < /dev/null &"));
    within(LONG, "memory is full", || (passes(&sandbox) > 0).then_some(()));
    let dir = checkpoint(&sandbox);
    sandbox.vzd(&["suspend", "web"]).ok();
    for round in [dir.join("ahead-1"), dir.clone()] {
        let files = std::fs::read_dir(&round).unwrap().flatten();
        let names: Vec<_> = files.map(|file| file.file_name().into_string().unwrap()).collect();
        let is_packed = |name: &String| name.starts_with("pages-") && name.ends_with(".zst");
        assert!(names.iter().any(is_packed), "{round:?}: {names:?}");
    }
    sandbox.vzd(&["resume", "web"]).ok();
    all_is_whole(&sandbox);
}

#[test]
fn where_the_kernel_marks_nothing_that_is_said_at_plan_time() {
    needs!(Root, Cgroups, Busybox);
    if is_met(Need::SoftDirty) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.ve("web", json!({ "checkpoint": { "preDump": true } }));
    let refused = sandbox.vzd(&["plan"]).ends(1);
    let told = format!("{}{}", refused.stdout, refused.stderr);
    assert!(
        told.contains("spec.checkpoint.preDump") && told.contains("CONFIG_MEM_SOFT_DIRTY"),
        "{refused:?}"
    );
}
