//! VEs that go over the link compressed: all of their memory and files is as it was, and less has gone over the link.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vzd_tests::{Sandbox, needs};

use super::{two, via};
use crate::checkpoint::compressed::{all_is_whole, remember};

/// Half of its memory is text; of its files one is, and one cannot be compressed.
fn filled(spec: Value) -> (Sandbox, Sandbox) {
    let (here, there) = two(spec);
    remember(&here);
    here.sh("web", "seq 400000 > /root/text; dd if=/dev/urandom of=/root/random bs=1M count=1 2>/dev/null");
    (here, there)
}

fn sums(sandbox: &Sandbox) -> String {
    sandbox.sh("web", "cd /root; sha256sum text random")
}

fn moved(from: &Sandbox, to: &Sandbox, words: &[&str]) -> (u64, u64) {
    let moved = from.vzd(&[&["migrate", "web", "-o", "json", "--via", &via(to, "")], words].concat()).ok();
    let moved = moved.json();
    let number = |name: &str| moved[name].as_u64().unwrap_or_else(|| panic!("{name}: {moved}"));
    (number("bytes"), number("linkBytes"))
}

#[test]
fn less_goes_over_the_link_and_all_is_there() {
    needs!(Root, Cgroups, Busybox, Criu);
    let (here, there) = filled(json!({}));
    let before = sums(&here);
    let (bytes, plain) = moved(&here, &there, &[]);
    assert!((bytes..bytes + bytes / 20).contains(&plain), "{plain} of {bytes}");
    all_is_whole(&there);
    // What is held down is what goes over the link.
    let began = Instant::now();
    let (bytes, packed) = moved(&there, &here, &["--compress", "--limit", "4M"]);

    assert!(packed < bytes * 2 / 3 && bytes > 10 << 20, "{packed} of {bytes}");
    let least = Duration::from_millis((packed - (2 << 20)) * 1000 / (4 << 20));
    assert!(began.elapsed() > least, "{:?}", began.elapsed());
    all_is_whole(&here);
    assert_eq!(sums(&here), before);
}

#[test]
fn a_checkpoint_that_is_compressed_goes_as_it_is() {
    needs!(Root, Cgroups, Busybox, Criu);
    let (here, there) = filled(json!({ "checkpoint": { "compress": "zstd" } }));
    let before = sums(&here);
    moved(&here, &there, &["--compress"]);
    all_is_whole(&there);
    // Suspended, too.
    there.vzd(&["suspend", "web"]).ok();
    let (bytes, packed) = moved(&there, &here, &["--compress"]);
    assert!(packed < bytes && bytes < 11 << 20, "{packed} of {bytes}");
    here.vzd(&["resume", "web"]).ok();
    all_is_whole(&here);
    assert_eq!(sums(&here), before);
}
