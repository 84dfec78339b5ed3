//! What the programs that count a VE's sockets cost: socket() and close(), in the group of a VE with and one without.
//!
//! The loop runs in a child of this process that joins the VE's group: which programs run is a matter of the group alone.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::goal;
use crate::options::Options;
use crate::peers::{Controller, Peer, Run};
use crate::place::{Place, hierarchies};
use crate::result::{Context, Result, fail};
use crate::stats::median;
use crate::sys;
use crate::table::{Table, number};

/// What the child is called with, and the group.
pub(crate) const CHILD: &str = "--sockets-in";
/// Sockets made and closed in one round.
const SOCKETS: u32 = 20_000;

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
    for round in 0..=options.rounds {
        for (run, times) in runs.iter().zip(&mut times) {
            let nanos = once(run)?;
            if round > 0 {
                times.push(nanos);
            }
        }
    }
    let [without, with] = times.map(|times| median(&times));
    let title = format!("socket() and close() of a UDP socket, {} rounds of {SOCKETS}", options.rounds);
    let mut table = Table::new(title, &["", "median ns"]);
    table.row(vec!["without programs".to_owned(), number(without)]);
    table.row(vec!["counted".to_owned(), number(with)]);
    table.note(goal("socket() and close() counted ÷ not counted", with / without, 1.05));
    controller.stop_many(runs.into())?;
    Ok(vec![table])
}

/// Nanoseconds for one socket, in the group of a VE.
fn once(run: &Run) -> Result<f64> {
    let path = format!("/proc/{}/cgroup", run.init.pid);
    let text = std::fs::read_to_string(&path).context(&path)?;
    let below = text.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("no group").context(&path)?;
    let groups = hierarchies().into_iter().map(|top| top.join(below));
    let Some(group) = groups.into_iter().find(|group| group.join("cgroup.freeze").exists()) else {
        return fail(format!("{below} is not mounted"));
    };
    let program = std::env::current_exe().context("this program")?;
    let output = Command::new(program).arg(CHILD).arg(&group).stdin(Stdio::null()).output().context(CHILD)?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().context(String::from_utf8_lossy(&output.stderr))
}

/// The child: joins the group and says how long a socket took.
pub(crate) fn child(group: &str) -> Result<f64> {
    let procs = format!("{group}/cgroup.procs");
    std::fs::write(&procs, std::process::id().to_string()).context(&procs)?;
    let mut began = Instant::now();
    for at in 0..SOCKETS + SOCKETS / 10 {
        if at == SOCKETS / 10 {
            began = Instant::now();
        }
        sys::datagram_socket().context("socket")?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e9 / f64::from(SOCKETS))
}
