//! Every counter, driven from inside a VE to its barrier and past: what is enforced refuses with the errno that is
//! documented and counts that, what is accounted goes past and is counted as closely as is documented.
//!
//! The table in docs/guides/beancounters.md is made of the rows here, which the tests hold the kernel to.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Driven, Need, Sandbox, is_met, needs, within};

/// What becomes of those who go past the barrier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Past {
    /// They are refused with this errno.
    Refused(&'static str),
    /// Likewise, where programs at the kernel's security hooks run; elsewhere they are counted.
    RefusedByHooks(&'static str),
    /// The kernel takes memory back, and kills them when that is not enough.
    Killed,
    /// Nothing: they are counted.
    Counted,
}
use Past::{Counted, Killed, Refused, RefusedByHooks};

struct Row {
    counter: &'static str,
    /// What `guest drive` takes.
    drive: &'static str,
    /// So many of them are the barrier.
    count: u64,
    /// So much of the counter's unit is one of them.
    each: u64,
    past: Past,
    /// How far the number may be off: per cent of what was taken, and so much of the unit beside.
    off: (u64, u64),
}

const fn row(
    counter: &'static str,
    drive: &'static str,
    count: u64,
    each: u64,
    past: Past,
    off: (u64, u64),
) -> Row {
    Row { counter, drive, count, each, past, off }
}

const EXACT: (u64, u64) = (0, 0);
/// The kernel hands out and counts memory in batches of pages and CPUs.
const BATCHED: u64 = 512 * 1024;

const ROWS: &[Row] = &[
    row("kmemsize", "pipes", 1000, 2048, Counted, (75, BATCHED)),
    row("lockedpages", "locked-pages", 100, 1, Counted, EXACT),
    row("privvmpages", "private-pages", 2000, 1, Counted, (0, 300)),
    row("shmpages", "sysv-pages", 100, 1, Refused("ENOSPC"), (100, 0)),
    row("shmpages", "tmpfs-pages", 1000, 1, Counted, (5, 130)),
    row("numproc", "processes", 40, 1, Refused("EAGAIN"), (0, 1)),
    row("physpages", "touched-pages", 8192, 1, Killed, (5, 300)),
    row("oomguarpages", "touched-pages", 4000, 1, Counted, (5, 300)),
    row("numtcpsock", "tcp-sockets", 20, 1, Refused("ENOBUFS"), EXACT),
    row("numtcpsock", "accepted-sockets", 20, 2, Refused("ENOBUFS"), (0, 1)),
    row("numflock", "flocks", 20, 1, Counted, EXACT),
    row("numflock", "posix-locks", 20, 1, Counted, EXACT),
    row("numpty", "terminals", 8, 1, Refused("ENOSPC"), EXACT),
    row("numsiginfo", "signals", 50, 1, Counted, EXACT),
    row("tcpsndbuf", "tcp-kib", 1000, 1024, Counted, EXACT),
    row("tcprcvbuf", "tcp-kib", 1000, 1024, Counted, EXACT),
    // Each KiB is a message of its own.
    row("othersockbuf", "unix-kib", 50, 1024, Counted, (150, 0)),
    row("dgramrcvbuf", "udp-kib", 50, 1024, Counted, (150, 0)),
    row("numothersock", "udp-sockets", 20, 1, Refused("ENOBUFS"), EXACT),
    row("numothersock", "unix-sockets", 20, 1, Counted, EXACT),
    // Long names, each known to the overlay and to the layer below.
    row("dcachesize", "dentries", 10000, 900, Counted, (75, BATCHED)),
    row("numfile", "files", 100, 1, RefusedByHooks("ENFILE"), (0, 4)),
    row("numiptent", "rules", 16, 1, Counted, EXACT),
    // Of what is touched the most is swapped: little RAM is left to it.
    row(SWAPPED, "touched-pages", 16384, 1, Killed, (25, 0)),
];

/// The counter that only a host with swap has.
const SWAPPED: &str = "swappages";
/// Pages of RAM beside it.
const BESIDE_SWAP: u64 = 1024;

/// Counters that version 1 control groups do not tell.
const NOT_IN_V1: [&str; 1] = ["dcachesize"];

/// What counting a counter costs a VE that is bounded, and whoever asks.
fn cost(counter: &str) -> &'static str {
    match counter {
        "numproc" | "kmemsize" | "shmpages" | "physpages" | "oomguarpages" | "dcachesize" | SWAPPED => {
            "none: the kernel counts"
        }
        "privvmpages" | "lockedpages" | "numsiginfo" => "a look reads `status` of each process",
        "numtcpsock" | "numothersock" => "two programs a socket",
        "numfile" => "two programs a file; elsewhere a look at each process",
        "numflock" => "a look reads the host's list of locks",
        "numpty" => "a look lists its devpts",
        "numiptent" => "a look lists its rules",
        _ => "a look lists its sockets",
    }
}

