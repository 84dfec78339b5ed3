//! Memory of the host for each idle container beyond its own processes.
//!
//! What the same number of bare payloads takes is taken off. The machine has to be otherwise idle: it is the whole
//! host's memory that is looked at, since much of what a container costs is charged to nobody.

use std::process::{Child, Command, Stdio};

use super::goal;
use crate::options::Options;
use crate::peers::{self, Peer};
use crate::place::{PAYLOAD, Place};
use crate::result::{Context, Result};
use crate::stats::median;
use crate::table::{Table, number};
use crate::{memory, sys};

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    let mut peers = peers::all(place, options, "memory")?;
    let mut series: Vec<Vec<f64>> = peers.iter().map(|_| Vec::new()).collect();
    let mut bare = Vec::new();
    let rounds = (options.rounds / 5).max(3);
    let count = (options.count / 2).max(1);
    let each = u32::try_from(count).map_or(f64::NAN, f64::from);
    // The first round grows what stays: slabs, cgroup records, the controller's own tables.
    for round in 0..=rounds {
        let alone = payloads(place, count)? / each;
        if round > 0 {
            bare.push(alone);
        }
        for (peer, series) in peers.iter_mut().zip(&mut series) {
            let grown = containers(peer.as_mut(), round, count)? / each;
            if round > 0 {
                series.push(grown);
            }
        }
    }
    let title = format!("Memory of the host for each of {count} idle containers, {rounds} rounds, medians");
    let mut table = Table::new(title, &["", "MB with payload", "MB", "÷ crun"]);
    let alone = median(&bare);
    let net = |series: &[f64]| (median(series) - alone) / 1024.0;
    let base = peers.iter().position(|peer| peer.name() == "crun").map(|place| net(&series[place]));
    table.row(vec!["bare payload".to_owned(), number(alone / 1024.0), String::new(), String::new()]);
    for (peer, series) in peers.iter().zip(&series) {
        let own = net(series);
        let ratio = base.map_or(f64::NAN, |base| own / base);
        let numbers = [median(series) / 1024.0, own, ratio].map(number);
        table.row(std::iter::once(peer.name().to_owned()).chain(numbers).collect());
        if let ("vzd", Some(base)) = (peer.name(), base) {
            table.note(goal("vzd's MB", own, base));
        }
    }
    Ok(vec![table])
}

fn containers(peer: &mut dyn Peer, round: usize, count: usize) -> Result<f64> {
    let first = 10_000 * (round + 1);
    let before = memory::used()?;
    let (runs, _) = peer.start_many(first..first + count)?;
    let after = memory::used()?;
    peer.stop_many(runs)?;
    sys::reap(None);
    Ok(after - before)
}

fn payloads(place: &Place, count: usize) -> Result<f64> {
    let program = place.template.join(PAYLOAD.trim_start_matches('/'));
    let before = memory::used()?;
    let start = |_| Command::new(&program).stdin(Stdio::null()).spawn().context(program.display());
    let children: Vec<Child> = (0..count).map(start).collect::<Result<_>>()?;
    let after = memory::used()?;
    for mut child in children {
        child.kill().and_then(|()| child.wait()).context("a payload")?;
    }
    Ok(after - before)
}
