//! VEs that resolve each other by name: what they are told from inside, what follows their manifests at once, what
//! is asked elsewhere, and what a hostile one can do.

mod within;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name, Ttl};
use domain::rdata::{A, AllRecordData};
use serde_json::{Value, json};
use vzd_tests::{CLIENT, HOST, NetLab, Sandbox, assert_same, eventually, needs};

use super::{ONE, TWO, with};

const RESOLVER: [&str; 2] = ["169.254.1.1", "fd76:7a64::53"];

fn at(server: &str) -> String {
    if server.contains(':') { format!("[{server}]:53") } else { format!("{server}:53") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn query(name: &str, qtype: Rtype) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x4242);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((Name::<Vec<u8>>::from_str(name).unwrap(), qtype)).unwrap();
    question.finish()
}

/// `NOERROR 192.0.2.101`; nothing if nobody answers.
fn told(reply: &[u8]) -> String {
    let message = Message::from_octets(reply).unwrap();
    assert_eq!(message.header().id(), 0x4242);
    let records = message.answer().unwrap().limit_to::<AllRecordData<_, _>>();
    let records: BTreeSet<String> = records.map(|record| record.unwrap().data().to_string()).collect();
    let words = [message.header().rcode().to_string()].into_iter().chain(records);
    let truncated = message.header().tc().then(|| "truncated".to_owned());
    words.chain(truncated).collect::<Vec<_>>().join(" ")
}

fn ask_with(sandbox: &Sandbox, ve: &str, protocol: &str, server: &str, message: &[u8]) -> String {
    let answer = sandbox.guest(ve, &["ask", protocol, &at(server), &hex(message)]);
    answer["last"].as_str().map_or_else(String::new, |reply| told(&bytes(reply)))
}

fn ask(sandbox: &Sandbox, ve: &str, server: &str, name: &str, qtype: Rtype) -> String {
    ask_with(sandbox, ve, "udp", server, &query(name, qtype))
}

fn host(sandbox: &Sandbox, dns: bool) {
    let host = json!({ "apiVersion": "vzd/v1", "kind": "Host", "metadata": { "name": "host" }, "spec": { "dns": dns } });
    sandbox.write("host.yaml", &host.to_string());
}

/// A VE that inherits name servers.
fn inheriting(addresses: &[&str]) -> Value {
    let mut spec = with(addresses);
    spec["network"]["nameservers"] = "inherit".into();
    spec
}

fn upstream(sandbox: &Sandbox, server: &str) {
    std::fs::write(sandbox.resolv_conf(), format!("nameserver {server}\n")).unwrap();
}

fn status(sandbox: &Sandbox) -> Value {
    sandbox.vzd(&["status", "-o", "json"]).ok().json()
}

fn servers(sandbox: &Sandbox, ve: &str) -> Vec<String> {
    let text = sandbox.sh(ve, "cat /etc/resolv.conf");
    text.lines().filter_map(|line| line.strip_prefix("nameserver ")).map(str::to_owned).collect()
}

