//! Two hosts on one link: each reaches the other, and files move between them. The ground that migration stands on.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use vzd_tests::{Peer, needs};

const SIZE: usize = 16 << 20;

#[test]
fn a_file_moves_and_the_link_is_measured() {
    needs!(Root, TwoHosts);
    let peer = Peer::find();
    assert_ne!(peer.sh("hostname"), rustix::system::uname().nodename().to_string_lossy());
    let ping = Command::new("ping").args(["-c", "5", "-i", "0.2", peer.ip()]).output().unwrap();
    let ping = String::from_utf8_lossy(&ping.stdout).into_owned();
    let rtt = ping.lines().last().unwrap_or_default();
    assert!(ping.contains(" 0% packet loss"), "{ping}");
    // Different everywhere, so that no part can take another's place.
    let content: Vec<u8> =
        (0..SIZE as u64 / 8).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let start = Instant::now();
    peer.put("/root/moved", &content);
    let seconds = start.elapsed().as_secs_f64();
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(&content).unwrap();
    let here = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    let there = peer.sh("sha256sum < /root/moved");
    assert_eq!(here.split(' ').next(), there.split(' ').next());
    println!("{} MiB in {seconds:.2} s, {:.0} Mbit/s; {rtt}", SIZE >> 20, SIZE as f64 * 8e-6 / seconds);
    assert!(seconds < 60.0, "{seconds} s for {SIZE} bytes: nothing could be migrated over this link");
}

#[test]
fn the_second_host_is_a_host_as_the_first() {
    needs!(Root, TwoHosts);
    let peer = Peer::find();
    assert_eq!(peer.sh("uname -r"), rustix::system::uname().release().to_string_lossy());
    assert_eq!(peer.sh("stat -f -c %T /sys/fs/cgroup"), "cgroup2fs");
    peer.run(&["/lab/vzd", "--version"]).ok();
    // And its word on failures is heard.
    peer.run(&["/bin/sh", "-c", "echo no >&2; exit 3"]).ends(3).says("no");
    peer.run(&["/no/such/program"]).ends(127);
    // The other way round.
    peer.sh(&format!("ping -c 1 {}", Peer::own_ip()));
}
