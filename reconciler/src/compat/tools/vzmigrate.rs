//! `vzmigrate`: hands containers over to another host, as `vzd migrate` does. The other host is asked before anything is
//! changed, and what is left here is kept in quarantine.

use std::time::Instant;

use super::super::args::{self, Opt, Said, flag, value};
use super::super::exit::{Refusal, Tool};
use super::{control, finish, print};
use crate::cli::Context;
use crate::cli::migrate::{self, Unmoved};
use crate::cli::output::{Format, Out, When, harmless, note};
use crate::compat::settings;
use crate::control::Selector;
use crate::handover::problem::Kind;

pub(crate) const USAGE: &str = "\
Usage: vzmigrate [-r yes|no] [--ssh=<options>] [--live] [--check-only] [-f | --nodeps[=cpu,ipv6,all]] [--compress] [-t] [-v]
          <host> <CTID|NAME> ...";

/// The command line is wrong.
const BAD_USAGE: u8 = 1;
/// It is to be moved while it runs, and does not run.
const STOPPED: u8 = 2;
/// It could not be handed over, for a reason that has no code of its own; it is told in words.
const FAILED: u8 = 7;
/// There is none here.
const MISSING: u8 = 10;
/// Somebody else works on it.
const LOCKED: u8 = 20;

/// Options that cannot be carried out, and why.
const REFUSED: &[(&str, &str)] = &[
    ("rsync", "files go over the one connection, without rsync"),
    ("keep-dst", "the other host removes what it has of one that failed: nothing could go on from it"),
];

/// Options that mean something here, have nothing to do, or are refused with a reason. Others are errors.
const KNOWN: &[Opt] = &[
    value("remove-area").short('r'),
    value("ssh"),
    flag("ssh-mux"),
    flag("live"),
    flag("online"),
    flag("compact").short('c'),
    flag("snapshot").short('s'),
    flag("check-only"),
    flag("dry-run"),
    flag("compress"),
    flag("times").short('t'),
    flag("").short('v'),
    flag("help").short('h'),
    flag("nodeps").short('f'),
    value("rsync"),
    flag("keep-dst"),
];

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(&words))
}

fn run(words: &[String]) -> Tool {
    let bad = |why: String| Refusal::new(BAD_USAGE, format!("{why}\n{USAGE}"));
    let (words, nodeps) = without_checks(words).map_err(bad)?;
    let mut said = args::parse(KNOWN, &words).map_err(bad)?;
    if nodeps {
        said.options.push(("nodeps".to_owned(), String::new()));
    }
    if said.has("help") {
        print(&format!("{USAGE}\n"));
        return Ok(0);
    }
    if let Some((option, why)) = REFUSED.iter().find(|(option, _)| said.has(option)) {
        return Err(bad(format!("--{option}: {why}")));
    }
    if let Some(word) = said.last("remove-area").filter(|word| !matches!(*word, "yes" | "no")) {
        return Err(bad(format!("-r takes yes or no, not `{word}`")));
    }
    let [host, containers @ ..] = said.words.as_slice() else {
        return Err(bad("of what, and where?".to_owned()));
    };
    if containers.is_empty() {
        return Err(bad("of what?".to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._:%-[]".contains(c);
    if host.starts_with('-') || !host.chars().all(plain) {
        return Err(bad(format!("`{host}` is no name of a host")));
    }
    // What one comes to is no matter of the others; the first code is the tool's.
    let codes = containers.iter().map(|id| one(&said, host, id).unwrap_or_else(told)).collect::<Vec<_>>();
    Ok(codes.into_iter().find(|code| *code != 0).unwrap_or(0))
}

/// The words without those that say which checks are not made, and whether processors are among them. All others stay: what
/// they find would be met later, with the container down. IPv6 needs no module here that could be missing.
fn without_checks(words: &[String]) -> Result<(Vec<String>, bool), String> {
    let mut any_cpu = false;
    let mut kept = Vec::new();
    for word in words {
        let Some(checks) = word.strip_prefix("--nodeps=") else {
            kept.push(word.clone());
            continue;
        };
        for check in checks.split(',') {
            match check {
                "cpu" | "all" => any_cpu = true,
                "ipv6" => {}
                _ => return Err(format!("--nodeps: `{check}` is none of cpu, ipv6, all")),
            }
        }
    }
    Ok((kept, any_cpu))
}

/// How it ends for what stood in the way.
fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Unreached => 4,
        Kind::Files => 6,
        Kind::Suspend => 8,
        Kind::Exists => 9,
        Kind::Address => 12,
        Kind::NoVzd => 14,
        Kind::Manifest => 15,
        Kind::Disk => 16,
        Kind::Version => 17,
        Kind::Processor => 18,
        Kind::Resume | Kind::Other => FAILED,
    }
}

fn told(refusal: Refusal) -> u8 {
    refusal.message.lines().for_each(|line| note(&harmless(line).to_string()));
    refusal.exit
}

fn one(said: &Said, host: &str, id: &str) -> Tool {
    let began = Instant::now();
    let select = Selector { names: vec![id.to_owned()], ..Selector::default() };
    let found = control()?.list(&select, false);
    let found = match found {
        Ok(documents) => documents.into_iter().next(),
        Err(error) if error.code == "VZ0307" => None,
        Err(error) => return Err(Refusal::of(FAILED, &error)),
    };
    let found = found.ok_or_else(|| Refusal::new(MISSING, format!("Container {id} does not exist")))?;
    if (said.has("live") || said.has("online")) && found.status.init_pid.is_none() {
        return Err(Refusal::new(STOPPED, format!("Container {id} does not run")));
    }
    let name = found.metadata.name.to_string();
    let check = said.has("check-only") || said.has("dry-run");
    let (to, via) = match said.last("ssh") {
        // Its options are words for a shell, as they were.
        Some(options) => (None, Some(format!("ssh {options} -- '{host}' vzd"))),
        None => (Some(host.to_owned()), None),
    };
    print(&format!("Starting migration of CT {} to {host}\n", harmless(id)));
    let mut cx = Context { settings: settings(), out: Out::new(Format::Table, When::Auto) };
    let args = migrate::Args::of(name, to, via)
        .only_asked(check)
        .on_any_cpu(said.has("nodeps"))
        .compressed(said.has("compress"));
    let handed = migrate::hand_over(&args, &mut cx);
    handed.map_err(|Unmoved { kind, failure }| {
        let exit = if failure.code.as_deref() == Some("VZ0402") { LOCKED } else { code(kind) };
        let causes = failure.causes.iter().map(|cause| format!("\n  {cause}")).collect::<String>();
        Refusal::new(exit, format!("Error: {}{causes}", failure.message))
    })?;
    if said.has("times") || said.has("v") {
        print(&format!("{:>30}: {:.2}\n", "Total time", began.elapsed().as_secs_f64()));
    }
    if !check {
        print("Migration completed\n");
    }
    Ok(0)
}
