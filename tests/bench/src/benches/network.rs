//! The network of a container: what it adds to a start, how soon a changed address is there, what goes through it.
//!
//! All of it is in a network namespace of its own, which is the host for everybody. The machine's network must not be
//! touched.

mod netavark;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::{at_least, goal};
use crate::options::Options;
use crate::payload;
use crate::peers::wire::{BRIDGE, GATEWAY, PREFIX, Wire, address, routed};
use crate::peers::{self, Controller, Peer};
use crate::place::Place;
use crate::result::{Context, Result, fail};
use crate::stats::{fastest, median, ms, paired_ratio};
use crate::sys;
use crate::table::{Table, number};

const QUIET: Duration = Duration::from_millis(150);
/// How long bytes are sent in one turn.
const TURN: Duration = Duration::from_millis(400);
const PORT: u16 = 5201;

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            sys::new_network().context("a network of its own")?;
            ip("link set lo up")?;
            ip(&format!("link add {BRIDGE} type bridge"))?;
            ip(&format!("addr add {GATEWAY}/{PREFIX} dev {BRIDGE}"))?;
            ip(&format!("link set {BRIDGE} up"))?;
            // A host that routes, as one has after its first VE.
            for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{setting}"), "1").context(setting)?;
            }
            let mut tables = vec![set_up(place, options)?];
            if options.wants_peer("vzd") {
                tables.push(change(place, options)?);
                tables.push(throughput(place, options)?);
            }
            Ok(tables)
        });
        there.join().unwrap_or_else(|_| fail("a thread panicked"))
    })
}