#[test]
fn ves_resolve_each_other_and_manifests_show_at_once() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let before = lab.everything();
    let sandbox = Sandbox::new();
    upstream(&sandbox, "192.0.2.254");
    host(&sandbox, true);
    let mut one = inheriting(&ONE);
    one["hostname"] = "one.example.net".into();
    sandbox.ve("one", one);
    sandbox.ve("two", inheriting(&TWO));
    // IPv6 only: it has another way to ask.
    sandbox.ve("three", inheriting(&["fd00:2::103"]));
    // Its way out is another one, but for the one address.
    let eth0 =
        json!({ "name": "eth0", "bridge": "vmlan", "addresses": ["10.5.0.4/24"], "gateway": ["10.5.0.9"] });
    let route = json!({ "to": RESOLVER[0], "dev": "venet0" });
    sandbox.ve(
        "four",
        json!({ "network": { "addresses": ["192.0.2.104"], "interfaces": [eth0], "routes": [route],
                "nameservers": [RESOLVER[0]] } }),
    );
    let daemon = sandbox.daemon();
    for ve in ["one", "two", "three", "four"] {
        sandbox.until_ready(ve);
    }
    assert_eq!(servers(&sandbox, "one"), [RESOLVER[0], "192.0.2.254"]);
    assert_eq!(servers(&sandbox, "three"), [RESOLVER[1], "192.0.2.254"]);
    let all = [("one", RESOLVER[0]), ("two", RESOLVER[1]), ("three", RESOLVER[1]), ("four", RESOLVER[0])];
    for (ve, server) in all {
        let asked = |name: &str, qtype| ask(&sandbox, ve, server, name, qtype);
        assert_eq!(asked("one", Rtype::A), format!("NOERROR {}", ONE[0]));
        assert_eq!(asked("one.example.net", Rtype::AAAA), format!("NOERROR {}", ONE[1]));
        assert_eq!(asked("Two", Rtype::A), format!("NOERROR {}", TWO[0]));
        assert_eq!(asked("three", Rtype::A), "NOERROR");
        assert_eq!(asked("four", Rtype::A), "NOERROR 10.5.0.4 192.0.2.104");
        assert_eq!(asked("nobody", Rtype::A), "NXDOMAIN");
        assert_eq!(asked("101.2.0.192.in-addr.arpa", Rtype::PTR), "NOERROR one.example.net.");
        assert_eq!(
            ask_with(&sandbox, ve, "tcp", server, &query("three", Rtype::AAAA)),
            "NOERROR fd00:2::103"
        );
    }
    // As programs ask, by resolv.conf.
    assert!(sandbox.sh("two", "nslookup one").contains(ONE[0]));
    sandbox.sh("one", "ping -c 1 -W 2 two");
    // What changes while it runs.
    sandbox.ve("two", inheriting(&["192.0.2.112"]));
    eventually("the new address is told", || {
        ask(&sandbox, "one", RESOLVER[0], "two", Rtype::A) == "NOERROR 192.0.2.112"
    });
    sandbox.vzd(&["drift", "--detailed-exitcode"]).ends(0);
    assert_eq!(status(&sandbox)["names"]["names"], 4);
    sandbox.vzd(&["status"]).says("names of 4 VEs");
    sandbox.vzd(&["stop", "two"]).ok();
    eventually("it is not told any more", || {
        ask(&sandbox, "one", RESOLVER[0], "two", Rtype::A) == "NXDOMAIN"
    });
    // Off: nobody answers, and the files say so.
    host(&sandbox, false);
    eventually("nobody is asked", || servers(&sandbox, "one") == ["192.0.2.254"]);
    assert_eq!(ask(&sandbox, "one", RESOLVER[0], "one", Rtype::A), "");
    assert!(!lab.host(&["-6", "route", "show", "table", "all"]).contains(RESOLVER[1]));
    // On again, without a restart of anything.
    host(&sandbox, true);
    eventually("it answers", || {
        ask(&sandbox, "one", RESOLVER[0], "one", Rtype::A) == format!("NOERROR {}", ONE[0])
    });
    eventually("it is asked", || servers(&sandbox, "one") == [RESOLVER[0], "192.0.2.254"]);
    for ve in ["one", "two", "three", "four"] {
        sandbox.unlink(&format!("{ve}.yaml"));
    }
    sandbox.vzd(&["apply", "--allow-prune=4"]).ok();
    assert_eq!(daemon.stop(), 0);
    assert_same(&before, &lab.everything(), "after all");
}

/// A name server at the client: tells of example.com, in full only over TCP, and is silent about silent.example.com.
fn serve(udp: &UdpSocket, tcp: &TcpListener, stop: &AtomicBool) {
    let answer = |asked: &[u8], addresses: u8| {
        let asked = Message::from_octets(asked).unwrap();
        let mut answer = MessageBuilder::new_vec().start_answer(&asked, Rcode::NOERROR).unwrap();
        let name = asked.sole_question().unwrap().into_qname();
        for n in 1..=addresses {
            answer.push((&name, Class::IN, Ttl::from_secs(60), A::from_octets(198, 51, 100, n))).unwrap();
        }
        answer.finish()
    };
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::SeqCst) {
        if let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let asked = &buffer[..length];
            let name = Message::from_octets(asked).unwrap().sole_question().unwrap().qname().to_string();
            let reply = match name.as_str() {
                "silent.example.com" => continue,
                "large.example.com" => answer(asked, 200),
                _ => answer(asked, 1),
            };
            // First from somebody who guesses: another number.
            let mut guess = reply.clone();
            guess[0] ^= 1;
            udp.send_to(&guess, from).unwrap();
            udp.send_to(&reply, from).unwrap();
        }
        if let Ok((mut stream, _)) = tcp.accept() {
            stream.set_nonblocking(false).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut asked = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut asked).unwrap();
            let reply = answer(&asked, 200);
            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length, reply.as_slice()].concat()).unwrap();
        }
    }
}

