//! The same VE with memory of which half is text, written to disk as it is and compressed by turns: how large its checkpoint is beside
//! the memory that it has in use, and how long both ways take.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::{Frozen, MEGABYTES, Ve, goes_on, told};
use crate::place::Place;
use crate::result::{Context, Result};
use crate::stats::{median, ms};
use crate::table::{Table, number};

const WAYS: [&str; 2] = ["none", "zstd"];

pub(super) fn run(place: &Place, rounds: usize) -> Result<Table> {
    let mut ve = Ve::start(place, "remember-text")?;
    // To disk, back, in use, on disk.
    let mut series: [[Vec<f64>; 4]; 2] = Default::default();
    for round in 0..=rounds {
        for (way, series) in WAYS.iter().zip(&mut series) {
            ve.order("running", way)?;
            goes_on(|| told(&ve))?;
            let used = ve.in_use()?;
            let began = Instant::now();
            ve.write()?;
            let written = began.elapsed();
            let size = ve.on_disk()?;
            let began = Instant::now();
            ve.bring_back()?;
            let back = began.elapsed();
            if round > 0 {
                let all = [ms(written), ms(back), used, size];
                series.iter_mut().zip(all).for_each(|(series, one)| series.push(one));
            }
        }
    }
    goes_on(|| told(&ve))?;
    ve.end()?;
    let title = format!(
        "{MEGABYTES} MB, every other page of them text, as they are and compressed, {rounds} rounds, median"
    );
    let mut table = Table::new(
        title,
        &["compress", "to disk ms", "back ms", "in use MB", "on disk MB", "on disk ÷ in use"],
    );
    for (way, series) in WAYS.iter().zip(&series) {
        let [written, back, used, size] = series.each_ref().map(|series| median(series));
        let ratio = format!("{:.2}", size / used);
        let cells = [written, back, used, size].map(number);
        table.row(std::iter::once((*way).to_owned()).chain(cells).chain([ratio]).collect());
    }
    table.note("In use: its anonymous memory. Text: one of a thousand words for each eight bytes; the other half cannot be compressed.");
    Ok(table)
}

impl Ve {
    /// Its anonymous memory, in megabytes; it is one process.
    fn in_use(&self) -> Result<f64> {
        let told = self.controller.ask(&["get", "bench-0", "-o", "json"])?;
        let told: Value = serde_json::from_str(&told).context("vzd get")?;
        let pid = told["status"]["initPid"].as_u64().ok_or("no number").context("initPid")?;
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).context(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")?.split_whitespace().next());
        let kilobytes =
            line.and_then(|number| number.parse::<f64>().ok()).ok_or("not there").context(&path)?;
        Ok(kilobytes * 1024.0 / 1e6)
    }

    /// How much its checkpoint takes, in megabytes.
    fn on_disk(&self) -> Result<f64> {
        let ves = self.controller.state.join("ves");
        let entries = std::fs::read_dir(&ves).context(ves.display())?.flatten();
        let bytes = |dir: &Path| -> u64 {
            let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
            files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
        };
        let bytes: u64 = entries.map(|ve| bytes(&ve.path().join("checkpoint"))).sum();
        Ok(u32::try_from(bytes >> 10).map_or(f64::NAN, f64::from) * 1024.0 / 1e6)
    }
}
