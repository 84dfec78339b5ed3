//! A small network for one test: the host that vzd runs on, and a client on the same wire.
//!
//! Both are network namespaces. The thread that makes the lab is in the host's from then on, and so is every program
//! that it starts, vzd among them: the machine's own network is never touched.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

use crate::run::Ended;
use crate::{Must, eventually};

/// The host on the wire, `eth0`.
pub const HOST: [&str; 2] = ["192.0.2.1", "fd00:2::1"];
/// The client on the wire, `eth0`.
pub const CLIENT: [&str; 2] = ["192.0.2.2", "fd00:2::2"];
/// A second host on the wire, if there is one.
pub const SECOND: [&str; 2] = ["192.0.2.3", "fd00:2::3"];

/// A host and a client.
pub struct NetLab {
    home: File,
    client: File,
}

impl Default for NetLab {
    fn default() -> Self {
        Self::new()
    }
}

/// Moves this thread to a namespace in which addresses are good at once.
fn go_to_a_new_one() {
    unshare(CloneFlags::CLONE_NEWNET).must("make a network namespace");
    for of in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{of}/accept_dad"), "0").must("switch off DAD");
    }
}

/// Another one than this thread's.
fn a_new_one() -> File {
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            go_to_a_new_one();
            here()
        });
        made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn within<T: Send>(namespace: &File, body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).must("go to a network namespace");
            body()
        });
        there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves an interface of this thread's namespace to another.
fn give(link: &str, to: &File) {
    let holder = within(to, || Command::new("sleep").arg("60").spawn().must("hold a namespace"));
    run("ip", &["link", "set", link, "netns", &holder.id().to_string()]).ok();
    let mut holder = holder;
    holder.kill().must("end what held a namespace");
    holder.wait().must("end what held a namespace");
}

/// The network of another host.
pub struct Namespace(File);

impl Namespace {
    /// A host behind this one, which sends on for it: `third` is the wire's end here, `eth0` there. Goes with what it
    /// returns, but for the forwarding that it switches on: for guests of the lab.
    #[track_caller]
    pub fn behind_this_host(here: &str, there: &str) -> Namespace {
        let third = Namespace(a_new_one());
        run("ip", &["link", "add", "third", "type", "veth", "peer", "name", "wire"]).ok();
        give("wire", &third.0);
        run("ip", &["addr", "add", &format!("{here}/24"), "dev", "third"]).ok();
        run("ip", &["link", "set", "third", "up"]).ok();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").must("send on for others");
        third.within(|| {
            for words in ["link set wire name eth0", "link set lo up", "link set eth0 up"] {
                run("ip", &words.split(' ').collect::<Vec<_>>()).ok();
            }
            run("ip", &["addr", "add", &format!("{there}/24"), "dev", "eth0"]).ok();
            run("ip", &["route", "add", "default", "via", here]).ok();
        });
        third
    }

