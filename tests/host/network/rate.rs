//! Bandwidth of a VE: a real stream runs as fast as the manifest says, each way, and the host is left as it was.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vzd_tests::{Guarded, LONG, NetLab, Sandbox, assert_same, eventually, needs, within};

use super::bridged::bridged_lab;
use super::{ONE, change};

fn with(rate: Value) -> Value {
    json!({ "ctid": 101, "network": { "addresses": ONE, "rate": rate } })
}

/// Of each frame of a stream: what goes over the wire, and what of that are headers.
const FRAME: f64 = 1514.0;
const HEADERS: f64 = 66.0;

/// Bits a second on the wire, by what interfaces count behind the limit: there, packets that travel as one count as
/// one, with one header. Since one may be 64 KB, time is taken from one of them to another.
fn measured(lab: &NetLab, way: &str, link: &str) -> f64 {
    let read = || {
        let shown = match way {
            "in" => lab.on_host("ip", &["-s", "-j", "link", "show", link]),
            _ => lab.client("ip", &["-s", "-j", "link", "show", "eth0"]),
        };
        let counts = &shown.ok().json()[0]["stats64"][if way == "in" { "tx" } else { "rx" }];
        let count = |name: &str| counts[name].as_f64().unwrap();
        count("bytes") - HEADERS * count("packets")
    };
    // What has come in all when some comes, and when that was.
    let arrival = || {
        let (before, mut since) = (read(), Instant::now());
        within(LONG, "the stream goes on", || {
            let (bytes, now) = (read(), Instant::now());
            let between = since + (now - since) / 2;
            since = now;
            (bytes > before).then_some((bytes, between))
        })
    };
    let start = read();
    eventually("the first burst is through", || read() > start + 300_000.0);
    let (before, since) = arrival();
    std::thread::sleep(Duration::from_secs(3));
    let (after, until) = arrival();
    (after - before) * 8.0 / (until - since).as_secs_f64() * FRAME / (FRAME - HEADERS)
}

/// What a stream that never ends gets, to the VE or from it.
fn stream(lab: &NetLab, way: &str, address: &str, link: &str) -> f64 {
    let port = if way == "in" { 8 } else { 9 };
    let connect = || TcpStream::connect((address, port)).ok();
    let mut stream = lab.in_client(|| within(LONG, "the VE answers", connect));
    let ender = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut some = vec![0; 64 * 1024];
            loop {
                let done = if way == "in" { stream.write(&some) } else { stream.read(&mut some) };
                if done.is_err() || done.is_ok_and(|n| n == 0) {
                    break;
                }
            }
        });
        let rate = measured(lab, way, link);
        let _ = ender.shutdown(Shutdown::Both);
        rate
    })
}

/// In the VE, what takes all that comes (8) and what sends for ever (9).
fn servers(sandbox: &Sandbox) -> [Guarded; 2] {
    let serve = |port: &str, words: &[&str]| {
        let mut command = vec!["exec", "one", "--", "/bin/busybox", "nc", "-ll", "-p", port, "-e"];
        command.extend(words);
        Guarded::spawn(sandbox.command(&command).stdin(Stdio::null()).stdout(Stdio::null()))
    };
    [serve("8", &["/bin/busybox", "wc", "-c"]), serve("9", &["/bin/busybox", "cat", "/dev/zero"])]
}

/// Never more than the limit, and as much in one of a few tries: on a busy machine a stream is not always there to be
/// limited.
#[track_caller]
fn is_about(measure: impl Fn() -> f64, wanted: f64, what: &str) {
    let mut less = Vec::new();
    while less.len() < 6 {
        let off = (measure() / wanted - 1.0) * 100.0;
        assert!(off < 5.0, "{what}: {off:.1} % more than {wanted:.0} bit/s");
        if off > -5.0 {
            return;
        }
        less.push(off);
    }
    panic!("{what}: never near {wanted:.0} bit/s: {less:.1?} % off");
}

