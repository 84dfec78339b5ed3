//! What goes wrong on the way of a VE from one host to another: either side killed or gone down at every moment, the link cut
//! at every moment or silent, no room, an end that hangs. Whatever it is, the VE ends up on one side, whole.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use vzd_tests::{Guarded, HOST, NetLab, SECOND, Sandbox, VeStatus, eventually, holds_for, needs, within};

use super::declared::host_document;
use super::{count, counted, goes_on, migrate, runs, trace, two, via};

/// Fewer moments than a hand-over has, and more.
const LEAST: usize = 5;
const MOST: usize = 80;
/// All passes and questions that it takes.
const SETTLES: Duration = Duration::from_secs(60);

/// Has one thing go wrong at each moment of a hand-over: `strike` hands the VE over and has it go wrong at the given one;
/// it tells whether it came to that, and what was said. Asks again where need be, and finds the VE on exactly one side.
fn survives(strike: impl Fn(&Sandbox, &Sandbox, usize) -> (bool, String), is_whole: impl Fn(&Sandbox, &str)) {
    let mut reached = 0;
    for at in 1..MOST {
        let (here, there) = two(json!({}));
        count(&here, "web");
        let (struck, text) = strike(&here, &there, at);
        assert!(!(runs(&here) && runs(&there)), "moment {at}: it runs twice: {text}");
        // Passes on both sides, and the question again while one cannot know.
        let (on, off) = within(SETTLES, format!("moment {at}: it settles: {text}"), || {
            for sandbox in [&here, &there] {
                drop(sandbox.vzd(&["apply"]));
            }
            let status: Option<VeStatus> = here.status("web");
            if status.is_some_and(|ve| ve.reason() == "HandedOver") {
                drop(here.vzd(&["migrate", "web", "--via", &via(&there, "")]));
            }
            match (runs(&here), runs(&there)) {
                (true, true) => panic!("moment {at}: it runs twice: {text}"),
                (true, false) => Some((&here, &there)),
                (false, true) => Some((&there, &here)),
                (false, false) => None,
            }
        });
        is_whole(on, "web");
        eventually("nothing is left on the other side but what is kept", || {
            drop(off.vzd(&["apply"]));
            // What has come to nothing there is gone; here a manifest may still name it.
            let may_stay = |ve: VeStatus| std::ptr::eq(off, &raw const here) && ve.reason() == "HandedOver";
            off.cgroups().is_empty() && off.status("web").is_none_or(may_stay)
        });
        // And it can be moved from there.
        if !struck {
            reached = at - 1;
            break;
        }
        if std::ptr::eq(on, &raw const there) {
            // It may not have heard that this side knows.
            drop(here.vzd(&["migrate", "web", "--via", &via(&there, "")]));
        }
        migrate(on, off, "web");
        is_whole(off, "web");
    }
    assert!((LEAST..MOST - 1).contains(&reached), "{reached} moments");
}

/// A hand-over in which one end ends at a fault point.
fn killed(mut command: Command) -> (bool, String) {
    let output = command.output().unwrap();
    (!output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn source_killed(here: &Sandbox, there: &Sandbox, at: usize) -> (bool, String) {
    let mut command = here.command(&["migrate", "web", "--via", &via(there, "")]);
    command.env("VZD_FAULT_POINT", at.to_string());
    killed(command)
}

fn target_killed(here: &Sandbox, there: &Sandbox, at: usize) -> (bool, String) {
    killed(here.command(&["migrate", "web", "--via", &via(there, &format!("VZD_FAULT_POINT={at}"))]))
}

/// The host whose end was killed goes down with it.
fn and_down(host: &Sandbox, struck: (bool, String)) -> (bool, String) {
    if struck.0 {
        host.power_cut();
    }
    struck
}

/// It was started anew if it ran when its host went down, with the disk that it had.
fn has_its_disk(sandbox: &Sandbox, name: &str) {
    assert!(counted(sandbox, name) > 2);
}

#[test]
fn the_source_is_killed_at_every_moment() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    survives(source_killed, goes_on);
}

#[test]
fn the_target_is_killed_at_every_moment() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    survives(target_killed, goes_on);
}

#[test]
fn the_source_goes_down_at_every_moment() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    survives(|here, there, at| and_down(here, source_killed(here, there, at)), has_its_disk);
}

