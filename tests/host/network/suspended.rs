//! Connections of a VE that is suspended and resumed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use vzd_tests::{LONG, NetLab, Sandbox, echo, eventually, needs, within};

use super::{ONE, TWO, reaches, with};

#[test]
fn a_stream_goes_on_after_a_suspension() {
    needs!(Root, Cgroups, Busybox, Ip, Nft, Criu);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    let mut spec = with(&ONE);
    spec["network"]["firewall"] =
        json!({ "nftables": "chain input { type filter hook input priority 0; tcp dport 9 drop; }" });
    sandbox.ve("one", spec);
    sandbox.apply();
    let everything = sandbox.sh("one", "ip addr; ip route");
    sandbox.sh("one", "setsid nc -ll -p 7 -e /bin/cat > /dev/null 2>&1 < /dev/null &");
    let connect = |address: &str| within(LONG, "the VE answers", || TcpStream::connect((address, 7)).ok());
    let streams = lab.in_client(|| ONE.map(connect));
    let stop = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let stop = &stop;
        let running = streams.map(|stream| scope.spawn(move || echo(stream, stop)));
        let moved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..3 {
                sandbox.vzd(&["suspend", "one"]).ok();
                sandbox.vzd(&["resume", "one"]).ok();
                sandbox.vzd(&["apply", "--detailed-exitcode"]).ends(0);
            }
            for address in ONE {
                assert!(lab.client_reaches(address), "the client does not reach {address}");
            }
            std::thread::sleep(std::time::Duration::from_secs(2));
        }));
        stop.store(true, Ordering::SeqCst);
        let counts = running.map(|echo| echo.join().unwrap());
        moved.unwrap();
        counts
    });
    assert!(counts.iter().all(|(count, _)| *count > 10), "{counts:?}");
    let addresses = |text: &str| text.matches("inet").count();
    assert_eq!(addresses(&sandbox.sh("one", "ip addr; ip route")), addresses(&everything));
    reaches(&sandbox, "one", vzd_tests::CLIENT[0]);
    // What the VE has made itself would not be there again.
    sandbox.sh("one", "ip link add mine type bridge");
    let refused = sandbox.vzd(&["suspend", "one"]).ends(1);
    assert!(
        refused.stderr.contains("interface mine in its network is not one that vzd makes"),
        "{refused:?}"
    );
    reaches(&sandbox, "one", vzd_tests::CLIENT[0]);
}

#[test]
fn a_stream_is_closed_where_the_manifest_says_so() {
    needs!(Root, Cgroups, Busybox, Ip, Nft, Criu);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    let mut spec = with(&ONE);
    spec["checkpoint"] = json!({ "tcpEstablished": false });
    sandbox.ve("one", spec);
    sandbox.apply();
    sandbox.sh("one", "setsid nc -ll -p 7 -e /bin/cat > /dev/null 2>&1 < /dev/null &");
    let connect = || within(LONG, "the VE answers", || TcpStream::connect((ONE[0], 7)).ok());
    let mut stream = lab.in_client(connect);
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"a").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    sandbox.vzd(&["suspend", "one"]).ok();
    sandbox.vzd(&["resume", "one"]).ok();
    eventually("its other end hears of it", || {
        match stream.write_all(b"b").and_then(|()| stream.read(&mut [0])) {
            Ok(read) => read == 0,
            Err(_) => true,
        }
    });
    // Who listens goes on.
    let mut stream = lab.in_client(connect);
    stream.write_all(b"c").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_stream_goes_on_while_a_clone_begins_without_it() {
    needs!(Root, Cgroups, Busybox, Ip, Nft, Criu);
    let lab = NetLab::new();
    let sandbox = Sandbox::new();
    sandbox.ve("one", with(&ONE));
    sandbox.apply();
    sandbox.sh("one", "setsid nc -ll -p 7 -e /bin/cat > /dev/null 2>&1 < /dev/null &");
    let connect = |address: &str| within(LONG, "the VE answers", || TcpStream::connect((address, 7)).ok());
    let mut stream = lab.in_client(|| connect(ONE[0]));
    stream.set_read_timeout(Some(LONG)).unwrap();
    let says = |stream: &mut TcpStream| {
        stream.write_all(b"a").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    };
    says(&mut stream);
    sandbox.vzd(&["clone", "--running", "one", "copy"]).ok().says("spec.network.addresses");
    says(&mut stream);
    assert!(!sandbox.sh("copy", "ip addr").contains(ONE[0]));
    // With an address of its own it is reached beside the other.
    sandbox.ve("copy", with(&TWO));
    sandbox.apply();
    says(&mut lab.in_client(|| connect(TWO[0])));
    says(&mut stream);
}
