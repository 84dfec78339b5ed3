//! `vzlist`: containers as a table or as JSON.

pub mod columns;
mod row;

use std::io::Write;

use super::args::{self, Opt, flag, value};
use super::exit::{Refusal, Tool};
use super::settings;
use crate::cli::connect::connect;
use crate::cli::output::{harmless, note};
use crate::control::{Control, Selector};
use crate::drivers::disk::host_mount;
use crate::engine::Access;
use columns::Column;
use row::{Cell, Row};

const KNOWN: &[Opt] = &[
    flag("all").short('a'),
    flag("stopped").short('S'),
    flag("no-header").short('H'),
    flag("no-trim").short('t'),
    flag("name").short('n'),
    flag("json").short('j'),
    value("output").short('o'),
    value("sort").short('s'),
    value("hostname").short('h'),
    value("name_filter").short('N'),
    value("description").short('d'),
    flag("list").short('L'),
    flag("").short('1'),
    flag("help"),
];

pub(crate) const USAGE: &str = "\
Usage: vzlist [-a | -S] [-n] [-H] [-t] [-o field[,field...] | -1] [-s [-]field] [-h pattern] [-N pattern]
              [-d pattern] [-j] [CTID|NAME ...]
       vzlist -L | --list
Options:
    -a, --all           list all containers
    -S, --stopped       list stopped containers
    -n, --name          display containers' names
    -H, --no-header     suppress columns header
    -t, --no-trim       do not trim long values
    -j, --json          output in JSON format
    -o, --output        output only specified fields
    -1                  synonym for -H -octid
    -s, --sort          sort by the specified field ('-field' to reverse sort order)
    -h, --hostname      filter by hostname pattern
    -N, --name_filter   filter by name pattern
    -d, --description   filter by description pattern
    -L, --list          get possible field names
";

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    run(&words).unwrap_or_else(|refusal| {
        if !refusal.message.is_empty() {
            note(&refusal.message);
        }
        refusal.exit
    })
}

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::new(1, message)
}

fn run(words: &[String]) -> Tool {
    let said = args::parse(KNOWN, words).map_err(|why| wrong(format!("{why}\n{USAGE}")))?;
    if said.has("help") {
        print(USAGE);
        return Ok(0);
    }
    if said.has("list") {
        let lines =
            columns::all().iter().map(|column| format!("{:<15} {:<15}\n", column.name, column.header));
        print(&lines.collect::<String>());
        return Ok(0);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(wrong("This program can only be run under root."));
    }
    let one = said.has("1");
    let default = match (one, said.has("name")) {
        (true, _) => "ctid",
        (_, true) => "smart_name,numproc,status,ip,hostname",
        _ => "ctid,numproc,status,ip,hostname",
    };
    let asked = said.last("output").filter(|_| !one).unwrap_or(default);
    let find = |name: &str| columns::find(name).ok_or_else(|| wrong(format!("Unknown field: {name}")));
    let mut shown: Vec<&Column> = asked.split(',').map(find).collect::<Tool<_>>()?;
    if said.has("json") && said.last("output").is_none() && !one && !said.has("name") {
        shown = columns::all().iter().filter(|column| column.is_whole()).collect();
    }
    let sort = said.last("sort").unwrap_or(if said.has("name") { "smart_name" } else { "ctid" });
    let (reverse, sort) = sort.strip_prefix('-').map_or((false, sort), |name| (true, name));
    let sort = find(sort)?;

    let control = connect(&settings(), Access::Read).map_err(|error| Refusal::of(1, &error))?;
    let usage = shown.iter().any(|column| column.needs_usage()) || sort.needs_usage();
    let mut rows = read(&*control, &said.words, usage)?;
    if rows.is_empty() {
        if said.has("json") {
            print("[]\n");
            return Ok(u8::from(!said.words.is_empty()));
        }
        return Err(wrong("Container(s) not found"));
    }
    let patterns = [("hostname", "hostname"), ("name_filter", "name"), ("description", "description")];
    for (option, column) in patterns {
        let Some(pattern) = said.last(option) else { continue };
        let column = find(column)?;
        rows.retain(|row| matches!(column.cell(row), Cell::Text(text) if matches(pattern, &text)));
    }
    let all = said.has("all") || !said.words.is_empty();
    rows.retain(|row| if said.has("stopped") { !row.runs() } else { all || row.runs() });
    // What is equal comes by number, whichever way the rest goes.
    rows.sort_by_key(Row::ctid);
    rows.sort_by(|a, b| if reverse { sort.compare(b, a) } else { sort.compare(a, b) });
    print(&if said.has("json") {
        json(&shown, &rows)
    } else {
        table(&shown, &rows, !one && !said.has("no-header"), !said.has("no-trim"))
    });
    Ok(0)
}

/// Those that are named, or all. A name that is not known is no error as long as another is.
fn read(control: &dyn Control, names: &[String], usage: bool) -> Tool<Vec<Row>> {
    let all = Selector { all: true, ..Selector::default() };
    let failed = |error| Refusal::of(1, &error);
    let mut documents = control.list(&all, false).map_err(failed)?;
    if !names.is_empty() {
        documents.retain(|document| {
            let ctid = document.status.ctid.map(|ctid| ctid.get().to_string());
            names.iter().any(|name| {
                let known =
                    [Some(document.metadata.name.as_str()), document.metadata.alias(), ctid.as_deref()];
                known.contains(&Some(name))
            })
        });
    }
    // Without a number it has not been made yet.
    documents.retain(|document| document.status.ctid.is_some());
    let mut uses = std::collections::BTreeMap::new();
    if usage && documents.iter().any(|document| document.status.init_pid.is_some()) {
        uses = control.usage(&all).map_err(failed)?.into_iter().map(|is| (is.name.clone(), is)).collect();
    }
    let ves = settings().ves_dir();
    let mounts = host_mount::all().map_err(|error| wrong(error.to_string()))?;
    let row = |document: vzd_state::status::Document| {
        let usage = uses.remove(document.metadata.name.as_str());
        let uid = document.metadata.uid.as_ref();
        let private = uid.map(|uid| ves.join(uid.to_string()).display().to_string());
        let mounted = uid.and_then(|uid| mounts.get(uid.as_str())).map(|at| at.display().to_string());
        Row { document, private, mounted, usage }
    };
    Ok(documents.into_iter().map(row).collect())
}

fn table(shown: &[&Column], rows: &[Row], header: bool, trim: bool) -> String {
    let mut text = String::new();
    if header {
        let headings: Vec<_> = shown.iter().map(|column| column.heading()).collect();
        text += &format!("{}\n", headings.join(" ").trim_end());
    }
    for row in rows {
        let cells =
            shown.iter().enumerate().map(|(at, column)| column.shown(row, at + 1 == shown.len(), trim));
        text += &format!("{}\n", harmless(cells.collect::<Vec<_>>().join(" ").trim_end()));
    }
    text
}

fn json(shown: &[&Column], rows: &[Row]) -> String {
    let object = |row: &Row| {
        let entries = shown.iter().map(|column| format!("    \"{}\": {}", column.name, column.json(row)));
        format!("  {{\n{}\n  }}", entries.collect::<Vec<_>>().join(",\n"))
    };
    if rows.is_empty() {
        return "[\n]\n".to_owned();
    }
    format!("[\n{}\n]\n", rows.iter().map(object).collect::<Vec<_>>().join(",\n"))
}

/// fnmatch(3) without flags.
fn matches(pattern: &str, text: &str) -> bool {
    glob::Pattern::new(&pattern.replace("[^", "[!")).is_ok_and(|pattern| pattern.matches(text))
}

fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