    /// Does something there.
    pub fn within<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        within(&self.0, body)
    }

    /// What goes before a command that is to run there.
    pub fn prefix(&self) -> String {
        format!("nsenter --net=/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

fn here() -> File {
    File::open("/proc/thread-self/ns/net").must("open a network namespace")
}

impl NetLab {
    /// Moves this thread to a host of its own, with a client beside it. The wire has 192.0.2.0/24 and fd00:2::/64.
    pub fn new() -> NetLab {
        let (home, client) = (here(), a_new_one());
        go_to_a_new_one();
        let lab = NetLab { home, client };
        lab.host(&["link", "set", "lo", "up"]);
        lab.host(&["link", "add", "eth0", "type", "veth", "peer", "name", "wire"]);
        give("wire", &lab.client);
        for words in [
            "link set wire name eth0".to_owned(),
            "link set lo up".to_owned(),
            format!("addr add {}/24 dev eth0", CLIENT[0]),
            format!("addr add {}/64 dev eth0 nodad", CLIENT[1]),
            "link set eth0 up".to_owned(),
        ] {
            lab.client_ip(&words.split(' ').collect::<Vec<_>>());
        }
        lab.host(&["addr", "add", &format!("{}/24", HOST[0]), "dev", "eth0"]);
        lab.host(&["addr", "add", &format!("{}/64", HOST[1]), "dev", "eth0", "nodad"]);
        lab.host(&["link", "set", "eth0", "up"]);
        let is_up = |shown: String| shown.contains("state UP");
        eventually("the wire is up", || {
            is_up(lab.host(&["link", "show", "eth0"])) && is_up(lab.client_ip(&["link", "show", "eth0"]))
        });
        lab
    }

    /// A second host on the wire, whose switch is the client from then on.
    pub fn second_host(&self) -> Namespace {
        let second = Namespace(a_new_one());
        self.in_client(|| {
            for words in ["link add br0 type bridge", "link set eth0 master br0", "link set br0 up"] {
                run("ip", &words.split(' ').collect::<Vec<_>>()).ok();
            }
            for (address, prefix) in CLIENT.iter().zip(["/24", "/64"]) {
                let address = format!("{address}{prefix}");
                run("ip", &["addr", "del", &address, "dev", "eth0"]).ok();
                let nodad: &[&str] = if prefix == "/64" { &["nodad"] } else { &[] };
                run("ip", &[&["addr", "add", &address, "dev", "br0"], nodad].concat()).ok();
            }
            run("ip", &["link", "add", "eth1", "type", "veth", "peer", "name", "wire"]).ok();
            run("ip", &["link", "set", "eth1", "master", "br0", "up"]).ok();
            give("wire", &second.0);
        });
        second.within(|| {
            for words in ["link set wire name eth0", "link set lo up", "link set eth0 up"] {
                run("ip", &words.split(' ').collect::<Vec<_>>()).ok();
            }
            run("ip", &["addr", "add", &format!("{}/24", SECOND[0]), "dev", "eth0"]).ok();
            run("ip", &["addr", "add", &format!("{}/64", SECOND[1]), "dev", "eth0", "nodad"]).ok();
            eventually("the wire is whole", || CLIENT.iter().all(|one| run("busybox", &ping(one)).code == 0));
        });
        second
    }

    /// Does something on the client.
    pub fn in_client<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        within(&self.client, body)
    }

    /// Runs a program on the client.
    pub fn client(&self, program: &str, words: &[&str]) -> Ended {
        self.in_client(|| run(program, words))
    }

    /// Runs `ip` on the client, which must go well.
    #[track_caller]
    pub fn client_ip(&self, words: &[&str]) -> String {
        self.client("ip", words).ok().stdout
    }

    /// Runs `ip` on the host, which must go well.
    #[track_caller]
    pub fn host(&self, words: &[&str]) -> String {
        run("ip", words).ok().stdout
    }

    /// Runs any program on the host.
    pub fn on_host(&self, program: &str, words: &[&str]) -> Ended {
        run(program, words)
    }

    /// Whether one ping from the client is answered.
    pub fn client_reaches(&self, address: &str) -> bool {
        self.client("busybox", &ping(address)).code == 0
    }

    /// Everything that can be told of the host's network, to be compared later.
    pub fn everything(&self) -> String {
        eventually("addresses are good", || !self.host(&["-6", "addr"]).contains("tentative"));
        let dumps: [&[&str]; 10] = [
            &["-d", "link"],
            &["addr"],
            &["route", "show", "table", "all"],
            &["-6", "route", "show", "table", "all"],
            &["neigh", "show", "proxy"],
            &["-6", "neigh", "show", "proxy"],
            &["neigh", "show", "nud", "permanent"],
            &["-6", "neigh", "show", "nud", "permanent"],
            &["rule"],
            &["-6", "rule"],
        ];
        let mut all: String =
            dumps.iter().map(|words| format!("# {words:?}\n{}", self.host(words))).collect();
        // Timers of bridges run.
        all = all.lines().filter(|line| !line.contains("_timer")).map(|line| format!("{line}\n")).collect();
        all += &settings("/proc/sys/net");
        if let Ok(output) = Command::new("nft").args(["list", "ruleset"]).output() {
            all += &String::from_utf8_lossy(&output.stdout);
        }
        all
    }
}

/// Fails the test, with what is other than before, unless all is as it was.
#[track_caller]
pub fn assert_same(before: &str, after: &str, when: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (was, is) = (lines(before), lines(after));
    let gone: Vec<_> = was.iter().filter(|line| !is.contains(line)).collect();
    let new: Vec<_> = is.iter().filter(|line| !was.contains(line)).collect();
    assert!(was == is, "{when}: the host's network is another: gone {gone:#?}, new {new:#?}");
}

/// Words for busybox that ask an address once.
pub fn ping(address: &str) -> [&str; 6] {
    ["ping", "-c", "1", "-W", "2", address]
}

/// Every setting below a directory of /proc/sys that can be read.
fn settings(dir: &str) -> String {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    names.sort();
    let tell = |path: std::path::PathBuf| {
        if path.is_dir() {
            return settings(&path.to_string_lossy());
        }
        // Connections are tracked once any packet filter of the machine asks for it: the settings come with the module.
        let tracking =
            ["/nf_conntrack_", "/nf_flowtable_"].iter().any(|of| path.to_string_lossy().contains(of));
        match std::fs::read_to_string(&path) {
            Ok(text) if !tracking && !path.ends_with("route/flush") => format!("{} = {text}", path.display()),
            _ => String::new(),
        }
    };
    names.into_iter().map(tell).collect()
}

fn run(program: &str, words: &[&str]) -> Ended {
    let mut command = Command::new(program);
    Ended::of(command.args(words))
}

impl Drop for NetLab {
    fn drop(&mut self) {
        // The namespaces go with the last process in them.
        let _ = setns(&self.home, CloneFlags::CLONE_NEWNET);
    }
}
