//! A VE that moves between two hosts and back: how long it is not to be heard of, and how much of that it stands still.
//!
//! The hosts are two network namespaces with a bridge each, on one wire. Who listens is on the first.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::goal;
use super::network::ip;
use crate::options::Options;
use crate::peers::wire::{BRIDGE, GATEWAY, PREFIX, Wire, address};
use crate::peers::{Controller, Peer};
use crate::place::Place;
use crate::result::{Context, Result, fail};
use crate::stats::median;
use crate::sys;
use crate::table::{Table, number};

/// Nobody listens there: the VE's kernel says so, without a limit to how often.
const PORT: u16 = 9;
/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_millis(5);
const QUIET: Duration = Duration::from_millis(300);

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    if !options.wants_peer("vzd") {
        return Ok(Vec::new());
    }
    std::thread::scope(|scope| {
        let (tells, told) = channel();
        let (ends, ended) = channel::<()>();
        let here = scope.spawn(move || {
            host(Some(GATEWAY))?;
            let second = told.recv().context("the second host")?;
            ip(&format!("link add wire type veth peer name wire netns {second}"))?;
            ip(&format!("link set wire master {BRIDGE} up"))?;
            inside(second, || ip(&format!("link set wire master {BRIDGE} up")))?;
            let there = inside(second, || start(place, "there"))?;
            let table = moves(start(place, "here")?.on(Wire::Bridged), &there, options);
            drop(ends);
            table
        });
        scope.spawn(move || {
            let thread = host(None).map(|()| sys::thread_id());
            if let Ok(thread) = thread {
                let _ = tells.send(thread);
            }
            // Its network lasts as long as somebody is in it.
            let _ = ended.recv();
        });
        here.join().unwrap_or_else(|_| fail("a thread panicked")).map(|table| vec![table])
    })
}

fn start(place: &Place, purpose: &str) -> Result<Controller> {
    let host = "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n";
    Controller::start_with(place, &format!("migrate-{purpose}"), &[("host.yaml".to_owned(), host.to_owned())])
}

/// A network of the calling thread's own.
fn host(with: Option<&str>) -> Result<()> {
    sys::new_network().context("a network of its own")?;
    ip("link set lo up")?;
    ip(&format!("link add {BRIDGE} type bridge"))?;
    if let Some(own) = with {
        ip(&format!("addr add {own}/{PREFIX} dev {BRIDGE}"))?;
    }
    ip(&format!("link set {BRIDGE} up"))
}

/// Does something in the network of another thread.
fn inside<T: Send>(thread: i32, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            sys::join_network(thread).context("the second host")?;
            body()
        });
        there.join().unwrap_or_else(|_| fail("a thread panicked"))
    })
}

fn moves(mut here: Controller, there: &Controller, options: &Options) -> Result<Table> {
    here.start(0)?;
    let hosts = [&here, there];
    let mut series: [Vec<f64>; 3] = Default::default();
    for round in 0..=options.rounds {
        let (from, to) = (hosts[round % 2], hosts[(round + 1) % 2]);
        std::thread::sleep(QUIET);
        let over = AtomicBool::new(false);
        let (silence, moved) = std::thread::scope(|scope| {
            let listening = scope.spawn(|| silence(&over));
            std::thread::sleep(QUIET);
            let moved =
                from.ask(&["migrate", "bench-0", "--via", &to.as_seen_from_elsewhere(), "-o", "json"]);
            std::thread::sleep(QUIET);
            over.store(true, Ordering::SeqCst);
            (listening.join().unwrap_or_else(|_| fail("a thread panicked")), moved)
        });
        let moved: Value = serde_json::from_str(&moved?).context("vzd migrate")?;
        let number = |key: &str| moved[key].as_f64().ok_or("no number").context(key);
        let all = [silence?.as_secs_f64() * 1000.0, number("stillMs")?, number("stillBytes")? / 1024.0];
        if round > 0 {
            series.iter_mut().zip(all).for_each(|(series, one)| series.push(one));
        }
    }
    let at = hosts[(options.rounds + 1) % 2];
    at.put(0, &at.manifest(0, "absent", ""))?;
    at.wait_gone()?;
    let title = format!("An idle VE moved to another host and back, {} moves, median", options.rounds);
    let mut table = Table::new(title, &["", "silence ms", "stands still ms", "sent meanwhile KiB"]);
    let cells = series.iter().map(|series| number(median(series)));
    table.row(std::iter::once("vzd".to_owned()).chain(cells).collect());
    table.note(goal("silence, ms", median(&series[0]), 500.0));
    Ok(table)
}

/// The longest time in which the VE was not heard of.
fn silence(over: &AtomicBool) -> Result<Duration> {
    let to: SocketAddr = format!("{}:{PORT}", address(0)).parse().context("an address")?;
    let (mut longest, mut heard) = (Duration::ZERO, None::<Instant>);
    while !over.load(Ordering::SeqCst) {
        let answered = match TcpStream::connect_timeout(&to, PATIENCE) {
            Ok(_) => true,
            Err(e) => e.kind() == ErrorKind::ConnectionRefused,
        };
        if answered {
            longest = longest.max(heard.map_or(Duration::ZERO, |last| last.elapsed()));
            heard = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    match heard {
        Some(last) if last.elapsed() < QUIET => Ok(longest),
        _ => fail("the VE is not heard of any more"),
    }
}