#[test]
fn a_stream_is_as_fast_as_the_manifest_says() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(json!({ "in": "8M", "out": "4M" })));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    // The better queue where the kernel has it; in the place of the other, live.
    let tc = |words: &[&str]| lab.on_host("tc", words);
    let queues = || tc(&["qdisc", "show", "dev", "vzi101"]).ok().stdout;
    let has_better = tc(&["qdisc", "add", "dev", "lo", "root", "fq_codel"]).code == 0;
    if has_better {
        tc(&["qdisc", "del", "dev", "lo", "root"]).ok();
        assert!(queues().contains("fq_codel") && !queues().contains("bfifo"), "{}", queues());
        let leaf = ["qdisc", "replace", "dev", "vzi101", "parent", "2:2", "handle", "102:", "bfifo"];
        tc(&leaf).ok();
        sandbox.apply();
    }
    assert_eq!(queues().contains("fq_codel"), has_better, "{}", queues());
    let servers = servers(&sandbox);
    is_about(|| stream(&lab, "in", ONE[0], "venet101"), 8e6, "in");
    is_about(|| stream(&lab, "out", ONE[1], "venet101"), 4e6, "out");
    let shown = sandbox.vzd(&["net", "one", "-o", "json"]).ok().json();
    let shown = &shown[0];
    let link = &shown["links"][0];
    assert_eq!((&link["name"], &link["hostName"]), (&json!("venet0"), &json!("venet101")));
    let addresses = link["addresses"].as_array().unwrap();
    assert!(ONE.iter().all(|address| addresses.contains(&json!(address))), "{link}");
    assert!(link["received"]["bytes"].as_u64() > Some(2_000_000), "{link}");
    assert_eq!(
        (&shown["rates"][0]["direction"], &shown["rates"][0]["rate"]),
        (&json!("in"), &json!(8_000_000))
    );
    assert!(shown["rates"][0]["bytes"].as_u64() > Some(2_000_000), "{shown}");
    sandbox.vzd(&["net"]).ok().says("in at most 8Mbit/s");
    sandbox.vzd(&["describe", "one"]).ok().says("venet101");
    let described = sandbox.vzd(&["describe", "one", "-o", "json"]).ok().json();
    assert!(described["network"]["links"][0]["sent"]["bytes"].as_u64() > Some(1_000_000), "{described}");
    // Live, while the other way stays as it is.
    change(&sandbox, pid, with(json!({ "in": "16M", "out": "4M" })));
    is_about(|| stream(&lab, "in", ONE[1], "venet101"), 16e6, "in, changed");
    is_about(|| stream(&lab, "out", ONE[0], "venet101"), 4e6, "out, as before");
    change(&sandbox, pid, with(json!({ "out": "4M" })));
    // Not more, since the lab's processor is an emulated one.
    assert!(stream(&lab, "in", ONE[0], "venet101") > 20e6, "it is still limited");
    drop(servers);
    change(&sandbox, pid, json!({ "ctid": 101 }));
    assert_same(&before, &lab.everything(), "after all");
}

