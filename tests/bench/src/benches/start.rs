//! Start and stop of one container after a while of quiet, in alternating rounds.
//!
//! Quiet matters: the first write to a cgroup's process list after some of it waits for the kernel (an RCU grace
//! period), which back-to-back starts would hide.

use std::time::Duration;

use super::goal;
use crate::options::Options;
use crate::peers::{self, Peer, settled_cpu};
use crate::place::Place;
use crate::result::Result;
use crate::stats::{mean, median, ms, paired_ratio};
use crate::table::{Table, number};

const QUIET: Duration = Duration::from_millis(150);

#[derive(Default)]
struct Series {
    start: Vec<f64>,
    stop: Vec<f64>,
    cpu: Vec<f64>,
}

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    let mut peers = peers::all(place, options, "start")?;
    let mut series: Vec<Series> = peers.iter().map(|_| Series::default()).collect();
    // The first round fills caches and is not counted.
    for round in 0..=options.rounds {
        for (peer, series) in peers.iter_mut().zip(&mut series) {
            let (start, stop, cpu) = once(peer.as_mut(), round)?;
            if round > 0 {
                series.start.push(start);
                series.stop.push(stop);
                series.cpu.push(cpu);
            }
        }
    }
    Ok(vec![table(&peers, &series, options.rounds)])
}

fn once(peer: &mut dyn Peer, round: usize) -> Result<(f64, f64, f64)> {
    let before = settled_cpu(peer)?;
    std::thread::sleep(QUIET);
    let run = peer.start(round)?;
    let start = ms(run.took);
    std::thread::sleep(QUIET);
    let stop = ms(peer.stop(run)?);
    let cpu = ms(settled_cpu(peer)?.saturating_sub(before));
    Ok((start, stop, cpu))
}

fn table(peers: &[Box<dyn Peer>], series: &[Series], rounds: usize) -> Table {
    let title = format!("Start and stop of one container, {rounds} rounds, medians");
    let mut table = Table::new(title, &["", "start ms", "÷ crun", "stop ms", "CPU ms start+stop", "÷ crun"]);
    let base = peers.iter().position(|peer| peer.name() == "crun").map(|place| &series[place]);
    for (peer, one) in peers.iter().zip(series) {
        let start_ratio = base.map_or(f64::NAN, |base| paired_ratio(&one.start, &base.start));
        // A mean: CPU time is additive, and rare expensive rounds cost what they cost.
        let cpu_ratio = base.map_or(f64::NAN, |base| mean(&one.cpu) / mean(&base.cpu));
        let numbers = [median(&one.start), start_ratio, median(&one.stop), mean(&one.cpu), cpu_ratio];
        let cells = std::iter::once(peer.name().to_owned()).chain(numbers.map(number));
        table.row(cells.collect());
        if peer.name() == "vzd" && base.is_some() {
            table.note(goal("vzd's start ÷ crun's", start_ratio, 0.7));
            table.note(goal("vzd's CPU ÷ crun's", cpu_ratio, 0.7));
        }
    }
    table.note("vzd: from the manifest's rename to init's first instruction; crun run, lxc-start: from the command to it.");
    table
}
