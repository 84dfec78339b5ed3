//! The benchmarks, by name. Each must say in its tables what the goal is, and whether it was met in this run.

mod ahead;
mod counters;
mod disk;
mod hundred;
mod listing;
mod memory;
mod migrate;
mod network;
mod pass;
pub(crate) mod sockets;
mod start;
mod suspend;
pub(crate) mod update;

use crate::options::Options;
use crate::place::Place;
use crate::result::Result;
use crate::table::{Table, number};

/// One benchmark.
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Place, &Options) -> Result<Vec<Table>>,
}

pub(crate) const ALL: [Bench; 15] = [
    Bench { name: "start", about: "start and stop of one container", run: start::run },
    Bench { name: "hundred", about: "start and stop of many containers", run: hundred::run },
    Bench {
        name: "pass",
        about: "passes over many manifests, one change among them, memory of the controller",
        run: pass::run,
    },
    Bench { name: "listing", about: "vzlist over many VEs", run: listing::run },
    Bench { name: "update", about: "a limit of a running container changed", run: update::run },
    Bench { name: "counters", about: "CPU time of counting everything of many VEs", run: counters::run },
    Bench { name: "sockets", about: "socket() and close() with and without counting", run: sockets::run },
    Bench {
        name: "network",
        about: "a network set up, an address changed, bytes through it",
        run: network::run,
    },
    Bench {
        name: "disk-create",
        about: "a container made of a large template: time and disk",
        run: disk::create::bench,
    },
    Bench { name: "disk-resize", about: "a running VE's disk resized", run: disk::resize::bench },
    Bench {
        name: "disk-write",
        about: "files written in a VE and on the bare host",
        run: disk::write::bench,
    },
    Bench { name: "suspend", about: "memory written to disk and brought back", run: suspend::run },
    Bench { name: "migrate", about: "a VE moved to another host", run: migrate::run },
    Bench {
        name: "ahead",
        about: "a VE that writes to its memory moved, with and without rounds before it stands still",
        run: ahead::run,
    },
    Bench { name: "memory", about: "memory of the host for each idle container", run: memory::run },
];

/// A goal and how it went.
fn goal(what: &str, value: f64, most: f64) -> String {
    let word = if value <= most { "met" } else { "MISSED" };
    format!("goal: {what} at most {}: {word} ({})", number(most), number(value))
}

/// The same for what is to be large.
fn at_least(what: &str, value: f64, least: f64) -> String {
    let word = if value >= least { "met" } else { "MISSED" };
    format!("goal: {what} at least {}: {word} ({})", number(least), number(value))
}
