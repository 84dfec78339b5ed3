//! The limit of a running VE's disk goes up and down: from the manifest's rename to the new value in the kernel.
//!
//! Only vzd: the peers have no limits of disks. Nobody is asked: what is free in the VE's root is looked at, or btrfs's own
//! file.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Disks, all};
use crate::benches::goal;
use crate::options::Options;
use crate::payload;
use crate::place::Place;
use crate::result::{Result, fail};
use crate::stats::{median, ms};
use crate::table::{Table, number};

const LOOK_EVERY: Duration = Duration::from_micros(300);
const SIZES: [&str; 2] = ["1G", "2G"];

/// Milliseconds at most, where there is a goal.
fn most(backend: &str) -> Option<f64> {
    match backend {
        "project" => Some(20.0),
        "image" => Some(200.0),
        _ => None,
    }
}

pub(in crate::benches) fn bench(place: &Place, options: &Options) -> Result<Vec<Table>> {
    if !options.wants_peer("vzd") {
        return Ok(Vec::new());
    }
    let mut all = all(place, options, "resize", &place.template);
    let title = format!("The disk of a running VE resized, {} rounds, median ms", options.rounds);
    let mut table = Table::new(title, &["", "up", "down"]);
    for disks in &mut all {
        let init = disks.start_one(1, SIZES[0], "")?;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for round in 0..=options.rounds {
            for (size, series) in [(SIZES[1], &mut up), (SIZES[0], &mut down)] {
                let took = resized(disks, init, size)?;
                if round > 0 {
                    series.push(ms(took));
                }
            }
        }
        disks.remove(1)?;
        let name = format!("vzd, {}", disks.backend);
        table.row(vec![name.clone(), number(median(&up)), number(median(&down))]);
        if let Some(most) = most(disks.backend) {
            table.note(goal(&format!("{name}: ms up"), median(&up), most));
            table.note(goal(&format!("{name}: ms down"), median(&down), most));
        }
    }
    Ok(vec![table])
}

fn resized(disks: &Disks, init: i32, size: &str) -> Result<Duration> {
    let before = seen(disks, init)?;
    let ordered = disks.put(1, "running", size, "")?;
    let deadline = Instant::now() + super::LIMIT;
    while seen(disks, init)? == before {
        if Instant::now() > deadline {
            return fail(format!("{} stays as it is", disks.backend));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(payload::now().saturating_sub(ordered))
}

/// Something that changes with the limit, and with nothing else while nobody writes.
fn seen(disks: &Disks, init: i32) -> Result<String> {
    if disks.backend != "btrfs" {
        let root = PathBuf::from(format!("/proc/{init}/root"));
        return crate::sys::free_blocks(&root)
            .map(|free| free.to_string())
            .or_else(|error| fail(error.to_string()));
    }
    let groups = std::fs::read_dir("/sys/fs/btrfs").into_iter().flatten().flatten();
    let groups = groups.filter_map(|entry| std::fs::read_dir(entry.path().join("qgroups")).ok());
    let limits = groups.flatten().flatten().map(|group| group.path().join("max_referenced"));
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    Ok(limits.filter_map(read).collect::<Vec<_>>().concat())
}
