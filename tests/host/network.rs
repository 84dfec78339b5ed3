//! The network of VEs that run: who reaches whom, and what of it changes live.

mod announced;
mod bridged;
mod connections;
mod devices;
mod dns;
mod firewall;
mod macvlan;
mod many;
mod moved;
mod names;
mod nat;
mod rate;
mod routes;
mod rules;
mod spoofing;
mod suspended;
mod taken;
mod trial;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use vzd_tests::{CLIENT, HOST, LONG, NetLab, Sandbox, assert_same, eventually, needs, ping, within};

const ONE: [&str; 2] = ["192.0.2.101", "fd00:2::101"];
const TWO: [&str; 2] = ["192.0.2.102", "fd00:2::102"];

/// A connection to a server that says what it hears.
struct Stream(TcpStream);

impl Stream {
    /// From the client.
    fn open(lab: &NetLab, address: &str, port: u16) -> Stream {
        let connect = || TcpStream::connect((address, port)).ok();
        let stream = lab.in_client(|| within(LONG, "the VE answers", connect));
        stream.set_read_timeout(Some(LONG)).unwrap();
        Stream(stream)
    }

    #[track_caller]
    fn goes_on(&mut self, after: &str) {
        let mut back = [0; 5];
        self.0.write_all(b"hello").unwrap();
        self.0.read_exact(&mut back).unwrap_or_else(|e| panic!("the stream is torn by {after}: {e}"));
        assert_eq!(&back, b"hello");
    }
}

fn with(addresses: &[&str]) -> Value {
    json!({ "network": { "addresses": addresses } })
}

#[track_caller]
fn reaches(sandbox: &Sandbox, ve: &str, address: &str) {
    let words: Vec<&str> = ["/bin/busybox"].into_iter().chain(ping(address)).collect();
    let ended = sandbox.exec(ve, &words);
    assert_eq!(ended.code, 0, "{ve} does not reach {address}: {ended:?}");
}

/// Kills a VE's init from the host, and waits until the keeper has noticed.
#[track_caller]
fn kill(lab: &NetLab, init: u32) {
    let pid = init.to_string();
    lab.on_host("kill", &["-9", &pid]).ok();
    eventually("it is dead", || lab.on_host("kill", &["-0", &pid]).code != 0);
}

#[test]
fn client_and_ves_reach_each_other() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    let before = lab.everything();
    sandbox.ve("one", with(&ONE));
    sandbox.ve("two", with(&TWO));
    sandbox.apply();
    for address in ONE.iter().chain(&TWO) {
        assert!(lab.client_reaches(address), "the client does not reach {address}");
    }
    for address in CLIENT.iter().chain(&TWO) {
        reaches(&sandbox, "one", address);
    }
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
    sandbox.vzd(&["drift"]).ends(0);
    sandbox.unlink("one.yaml");
    sandbox.unlink("two.yaml");
    sandbox.vzd(&["apply", "--allow-prune=2"]).ok();
    assert_same(&before, &lab.everything(), "after all");
}

#[track_caller]
fn change(sandbox: &Sandbox, pid: u32, spec: Value) {
    sandbox.ve("one", spec);
    sandbox.apply();
    assert_eq!(sandbox.init_pid("one"), pid, "it was restarted");
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
}

#[test]
fn addresses_come_and_go_live() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    sandbox.ve("one", json!({}));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    assert_same(&before, &lab.everything(), "a VE without network leaves the host's alone");
    change(&sandbox, pid, with(&ONE));
    assert!(lab.client_reaches(ONE[0]) && lab.client_reaches(ONE[1]));
    // Several of one network: the first goes, the others stay.
    change(&sandbox, pid, with(&["192.0.2.111/24", "192.0.2.112/24", "192.0.2.113/24", ONE[1]]));
    assert!(!lab.client_reaches(ONE[0]));
    change(&sandbox, pid, with(&["192.0.2.112/24", "192.0.2.113/24"]));
    assert!(!lab.client_reaches("192.0.2.111") && !lab.client_reaches(ONE[1]));
    assert!(lab.client_reaches("192.0.2.112") && lab.client_reaches("192.0.2.113"));
    assert_eq!(sandbox.sh("one", "ip -6 route show default"), "");
    change(&sandbox, pid, json!({}));
    assert!(!lab.client_reaches("192.0.2.112"));
    assert_same(&before, &lab.everything(), "after all");
    assert_eq!(sandbox.exec("one", &["/bin/busybox", "ip", "link", "show", "venet0"]).code, 2);
}

#[test]
fn more_addresses_than_a_map_has_room_for() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    let addresses: Vec<String> = (1..=120).map(|n| format!("10.9.0.{n}")).collect();
    let of = |n: usize| json!({ "network": { "addresses": addresses[..n] } });
    sandbox.ve("one", of(2));
    sandbox.apply();
    lab.client_ip(&["route", "add", "10.9.0.0/24", "via", HOST[0]]);
    change(&sandbox, sandbox.init_pid("one"), of(120));
    for n in [1, 2, 60, 120] {
        assert!(lab.client_reaches(&format!("10.9.0.{n}")), "10.9.0.{n}");
    }
}

