//! A limit of a running container is changed: from the order to the new value in the kernel.
//!
//! The order is the rename of a manifest, or the command. The kernel's own file is watched, in whichever hierarchy the
//! container's init is; nobody is asked anything.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::goal;
use crate::options::Options;
use crate::payload;
use crate::peers::{self, Peer, Run};
use crate::place::Place;
use crate::result::{Context, Result, fail};
use crate::stats::{median, ms};
use crate::table::{Table, number};

/// A limit, with the value that it is to have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Bytes.
    Memory(u64),
    /// OpenVZ's cpuunits.
    CpuUnits(u64),
    /// Processes and threads.
    Tasks(u64),
}

impl Limit {
    /// The kernel's names for it: controller and file in version 1, file in version 2.
    pub(crate) fn files(self) -> [&'static str; 3] {
        match self {
            Self::Memory(_) => ["memory", "memory.limit_in_bytes", "memory.max"],
            Self::CpuUnits(_) => ["cpu", "cpu.shares", "cpu.weight"],
            Self::Tasks(_) => ["pids", "pids.max", "pids.max"],
        }
    }

    /// What the file then says.
    pub(crate) fn value(self, is_v1: bool) -> u64 {
        match self {
            Self::Memory(bytes) => bytes,
            Self::CpuUnits(units) => {
                if is_v1 {
                    units * 1024 / 1000
                } else {
                    units / 10
                }
            }
            Self::Tasks(tasks) => tasks,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::CpuUnits(_) => "CPU share",
            Self::Tasks(_) => "tasks",
        }
    }
}

/// Whether a controller is in a version 1 hierarchy.
pub(crate) fn is_v1(controller: &str) -> bool {
    Path::new("/sys/fs/cgroup").join(controller).join("cgroup.procs").exists()
}

const KINDS: [fn(u64) -> Limit; 3] =
    [|n| Limit::Memory((256 + n) << 20), |n| Limit::CpuUnits(1000 + n * 1000), |n| Limit::Tasks(100 + n)];

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    Ok(vec![latency(place, options)?])
}

fn latency(place: &Place, options: &Options) -> Result<Table> {
    let mut peers = peers::all(place, options, "update")?;
    let mut runs = Vec::new();
    peers.retain_mut(|peer| match peer.start(1) {
        Ok(run) => {
            runs.push(run);
            true
        }
        Err(failure) => {
            eprintln!("{} is left out: {failure}", peer.name());
            false
        }
    });
    let mut series = vec![[const { Vec::new() }; KINDS.len()]; peers.len()];
    for round in 0..=options.rounds {
        for (at, (peer, run)) in peers.iter_mut().zip(&runs).enumerate() {
            for (kind, limit) in KINDS.iter().enumerate() {
                let took = once(peer.as_mut(), run, limit(u64::try_from(round % 2).unwrap_or(0) + 1))?;
                if round > 0 {
                    series[at][kind].push(ms(took));
                }
            }
        }
    }
    let kinds = KINDS.map(|limit| limit(0).name());
    let title = format!("A limit of a running container changed, {} rounds, median ms", options.rounds);
    let mut table = Table::new(title, &["", kinds[0], kinds[1], kinds[2]]);
    for (peer, one) in peers.iter().zip(&series) {
        let cells =
            std::iter::once(peer.name().to_owned()).chain(one.iter().map(|times| number(median(times))));
        table.row(cells.collect());
    }
    let vzd = peers.iter().position(|peer| peer.name() == "vzd");
    for (kind, name) in kinds.iter().enumerate() {
        let of = |at: usize| median(&series[at][kind]);
        let fastest = (0..peers.len()).filter(|at| Some(*at) != vzd).map(of).fold(f64::INFINITY, f64::min);
        if let (Some(vzd), true) = (vzd, fastest.is_finite()) {
            table.note(goal(&format!("vzd's {name} ÷ the fastest other's"), of(vzd) / fastest, 0.5));
        }
    }
    table.note("vzd: from the manifest's rename, settle time 0; crun update, lxc-cgroup: from the command.");
    for (peer, run) in peers.iter_mut().zip(runs) {
        peer.stop(run)?;
    }
    Ok(table)
}

/// Changes one limit, and watches the kernel's file for it.
fn once(peer: &mut dyn Peer, run: &Run, limit: Limit) -> Result<Duration> {
    let [controller, v1, v2] = limit.files();
    let is_v1 = is_v1(controller);
    let file =
        group_of(run.init.pid, controller, is_v1, peer.name() == "vzd")?.join(if is_v1 { v1 } else { v2 });
    let value = limit.value(is_v1).to_string();
    std::thread::sleep(Duration::from_millis(60));
    let watch = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if std::fs::read_to_string(&file).is_ok_and(|text| text.trim() == value) {
                return Some(payload::now());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        None
    });
    let ordered = peer.update(run.id, limit)?;
    match watch.join() {
        Ok(Some(seen)) => Ok(seen.saturating_sub(ordered)),
        _ => fail(format!("{}: {limit:?} is not in force within 10 s", peer.name())),
    }
}

/// The group that a container's limits are on.
fn group_of(init: i32, controller: &str, is_v1: bool, is_vzd: bool) -> Result<PathBuf> {
    let path = format!("/proc/{init}/cgroup");
    let text = std::fs::read_to_string(&path).context(&path)?;
    let found = text.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        let ours =
            if is_v1 { controllers.split(',').any(|one| one == controller) } else { controllers.is_empty() };
        ours.then(|| path.trim_start_matches('/').to_owned())
    });
    let below = found.ok_or(controller).context(&path)?;
    let top = Path::new("/sys/fs/cgroup");
    if is_v1 {
        return Ok(top.join(controller).join(below));
    }
    // A VE's own group lies below the one with its limits.
    let group = top.join(below);
    Ok(if is_vzd { group.parent().unwrap_or(top).to_owned() } else { group })
}