#[test]
fn the_target_goes_down_at_every_moment() {
    needs!(Root, Cgroups, Busybox, Criu, FaultPoints);
    survives(|here, there, at| and_down(there, target_killed(here, there, at)), has_its_disk);
}

#[test]
fn the_link_is_cut_at_every_moment() {
    needs!(Root, Cgroups, Busybox, Criu);
    let _lab = NetLab::new();
    let cut = |here: &Sandbox, there: &Sandbox, at| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What vzd wants to be run there is run by the link.
        let via = format!("busybox nc 127.0.0.1 {}; :", listener.local_addr().unwrap().port());
        let link = Link::new(at);
        std::thread::scope(|scope| {
            scope.spawn(|| link.join(listener, there));
            let output = here.command(&["migrate", "web", "--via", &via]).output().unwrap();
            (link.is_cut(), String::from_utf8_lossy(&output.stderr).into_owned())
        })
    };
    survives(cut, goes_on);
}

/// A link between two hosts that is cut in the middle of what one says when they have taken turns so often.
struct Link {
    at: usize,
    turns: Mutex<Turns>,
}

#[derive(Default)]
struct Turns {
    count: usize,
    last: Option<Says>,
    cut: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Says {
    Source,
    Target,
}

impl Link {
    fn new(at: usize) -> Link {
        Link { at, turns: Mutex::default() }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self) -> bool {
        self.turns().cut
    }

    /// Has who comes speak with a vzd there, which sees the end of its input when the link is cut.
    fn join(&self, listener: TcpListener, there: &Sandbox) {
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        let mut receiving = there.command(&["receive"]);
        let receiving = receiving.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut receiving: Child = receiving.spawn().unwrap();
        let (to_it, from_it) = (receiving.stdin.take().unwrap(), receiving.stdout.take().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| self.carry(Says::Source, &stream, to_it, &stream));
            self.carry(Says::Target, from_it, &stream, &stream);
        });
        receiving.wait().unwrap();
    }

    fn carry(&self, says: Says, mut from: impl Read, mut to: impl Write, stream: &TcpStream) {
        let mut piece = vec![0; 64 << 10];
        while let Some(length) = from.read(&mut piece).ok().filter(|length| *length > 0) {
            let passes = self.passes(says, length);
            drop(to.write_all(&piece[..passes]));
            if passes < length {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
        if says == Says::Target {
            drop(stream.shutdown(Shutdown::Write));
        }
    }

    /// How much of what is said next comes through.
    fn passes(&self, says: Says, length: usize) -> usize {
        let mut turns = self.turns();
        if turns.cut {
            return 0;
        }
        if turns.last != Some(says) {
            turns.last = Some(says);
            turns.count += 1;
            if turns.count == self.at {
                turns.cut = true;
                return length / 2;
            }
        }
        length
    }
}

/// Nothing tells either side that the other is not there any more.
#[test]
fn behind_a_link_that_is_silent_it_stands_still_no_longer_than_it_has_to() {
    needs!(Root, Cgroups, Busybox, Criu, Ip);
    const PORT: u16 = 7443;
    let lab = NetLab::new();
    let second = lab.second_host();
    let (mut here, mut there) = (Sandbox::new(), Sandbox::new());
    (here.host, there.host) = ("a", "b");
    let at = |address: &str| format!("{address}:{PORT}");
    let peers =
        [("a", HOST[0]), ("b", SECOND[0])].map(|(name, ip)| json!({ "name": name, "address": at(ip) }));
    for sandbox in [&here, &there] {
        let spec = json!({ "listen": [at("0.0.0.0")], "peers": peers });
        sandbox.write("host.yaml", &host_document(&spec));
    }
    here.vzd(&["pki", "init"]).ok();
    for sandbox in [&here, &there] {
        here.vzd(&["pki", "issue", sandbox.host, "--out", sandbox.pki().to_str().unwrap()]).ok();
    }
    here.ve("web", json!({}));
    here.apply();
    here.sh("web", "setsid guest remember 4 /root/passes > /dev/null 2>&1 < /dev/null &");
    count(&here, "web");
    let before = trace(&there);
    let _there = second.within(|| there.daemon());
    let mut moving = here.command(&["migrate", "web", "b", "--one-pass", "--limit", "500K"]);
    let mut moving = Guarded::spawn(moving.stderr(Stdio::piped()));
    within(SETTLES, "it stands still", || (trace(&there) != before && !runs(&here)).then_some(()));
    lab.host(&["link", "set", "eth0", "down"]);
    assert_eq!(moving.wait(3 * SETTLES), 1);
    let mut told = String::new();
    moving.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("VZ0503") && told.contains("it goes on here"), "{told}");
    goes_on(&here, "web");
    within(3 * SETTLES, "nothing of it is left there", || (trace(&there) == before).then_some(()));
    lab.host(&["link", "set", "eth0", "up"]);
    here.vzd(&["migrate", "web", "b"]).ok();
    goes_on(&there, "web");
    assert_eq!(there.sh("web", "ls /root | grep torn || true"), "");
}