/// An interface's own limit holds within what the VE has as a whole, and changes while streams go over the others.
#[test]
fn an_interface_has_a_limit_of_its_own() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = bridged_lab();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    let with = |whole: Value, own: Value| {
        let eth0 = json!({ "name": "eth0", "bridge": "br0", "addresses": ["192.0.2.150/24"], "rate": own });
        let eth1 = json!({ "name": "eth1", "bridge": "vmlan", "addresses": ["10.5.0.1/24"] });
        json!({ "ctid": 101, "network": { "interfaces": [eth0, eth1], "rate": whole } })
    };
    let (none, own) = (json!({}), json!({ "in": "4M", "out": "6M" }));
    sandbox.ve("one", with(none.clone(), own.clone()));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    let _servers = servers(&sandbox);
    let at = |way: &str, link: &str| stream(&lab, way, "192.0.2.150", link);
    is_about(|| at("in", "veth101.0"), 4e6, "in over eth0");
    is_about(|| at("out", "veth101.0"), 6e6, "out over eth0");
    sandbox.vzd(&["net", "one"]).ok().says("eth0 out at most 6Mbit/s");
    // Less than that for all of them.
    change(&sandbox, pid, with(json!({ "out": "3M" }), own.clone()));
    is_about(|| at("out", "veth101.0"), 3e6, "out, of what there is for all");
    is_about(|| at("in", "veth101.0"), 4e6, "in, as before");
    // Without a limit of its own it has what all have.
    change(&sandbox, pid, with(json!({ "out": "8M" }), json!({ "in": "5M" })));
    is_about(|| at("out", "veth101.0"), 8e6, "out, without its own");
    is_about(|| at("in", "veth101.0"), 5e6, "in, changed");
    let drifted: [&[&str]; 4] = [
        &["tc", "filter", "del", "dev", "vzi101", "parent", "2:", "pref", "16"],
        &["tc", "qdisc", "del", "dev", "vzi101", "root"],
        &["tc", "qdisc", "del", "dev", "vzi101", "parent", "2:10"],
        &[
            "tc", "class", "change", "dev", "vzi101", "parent", "2:1", "classid", "2:10", "htb", "rate",
            "1mbit",
        ],
    ];
    for words in drifted {
        lab.on_host(words[0], &words[1..]).ok();
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2);
        sandbox.apply();
        sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    }
    is_about(|| at("in", "veth101.0"), 5e6, "in, put right");
    // As the VE starts with it.
    sandbox.vzd(&["restart", "one"]).ok();
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    let pid = sandbox.init_pid("one");
    change(&sandbox, pid, with(none.clone(), none));
    let left = lab.on_host("ip", &["link", "show", "type", "ifb"]).ok().stdout;
    assert_eq!(left, "", "devices without a limit");
    change(&sandbox, pid, json!({ "ctid": 101 }));
    assert_same(&before, &lab.everything(), "after all");
}

#[test]
fn limits_stay_whatever_is_done_to_links() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    let both = json!({ "ctid": 101, "network": { "addresses": ONE, "rate": { "in": "10M", "out": "10M" },
                       "interfaces": [{ "name": "eth0", "bridge": "vmlan", "macFilter": true }] } });
    sandbox.ve("one", with(json!({ "in": "10M", "out": "10M" })));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    // A link that comes later is limited with the rest, and so is one that was made anew.
    change(&sandbox, pid, both.clone());
    let led = |link: &str| {
        ["ingress", "egress"].map(|way| {
            let shown = lab.on_host("tc", &["filter", "show", "dev", link, way]).ok().stdout;
            shown.lines().filter(|line| line.contains("Redirect to device vz")).count()
        })
    };
    assert_eq!((led("venet101"), led("veth101.0")), ([1, 1], [1, 1]));
    let on_host: [(&str, &[&str]); 6] = [
        ("tc", &["qdisc", "del", "dev", "vzo101", "root"]),
        ("tc", &["filter", "del", "dev", "venet101", "ingress", "pref", "2"]),
        ("ip", &["link", "del", "vzi101"]),
        // As whoever was killed between two requests leaves it.
        ("sh", &["-c", "ip link del vzi101 && ip link add vzi101 type ifb"]),
        ("ip", &["link", "set", "vzo101", "down"]),
        ("ip", &["link", "del", "venet101"]),
    ];
    for (program, words) in on_host {
        lab.on_host(program, words).ok();
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2);
        sandbox.apply();
        sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
        assert_eq!((led("venet101"), led("veth101.0")), ([1, 1], [1, 1]), "after {words:?}");
        assert!(lab.client_reaches(ONE[0]), "after {words:?}");
    }
    sandbox.vzd(&["stop", "one"]).ok();
    assert_same(&before, &lab.everything(), "stopped");
}
