//! A VE that writes to its memory all the time, moved to another host and back: how long it stands still when memory is sent
//! ahead in rounds, and when it is sent in one pass. The hosts are two controllers of one machine.

use serde_json::{Value, json};

use super::goal;
use super::suspend::{GUEST, TOLD, goes_on, root};
use crate::options::Options;
use crate::peers::Controller;
use crate::place::Place;
use crate::result::{Context, Result};
use crate::stats::{median, paired_ratio};
use crate::table::{Table, number};

/// What it has in memory, and changes a second.
const MEGABYTES: u64 = 200;
const A_SECOND: u64 = 10;
/// Each moves a few hundred megabytes.
const ROUNDS_OF: usize = 5;

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    if !options.wants_peer("vzd") {
        return Ok(Vec::new());
    }
    let (here, there) = (start(place, "here")?, start(place, "there")?);
    let template = root(place, "writing")?;
    let init = [GUEST, "remember", &MEGABYTES.to_string(), &format!("/{TOLD}"), &A_SECOND.to_string()]
        .map(str::to_owned);
    let spec = json!({ "template": format!("dir:{}", template.display()), "init": init, "stopTimeout": "1s",
        "deletionPolicy": "Destroy" });
    let manifest = |state: &str| {
        let mut spec = spec.clone();
        spec["state"] = json!(state);
        json!({ "apiVersion": "vzd/v1", "kind": "VE", "metadata": { "name": "bench-0" }, "spec": spec })
            .to_string()
    };
    here.put_synced(0, &manifest("running"))?;
    let rounds = (options.rounds / ROUNDS_OF).max(3);
    let mut series: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..rounds {
        // There in rounds, and back in one pass.
        for (from, to, way, words) in [(&here, &there, 0, &[][..]), (&there, &here, 1, &["--one-pass"])] {
            goes_on(|| told(from))?;
            let via = to.as_seen_from_elsewhere();
            let words = [&["migrate", "bench-0", "--via", &via, "-o", "json"], words].concat();
            let moved: Value = serde_json::from_str(&from.ask(&words)?).context("vzd migrate")?;
            let number = |key: &str| moved[key].as_f64().ok_or("no number").context(key);
            let all = [number("stillMs")?, number("stillBytes")? / 1e6];
            series[way].iter_mut().zip(all).for_each(|(series, one)| series.push(one));
        }
    }
    goes_on(|| told(&here))?;
    here.put(0, &manifest("absent"))?;
    here.wait_gone()?;
    let title = format!(
        "A VE that has {MEGABYTES} MB and changes {A_SECOND} MB of them a second moved, {rounds} moves each, median"
    );
    let mut table = Table::new(title, &["", "stands still ms", "sent meanwhile MB"]);
    for (name, series) in ["in rounds", "in one pass"].iter().zip(&series) {
        let cells = series.iter().map(|series| number(median(series)));
        table.row(std::iter::once((*name).to_owned()).chain(cells).collect());
    }
    if median(&series[0][1]) < MEGABYTES as f64 {
        table.note(goal("rounds ÷ one pass", paired_ratio(&series[0][0], &series[1][0]), 0.4));
    } else {
        table.note("This kernel does not mark what is written to: both are one pass.");
    }
    Ok(vec![table])
}

fn start(place: &Place, purpose: &str) -> Result<Controller> {
    let host = "{apiVersion: vzd/v1, kind: Host, metadata: {name: host}}\n";
    Controller::start_with(place, &format!("ahead-{purpose}"), &[("host.yaml".to_owned(), host.to_owned())])
}

/// What its program has noted.
fn told(at: &Controller) -> String {
    let entries = std::fs::read_dir(at.state.join("ves")).into_iter().flatten().flatten();
    let mut told =
        entries.filter_map(|ve| std::fs::read_to_string(ve.path().join("fs/upper").join(TOLD)).ok());
    told.next().unwrap_or_default()
}
