//! Passes over many manifests whose VEs are stopped, one change among them, and the controller's memory.
//!
//! Only vzd: none of the peers does this. That a pass writes nothing is looked at from outside too.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::goal;
use crate::options::Options;
use crate::peers::{Controller, Peer, settled_cpu};
use crate::place::Place;
use crate::result::{Result, fail};
use crate::stats::{median, ms};
use crate::table::{Table, number};
use crate::{memory, payload, sys};

pub(super) fn run(place: &Place, options: &Options) -> Result<Vec<Table>> {
    let count = options.count * 10;
    let template = place.template.display().to_string();
    let files: Vec<(String, String)> = (1..=count)
        .map(|id| (crate::peers::file_name(id), crate::peers::manifest(&template, id, "stopped", "")))
        .collect();
    let start = Instant::now();
    let mut controller = Controller::start_with(place, "pass", &files)?;
    let wanted = u64::try_from(count).unwrap_or(u64::MAX);
    controller.until(Duration::from_secs(300), |controller| {
        controller.last_pass().is_ok_and(|pass| pass.ves >= wanted)
    })?;
    let known_after = start.elapsed();
    settled_cpu(&mut controller)?;

    let quiet = passes(&mut controller, options.rounds)?;
    let (live, init) = live_ve(&mut controller, count + 1)?;
    let changes = changes(&mut controller, live, init, options.rounds)?;
    let resident = memory::resident(controller.pid())? / 1024.0;

    let mut table =
        Table::new(format!("{count} manifests, {} rounds, medians", options.rounds), &["", "value"]);
    let mut row = |what: &str, value: f64, unit: &str| {
        table.row(vec![what.to_owned(), format!("{} {unit}", number(value))])
    };
    row("all known after a first start", known_after.as_secs_f64(), "s");
    row("pass with nothing to do", quiet.took, "ms");
    row("its CPU, the asking included", quiet.cpu, "ms");
    row("its writes as told", quiet.writes, "");
    row("files changed by it", quiet.changed, "");
    row("one file changed, to the kernel's new value", changes, "ms");
    row("resident memory of the controller", resident, "MB");
    table.note(goal("a pass, ms", quiet.took, 150.0));
    table.note(goal("writes and files changed by it", quiet.writes + quiet.changed, 0.0));
    table.note(goal("a change, ms", changes, 20.0));
    table.note(goal("the controller's MB", resident, 30.0));
    Ok(vec![table])
}

struct Quiet {
    took: f64,
    cpu: f64,
    writes: f64,
    changed: f64,
}

fn passes(controller: &mut Controller, rounds: usize) -> Result<Quiet> {
    let (mut took, mut cpu, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    let before_all = snapshot(&controller.state);
    for _ in 0..rounds {
        let before = controller.cpu()?;
        let pass = controller.pass()?;
        took.push(ms(pass.took));
        cpu.push(ms(settled_cpu(controller)?.saturating_sub(before)));
        writes.push(u32::try_from(pass.writes).map_or(f64::NAN, f64::from));
    }
    let after = snapshot(&controller.state);
    let changed = after.iter().filter(|(path, data)| before_all.get(*path) != Some(data)).count();
    Ok(Quiet {
        took: median(&took),
        cpu: median(&cpu),
        writes: writes.iter().sum(),
        changed: u32::try_from(changed).map_or(f64::NAN, f64::from),
    })
}

type Data = (u64, u64, i64, i64);

/// Inode, size and time of every file.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Data> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() {
                open.push(entry.path());
            } else {
                found.insert(entry.path(), (data.ino(), data.size(), data.mtime(), data.mtime_nsec()));
            }
        }
    }
    found
}

/// Starts the one VE whose host name can be looked at.
fn live_ve(controller: &mut Controller, id: usize) -> Result<(usize, i32)> {
    let run = controller.start(id)?;
    settled_cpu(controller)?;
    Ok((id, run.init.pid))
}

/// Milliseconds from the rename of one file to the new host name in the VE.
fn changes(controller: &mut Controller, id: usize, init: i32, rounds: usize) -> Result<f64> {
    let mut times = Vec::new();
    for round in 0..=rounds {
        let name = format!("round-{round}");
        let text = controller.manifest(id, "running", &format!("  hostname: {name}\n"));
        std::thread::sleep(Duration::from_millis(100));
        let ordered = controller.put(id, &text)?;
        let seen = wait_for_name(init, &name)?;
        if round > 0 {
            times.push(ms(seen.saturating_sub(ordered)));
        }
    }
    Ok(median(&times))
}

/// In a thread of its own, since that one stays in the VE's namespace.
fn wait_for_name(init: i32, name: &str) -> Result<Duration> {
    let name = name.to_owned();
    let watch = std::thread::spawn(move || {
        sys::join_uts(init).ok()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while sys::hostname() != name {
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Some(payload::now())
    });
    match watch.join() {
        Ok(Some(seen)) => Ok(seen),
        _ => fail("the VE has not got its new host name within 10 s"),
    }
}