pub(super) fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split(' ')).stdin(Stdio::null()).output().context("ip")?;
    match output.status.success() {
        true => Ok(()),
        false => fail(format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// A start with a network and one without, by turns.
fn set_up(place: &Place, options: &Options) -> Result<Table> {
    let mut pairs = peers::pairs(place, options)?;
    let mut series: Vec<[Vec<f64>; 2]> = pairs.iter().map(|_| Default::default()).collect();
    for round in 0..=options.rounds {
        for (pair, series) in pairs.iter_mut().zip(&mut series) {
            for (peer, times) in [&mut pair.bare, &mut pair.connected].into_iter().zip(series) {
                std::thread::sleep(QUIET);
                let run = peer.start(round)?;
                if round > 0 {
                    times.push(ms(run.took));
                }
                std::thread::sleep(QUIET);
                peer.stop(run)?;
            }
        }
    }
    let title =
        format!("Start of a container without and with a network, {} rounds, median ms", options.rounds);
    let mut table = Table::new(title, &["", "without", "with", "the network *"]);
    let mut took = Vec::new();
    for (pair, [bare, connected]) in pairs.iter().zip(&series) {
        // Most starts wait for the kernel for 10 ms or for 20, as it happens, which differences of medians are mostly made of.
        let network = fastest(connected) - fastest(bare);
        took.push((pair.name, network));
        let cells = [median(bare), median(connected), network].map(number);
        table.row(std::iter::once(pair.name.to_owned()).chain(cells).collect());
    }
    let alone = netavark::set_up(place, options)?;
    if !alone.is_empty() {
        let network = fastest(&alone);
        took.push(("netavark", network));
        table.row(vec!["netavark".to_owned(), "-".to_owned(), "-".to_owned(), number(network)]);
    }
    let is_vzd = |name: &str| name.starts_with("vzd");
    let best = took.iter().filter(|(name, _)| !is_vzd(name)).map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    for (name, ms) in took.iter().filter(|(name, _)| is_vzd(name) && best.is_finite()) {
        table.note(goal(&format!("{name}: the network ÷ the best other's"), ms / best, 0.5));
    }
    table.note("* What the fastest fifth of the starts with it takes longer than the fastest fifth of those without.");
    table.note(
        "A veth on a bridge, an address, a default route: lxc's own; crun by a hook of two `ip -batch`, as a CNI plugin; podman's netavark is its \
         command alone, which sets rules of the packet filter as well.",
    );
    Ok(table)
}

/// A second address for a VE that runs, and none again: until the host routes it, or no more.
fn change(place: &Place, options: &Options) -> Result<Table> {
    let mut controller = Controller::start(place, "addresses")?.on(Wire::Routed);
    let run = controller.start(0)?;
    let both = format!("  network: {{addresses: [{}, {}]}}\n", routed(0), routed(1));
    let one = Wire::Routed.lines(0);
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=options.rounds {
        for ((lines, is_there), times) in [(&both, true), (&one, false)].into_iter().zip(&mut times) {
            std::thread::sleep(QUIET);
            let watch = std::thread::spawn(move || until_routed(&routed(1), is_there));
            let ordered = controller.put_synced(0, &controller.manifest(0, "running", lines))?;
            match watch.join() {
                Ok(Some(seen)) if round > 0 => times.push(ms(seen.saturating_sub(ordered))),
                Ok(Some(_)) => {}
                _ => return fail("the host's routes are not as they should be after 10 s"),
            }
        }
    }
    let title = format!("An address of a running VE changed, {} rounds, median ms", options.rounds);
    let mut table = Table::new(title, &["", "ms"]);
    for (name, times) in ["added", "taken away"].into_iter().zip(&times) {
        table.row(vec![name.to_owned(), number(median(times))]);
        table.note(goal(&format!("an address {name}, ms"), median(times), 5.0));
    }
    controller.stop(run)?;
    Ok(table)
}

/// Waits until the host has a route to an address, or has none; tells when that was seen.
fn until_routed(address: &str, is_there: bool) -> Option<Duration> {
    let bytes: Vec<u8> = address.split('.').filter_map(|part| part.parse().ok()).collect();
    let wanted = format!("{:08X}", u32::from_ne_bytes(bytes.try_into().ok()?));
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let routes = std::fs::read_to_string("/proc/thread-self/net/route").ok()?;
        if routes.lines().any(|line| line.split_whitespace().nth(1) == Some(&wanted)) == is_there {
            return Some(payload::now());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    None
}

/// Bytes from the host to a VE, over a bare veth, over venet and over a bridge, by turns.
fn throughput(place: &Place, options: &Options) -> Result<Table> {
    let mut wires = Vec::new();
    for (name, wire, to) in [
        ("bare veth", Wire::None, "10.79.0.2".to_owned()),
        ("venet", Wire::Routed, routed(0)),
        ("bridge", Wire::Bridged, address(0)),
    ] {
        let mut controller = Controller::start(place, &name.replace(' ', "-"))?.on(wire);
        let run = controller.start(0)?;
        wires.push((name, to, controller, run));
    }
    let bare = wires[0].3.init.pid;
    ip(&format!("link add bare0 type veth peer name bare1 netns {bare}"))?;
    ip("addr add 10.79.0.1/24 dev bare0")?;
    ip("link set bare0 up")?;
    within(bare, || ip("addr add 10.79.0.2/24 dev bare1").and_then(|()| ip("link set bare1 up")))?;
    let mut rates = wires.iter().map(|_| Vec::new()).collect::<Vec<Vec<f64>>>();
    for round in 0..=options.rounds {
        for ((_, to, _, run), rates) in wires.iter().zip(&mut rates) {
            let rate = send(run.init.pid, to)?;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let title = format!("Bytes from the host to a VE over TCP, {} rounds, median GB/s", options.rounds);
    let mut table = Table::new(title, &["", "GB/s", "÷ bare veth"]);
    for ((name, ..), own) in wires.iter().zip(&rates) {
        let ratio = paired_ratio(own, &rates[0]);
        table.row(vec![(*name).to_owned(), number(median(own)), number(ratio)]);
        if *name != "bare veth" {
            table.note(at_least(&format!("{name} ÷ a bare veth"), ratio, 0.95));
        }
    }
    for (_, _, mut controller, run) in wires {
        controller.stop(run)?;
    }
    Ok(table)
}

/// Does something in the network of a process.
fn within<T: Send>(pid: i32, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            sys::join_network(pid).context("the network of a VE")?;
            body()
        });
        there.join().unwrap_or_else(|_| fail("a thread panicked"))
    })
}

/// Sends for a turn; GB/s as they arrived.
fn send(pid: i32, to: &str) -> Result<f64> {
    let (listens, listening) = channel();
    std::thread::scope(|scope| {
        let received = scope.spawn(move || {
            within(pid, || {
                let listener = TcpListener::bind((to, PORT)).context(to)?;
                listens.send(()).context("the sender")?;
                receive(&listener.accept().context(to)?.0)
            })
        });
        if listening.recv().is_ok() {
            let mut stream = TcpStream::connect((to, PORT)).context(to)?;
            let end = Instant::now() + TURN;
            let block = vec![0; 128 << 10];
            while Instant::now() < end {
                stream.write_all(&block).context(to)?;
            }
        }
        received.join().unwrap_or_else(|_| fail("a thread panicked"))
    })
}

fn receive(mut stream: &TcpStream) -> Result<f64> {
    let (mut block, mut bytes, began) = (vec![0; 128 << 10], 0_u64, Instant::now());
    loop {
        match stream.read(&mut block).context("receive")? {
            0 => break,
            more => bytes += u64::try_from(more).unwrap_or(0),
        }
    }
    // Exact to far more bytes than a turn has.
    #[expect(clippy::cast_precision_loss, reason = "2^53 bytes are not sent in a turn")]
    let bytes = bytes as f64;
    Ok(bytes / began.elapsed().as_secs_f64() / 1e9)
}
