//! Connections of a VE that moves to another host on the same wire, and back.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use vzd_tests::{CLIENT, LONG, NetLab, Sandbox, echo, eventually, moves, needs, within};

use super::{ONE, reaches, with};
use crate::migrate::via;

#[test]
fn streams_go_on_at_the_other_host() {
    needs!(Root, Cgroups, Busybox, Ip, Nft, Criu);
    let lab = NetLab::new();
    let second = lab.second_host();
    let (here, there) = (Sandbox::new(), Sandbox::new());
    for sandbox in [&here, &there] {
        sandbox.write("host.yaml", "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n");
    }
    // A routed address and one of an interface of its own, both of which neighbours have to find anew.
    let bridges = "ip link add lan type bridge; ip link set lan up";
    lab.on_host("sh", &["-c", bridges]).ok();
    second.within(|| std::process::Command::new("sh").args(["-c", bridges]).status()).unwrap();
    let mut spec = with(&ONE);
    spec["network"]["interfaces"] =
        json!([{ "name": "eth0", "bridge": "lan", "addresses": ["10.9.0.1/24"] }]);
    here.ve("web", spec);
    here.apply();
    here.sh("web", "setsid nc -ll -p 7 -e /bin/cat > /dev/null 2>&1 < /dev/null &");
    let connect = |address: &str| within(LONG, "the VE answers", || TcpStream::connect((address, 7)).ok());
    let streams = lab.in_client(|| ONE.map(connect));
    let stop = AtomicBool::new(false);
    let (back, forth) = (via(&here, ""), format!("{} {}", second.prefix(), via(&there, "")));
    let counts = std::thread::scope(|scope| {
        let stop = &stop;
        let running = streams.map(|stream| scope.spawn(move || echo(stream, stop)));
        let moved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..(moves() / 2).max(3) {
                here.vzd(&["migrate", "web", "--via", &forth]).ok();
                second.within(|| {
                    there.vzd(&["apply", "--detailed-exitcode"]).ends(0);
                    CLIENT.iter().for_each(|address| reaches(&there, "web", address));
                });
                assert!(
                    ONE.iter().all(|address| lab.client_reaches(address)),
                    "the client does not reach it there"
                );
                assert!(
                    !lab.host(&["neigh", "show", "proxy"]).contains(ONE[0]),
                    "the first host still answers"
                );
                // Back by a host that is reached from the second one's network.
                let home = format!(
                    "nsenter --net=/proc/{}/task/{}/ns/net {back}",
                    std::process::id(),
                    nix::unistd::gettid()
                );
                second.within(|| there.vzd(&["migrate", "web", "--via", &home]).ok());
                here.vzd(&["apply", "--detailed-exitcode"]).ends(0);
                assert!(
                    ONE.iter().all(|address| lab.client_reaches(address)),
                    "the client does not reach it here"
                );
            }
        }));
        stop.store(true, Ordering::SeqCst);
        let counts = running.map(|echo| echo.join().unwrap());
        moved.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        counts
    });
    assert!(counts.iter().all(|(count, _)| *count > 10), "{counts:?}");
    second.within(|| drop(there));
    eventually("nothing of it is left on the second host", || {
        let all = second.within(|| lab.on_host("ip", &["-o", "link"]).ok().stdout);
        all.lines().all(|line| ["lo:", "eth0@", "lan:"].iter().any(|own| line.contains(own)))
    });
}
