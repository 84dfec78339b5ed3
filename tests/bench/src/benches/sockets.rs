//! What the programs that count a VE's sockets cost: socket() and close(), in the group of a VE with and one without.
//!
//! The loop runs in a child of this process that joins one group and the other by turns: which programs run is a matter of
//! the group alone, and what else makes one process faster than another is the same for both.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::goal;
use crate::options::Options;
use crate::peers::{Controller, Peer, Run};
use crate::place::{Place, hierarchies};
use crate::result::{Context, Result};
use crate::stats::{median, paired_ratio};
use crate::sys;
use crate::table::{Table, number};

/// What the child is called with, and the group.
pub(crate) const CHILD: &str = "--sockets-in";
/// Sockets made and closed in one turn, after some that are not counted.
const SOCKETS: u32 = 1_000;
/// Turns of each group in one round.
const TURNS: u32 = 20;

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    if !options.wants_peer("vzd") {
        return Ok(Vec::new());
    }
    let mut controller = Controller::start(place, "sockets")?;
    let runs = [controller.start(1)?, controller.start(2)?];
    let barriers = "  beancounters: {numtcpsock: 1000000, numothersock: 1000000}\n";
    controller.put(2, &controller.manifest(2, "running", barriers))?;
    controller.until(Duration::from_secs(10), |controller| {
        let told = controller.ask(&["events", "bench-2"]);
        told.is_ok_and(|text| text.contains("numtcpsock") && text.contains("numothersock"))
    })?;
    let mut times = [Vec::new(), Vec::new()];
    let groups = [group(&runs[0])?, group(&runs[1])?];
    for round in 0..=options.rounds {
        let nanos = once(&groups)?;
        if round > 0 {
            times.iter_mut().zip(nanos).for_each(|(times, nanos)| times.push(nanos));
        }
    }
    let ratio = paired_ratio(&times[1], &times[0]);
    let [without, with] = times.map(|times| median(&times));
    let title =
        format!("socket() and close() of a UDP socket, {} rounds of {TURNS} x {SOCKETS}", options.rounds);
    let mut table = Table::new(title, &["", "median ns"]);
    table.row(vec!["without programs".to_owned(), number(without)]);
    table.row(vec!["counted".to_owned(), number(with)]);
    table.note(goal("socket() and close() counted ÷ not counted", ratio, 1.05));
    controller.stop_many(runs.into())?;
    Ok(vec![table])
}

/// The version 2 group of a VE.
fn group(run: &Run) -> Result<PathBuf> {
    let path = format!("/proc/{}/cgroup", run.init.pid);
    let text = std::fs::read_to_string(&path).context(&path)?;
    let below = text.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("no group").context(&path)?;
    let groups = hierarchies().into_iter().map(|top| top.join(below));
    let group = groups.into_iter().find(|group| group.join("cgroup.freeze").exists());
    group.ok_or("not mounted").context(below)
}

/// Nanoseconds for one socket, in each group.
fn once(groups: &[PathBuf; 2]) -> Result<[f64; 2]> {
    let program = std::env::current_exe().context("this program")?;
    let output =
        Command::new(program).arg(CHILD).args(groups).stdin(Stdio::null()).output().context(CHILD)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let nanos: Vec<f64> = said.split_whitespace().filter_map(|nanos| nanos.parse().ok()).collect();
    nanos.try_into().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned()).context(CHILD)
}

/// The child: joins the groups by turns and says how long a socket took in each.
pub(crate) fn child(groups: [&str; 2]) -> Result<String> {
    let mut took = [Duration::ZERO; 2];
    for _ in 0..TURNS {
        for (group, took) in groups.iter().zip(&mut took) {
            let procs = format!("{group}/cgroup.procs");
            std::fs::write(&procs, std::process::id().to_string()).context(&procs)?;
            let mut began = Instant::now();
            for at in 0..SOCKETS + SOCKETS / 10 {
                if at == SOCKETS / 10 {
                    began = Instant::now();
                }
                sys::datagram_socket().context("socket")?;
            }
            *took += began.elapsed();
        }
    }
    let [without, with] = took.map(|took| took.as_secs_f64() * 1e9 / f64::from(SOCKETS * TURNS));
    Ok(format!("{without} {with}"))
}
