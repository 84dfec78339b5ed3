//! CPU time of counting everything that many VEs hold, the asking included.

use super::goal;
use crate::options::Options;
use crate::peers::{Controller, Peer, settled_cpu};
use crate::place::Place;
use crate::result::Result;
use crate::stats::{median, ms};
use crate::table::{Table, number};

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    if !options.wants_peer("vzd") {
        return Ok(Vec::new());
    }
    let mut controller = Controller::start(place, "counters")?;
    let (runs, _) = controller.start_many(1..options.count + 1)?;
    let asked: [&[&str]; 2] = [&["ubc", "-o", "json"], &["top", "--once", "-d", "0.1", "-o", "json"]];
    let mut table = Table::new(format!("All counters of {} VEs", options.count), &["", "CPU ms"]);
    let mut counted = 0.0;
    for (at, words) in asked.iter().enumerate() {
        let mut times = Vec::new();
        for round in 0..=options.rounds.min(10) {
            let before = settled_cpu(&mut controller)?;
            controller.ask(words)?;
            if round > 0 {
                times.push(ms(settled_cpu(&mut controller)?.saturating_sub(before)));
            }
        }
        if at == 0 {
            counted = median(&times);
        }
        table.row(vec![format!("vzd {}", words.join(" ")), number(median(&times))]);
    }
    table.note(goal("CPU for all counters of 100 VEs, ms", counted, 100.0));
    table.note("The controller's CPU time. `top` looks twice, and reads CPU, memory and I/O besides.");
    controller.stop_many(runs)?;
    Ok(vec![table])
}