fn counters(sandbox: &Sandbox, ve: &str) -> Value {
    sandbox.vzd(&["ubc", ve, "-o", "json"]).ok().json()[0]["counters"].clone()
}

fn counter(all: &Value, name: &str) -> Value {
    all.as_array().unwrap().iter().find(|is| is["name"] == name).unwrap().clone()
}

/// What is held of a row's counter.
fn held(all: &Value, row: &Row) -> Option<u64> {
    let held = |name: &str| counter(all, name)["held"].as_u64();
    match row.counter {
        // What was sent waits on one side or on the other.
        "tcpsndbuf" | "tcprcvbuf" => Some(held("tcpsndbuf")? + held("tcprcvbuf")?),
        name => held(name),
    }
}

fn check(sandbox: &Sandbox, ve: &str, row: &Row) -> Result<(), String> {
    let Row { counter: name, drive, count, each, past, off } = *row;
    let before = counters(sandbox, ve);
    let Some(was) = held(&before, row) else {
        let known = !is_met(Need::CgroupV2) && NOT_IN_V1.contains(&name);
        return if known { Ok(()) } else { Err("is not counted".to_owned()) };
    };
    if past == Killed {
        // The number is looked at further down, with what fits.
        let ended = sandbox.exec(ve, &["/bin/guest", "drive", drive, &(2 * count).to_string()]);
        if ended.code != 137 {
            return Err(format!("twice as many were had: {ended:?}"));
        }
        // What was refused at last is RAM.
        let killed = if name == SWAPPED { "physpages" } else { name };
        within(vzd_tests::LONG, "the kill is counted", || {
            counter(&counters(sandbox, ve), killed)["failcnt"].as_u64().filter(|times| *times > 0)
        });
    }
    let wanted = if past == Killed { count / 2 } else { count + count / 5 + 1 };
    let Driven { made, errno } = sandbox.drive(ve, drive, wanted);
    let refusal = || counter(&counters(sandbox, ve), name)["failcnt"].as_u64();
    let past = match past {
        RefusedByHooks(errno) if is_met(Need::BpfLsm) => Refused(errno),
        RefusedByHooks(_) => Counted,
        past => past,
    };
    match past {
        Refused(expected) => {
            if errno.as_deref() != Some(expected) || made > count {
                return Err(format!("{made} of {wanted} were had, then {errno:?}"));
            }
            if refusal() < Some(1) && name != "numpty" && name != "shmpages" {
                return Err("refusals are not counted".to_owned());
            }
        }
        Counted if made != wanted => return Err(format!("{made} of {wanted} were had, then {errno:?}")),
        Counted if refusal() != Some(0) => return Err(format!("failcnt is {:?}", refusal())),
        Counted | Killed | RefusedByHooks(_) => {}
    }
    let taken = made * each;
    let may_be_off = taken * off.0 / 100 + off.1;
    let mut grown = 0;
    // Some of the kernel's numbers come a moment later.
    let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        within(Duration::from_secs(5), "the number is right", || {
            grown = held(&counters(sandbox, ve), row)?.saturating_sub(was);
            (grown.abs_diff(taken) <= may_be_off).then_some(())
        });
    }));
    settled.map_err(|_| format!("grew by {grown} where {taken} were taken, more than {may_be_off} off"))
}

