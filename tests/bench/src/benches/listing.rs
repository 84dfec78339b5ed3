//! `vzlist` over many VEs: all of them, a few of which run. From the start of the program to its end.
//!
//! Only vzd: the peers have no such list.

use std::time::{Duration, Instant};

use super::goal;
use crate::options::Options;
use crate::peers::{Controller, Peer, settled_cpu};
use crate::place::Place;
use crate::result::Result;
use crate::stats::{median, ms};
use crate::table::{Table, number};

/// What is asked, as scripts and panels do.
const ASKED: [&[&str]; 3] =
    [&["vzlist", "-a"], &["vzlist", "-a", "-H", "-o", "ctid,status,hostname"], &["vzlist", "-a", "-j"]];

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    if !options.wants_peer("vzd") {
        return Ok(Vec::new());
    }
    let (all, run) = (options.count * 10, options.count / 10);
    let template = place.template.display().to_string();
    let stopped = run + 1..all + 1;
    let wanted = u64::try_from(stopped.len()).unwrap_or(u64::MAX);
    let files: Vec<(String, String)> = stopped
        .map(|id| (crate::peers::file_name(id), crate::peers::manifest(&template, id, "stopped", "")))
        .collect();
    let mut controller = Controller::start_with(place, "listing", &files)?;
    controller.until(Duration::from_secs(300), |controller| {
        controller.last_pass().is_ok_and(|pass| pass.ves >= wanted)
    })?;
    let (runs, _) = controller.start_many(1..run + 1)?;
    settled_cpu(&mut controller)?;
    let title = format!("{all} VEs, {run} of them running, {} rounds, medians", options.rounds);
    let mut table = Table::new(title, &["", "ms", "of it the controller's CPU"]);
    let mut worst = 0.0_f64;
    for words in ASKED {
        let (mut took, mut cpu) = (Vec::new(), Vec::new());
        for round in 0..=options.rounds {
            let before = settled_cpu(&mut controller)?;
            let start = Instant::now();
            controller.tool(words)?;
            let elapsed = start.elapsed();
            if round > 0 {
                took.push(ms(elapsed));
                cpu.push(ms(settled_cpu(&mut controller)?.saturating_sub(before)));
            }
        }
        worst = worst.max(median(&took));
        table.row(vec![words.join(" "), number(median(&took)), number(median(&cpu))]);
    }
    table.note(goal("the slowest, ms", worst, 100.0));
    controller.stop_many(runs)?;
    Ok(vec![table])
}
