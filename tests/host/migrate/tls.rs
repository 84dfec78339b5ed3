//! Hand-overs by TLS: two hosts that know each other by certificates, and everybody else, who gets nowhere.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Daemon, Ended, HOST, LONG, NetLab, SECOND, Sandbox, eventually, needs, within};

use super::declared::{Two, host_document, survive_kills};
use super::{count, goes_on, quarantined};

const PORT: u16 = 7443;
/// What hosts speak to each other: what is said by hand is to be of it.
const PROTOCOL: u32 = 7;

fn hosts(listen: &[&str]) -> Value {
    let at = |address: &str| format!("{address}:{PORT}");
    let peers =
        [("a", HOST[0]), ("b", SECOND[0])].map(|(name, ip)| json!({ "name": name, "address": at(ip) }));
    json!({ "listen": listen, "peers": peers })
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Has the CA of one sandbox issue a certificate for a host, into a directory.
fn issue(ca: &Sandbox, host: &str, to: &Path, more: &[&str]) -> Ended {
    ca.vzd(&[&["pki", "issue", host, "--out", path(to)], more].concat()).ok()
}

#[test]
fn a_running_ve_goes_to_and_fro_as_declared_and_as_commanded() {
    needs!(Root, Cgroups, Busybox, Criu, Ip);
    let lab = NetLab::new();
    let second = lab.second_host();
    let two = Two::with(|_| hosts(&[&format!("0.0.0.0:{PORT}")]));
    let Two { a, b, .. } = &two;
    a.vzd(&["pki", "init"]).ok();
    issue(a, "a", &a.pki(), &["--address", HOST[0]]);
    issue(a, "b", &b.pki(), &[]);
    assert!(!b.pki().join("ca.key").exists());
    two.read(a, "a");
    two.read(b, "a");
    let _a = a.daemon();
    let _b = second.within(|| b.daemon());
    two.until_on(a);
    count(a, "web");
    two.read(a, "b");
    two.read(b, "b");
    two.until_on(b);
    goes_on(b, "web");
    eventually("it has gone", || quarantined(a));
    two.read(b, "a");
    two.read(a, "a");
    two.until_on(a);
    goes_on(a, "web");
    eventually("it has gone", || quarantined(b));
    // No line says where it is to be: commands do, by the name of a peer and by an address.
    b.unlink("web.yaml");
    a.ve("web", json!({}));
    eventually("it is nowhere at home", || a.vzd(&["migrate", "web", "b", "--dry-run"]).code == 0);
    a.vzd(&["migrate", "web", "b"]).ok();
    goes_on(b, "web");
    eventually("it has gone", || quarantined(a));
    second.within(|| {
        // It is good for its name, and not for that address.
        let there = format!("tls://{}:{PORT}", SECOND[0]);
        let refused = b.vzd(&["migrate", "web", &there]).ends(1);
        assert!(refused.stderr.contains("VZ0409") && refused.stderr.contains("but of b"), "{refused:?}");
        b.vzd(&["migrate", "web", &format!("tls://{}:{PORT}", HOST[0])]).ok();
    });
    goes_on(a, "web");
}

/// Where the controller holds the connection, too: it is cut, and tried again.
#[test]
fn controllers_that_are_killed_in_the_middle_end_with_one() {
    needs!(Root, Cgroups, Busybox, Criu, Ip);
    let _lab = NetLab::new();
    let at = |name: &str| format!("127.0.0.1:{}", PORT + u16::from(name == "b"));
    let two = Two::with(|_| json!({}));
    two.a.vzd(&["pki", "init"]).ok();
    for host in [&two.a, &two.b] {
        issue(&two.a, host.host, &host.pki(), &[]);
        let peers = ["a", "b"].map(|name| json!({ "name": name, "address": at(name) }));
        host.write("host.yaml", &host_document(&json!({ "listen": [at(host.host)], "peers": peers })));
    }
    survive_kills(&two, &[(1, "receiving"), (1, "arrived")]);
}

/// A host that listens, and those who come to its door.
struct Door {
    _lab: NetLab,
    b: Sandbox,
}

impl Door {
    fn new() -> Door {
        let mut door = Door { _lab: NetLab::new(), b: Sandbox::new() };
        door.b.host = "b";
        door.b.write("host.yaml", &host_document(&hosts(&[&Self::at(PORT)])));
        door
    }

    /// A controller that listens.
    fn daemon(&self) -> Daemon<'_> {
        let daemon = self.b.daemon();
        eventually("it listens", || TcpStream::connect(Self::at(PORT)).is_ok());
        daemon
    }

    fn at(port: u16) -> String {
        format!("{}:{port}", HOST[0])
    }

    /// Says something there with these certificates.
    fn says(&self, pki: &Path, name: &str, words: &[u8]) -> Ended {
        let all = ["--pki", path(pki), "pki", "connect", &Self::at(PORT), "--name", name];
        self.b.vzd_with_input(&all, words)
    }

    fn asks(&self, pki: &Path, name: &str, from: &str) -> Ended {
        let question = json!({ "ask": { "protocol": PROTOCOL, "from": from, "queries": [] } }).to_string();
        let length = u32::try_from(question.len()).unwrap();
        self.says(pki, name, &[b"m", &length.to_be_bytes()[..], question.as_bytes()].concat())
    }

    #[track_caller]
    fn answers(&self, pki: &Path) {
        let ended = self.asks(pki, "b", "a").ok();
        assert!(ended.stdout.contains(r#""words":{"host":"b""#), "{ended:?}");
    }

    fn is_told(&self, code: &str) -> bool {
        let told = self.b.vzd(&["status"]);
        told.stdout.contains(code) || told.stderr.contains(code)
    }
}

#[test]
fn who_does_not_show_who_it_is_gets_nowhere() {
    needs!(Root, Cgroups, Ip);
    let door = Door::new();
    let (b, others) = (&door.b, Sandbox::new());
    let _b = door.daemon();
    // Without certificates nobody is answered, and it is said what helps.
    assert!(door.is_told("VZ0409"), "{}", b.vzd(&["status"]).stderr);
    assert!(door.is_told("vzd pki issue"));
    assert!(b.vzd(&["events"]).ok().stdout.contains("CertificateTrouble"));
    b.vzd(&["pki", "init"]).ok();
    issue(b, "b", &b.pki(), &[]);
    assert!(!door.is_told("VZ0409"), "{}", b.vzd(&["status"]).stderr);
    let dir = |name: &str| b.dir().join(name);
    let a = dir("a");
    issue(b, "a", &a, &[]);
    door.answers(&a);
    // By another name than it is called.
    let refused = door.says(&a, "c", b"").ends(1);
    assert!(
        refused.stderr.contains("VZ0409") && refused.stderr.contains("it is not of c, but of b"),
        "{refused:?}"
    );
    // By another name than the certificate's.
    let refused = door.asks(&a, "b", "x").ok();
    assert!(refused.stdout.contains("its certificate is of host a, and it calls itself"), "{refused:?}");
    // One of the CA, and none of those that are to move VEs.
    issue(b, "z", &dir("z"), &[]);
    let refused = door.asks(&dir("z"), "b", "z").ok();
    assert!(refused.stdout.contains("b does not have z among its `peers`"), "{refused:?}");
    // One of another CA, from either side.
    others.vzd(&["pki", "init"]).ok();
    issue(&others, "a", &dir("other"), &[]);
    let refused = door.asks(&dir("other"), "b", "a").ends(1);
    assert!(refused.stderr.contains("of b is not believed: it is of another CA"), "{refused:?}");
    let both =
        [b.pki(), others.pki()].map(|pki| std::fs::read_to_string(pki.join("ca.crt")).unwrap()).concat();
    std::fs::write(dir("other").join("ca.crt"), both).unwrap();
    let refused = door.asks(&dir("other"), "b", "a").ends(1);
    assert!(refused.stderr.contains("b does not know the CA of this host's certificate"), "{refused:?}");
    // None, and one that has ended.
    let refused = door.asks(&dir("nothing"), "b", "a").ends(1);
    assert!(refused.stderr.contains("VZ0409") && refused.stderr.contains("vzd pki issue"), "{refused:?}");
    issue(b, "a", &dir("short"), &["--valid", "1s"]);
    let refused = within(LONG, "it has ended", || {
        let ended = door.asks(&dir("short"), "b", "a");
        (ended.code == 1).then_some(ended)
    });
    assert!(refused.stderr.contains(" has ended at "), "{refused:?}");
    door.answers(&a);
    assert!(!b.log_text().contains("panicked"), "{}", b.log_text());
}

#[test]
fn noise_and_silence_at_the_door_harm_nothing() {
    needs!(Root, Cgroups, Ip);
    let door = Door::new();
    let b = &door.b;
    b.vzd(&["pki", "init"]).ok();
    issue(b, "b", &b.pki(), &[]);
    let a = b.dir().join("a");
    issue(b, "a", &a, &[]);
    let daemon = door.daemon();
    let connect = || TcpStream::connect(Door::at(PORT)).unwrap();
    let children = || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap();
    let before = children();
    for noise in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 70_000], b"m\0\0\0\x02{}"] {
        let mut stream = connect();
        drop(stream.write_all(noise));
        stream.set_read_timeout(Some(vzd_tests::slow(Duration::from_secs(20)))).unwrap();
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        assert!(answer.len() < 100, "{answer:?}");
    }
    // More than it listens to at a time. They are sent away, and whoever comes after them is heard.
    let silent: Vec<_> = (0..40).map(|_| connect()).collect();
    assert_eq!(children(), before);
    door.answers(&a);
    drop(silent);
    // The connection of one that speaks is cut.
    let all = ["--pki", path(&a), "pki", "connect", &Door::at(PORT), "--name", "b"];
    let mut command = b.command(&all);
    let mut speaking = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    eventually("it is heard", || all_children(daemon.pid()) > 0);
    speaking.kill().unwrap();
    speaking.wait().unwrap();
    eventually("it is not waited for", || all_children(daemon.pid()) == 0);
    door.answers(&a);
}

