//! Connections over an address that stays, while everything else of the manifest changes.

use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vzd_tests::{Guarded, LONG, NetLab, Sandbox, echo, eventually, needs, within};

use super::ONE;

const EDITS: u32 = 300;
/// And as many more as there is time for.
const STREAM: Duration = Duration::from_secs(60);
/// An echo that takes longer was not just scheduled late.
const LATE: Duration = Duration::from_secs(1);

/// The next number of a sequence that looks random and is the same each time.
fn roll(dice: &mut u64, sides: u64) -> u64 {
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*dice >> 33) % sides
}

#[test]
fn a_stream_survives_three_hundred_edits_and_more() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    // All of the network but the two addresses, with or without, and one or the other.
    let spec = |addresses: &[String], note: u32, mut dice: u64| {
        let mut network = json!({ "addresses": addresses });
        let mut may = |field: &str, value: Value| {
            if roll(&mut dice, 2) == 0 {
                network[field] = value;
            }
        };
        may("rate", json!({ "in": format!("{}M", 500 + note % 3), "out": "800M" }));
        may("nameservers", json!([format!("192.0.2.{}", 200 + note % 5)]));
        may("routes", json!([{ "to": format!("203.0.113.{}", note % 4), "dev": "venet0" }]));
        may("sysctls", json!({ "net.ipv4.ip_default_ttl": (60 + note % 3).to_string() }));
        let rules = format!(
            "chain input {{ type filter hook input priority 0; tcp dport {} drop; }}",
            9 + note % 2 * 10
        );
        may("firewall", json!({ "nftables": rules }));
        may(
            "interfaces",
            json!([{ "name": "eth1", "bridge": format!("vmlan{}", note % 2), "mtu": 1400 + note % 2 * 100,
                     "addresses": [format!("10.5.0.{}/24", 1 + note % 3)] }]),
        );
        json!({ "description": format!("edit {note}"), "hostname": format!("host{}", note % 7), "network": network })
    };
    let kept = ONE.map(str::to_owned);
    sandbox.ve("one", spec(&kept, 0, 1));
    let _daemon = sandbox.daemon();
    let pid = sandbox.until_ready("one");
    let mut server =
        sandbox.command(&["exec", "one", "--", "/bin/busybox", "nc", "-ll", "-p", "7", "-e", "/bin/cat"]);
    let _server = Guarded::spawn(server.stdin(Stdio::null()).stdout(Stdio::null()));
    let connect = |address: &str| within(LONG, "the VE answers", || TcpStream::connect((address, 7)).ok());
    let streams = lab.in_client(|| ONE.map(connect));
    let mut ping = lab.in_client(|| {
        // Quiet: nobody reads a line for each echo until the end, and when the pipe is full it hears no more.
        let mut ping = Command::new("busybox");
        ping.args(["ping", "-q", "-i", "0.1", ONE[0]]).stdout(Stdio::piped()).spawn().unwrap()
    });
    let stop = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let stop = &stop;
        let running = streams.map(|stream| scope.spawn(move || echo(stream, stop)));
        let edits = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (mut dice, mut note, began) = (0x5eed_u64, 0, Instant::now());
            while note < EDITS || began.elapsed() < STREAM {
                note += 1;
                let mut addresses = kept.to_vec();
                for n in 0..6 {
                    if roll(&mut dice, 2) == 0 {
                        addresses.push(format!("192.0.2.{}", 120 + n));
                        addresses.push(format!("fd00:2::{}", 120 + n));
                    }
                }
                sandbox.ve("one", spec(&addresses, note, dice));
                let said = format!("edit {note}");
                sandbox.until("one", &said, |ve| ve.0["spec"]["description"] == said.as_str());
            }
            sandbox.ve("one", spec(&kept, note + 1, dice));
            eventually("the last edit is made", || sandbox.vzd(&["plan", "--detailed-exitcode"]).code == 0);
        }));
        stop.store(true, Ordering::SeqCst);
        let told = running.map(|one| one.join().unwrap());
        if let Err(panic) = edits {
            std::panic::resume_unwind(panic);
        }
        told
    });
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(ping.id().cast_signed()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    let mut summary = String::new();
    ping.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
    ping.wait().unwrap();
    let told_at_last = summary.split("statistics ---").last().unwrap_or_default();
    assert!(summary.contains(" 0% packet loss"), "{told_at_last}");
    for (count, longest) in told {
        assert!(count > 100 && longest < LATE, "{count} echoes, the longest took {longest:?}");
    }
    assert_eq!(sandbox.init_pid("one"), pid);
}
