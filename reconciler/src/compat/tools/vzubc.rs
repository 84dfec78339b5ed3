//! `vzubc`: user beancounters for people: pages as sizes, what is near its limit, what was refused since last time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value as Json};
use vzd_state::subsystem::beancounters::{UNLIMITED, Unit};

use super::super::args::{self, Opt, Said, flag, value};
use super::super::exit::{Refusal, Tool};
use super::{control, finish, print, settings};
use crate::control::{CounterView, Selector, VeCounters};
use crate::store::{Writes, atomic};
use crate::user_beancounters::read;

pub(crate) const USAGE: &str = "\
Usage: vzubc [option ...] [<CTID|NAME> ...]
  -q, --quiet            only what was refused, or is near its limit
  -qh, --qheld RATIO     ... held above that part of the barrier (0.5)
  -qm, --qmaxheld RATIO  ... maxheld above that part of the barrier (0.8)
  -v, --verbose          also what has no limit
  -r, --relative         refusals since the last run
  -rc, --rclear          forget what was refused before
  -rd, --rdir DIR        where that is kept (/tmp/vzubc.store; here: the run directory)
  -i, --incremental      what held has changed by since the last run
  -ic, --iclear          forget that
  -c, --color            colours
  -f, --file FILE        of this file instead, or of standard input (-): the text of user_beancounters
  -w, --watch            again and again; -wn SECONDS between
";
const KNOWN: &[Opt] = &[
    flag("quiet"),
    value("qheld"),
    value("qmaxheld"),
    flag("verbose"),
    flag("relative"),
    flag("rclear"),
    value("rdir"),
    flag("incremental"),
    flag("iclear"),
    flag("color"),
    value("file"),
    flag("watch"),
    value("wn"),
    flag("wd"),
    flag("wt"),
    flag("help"),
];
/// Short options have more than one letter here.
const SHORT: &[(&str, &str)] = &[
    ("-q", "--quiet"),
    ("-qh", "--qheld"),
    ("-qm", "--qmaxheld"),
    ("-v", "--verbose"),
    ("-r", "--relative"),
    ("-rc", "--rclear"),
    ("-rd", "--rdir"),
    ("-i", "--incremental"),
    ("-ic", "--iclear"),
    ("-c", "--color"),
    ("-f", "--file"),
    ("-w", "--watch"),
    ("-wn", "--wn"),
    ("-wd", "--wd"),
    ("-wt", "--wt"),
    ("-h", "--help"),
];

/// What is shown.
#[derive(Debug, Clone, Copy)]
struct Look {
    quiet: bool,
    held: f64,
    maxheld: f64,
    verbose: bool,
    relative: bool,
    incremental: bool,
    colour: bool,
}

/// Numbers of the last run, by container and counter.
type Before = BTreeMap<(u32, String), (u64, u64)>;

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(words))
}

fn run(words: Vec<String>) -> Tool {
    let long = |word: String| {
        let known = SHORT.iter().find(|(short, _)| *short == word);
        known.map_or(word, |(_, long)| (*long).to_owned())
    };
    let words: Vec<String> = words.into_iter().map(long).collect();
    let said = args::parse(KNOWN, &words).map_err(|why| Refusal::new(1, format!("{why}\n{USAGE}")))?;
    if said.has("help") {
        print(USAGE);
        return Ok(0);
    }
    let look = Look {
        quiet: said.has("quiet") || said.has("qheld") || said.has("qmaxheld"),
        held: ratio(&said, "qheld", 0.5)?,
        maxheld: ratio(&said, "qmaxheld", 0.8)?,
        verbose: said.has("verbose"),
        relative: said.has("relative"),
        incremental: said.has("incremental"),
        colour: said.has("color"),
    };
    let pause = ratio(&said, "wn", 2.0)?;
    let watch = said.has("watch") || said.has("wn") || said.has("wd") || said.has("wt");
    let dir = said.last("rdir").map_or_else(|| settings().run_dir.join("vzubc"), PathBuf::from);
    if said.has("rclear") || said.has("iclear") {
        store(&dir, &[])?;
    }
    loop {
        let ves = match said.last("file") {
            Some(file) => of_file(file, &said.words)?,
            None => {
                let names = said.words.clone();
                let select = Selector { all: names.is_empty(), names, ..Selector::default() };
                control()?.counters(&select).map_err(|error| Refusal::of(1, &error))?
            }
        };
        let before = if look.relative || look.incremental { stored(&dir) } else { Before::new() };
        let text = ves.iter().map(|ve| table(ve, look, &before)).collect::<String>();
        if look.relative || look.incremental {
            store(&dir, &ves)?;
        }
        if !watch {
            print(&text);
            return Ok(0);
        }
        print(&format!("\x1b[H\x1b[2J{text}"));
        std::thread::sleep(Duration::from_secs_f64(pause));
    }
}