/// An end that hangs takes nothing and says nothing.
#[test]
fn who_gives_up_does_not_wait_for_a_target_that_hangs() {
    needs!(Root, Cgroups, Busybox, Criu);
    let (here, there) = two(json!({}));
    here.sh("web", "setsid guest remember 16 /root/passes > /dev/null 2>&1 < /dev/null &");
    count(&here, "web");
    let before = trace(&there);
    let number = here.dir().join("receiving");
    let via = format!("echo $$ > {}; exec {}", number.display(), via(&there, ""));
    let mut moving = here.command(&["migrate", "web", "--via", &via, "--one-pass", "--limit", "5M"]);
    let mut moving = Guarded::spawn(moving.stderr(Stdio::piped()));
    within(SETTLES, "it stands still", || (trace(&there) != before && !runs(&here)).then_some(()));
    // A child of a child of this process, which waits for it as long as it lives.
    let receiving = std::fs::read_to_string(&number).unwrap().trim().parse().unwrap();
    let receiving = Pid::from_raw(receiving).unwrap();
    kill_process(receiving, Signal::STOP).unwrap();
    holds_for(Duration::from_millis(500), "nothing more is taken", || !runs(&here));
    kill_process(Pid::from_child(&moving.child), Signal::INT).unwrap();
    eventually("it goes on, though nobody answers", || runs(&here));
    goes_on(&here, "web");
    kill_process(receiving, Signal::CONT).unwrap();
    assert_eq!(moving.wait(SETTLES), 1);
    let mut told = String::new();
    moving.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("VZ0503") && told.contains("it was given up"), "{told}");
    eventually("nothing of it is left there", || trace(&there) == before);
    goes_on(&here, "web");
}

#[test]
fn a_target_that_runs_full_has_it_go_on_where_it_is() {
    needs!(Root, Cgroups, Busybox, Criu);
    let there = Sandbox::new();
    std::fs::create_dir(there.state_dir()).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=24M,mode=0711", "tmpfs"];
    let mount = Command::new("mount").args(mount).arg(there.state_dir()).status();
    assert!(mount.unwrap().success());
    let here = Sandbox::new();
    for sandbox in [&here, &there] {
        sandbox.write("host.yaml", &host_document(&json!({})));
    }
    here.ve("web", json!({}));
    here.apply();
    count(&here, "web");
    here.sh("web", "dd if=/dev/urandom of=/root/ballast bs=1M count=4 2>/dev/null");
    let (init, before) = (here.init_pid("web"), trace(&there));
    let mut moving = here.command(&["migrate", "web", "--via", &via(&there, ""), "--limit", "2M"]);
    let mut moving = Guarded::spawn(moving.stderr(Stdio::piped()));
    let free = || {
        let disk = rustix::fs::statvfs(there.state_dir()).unwrap();
        disk.f_bfree * disk.f_frsize
    };
    let at_first = free();
    eventually("some of it has arrived", || free() + (1 << 20) < at_first);
    // It stays full: what has come makes room for the note that it is gone.
    let filler = there.state_dir().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    assert_eq!(moving.wait(SETTLES), 1);
    let mut told = String::new();
    moving.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("VZ0503") && told.contains("No space left"), "{told}");
    eventually("nothing of it is left there", || trace(&there) == before);
    goes_on(&here, "web");
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(here.init_pid("web"), init);
    migrate(&here, &there, "web");
    goes_on(&there, "web");
    migrate(&there, &here, "web");
    goes_on(&here, "web");
    assert!(Command::new("umount").arg("--lazy").arg(there.state_dir()).status().unwrap().success());
}