#[test]
fn other_names_are_asked_for_at_the_hosts_servers() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    // The first is not there.
    std::fs::write(
        sandbox.resolv_conf(),
        format!("nameserver 127.0.0.9\nnameserver {}\nnameserver {}\n", RESOLVER[0], CLIENT[0]),
    )
    .unwrap();
    host(&sandbox, true);
    sandbox.ve("one", inheriting(&ONE));
    let daemon = sandbox.daemon();
    sandbox.until_ready("one");
    let (udp, tcp) = lab.in_client(|| {
        let udp = UdpSocket::bind((CLIENT[0], 53)).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let tcp = TcpListener::bind((CLIENT[0], 53)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        (udp, tcp)
    });
    let stop = AtomicBool::new(false);
    let asked =
        |protocol: &str, name: &str| ask_with(&sandbox, "one", protocol, RESOLVER[0], &query(name, Rtype::A));
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&udp, &tcp, &stop));
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert_eq!(asked("udp", "www.example.com"), "NOERROR 198.51.100.1");
            assert_eq!(asked("udp", "large.example.com"), "NOERROR truncated");
            assert_eq!(asked("tcp", "large.example.com").split(' ').count(), 201);
            // Others are answered while one waits.
            let waiting = scope.spawn(|| asked("udp", "silent.example.com"));
            assert_eq!(asked("udp", "one"), format!("NOERROR {}", ONE[0]));
            assert_eq!(waiting.join().unwrap(), "");
        }));
        stop.store(true, Ordering::SeqCst);
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let names = status(&sandbox)["names"].clone();
    assert_eq!(
        (&names["forwarded"], &names["answered"], &names["refused"]),
        (&json!(4), &json!(1), &json!(0))
    );
    // A host that knows nobody to ask.
    std::fs::write(sandbox.resolv_conf(), "").unwrap();
    eventually("it has noticed", || {
        ask(&sandbox, "one", RESOLVER[0], "www.example.com", Rtype::A) == "REFUSED"
    });
    drop(daemon);
    // Killed: nobody is at the port, and whoever asks is told so at once.
    assert_eq!(ask(&sandbox, "one", RESOLVER[0], "one", Rtype::A), "");
}