/// What a file says, of all or of those.
fn of_file(file: &str, names: &[String]) -> Tool<Vec<VeCounters>> {
    let text = match file {
        "-" => std::io::read_to_string(std::io::stdin()),
        path => std::fs::read_to_string(path),
    };
    let text = text.map_err(|error| Refusal::new(1, format!("cannot read {file}: {error}")))?;
    let mut ves = read(&text).map_err(|why| Refusal::new(1, format!("cannot read {file}: {why}")))?;
    ves.retain(|ve| names.is_empty() || names.contains(&ve.name));
    if ves.is_empty() {
        return Err(Refusal::new(1, format!("{file} tells nothing of these containers")));
    }
    Ok(ves)
}

fn ratio(said: &Said, option: &str, default: f64) -> Tool<f64> {
    let Some(text) = said.last(option) else { return Ok(default) };
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| Refusal::new(1, format!("`{text}` is no number for --{option}")))
}

fn table(ve: &VeCounters, look: Look, before: &Before) -> String {
    let mut rows = String::new();
    for view in ve.counters.iter().filter(|view| is_shown(view, look)) {
        let known = before.get(&(ve.ctid, view.name.to_string())).copied();
        let bytes = |number: u64| if view.unit == Unit::Pages { number.saturating_mul(4096) } else { number };
        let cell = |number: u64| match number {
            0 | UNLIMITED => "-".to_owned(),
            number => amount(bytes(number), view.unit),
        };
        let (held, maxheld) = (view.held.unwrap_or(0), view.maxheld.unwrap_or(0));
        let part = |of: u64, bound: u64| match bound {
            0 | UNLIMITED => String::new(),
            _ if of == 0 => String::new(),
            bound => format!("{:.0}%", of as f64 * 100.0 / bound as f64),
        };
        let held_text = match known.filter(|_| look.incremental && known.is_some_and(|(_, was)| was != held))
        {
            Some((_, was)) if held > was => {
                format!("{} +{}", cell(held), amount(bytes(held - was), view.unit))
            }
            Some((_, was)) => format!("{} -{}", cell(held), amount(bytes(was - held), view.unit)),
            None => cell(held),
        };
        let failcnt = match (look.relative, view.failcnt.saturating_sub(known.map_or(0, |(fails, _)| fails)))
        {
            (_, 0) => "-".to_owned(),
            (true, new) => format!("+ {new}"),
            (false, all) => all.to_string(),
        };
        let line = format!(
            "{:>12}|{:>8} {:>4} {:>4}|{:>8} {:>4} {:>4}|{:>8}|{:>8}| {failcnt:>8}",
            view.name.to_string(),
            held_text,
            part(held, view.barrier),
            part(held, view.limit),
            cell(maxheld),
            part(maxheld, view.barrier),
            part(maxheld, view.limit),
            cell(view.barrier),
            cell(view.limit),
        );
        let bad = look.colour && failcnt != "-";
        let _ = if bad { writeln!(rows, "\x1b[31m{line}\x1b[0m") } else { writeln!(rows, "{line}") };
    }
    if rows.is_empty() && look.quiet {
        return String::new();
    }
    let rule = "-".repeat(80);
    let name = if ve.name == ve.ctid.to_string() { String::new() } else { format!(" ({})", ve.name) };
    format!(
        "{rule}\nCT {}{name}| HELD Bar% Lim%| MAXH Bar% Lim%| BAR | LIM | FAIL{}\n{rule}\n{rows}",
        ve.ctid,
        if look.relative { "+" } else { "" },
    )
}

