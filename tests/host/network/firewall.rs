//! The packet filter that a manifest gives a VE: each kind of rule from a real client, and what the VE's root does to it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vzd_tests::{CLIENT, Guarded, LONG, NetLab, Sandbox, needs, status_field, within};

use super::{ONE, change, reaches};

fn with(firewall: Value) -> Value {
    json!({ "network": { "addresses": ONE, "firewall": firewall } })
}

/// How an attempt to connect ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Connected,
    Refused,
    Nothing,
}
use End::{Connected, Nothing, Refused};

fn tcp(lab: &NetLab, address: &str, port: u16) -> End {
    let to: SocketAddr = (address.parse::<std::net::IpAddr>().unwrap(), port).into();
    lab.in_client(|| match TcpStream::connect_timeout(&to, Duration::from_secs(1)) {
        Ok(_) => Connected,
        Err(e) if e.kind() == ErrorKind::TimedOut => Nothing,
        Err(_) => Refused,
    })
}

/// What comes of a datagram to a port on which nobody listens: a VE that lets it in says so.
fn udp(lab: &NetLab, address: &str, port: u16) -> End {
    lab.in_client(|| {
        let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect((address, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.send(b"x").unwrap();
        match socket.recv(&mut [0; 8]) {
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => Refused,
            Err(e) if e.kind() == ErrorKind::WouldBlock => Nothing,
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn each_kind_of_rule_does_what_it_says() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(json!({ "policy": "drop" })));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    // In force before its init ran; what the VE itself begins goes on.
    assert!(!lab.client_reaches(ONE[0]) && !lab.client_reaches(ONE[1]));
    CLIENT.iter().for_each(|address| reaches(&sandbox, "one", address));
    let serve = |port: &str| {
        let words = ["exec", "one", "--", "/bin/busybox", "nc", "-ll", "-p", port, "-e", "/bin/cat"];
        Guarded::spawn(sandbox.command(&words).stdin(Stdio::null()).stdout(Stdio::null()))
    };
    let _servers = [serve("7"), serve("8")];
    change(&sandbox, pid, with(json!({ "policy": "accept" })));
    for port in [7, 8] {
        within(LONG, "the VE answers", || (tcp(&lab, ONE[0], port) == Connected).then_some(()));
    }
    let tcp_only = json!({ "action": "accept", "protocol": "tcp", "ports": [7] });
    let not = |action: &str| json!({ "action": action, "protocol": "tcp", "ports": ["6-8"] });
    let from = |action: &str, sources: Value| json!({ "action": action, "from": sources });
    let client = json!([format!("{}/32", CLIENT[0]), format!("{}/128", CLIENT[1])]);
    let elsewhere = json!(["198.51.100.0/24", "2001:db8::/32"]);
    // A filter, and what becomes of TCP to 7 and to 8, UDP to 7, and a ping.
    let cases: [(&str, Value, [End; 3], bool); 11] = [
        ("accept", json!({ "policy": "accept" }), [Connected, Connected, Refused], true),
        ("drop", json!({ "policy": "drop" }), [Nothing, Nothing, Nothing], false),
        ("reject", json!({ "policy": "reject" }), [Refused, Refused, Refused], false),
        ("port", json!({ "policy": "drop", "rules": [tcp_only] }), [Connected, Nothing, Nothing], false),
        ("ports", json!({ "rules": [not("drop")] }), [Nothing, Nothing, Refused], true),
        ("first", json!({ "rules": [tcp_only, not("reject")] }), [Connected, Refused, Refused], true),
        (
            "source",
            json!({ "policy": "drop", "rules": [from("accept", client)] }),
            [Connected, Connected, Refused],
            true,
        ),
        (
            "other",
            json!({ "policy": "drop", "rules": [from("accept", elsewhere)] }),
            [Nothing, Nothing, Nothing],
            false,
        ),
        (
            "icmp",
            json!({ "policy": "drop", "rules": [{ "action": "accept", "protocol": "icmp" }] }),
            [Nothing, Nothing, Nothing],
            true,
        ),
        (
            "any protocol",
            json!({ "rules": [{ "action": "drop", "ports": [7] }] }),
            [Nothing, Connected, Nothing],
            true,
        ),
        (
            "text",
            json!({ "nftables": "chain in { type filter hook input priority 0;\n tcp dport 8 drop\n }" }),
            [Connected, Nothing, Refused],
            true,
        ),
    ];
    for (what, filter, ends, ping) in cases {
        change(&sandbox, pid, with(filter));
        // All at once: most of the time is waited for answers that do not come.
        std::thread::scope(|scope| {
            for address in ONE {
                let lab = &lab;
                scope.spawn(move || assert_eq!(tcp(lab, address, 7), ends[0], "{what}: {address}"));
                scope.spawn(move || assert_eq!(tcp(lab, address, 8), ends[1], "{what}: {address}"));
                scope.spawn(move || assert_eq!(udp(lab, address, 7), ends[2], "{what}: {address}"));
                scope.spawn(move || assert_eq!(lab.client_reaches(address), ping, "{what}: {address}"));
            }
        });
    }
    let out =
        json!({ "rules": [{ "action": "reject", "direction": "out", "to": [format!("{}/32", CLIENT[0])] }] });
    change(&sandbox, pid, with(out));
    let refused = sandbox.exec("one", &["/bin/busybox", "ping", "-c", "1", "-W", "1", CLIENT[0]]);
    assert_ne!(refused.code, 0);
    reaches(&sandbox, "one", CLIENT[1]);
    assert_eq!(tcp(&lab, ONE[0], 7), Connected, "an answer is not what goes out");
    change(&sandbox, pid, json!({ "network": { "addresses": ONE } }));
    assert_eq!(tcp(&lab, ONE[0], 8), Connected);
}

/// What the VE's root puts in the place of vzd's table costs little time and memory, whatever its size, and is put right.
#[test]
fn a_huge_table_costs_little() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(json!({ "policy": "drop" })));
    let daemon = sandbox.daemon();
    let pid = sandbox.until_ready("one").to_string();
    let most = |pid: u32| {
        let shown = status_field(pid, "VmHWM");
        shown.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let before = most(daemon.pid());
    let mut text = "table inet vzd {\nset s { type ipv4_addr; elements = { ".to_owned();
    (0..400_000_u32).for_each(|n| text += &format!("{}, ", std::net::Ipv4Addr::from_bits(0x0a00_0000 + n)));
    text += "} }\n}\n";
    let file = sandbox.dir().join("huge.nft");
    std::fs::write(&file, text).unwrap();
    lab.on_host("nsenter", &["-t", &pid, "-n", "nft", "-f", &file.to_string_lossy()]).ok();
    let since = Instant::now();
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.network.firewall");
    sandbox.apply();
    // A look is seconds of a processor at most; there are a few, on a machine that may be busy.
    assert!(since.elapsed() < LONG * 3, "it took {:?}", since.elapsed());
    sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
    assert!(!lab.client_reaches(ONE[0]));
    let grown = most(daemon.pid()) - before;
    assert!(grown < 64 << 10, "vzd took {grown} KiB more");
}

#[test]
fn the_table_is_kept_and_others_are_left_alone() {
    needs!(Root, Cgroups, Busybox, Ip, Nft);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(json!({ "policy": "drop" })));
    sandbox.apply();
    let pid = sandbox.init_pid("one");
    let nft = |words: &[&str]| {
        let target = pid.to_string();
        let all: Vec<&str> = ["-t", &target, "-n", "nft"].iter().chain(words).copied().collect();
        lab.on_host("nsenter", &all).ok().stdout
    };
    nft(&["add", "table", "ip", "own"]);
    for words in [&["flush", "table", "inet", "vzd"][..], &["delete", "table", "inet", "vzd"]] {
        nft(words);
        sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(2).says("spec.network.firewall");
        sandbox.apply();
        sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
        assert!(!lab.client_reaches(ONE[0]), "after {words:?}");
    }
    // What is wrong is said before anything is done, with nft's own words.
    let wrong = |text: &str, says: &str| {
        sandbox.ve("one", with(json!({ "nftables": text })));
        sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(1).says(says);
        sandbox.vzd(&["apply"]).ends(1);
        assert!(nft(&["list", "table", "inet", "vzd"]).contains("policy drop"), "it was replaced");
    };
    wrong("chain in { type filter hook input priority 0; tcp dprt 8 drop }", "syntax error");
    wrong("}\ntable ip more {", "it makes more than its one table");
    change(&sandbox, pid, json!({ "network": { "addresses": ONE } }));
    assert_eq!(nft(&["list", "tables"]), "table ip own\n");
    assert!(lab.client_reaches(ONE[0]));
}
