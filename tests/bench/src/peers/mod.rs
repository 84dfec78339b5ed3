//! Who is measured: each starts and stops containers in its own way, behind one trait.
//!
//! Must time nothing differently for one than for another: a start is from the order to the payload's first instruction,
//! a stop from the order to the end of the container's init.

mod command;
mod crun;
mod lxc;
mod vzd;
pub(crate) mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use vzd::{CRIU, Controller, file_name, manifest};

use crate::benches::update::Limit;
use crate::options::Options;
use crate::place::Place;
use crate::result::{Context, Result, fail};
use crate::sys::Pidfd;
use wire::Wire;

/// A container that runs.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its number, from which its name is made.
    pub(crate) id: usize,
    pub(crate) init: Pidfd,
    /// Time that its start took.
    pub(crate) took: Duration,
}

/// Somebody who runs containers.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;
    /// Starts one; returns when its payload runs.
    fn start(&mut self, id: usize) -> Result<Run>;
    /// Stops one; the time is to the end of its init. Returns when everything of it is gone.
    fn stop(&mut self, run: Run) -> Result<Duration>;
    /// Starts many in the way that suits it; the time is to the last payload's first instruction.
    fn start_many(&mut self, ids: std::ops::Range<usize>) -> Result<(Vec<Run>, Duration)>;
    /// Stops them; the time is until everything of all of them is gone.
    fn stop_many(&mut self, runs: Vec<Run>) -> Result<Duration>;
    /// Orders another limit for a container that runs; tells when it did.
    fn update(&mut self, id: usize, limit: Limit) -> Result<Duration>;
    /// CPU time so far of everything that it is and has started.
    fn cpu(&mut self) -> Result<Duration>;
}

/// Those that are wanted and can be had; the others are told of.
pub(crate) fn all(place: &Place, options: &Options, purpose: &str) -> Result<Vec<Box<dyn Peer>>> {
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    let mut add = |name: &str, made: Result<Box<dyn Peer>>| match made {
        Ok(peer) => peers.push(peer),
        Err(failure) => eprintln!("{name} is left out: {failure}"),
    };
    if options.wants_peer("vzd") {
        add("vzd", Controller::start(place, purpose).map(|peer| Box::new(peer) as Box<dyn Peer>));
    }
    if options.wants_peer("crun") {
        add("crun", crun::Crun::new(place, purpose).map(|peer| Box::new(peer) as Box<dyn Peer>));
    }
    if options.wants_peer("lxc") {
        add("lxc", lxc::Lxc::new(place, purpose).map(|peer| Box::new(peer) as Box<dyn Peer>));
    }
    if peers.is_empty() { fail("nobody to measure") } else { Ok(peers) }
}

/// The same with crun a second time, whose containers then have a console and a /run of their own, as VEs have.
pub(crate) fn all_with_consoles(
    place: &Place,
    options: &Options,
    purpose: &str,
) -> Result<Vec<Box<dyn Peer>>> {
    let mut peers = all(place, options, purpose)?;
    if peers.iter().any(|peer| peer.name() == "crun") {
        peers.push(Box::new(crun::Crun::with_consoles(place, purpose)?));
    }
    Ok(peers)
}

/// Somebody's containers without and with a network.
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) bare: Box<dyn Peer>,
    pub(crate) connected: Box<dyn Peer>,
}

/// Each peer twice, without a network and with one, on a bridge that is there; vzd with a routed address as well.
pub(crate) fn pairs(place: &Place, options: &Options) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for (name, wire) in [("vzd, venet", Wire::Routed), ("vzd, bridge", Wire::Bridged)] {
        if options.wants_peer("vzd") {
            let vzd = |wire, purpose: &str| Ok(Box::new(Controller::start(place, purpose)?.on(wire)));
            let purpose = name.replace(", ", "-");
            pairs.push(Pair {
                name,
                bare: vzd(Wire::None, &format!("{purpose}-bare"))?,
                connected: vzd(wire, &purpose)?,
            });
        }
    }
    let mut add = |name: &'static str, made: Result<[Box<dyn Peer>; 2]>| match made {
        Ok([bare, connected]) => pairs.push(Pair { name, bare, connected }),
        Err(failure) => eprintln!("{name} is left out: {failure}"),
    };
    if options.wants_peer("crun") {
        let made = crun::Crun::new(place, "network-bare").and_then(|bare| {
            let connected = crun::Crun::connected(place, "network")?;
            Ok([Box::new(bare) as Box<dyn Peer>, Box::new(connected)])
        });
        add("crun", made);
    }
    if options.wants_peer("lxc") {
        let made = lxc::Lxc::new(place, "network-bare").and_then(|bare| {
            let connected = lxc::Lxc::connected(place, "network")?;
            Ok([Box::new(bare) as Box<dyn Peer>, Box::new(connected)])
        });
        add("lxc", made);
    }
    Ok(pairs)
}

/// Reads the CPU time once it has stopped rising, so that what is still going on is in it.
pub(crate) fn settled_cpu(peer: &mut dyn Peer) -> Result<Duration> {
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut last = peer.cpu()?;
    loop {
        std::thread::sleep(Duration::from_millis(60));
        let now = peer.cpu()?;
        if now.saturating_sub(last) < Duration::from_micros(200) || Instant::now() > deadline {
            return Ok(now);
        }
        last = now;
    }
}

/// Waits for the end of an init.
fn ended(init: &Pidfd) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(20);
    match init.wait(LIMIT).context("waiting for an init")? {
        true => Ok(()),
        false => fail(format!("process {} still runs {} s after it was to stop", init.pid, LIMIT.as_secs())),
    }
}

/// Where a program is.
pub(crate) fn on_path(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file());
    found.ok_or("not on the PATH").context(program)
}