#[test]
fn what_was_meddled_with_is_put_right() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    sandbox.ve("one", json!({ "ctid": 101, "network": { "addresses": ONE } }));
    sandbox.apply();
    let on_host: [&[&str]; 6] = [
        &["link", "set", "venet101", "down"],
        &["link", "del", "venet101"],
        &["route", "del", ONE[0]],
        &["neigh", "del", ONE[0], "dev", "venet101"],
        &["neigh", "del", "proxy", ONE[0], "dev", "eth0"],
        &["addr", "flush", "dev", "venet101"],
    ];
    let inside = [
        "ip addr flush dev venet0",
        "ip link set venet0 down",
        "ip link del venet0",
        "ip route del default",
        "ip link set venet0 down; ip link set venet0 address 02:00:00:00:00:77; ip link set venet0 up",
    ];
    let put_right = |what: &str| {
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2);
        sandbox.apply();
        sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
        for address in ONE {
            assert!(lab.client_reaches(address), "after {what}: {address}");
            reaches(&sandbox, "one", CLIENT[usize::from(address.contains(':'))]);
        }
    };
    for words in on_host {
        lab.host(words);
        put_right(&words.join(" "));
    }
    for script in inside {
        sandbox.sh("one", script);
        put_right(script);
    }
    let filter = lab.on_host("tc", &["qdisc", "del", "dev", "venet101", "clsact"]);
    assert_eq!(filter.code, 0, "{filter:?}");
    put_right("the filter is gone");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    put_right("forwarding is off");
}

#[test]
fn the_end_of_a_ve_leaves_nothing_however_it_comes() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    // A proxy entry and a route of the host's own stay.
    lab.host(&["neigh", "add", "proxy", "192.0.2.99", "dev", "eth0"]);
    lab.host(&["route", "add", "10.7.0.0/16", "via", CLIENT[0]]);
    let before = lab.everything();
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(&ONE));
    let daemon = sandbox.daemon();
    sandbox.until_ready("one");
    sandbox.vzd(&["stop", "one"]).ok();
    assert_same(&before, &lab.everything(), "stopped by an operator");
    sandbox.vzd(&["start", "one"]).ok();
    sandbox.until_ready("one");
    assert!(lab.client_reaches(ONE[0]));
    daemon.kill9();
    sandbox.signal_init("one", "USR2");
    let daemon = sandbox.daemon();
    sandbox.until("one", "stopped", |ve| ve.init_pid().is_none() || ve.is("Ready"));
    drop(daemon);
    sandbox.ve("one", json!({ "state": "stopped", "network": { "addresses": ONE } }));
    sandbox.apply();
    assert_same(&before, &lab.everything(), "ended while no controller ran");
}

#[test]
fn a_route_of_somebody_else_is_not_taken() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    sandbox.ve("one", json!({}));
    sandbox.apply();
    lab.host(&["route", "add", ONE[0], "via", CLIENT[0]]);
    sandbox.ve("one", with(&ONE));
    sandbox.vzd(&["apply"]).ends(1).says("the host has a route to it that is not vzd's");
    assert!(lab.host(&["route", "show", ONE[0]]).contains(CLIENT[0]));
    lab.host(&["route", "del", ONE[0]]);
    sandbox.ve("one", with(&[ONE[0], HOST[0]]));
    sandbox.vzd(&["apply"]).ends(1).says("the host itself has it");
}

#[test]
fn settings_of_the_network_are_the_ves_own() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    let of = |sysctls: Value| json!({ "network": { "sysctls": sysctls } });
    let read = |name: &str| sandbox.sh("one", &format!("cat /proc/sys/{}", name.replace('.', "/")));
    let (range, forward) = ("net.ipv4.ip_local_port_range", "net.ipv4.ip_forward");
    sandbox.ve("one", of(json!({ range: "20000 30000" })));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    assert_eq!(read(range), "20000\t30000");
    // What a new namespace has is what the machine has.
    let new = read(forward);
    let other = if new == "0" { "1" } else { "0" };
    change(&sandbox, pid, of(json!({ range: "20000 40000", forward: other })));
    assert_eq!((read(range), &*read(forward)), ("20000\t40000".to_owned(), other));
    sandbox.sh("one", &format!("echo {new} > /proc/sys/net/ipv4/ip_forward"));
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2);
    sandbox.apply();
    assert_eq!(read(forward), other);
    change(&sandbox, pid, of(json!({ forward: other })));
    assert_eq!(read(range), "32768\t60999", "it is not as in a new VE");
    change(&sandbox, pid, json!({}));
    assert_eq!(read(forward), new);
    // Another VE has its own, and the host too.
    assert_same(&before, &lab.everything(), "after all");
    sandbox.ve("one", of(json!({ "net.ipv4.no_such_thing": "1" })));
    sandbox.vzd(&["apply"]).ends(1).says("net/ipv4/no_such_thing");
}
