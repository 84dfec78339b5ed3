//! Start and stop of many containers: vzd from one directory, the others by commands in a loop.

use super::goal;
use crate::options::Options;
use crate::peers::{self, Peer, settled_cpu};
use crate::place::Place;
use crate::result::Result;
use crate::stats::{median, ms};
use crate::table::{Table, number};

#[derive(Default)]
struct Series {
    start: Vec<f64>,
    stop: Vec<f64>,
    start_cpu: Vec<f64>,
    stop_cpu: Vec<f64>,
}

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    let mut peers = peers::all(place, options, "hundred")?;
    let mut series: Vec<Series> = peers.iter().map(|_| Series::default()).collect();
    let rounds = (options.rounds / 8).max(1);
    for round in 0..rounds {
        for (peer, series) in peers.iter_mut().zip(&mut series) {
            once(peer.as_mut(), round, options.count, series)?;
        }
    }
    let title = format!("{} containers, {rounds} rounds, medians", options.count);
    let columns =
        ["", "start s", "÷ crun", "stop s", "÷ crun", "CPU ms each", "÷ crun", "of it start", "stop"];
    let mut table = Table::new(title, &columns);
    let base = peers.iter().position(|peer| peer.name() == "crun").map(|place| Numbers::of(&series[place]));
    for (peer, series) in peers.iter().zip(&series) {
        let each = u32::try_from(options.count).map_or(f64::NAN, f64::from);
        let own = Numbers::of(series);
        let ratio =
            |number: fn(&Numbers) -> f64| base.as_ref().map_or(f64::NAN, |base| number(&own) / number(base));
        let ratios = [ratio(|n| n.start), ratio(|n| n.stop), ratio(|n| n.start_cpu + n.stop_cpu)];
        let numbers = [
            own.start / 1000.0,
            ratios[0],
            own.stop / 1000.0,
            ratios[1],
            (own.start_cpu + own.stop_cpu) / each,
            ratios[2],
            own.start_cpu / each,
            own.stop_cpu / each,
        ];
        table.row(std::iter::once(peer.name().to_owned()).chain(numbers.map(number)).collect());
        if peer.name() == "vzd" && base.is_some() {
            for (what, ratio) in ["start", "stop", "CPU"].into_iter().zip(ratios) {
                table.note(goal(&format!("vzd's {what} ÷ crun's"), ratio, 0.7));
            }
        }
    }
    table.note("vzd: from the first manifest's rename; stop is until no cgroup is left. The others: one command after another.");
    Ok(vec![table])
}

struct Numbers {
    start: f64,
    stop: f64,
    start_cpu: f64,
    stop_cpu: f64,
}

impl Numbers {
    fn of(series: &Series) -> Numbers {
        Numbers {
            start: median(&series.start),
            stop: median(&series.stop),
            start_cpu: median(&series.start_cpu),
            stop_cpu: median(&series.stop_cpu),
        }
    }
}

fn once(peer: &mut dyn Peer, round: usize, count: usize, series: &mut Series) -> Result<()> {
    let first = 10_000 * (round + 1);
    let before = settled_cpu(peer)?;
    let (runs, start) = peer.start_many(first..first + count)?;
    // Tools whose time counts only at the end of a process show here what has ended so far.
    let between = settled_cpu(peer)?;
    let stop = peer.stop_many(runs)?;
    let after = settled_cpu(peer)?;
    series.start.push(ms(start));
    series.stop.push(ms(stop));
    series.start_cpu.push(ms(between.saturating_sub(before)));
    series.stop_cpu.push(ms(after.saturating_sub(between)));
    Ok(())
}
