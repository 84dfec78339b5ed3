//! `vzd ps`: the processes of VEs, as the host sees them and by the numbers that they have inside.
//!
//! What a process is called is its VE's to say: it is text for people, shown harmless, and nothing is done by these numbers.

use std::path::Path;

use serde::Serialize;
use vzd_state::status::Document;

use crate::cli::Context;
use crate::cli::connect::look;
use crate::cli::failure::{OK, Outcome};
use crate::cli::select::Chosen;
use crate::cli::table::{Cell, Table};
use crate::cli::ubc::size;

/// Options of `vzd ps`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: Chosen,
}

/// A process of a VE.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    ve: String,
    ctid: Option<u32>,
    /// The host's number.
    pid: u32,
    /// The number inside; of the host's own processes in a VE's group there is none.
    inside: Option<u32>,
    /// The user inside; none where that is nobody there.
    user: Option<u32>,
    state: String,
    rss_bytes: u64,
    cpu_ms: u64,
    command: String,
}

/// Lists them.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let ves = look(cx)?.list(&args.ves.or_all(), false)?;
    let mut all: Vec<Process> = ves.iter().flat_map(processes).collect();
    all.sort_by_key(|process| (process.ctid, process.pid));
    if cx.out.is_data() {
        cx.out.data(&all)?;
        return Ok(OK);
    }
    let mut table = Table::new(&["VE", "CTID", "PID", "INSIDE", "USER", "STATE", "RSS", "TIME", "COMMAND"]);
    let number = |is: Option<u32>| is.map(|is| is.to_string()).unwrap_or_default();
    for process in &all {
        table.row([
            Cell::from(&process.ve),
            Cell::from(number(process.ctid)),
            Cell::from(process.pid.to_string()),
            Cell::from(number(process.inside)),
            Cell::from(number(process.user)),
            Cell::from(&process.state),
            Cell::from(size(process.rss_bytes)),
            Cell::from(time(process.cpu_ms)),
            Cell::from(&process.command),
        ]);
    }
    cx.out.text(&table.render("", cx.out.colour))?;
    Ok(OK)
}

/// Minutes, seconds and hundredths.
fn time(ms: u64) -> String {
    format!("{}:{:02}.{:02}", ms / 60_000, ms / 1000 % 60, ms / 10 % 100)
}

fn processes(ve: &Document) -> Vec<Process> {
    let Some(group) = &ve.status.cgroup else { return Vec::new() };
    let mut pids = Vec::new();
    below(Path::new(group), &mut pids);
    // One that has just ended is none any more.
    pids.into_iter().filter_map(|pid| of(ve, pid)).collect()
}

fn below(group: &Path, pids: &mut Vec<u32>) {
    let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    pids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), pids);
        }
    }
}

fn of(ve: &Document, pid: u32) -> Option<Process> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let status = read("status")?;
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let first = |key: &str| field(key).and_then(|text| text.split_whitespace().next().map(str::to_owned));
    let numbers: Vec<u32> =
        field("NSpid:")?.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let command = match &*words {
        [] => format!("[{}]", field("Name:").unwrap_or_default()),
        words => words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" "),
    };
    let uid = first("Uid:").and_then(|uid| uid.parse().ok());
    Some(Process {
        ve: ve.metadata.name.to_string(),
        ctid: ve.status.ctid.map(|ctid| ctid.get()),
        pid,
        inside: numbers.get(1).copied(),
        user: uid.and_then(|uid| inside(uid, &read("uid_map").unwrap_or_default())),
        state: first("State:").unwrap_or_default(),
        rss_bytes: first("VmRSS:").and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024,
        cpu_ms: cpu_ms(&read("stat").unwrap_or_default()),
        command,
    })
}

/// The id that a user of the host has in the namespace of that map.
fn inside(uid: u32, map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
        let (to, from, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        uid.checked_sub(from).filter(|at| *at < count).map(|at| to + at)
    })
}

/// What it has used of CPU, from /proc/PID/stat: behind its name, which may hold anything.
fn cpu_ms(stat: &str) -> u64 {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let used: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    used.saturating_mul(1000) / ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        assert_eq!(inside(1_000_000_033, "         0 1000000000      65536\n"), Some(33));
        assert_eq!(inside(0, "         0 1000000000      65536\n"), None);
        assert_eq!(inside(5, "0 0 4294967295\n"), Some(5));
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("7 (a) b) S 1 7 7 0 -1 0 1 0 0 0 {ticks} {} 0 0 20 0", ticks / 2);
        assert_eq!(cpu_ms(&stat), 1500);
        assert_eq!(time(61_234), "1:01.23");
    }
}