#[test]
fn every_counter_is_driven_to_its_barrier_and_past() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let rows: Vec<_> = ROWS.iter().filter(|row| row.counter != SWAPPED).collect();
    let names: Vec<_> = (0..rows.len()).map(|at| format!("c{at}")).collect();
    for (ve, row) in names.iter().zip(&rows) {
        // Where the host swaps, memory would go there first.
        let swap = (row.past == Killed).then_some("0:0");
        sandbox.ve(ve, json!({ "beancounters": { row.counter: bound(row), "swappages": swap } }));
    }
    sandbox.apply();
    let wrong: Vec<_> = names
        .iter()
        .zip(&rows)
        .filter_map(|(ve, row)| {
            let failed = check(&sandbox, ve, row).err();
            // Holds nothing while others are driven.
            sandbox.vzd(&["stop", "--force", ve]);
            failed.map(|why| format!("{} by {}: {why}", row.counter, row.drive))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A swap file of the host, for as long as this is kept.
struct Swap(tempfile::TempDir);

impl Swap {
    fn on() -> Swap {
        let swap = Swap(tempfile::tempdir_in("/").unwrap());
        let file = swap.file();
        let size =
            4 * ROWS.iter().filter(|row| row.counter == SWAPPED).map(|row| row.count * 4096).sum::<u64>();
        run("/usr/bin/fallocate", &["-l", &size.to_string(), &file]);
        run("/bin/chmod", &["600", &file]);
        run("/bin/busybox", &["mkswap", &file]);
        run("/bin/busybox", &["swapon", &file]);
        swap
    }

    fn file(&self) -> String {
        self.0.path().join("swap").display().to_string()
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        run("/bin/busybox", &["swapoff", &self.file()]);
    }
}

fn run(program: &str, words: &[&str]) {
    let output = std::process::Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
}

#[test]
fn swap_is_driven_to_its_end_and_past() {
    needs!(Root, Cgroups, Busybox, Swap);
    let _swap = Swap::on();
    let sandbox = Sandbox::new();
    for row in ROWS.iter().filter(|row| row.counter == SWAPPED) {
        let ram = format!("0:{BESIDE_SWAP}");
        sandbox.ve("swaps", json!({ "beancounters": { "physpages": ram, "swappages": bound(row) } }));
        sandbox.apply();
        check(&sandbox, "swaps", row).unwrap();
        sandbox.vzd(&["stop", "--force", "swaps"]).ok();
    }
}

fn bound(row: &Row) -> String {
    match row.counter {
        "physpages" | SWAPPED => format!("0:{}", row.count),
        "oomguarpages" => format!("{}:unlimited", row.count),
        // Accepted sockets are not counted against the barrier; those made to connect are.
        _ if row.drive == "accepted-sockets" => row.count.to_string(),
        _ => (row.count * row.each).to_string(),
    }
}

#[test]
fn the_documented_table_is_what_is_tested() {
    needs!(Root);
    let mut table = String::from(
        "| counter | driven by | version 1, no BPF LSM | Debian, version 2 | the number is | cost |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let counted = if NOT_IN_V1.contains(&row.counter) { "not told" } else { "counted" };
        let (here, debian) = match row.past {
            Refused(errno) => (format!("refused, {errno}"), format!("refused, {errno}")),
            RefusedByHooks(errno) => (counted.to_owned(), format!("refused, {errno}")),
            // Where the tests' hosts have no swap, nothing was driven.
            Killed if row.counter == SWAPPED => ("not tried".to_owned(), "killed".to_owned()),
            Killed => ("killed".to_owned(), "killed".to_owned()),
            Counted => (counted.to_owned(), "counted".to_owned()),
        };
        let off = match row.off {
            EXACT => "exact".to_owned(),
            (0, units) => format!("± {units}"),
            (percent, 0) => format!("± {percent} %"),
            (percent, units) => format!("± {percent} % ± {units}"),
        };
        let cost = cost(row.counter);
        let _ = writeln!(table, "| {} | {} | {here} | {debian} | {off} | {cost} |", row.counter, row.drive);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guides/beancounters.md");
    // A guest of the lab has no documents.
    let Ok(text) = std::fs::read_to_string(path) else { return };
    assert!(text.contains(&table), "docs/guides/beancounters.md should have:\n{table}");
}