#[test]
fn strangers_are_not_answered_and_a_flood_hurts_nobody_else() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    upstream(&sandbox, "192.0.2.254");
    host(&sandbox, true);
    sandbox.ve("one", inheriting(&ONE));
    sandbox.ve("two", inheriting(&TWO));
    let daemon = sandbox.daemon();
    sandbox.until_ready("one");
    sandbox.until_ready("two");
    let asked = |ve: &str| ask(&sandbox, ve, RESOLVER[0], "one", Rtype::A);
    let right = format!("NOERROR {}", ONE[0]);
    assert_eq!((asked("one"), asked("two")), (right.clone(), right.clone()));
    // Another host on the wire, as itself and as a VE: it knows the way to the address.
    lab.client_ip(&["route", "add", "169.254.1.1", "via", HOST[0]]);
    lab.client_ip(&["-6", "route", "add", RESOLVER[1], "via", HOST[1]]);
    lab.client_ip(&["addr", "add", "192.0.2.101/32", "dev", "lo"]);
    let answered = || status(&sandbox)["names"]["answered"].as_u64().unwrap();
    let count = answered();
    lab.in_client(|| {
        for (from, server) in
            [("0.0.0.0:0", RESOLVER[0]), ("192.0.2.101:0", RESOLVER[0]), ("[::]:0", RESOLVER[1])]
        {
            let socket = UdpSocket::bind(from).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket.send_to(&query("one", Rtype::A), at(server)).unwrap();
            assert!(socket.recv(&mut [0; 512]).is_err(), "{from} is answered");
        }
    });
    // Nor the host's own programs.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.send_to(&query("one", Rtype::A), at(RESOLVER[0])).unwrap();
    assert!(socket.recv(&mut [0; 512]).is_err());
    assert_eq!(answered(), count);
    // What is no message, and what answers.
    let mut reply = query("one", Rtype::A);
    reply[2] |= 0x80;
    let mut loops = query("one", Rtype::A);
    loops.splice(12.., [0xc0, 12, 0, 1, 0, 1]);
    for garbage in [vec![0; 11], vec![0xff; 1400], reply] {
        assert_eq!(
            sandbox.guest("one", &["ask", "udp", &at(RESOLVER[0]), &hex(&garbage)])["count"],
            0,
            "{garbage:?}"
        );
    }
    assert_eq!(ask_with(&sandbox, "one", "udp", RESOLVER[0], &loops), "FORMERR");
    // Connections that say nothing, and a flood: one VE's, while the other asks.
    let silent = "for n in $(seq 300); do (sleep 4 | nc 169.254.1.1 53 >/dev/null 2>&1) & done";
    sandbox.sh("one", silent);
    let message = hex(&query("one", Rtype::A));
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            sandbox.guest("one", &["ask", "udp", &at(RESOLVER[0]), &message, "100000"])["count"].as_u64()
        });
        while !flood.is_finished() {
            eventually("the other is answered", || asked("two") == right);
        }
        let flooded = flood.join().unwrap().unwrap();
        assert!(flooded < 90_000, "{flooded} of a flood were answered");
    });
    assert_eq!(ask_with(&sandbox, "two", "tcp", RESOLVER[0], &query("one", Rtype::A)), right);
    assert!(status(&sandbox)["names"]["refused"].as_u64().unwrap() > 0);
    drop(daemon);
}

#[test]
fn a_port_that_somebody_has_is_told_and_tried_again() {
    needs!(Root, Cgroups, Busybox, Ip);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    upstream(&sandbox, "192.0.2.254");
    host(&sandbox, true);
    sandbox.ve("one", inheriting(&ONE));
    let taken = UdpSocket::bind("0.0.0.0:53").unwrap();
    let daemon = sandbox.daemon();
    sandbox.until_ready("one");
    eventually("it is told", || status(&sandbox)["diagnostics"][0]["code"] == "VZ0407");
    sandbox.vzd(&["status"]).ends(0).says("169.254.1.1:53").says("host.yaml");
    sandbox.vzd(&["events"]).ends(0).says("ResolverFailed");
    assert_eq!(status(&sandbox)["names"], Value::Null);
    drop(taken);
    daemon.reload();
    eventually("it runs", || status(&sandbox)["names"]["names"] == 1);
    assert_eq!(ask(&sandbox, "one", RESOLVER[0], "one", Rtype::A), format!("NOERROR {}", ONE[0]));
    assert_eq!(status(&sandbox)["diagnostics"], json!([]));
    // Another vzd on this host: the port is not to be had, and it takes nothing away.
    let other = Sandbox::new();
    host(&other, true);
    let second = other.daemon();
    eventually("it is told", || status(&other)["diagnostics"][0]["code"] == "VZ0407");
    host(&other, false);
    eventually("it is off", || status(&other)["diagnostics"] == json!([]));
    assert_eq!(second.stop(), 0);
    let routes = || lab.host(&["-6", "route", "show", "table", "all"]);
    assert!(routes().contains(RESOLVER[1]));
    daemon.kill9();
    assert!(routes().contains(RESOLVER[1]));
    // Whether it is wanted cannot be read now: VEs go on asking where they ask.
    sandbox.write("host.yaml", "apiVersion: vzd/v1\nkind: Host\nspec: [\n");
    let daemon = sandbox.daemon();
    eventually("all was looked at", || !status(&sandbox)["lastPass"].is_null());
    sandbox.vzd(&["drift", "one", "--detailed-exitcode"]).ends(0);
    assert_eq!(servers(&sandbox, "one"), [RESOLVER[0], "192.0.2.254"]);
    daemon.kill9();
    // What a killed one left is taken away by the next, if nobody wants it any more.
    host(&sandbox, false);
    let daemon = sandbox.daemon();
    eventually("nothing is left", || !routes().contains(RESOLVER[1]));
    drop(daemon);
}
