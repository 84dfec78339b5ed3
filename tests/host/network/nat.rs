//! Addresses and ports that the host puts in the place of others: VEs that only the host knows reach the world, and are
//! reached by ports of the host.

use std::net::{TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{CLIENT, Guarded, HOST, NetLab, Sandbox, assert_same, eventually, needs};

use super::{Stream, change, kill, reaches};

/// Addresses to which the client has no route.
const HIDDEN: [&str; 2] = ["10.9.0.5", "fd00:9::5"];

fn with(more: Value) -> Value {
    let mut network = json!({ "addresses": HIDDEN });
    network.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "ctid": 101, "network": network })
}

fn serve(sandbox: &Sandbox, ve: &str, words: &[&str]) -> Guarded {
    let all = ["exec", ve, "--", "/bin/busybox", "nc"];
    let all: Vec<&str> = all.iter().chain(words).chain(&["-e", "/bin/cat"]).copied().collect();
    Guarded::spawn(sandbox.command(&all).stdin(Stdio::null()).stdout(Stdio::null()))
}

fn out(sandbox: &Sandbox, address: &str) -> bool {
    sandbox.exec("one", &["/bin/busybox", "ping", "-c", "1", "-W", "1", address]).code == 0
}

fn connects(lab: &NetLab, address: &str, port: u16) -> bool {
    let to = (address.parse::<std::net::IpAddr>().unwrap(), port).into();
    lab.in_client(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
}

#[test]
fn a_hidden_ve_reaches_the_world_and_is_reached_by_ports() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    lab.on_host("nft", &["add", "table", "ip", "own"]).ok();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(json!({})));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    assert!(!out(&sandbox, CLIENT[0]) && !out(&sandbox, CLIENT[1]));
    change(&sandbox, pid, with(json!({ "masquerade": true })));
    CLIENT.iter().for_each(|address| reaches(&sandbox, "one", address));
    let _servers = [serve(&sandbox, "one", &["-ll", "-p", "7"]), serve(&sandbox, "one", &["-ll", "-p", "8"])];
    let ports = |list: Value| with(json!({ "masquerade": true, "publish": list }));
    let echo = json!({ "host": 8080, "ve": 7 });
    change(&sandbox, pid, ports(json!([echo])));
    let mut streams = HOST.map(|address| Stream::open(&lab, address, 8080));
    // From the host itself, and from another VE.
    eventually("the host reaches its own port", || TcpStream::connect((HOST[0], 8080)).is_ok());
    sandbox.ve("two", json!({ "network": { "addresses": ["10.9.0.6"] } }));
    sandbox.apply();
    let words = ["/bin/sh", "-c", "echo hello | nc -w 2 192.0.2.1 8080"];
    assert_eq!(sandbox.exec("two", &words).stdout, "hello\n");
    // What VEs say to each other keeps its source.
    reaches(&sandbox, "two", "10.9.0.5");
    // Ports come and go; streams over those that stay go on.
    let at_one = json!({ "host": 8081, "ve": 8, "address": HOST[0] });
    change(&sandbox, pid, ports(json!([echo, at_one, { "host": 53, "protocol": "udp" }])));
    assert!(connects(&lab, HOST[0], 8081) && !connects(&lab, HOST[1], 8081));
    // A datagram comes to a port on which nobody listens, in the VE.
    let unheard = || sandbox.sh("one", "awk '/^Udp: [0-9]/ {print $3}' /proc/net/snmp");
    let before_it = unheard();
    lab.in_client(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"hello", (HOST[0], 53)).unwrap());
    eventually("the datagram has come", || unheard() != before_it);
    // A range leads each port to its own: 7 and 8 are served, 6 and 9 are not.
    change(&sandbox, pid, ports(json!([echo, at_one, { "host": "9006-9009", "ve": "6-9" }])));
    let served = [9006, 9007, 9008, 9009].map(|port| connects(&lab, HOST[0], port));
    assert_eq!(served, [false, true, true, false]);
    streams.iter_mut().for_each(|stream| stream.goes_on("other ports"));
    change(&sandbox, pid, ports(json!([{ "host": 8080, "ve": 8 }])));
    assert!(!connects(&lab, HOST[0], 8081) && connects(&lab, HOST[0], 8080));
    streams.iter_mut().for_each(|stream| stream.goes_on("another port in the VE"));
    drop(streams);
    change(&sandbox, pid, with(json!({})));
    assert!(!connects(&lab, HOST[0], 8080) && !out(&sandbox, CLIENT[0]));
    sandbox.unlink("one.yaml");
    sandbox.unlink("two.yaml");
    sandbox.vzd(&["apply", "--allow-prune=2"]).ok();
    assert_same(&before, &lab.everything(), "after all");
}

#[test]
fn the_table_is_vzds_alone_and_put_right() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    let one = with(json!({ "masquerade": true, "publish": [{ "host": 8080, "ve": 7 }] }));
    let two = json!({ "ctid": 102, "network": { "addresses": ["10.9.0.6"], "publish": [{ "host": 8082, "ve": 7 }] } });
    sandbox.ve("one", one);
    sandbox.ve("two", two);
    sandbox.apply();
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    let _servers = [serve(&sandbox, "one", &["-ll", "-p", "7"]), serve(&sandbox, "two", &["-ll", "-p", "7"])];
    for port in [8080, 8082] {
        eventually("it is served", || connects(&lab, HOST[0], port));
    }
    let table = lab.on_host("nft", &["list", "tables"]).ok().stdout;
    let table = table.lines().find_map(|line| line.strip_prefix("table inet vzd_nat_")).unwrap().to_owned();
    let table = format!("vzd_nat_{table}");
    let meddled: [&[&str]; 4] = [
        &["flush", "chain", "inet", &table, "publish"],
        &["delete", "element", "inet", &table, "publish4", "{ tcp . 8080 }"],
        &["delete", "table", "inet", &table],
        &["add", "rule", "inet", &table, "output", "accept"],
    ];
    for words in meddled {
        lab.on_host("nft", words).ok();
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.network.publish[tcp 8080]");
        sandbox.apply();
        sandbox.apply();
        sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
        assert!(connects(&lab, HOST[0], 8080) && connects(&lab, HOST[0], 8082), "after {words:?}");
        reaches(&sandbox, "one", CLIENT[0]);
    }
    // A VE that died takes only its own away.
    kill(&lab, sandbox.init_pid("one"));
    sandbox.vzd(&["stop", "one"]).ok();
    assert!(!connects(&lab, HOST[0], 8080) && connects(&lab, HOST[0], 8082));
    sandbox.vzd(&["start", "one"]).ok();
    let left = lab.on_host("nft", &["list", "table", "inet", &table]).ok().stdout;
    assert!(left.contains("tcp . 8080") && left.contains("tcp . 8082"), "{left}");
    sandbox.vzd(&["stop", "one", "two"]).ok();
    assert_same(&before, &lab.everything(), "stopped");
    // One port is one VE's.
    let same = json!([{ "host": 8080 }]);
    sandbox.ve("two", json!({ "ctid": 102, "network": { "addresses": ["10.9.0.6"], "publish": same } }));
    sandbox.vzd(&["validate"]).ends(65).says("the host's port 8080 is given twice");
}