/// Processes that any thread of a controller has started.
fn all_children(pid: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<String> =
        children.flat_map(|all| all.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    let receives = |pid: &String| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.contains("receive"))
    };
    children.iter().filter(|pid| receives(pid)).count()
}

#[test]
fn certificates_and_addresses_change_while_it_runs() {
    needs!(Root, Cgroups, Ip);
    let door = Door::new();
    let b = &door.b;
    b.vzd(&["pki", "init"]).ok();
    let a = b.dir().join("a");
    let both = || [("b", b.pki()), ("a", a.clone())].map(|(host, to)| issue(b, host, &to, &[]));
    both();
    let _b = door.daemon();
    door.answers(&a);
    // Renewed, with the same key.
    let read = |file: &str| std::fs::read(b.pki().join(file)).unwrap();
    let (key, certificate) = (read("host.key"), read("host.crt"));
    both();
    assert!(read("host.key") == key && read("host.crt") != certificate);
    door.answers(&a);
    // Another CA: what it has not signed serves no more, until it has.
    b.vzd(&["pki", "init"]).ends(1);
    b.vzd(&["pki", "init", "--force"]).ok();
    door.asks(&a, "b", "a").ends(1);
    assert!(door.is_told("is of another CA"), "{}", b.vzd(&["status"]).stderr);
    both();
    door.answers(&a);
    // One that is about to end.
    issue(b, "b", &b.pki(), &["--valid", "20d"]);
    assert!(door.is_told("VZ0409") && door.is_told("vzd pki issue b"), "{}", b.vzd(&["status"]).stderr);
    let shown = b.vzd(&["pki", "show", "-o", "json"]).ok().json();
    assert_eq!((&shown["host"]["name"], &shown["issues"]), (&json!("b"), &json!(true)), "{shown}");
    assert!(shown["trouble"]["what"].as_str().unwrap().contains(" ends at "), "{shown}");
    // It listens at another port, then at one that somebody else has.
    let listens = |port: u16| TcpStream::connect(Door::at(port)).is_ok();
    b.write("host.yaml", &host_document(&hosts(&[&Door::at(PORT + 1)])));
    eventually("it listens elsewhere", || listens(PORT + 1) && !listens(PORT));
    let _taken = std::net::TcpListener::bind(Door::at(PORT)).unwrap();
    b.write("host.yaml", &host_document(&hosts(&[&Door::at(PORT)])));
    eventually("it says that it cannot", || door.is_told("VZ0408"));
    b.write("host.yaml", &host_document(&json!({})));
    eventually("it listens nowhere", || !listens(PORT + 1) && !door.is_told("VZ04"));
}
