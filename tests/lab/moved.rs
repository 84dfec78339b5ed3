//! A Debian at work, moved between two machines by TLS over the wire between them, and back, while a third host talks to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{LONG, Namespace, Peer, Sandbox, Work, echo, moves, needs, within};

const PORT: u16 = 7443;
/// The VE's.
const ADDRESS: &str = "10.77.0.50";
/// The third host's wire: this host's end, its own, and all of it.
const WIRE: [&str; 3] = ["10.78.0.1", "10.78.0.2", "10.78.0.0/24"];
/// On the second host: all of its vzd's.
const DIR: &str = "/var/moved";
/// A Debian boots in it.
const BOOT: Duration = Duration::from_secs(60);

/// The second host's vzd.
struct There<'a> {
    peer: &'a Peer,
    environment: Value,
}

impl There<'_> {
    fn vzd(&self, words: &[&str]) -> vzd_tests::Ended {
        self.peer.run_with(&[&["/lab/vzd"], words].concat(), &[], &self.environment)
    }

    fn has(&self) -> bool {
        self.vzd(&["exec", "web", "--", "true"]).code == 0
    }

    fn sh(&self, script: &str) -> String {
        self.vzd(&["exec", "web", "--", "/bin/sh", "-c", script]).ok().stdout.trim().to_owned()
    }
}

impl Drop for There<'_> {
    fn drop(&mut self) {
        let script = format!(
            "test -e {DIR}/pid && kill $(cat {DIR}/pid); /lab/vzd stop web; ip route del {}; true",
            WIRE[2]
        );
        drop(self.peer.run_with(&["/bin/sh", "-c", &script], &[], &self.environment));
    }
}

/// A vzd here and one there, with certificates of one CA, that know each other as a and b; the second's controller runs.
fn hosts(peer: &Peer) -> (Sandbox, There<'_>) {
    let mut here = Sandbox::new();
    here.host = "a";
    let at = |ip: &str| format!("{ip}:{PORT}");
    let spec = json!({
        "listen": [at("0.0.0.0")],
        "peers": [{ "name": "a", "address": at(&Peer::own_ip()) }, { "name": "b", "address": at(peer.ip()) }],
    });
    let host =
        json!({ "apiVersion": "vzd/v1", "kind": "Host", "metadata": { "name": "hosts" }, "spec": spec });
    here.write("host.yaml", &host.to_string());
    here.vzd(&["pki", "init"]).ok();
    let certificates = here.dir().join("b");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    here.vzd(&["pki", "issue", "a", "--out", &path(&here.pki()), "--address", &Peer::own_ip()]).ok();
    here.vzd(&["pki", "issue", "b", "--out", &path(&certificates), "--address", peer.ip()]).ok();
    // The same on the second host.
    let dir = |name: &str| format!("{DIR}/{name}");
    let environment = json!({
        "VZD_MANIFESTS": dir("manifests"), "VZD_STATE_DIR": dir("state"), "VZD_RUN_DIR": dir("run"), "VZD_PKI": dir("pki"),
        "VZD_SCRIPTS": dir("scripts"), "VZD_CGROUP_ROOT": "moved", "VZD_HOST": "b", "VZD_CRIU": "/lab/criu/criu",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    });
    peer.sh(&format!("mkdir -p {DIR}/manifests; umask 077; mkdir {DIR}/pki"));
    peer.put(&dir("manifests/host.yaml"), host.to_string().as_bytes());
    for file in std::fs::read_dir(&certificates).unwrap() {
        let file = file.unwrap();
        let to = dir(&format!("pki/{}", file.file_name().to_str().unwrap()));
        peer.put(&to, &std::fs::read(file.path()).unwrap());
        peer.sh(&format!("chmod 600 {to}"));
    }
    let there = There { peer, environment };
    let run = format!("setsid /lab/vzd run > {DIR}/log 2>&1 < /dev/null & echo $! > {DIR}/pid");
    peer.run_with(&["/bin/sh", "-c", &run], &[], &there.environment).ok();
    within(LONG, "its controller answers", || (there.vzd(&["get"]).code == 0).then_some(()));
    (here, there)
}

/// What the VE's web server says to the third host.
fn page(third: &Namespace) -> String {
    third.within(|| {
        let mut stream = TcpStream::connect((ADDRESS, 80)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

#[test]
fn a_ve_at_work_moves_to_another_machine_and_back() {
    needs!(Root, CgroupV2, Busybox, Ip, Criu, Distribution, TwoHosts);
    let peer = Peer::find();
    let (here, there) = hosts(&peer);
    let third = Namespace::behind_this_host(WIRE[0], WIRE[1]);
    peer.sh(&format!("ip route add {} via {}", WIRE[2], Peer::own_ip()));
    let archive = here.debian_at_work();
    let add = ["template", "add", "debian", archive.to_str().unwrap()];
    std::thread::scope(|scope| {
        scope.spawn(|| there.vzd(&add).ok());
        here.vzd(&add).ok();
    });
    let addresses = [format!("{ADDRESS}/32")];
    here.ve("web", json!({ "template": "debian", "init": null, "stopTimeout": "30s", "network": { "addresses": addresses } }));
    let _daemon = here.daemon();
    here.until_ready("web");
    here.put_guest("web");
    let (look_here, look_there) =
        (|| Work::look(&|script| here.sh("web", script)), || Work::look(&|script| there.sh(script)));
    Work::start(&|script| here.sh("web", script), Some(1));
    here.sh("web", "setsid busybox nc -ll -p 7 -e /bin/cat > /dev/null 2>&1 < /dev/null &");
    let mut before = within(BOOT, "all of it is at work", look_here);
    let stream = third.within(|| within(LONG, "it answers", || TcpStream::connect((ADDRESS, 7)).ok()));
    let stop = AtomicBool::new(false);
    let (count, longest) = std::thread::scope(|scope| {
        let running = scope.spawn(|| echo(stream, &stop));
        let moved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..moves().div_ceil(2) {
                here.vzd(&["migrate", "web", "b"]).ok();
                let on = || look_there().filter(|now| now.is_on_from(&before));
                let now = within(BOOT, "all of it goes on there", on);
                assert!(page(&third).contains("200 OK"));
                assert!(here.status("web").is_none());
                there.vzd(&["migrate", "web", "a"]).ok();
                let on = || look_here().filter(|here| here.is_on_from(&now));
                before = within(BOOT, "all of it goes on here", on);
                assert!(page(&third).contains("200 OK"));
                assert!(!there.has());
            }
        }));
        stop.store(true, Ordering::SeqCst);
        let told = running.join().unwrap();
        moved.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        told
    });
    assert!(count > 10, "{count} numbers, the slowest in {longest:?}");
    let sh = |script: &str| here.sh("web", script);
    within(2 * BOOT, "cron goes on, and all of memory is whole", || {
        (before.checked_all(&sh) && before.cron_went_on(&sh)).then_some(())
    });
    within(BOOT, "all is whole in the end", || look_here().filter(|now| now.is_on_from(&before)));
    here.vzd(&["stop", "web"]).ok();
}