fn is_shown(view: &CounterView, look: Look) -> bool {
    if look.quiet {
        let near = |of: Option<u64>, ratio: f64| {
            view.barrier > 0
                && view.barrier != UNLIMITED
                && of.unwrap_or(0) as f64 > ratio * view.barrier as f64
        };
        return view.failcnt > 0 || near(view.held, look.held) || near(view.maxheld, look.maxheld);
    }
    look.verbose
        || view.failcnt > 0
        || view.limit != UNLIMITED
        || view.barrier != UNLIMITED && view.barrier > 0
}

/// With at most four characters, as vzubc shows sizes.
fn amount(number: u64, unit: Unit) -> String {
    if unit == Unit::Items && number < 10_000 {
        return number.to_string();
    }
    let units = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];
    match units.into_iter().find(|(_, shift)| number >> shift > 0) {
        Some((name, shift)) => {
            let value = number as f64 / (1_u64 << shift) as f64;
            if value < 10.0 {
                format!("{value:.2}{name}")
            } else if value < 100.0 {
                format!("{value:.1}{name}")
            } else {
                format!("{value:.0}{name}")
            }
        }
        None => number.to_string(),
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("last.json")
}

/// What the last run noted; nothing if it cannot be read.
fn stored(dir: &Path) -> Before {
    let text = std::fs::read_to_string(file(dir)).unwrap_or_default();
    let all: Map<String, Json> = serde_json::from_str(&text).unwrap_or_default();
    let one = |(key, value): (&String, &Json)| {
        let (ctid, counter) = key.split_once('.')?;
        Some(((ctid.parse().ok()?, counter.to_owned()), (value[0].as_u64()?, value[1].as_u64()?)))
    };
    all.iter().filter_map(one).collect()
}

fn store(dir: &Path, ves: &[VeCounters]) -> Tool<()> {
    let one = |ve: &VeCounters, view: &CounterView| {
        (format!("{}.{}", ve.ctid, view.name), Json::from(vec![view.failcnt, view.held.unwrap_or(0)]))
    };
    let all: Map<String, Json> =
        ves.iter().flat_map(|ve| ve.counters.iter().map(move |view| one(ve, view))).collect();
    let cannot = |error: String| Refusal::new(1, error);
    std::fs::create_dir_all(dir)
        .map_err(|error| cannot(format!("cannot make {}: {error}", dir.display())))?;
    let written = atomic::write(&file(dir), Json::Object(all).to_string().as_bytes(), &Writes::default());
    written.map(drop).map_err(|error| cannot(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::basic;
    use super::*;

    const LOOK: Look = Look {
        quiet: false,
        held: 0.5,
        maxheld: 0.8,
        verbose: false,
        relative: false,
        incremental: false,
        colour: false,
    };

    #[test]
    fn the_table_shows_sizes_and_parts() {
        insta::assert_snapshot!(table(&basic(), LOOK, &Before::new()));
        assert_eq!(table(&basic(), Look { quiet: true, ..LOOK }, &Before::new()), "");
        let mut ve = basic();
        ve.counters[0].failcnt = 7;
        let before = Before::from([((101, "kmemsize".to_owned()), (5, 2_000_000))]);
        let text = table(&ve, Look { quiet: true, relative: true, incremental: true, ..LOOK }, &before);
        assert!(text.contains("FAIL+") && text.contains("+ 2") && text.contains("+843K"), "{text}");
    }
}
