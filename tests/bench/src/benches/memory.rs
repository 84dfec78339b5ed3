//! Memory of the host for each idle container beyond its own processes.
//!
//! Batches of each peer's containers are added one on top of the other and none is stopped before the end: what is freed
//! stays with the kernel's caches for a while, so that whoever started next would seem to cost nothing. What a bare
//! payload takes is taken off. It is the whole host's memory that is looked at, since some of what a container costs is
//! charged to nobody; so the machine has to be otherwise idle, and the table says how far it was. What is charged to our
//! cgroup is given beside it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::goal;
use crate::memory::{Account, used};
use crate::options::Options;
use crate::peers::{self, Run};
use crate::place::{PAYLOAD, Place};
use crate::result::{Context, Result};
use crate::stats::median;
use crate::sys;
use crate::table::{Table, number};

/// Megabytes a container.
#[derive(Default)]
struct Series {
    host: Vec<f64>,
    charged: Vec<f64>,
}

impl Series {
    fn add(&mut self, growth: Growth, count: usize) {
        let scale = u32::try_from(count).map_or(f64::NAN, f64::from) * 1024.0;
        self.host.push(growth.host / scale);
        self.charged.push(growth.charged / scale);
    }
}

struct Growth {
    host: f64,
    charged: f64,
}

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    let account = Account::of(place);
    let mut peers = peers::all_with_consoles(place, options, "memory")?;
    let mut series: Vec<Series> = peers.iter().map(|_| Series::default()).collect();
    let (mut bare, mut nothing) = (Series::default(), Series::default());
    let rounds = (options.rounds / 8).clamp(2, 4);
    let count = (options.count / 2).max(1);
    let mut payloads = Payloads(Vec::new());
    let mut runs: Vec<Vec<Run>> = peers.iter().map(|_| Vec::new()).collect();
    // The first round takes up what earlier containers have left in the kernel's caches, and is not counted.
    for round in 0..=rounds {
        let idle = growth(&account, || Ok(()))?;
        let alone = growth(&account, || payloads.start(place, count))?;
        if round > 0 {
            nothing.add(idle, count);
            bare.add(alone, count);
        }
        for ((peer, series), runs) in peers.iter_mut().zip(&mut series).zip(&mut runs) {
            let first = 10_000 * (round + 1);
            let grown = growth(&account, || {
                runs.extend(peer.start_many(first..first + count)?.0);
                Ok(())
            })?;
            if round > 0 {
                series.add(grown, count);
            }
        }
    }
    drop(payloads);
    for (peer, runs) in peers.iter_mut().zip(runs) {
        peer.stop_many(runs)?;
    }
    let title = format!(
        "Memory of the host for each idle container, {rounds} batches of {count}, medians, payload taken off"
    );
    let mut table = Table::new(title, &["", "MB", "÷ crun", "charged MB", "÷ crun"]);
    let net = |series: &Series| {
        [median(&series.host) - median(&bare.host), median(&series.charged) - median(&bare.charged)]
    };
    let of = |name: &str| peers.iter().position(|peer| peer.name() == name).map(|place| net(&series[place]));
    // The one that is most like a VE, if it takes part.
    let like = of("crun, console");
    let base = of("crun");
    for (peer, series) in peers.iter().zip(&series) {
        let [host, charged] = net(series);
        let [host_ratio, charged_ratio] =
            base.map_or([f64::NAN; 2], |base| [host / base[0], charged / base[1]]);
        let numbers = [host, host_ratio, charged, charged_ratio].map(number);
        table.row(std::iter::once(peer.name().to_owned()).chain(numbers).collect());
        if let ("vzd", Some(like)) = (peer.name(), like) {
            table.note(goal("vzd's MB (that of crun with a console)", host, like[0]));
        }
    }
    let [host, charged] = [&bare.host, &bare.charged].map(|series| number(median(series)));
    table.note(format!("a bare payload takes {host} MB, of it charged {charged}"));
    let noise = median(&nothing.host.iter().map(|drift| drift.abs()).collect::<Vec<_>>());
    table.note(format!(
        "the host's memory moved by {} MB a container's worth while nothing was done",
        number(noise)
    ));
    if noise > 0.02 {
        table.note("the machine was not idle: of these, only what is charged can be trusted");
    }
    Ok(vec![table])
}

fn growth(account: &Account, work: impl FnOnce() -> Result<()>) -> Result<Growth> {
    let (host, charged) = (used()?, account.charged());
    work()?;
    // What starters and monitors need only for a moment isn't the idle container's.
    std::thread::sleep(Duration::from_secs(1));
    sys::reap(None);
    let grown = account.charged().zip(charged).map_or(f64::NAN, |(after, before)| after - before);
    Ok(Growth { host: used()? - host, charged: grown })
}

/// Bare payloads, ended when dropped.
struct Payloads(Vec<Child>);

impl Payloads {
    fn start(&mut self, place: &Place, count: usize) -> Result<()> {
        let program = place.template.join(PAYLOAD.trim_start_matches('/'));
        for _ in 0..count {
            self.0.push(Command::new(&program).stdin(Stdio::null()).spawn().context(program.display())?);
        }
        Ok(())
    }
}

impl Drop for Payloads {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill().and_then(|()| child.wait()));
        }
    }
}
