//! `vzd exec`: runs a command inside one VE, or inside many.
//!
//! This process asks who answers for the VEs how they are entered. For one VE it then becomes the process
//! that enters ([`inside`]), so that pipes, signals and the status are the program's own; for many it
//! starts one such process a VE ([`many`]).

mod apart;
pub mod inside;
mod lines;
mod many;
mod order;
mod pump;
mod relay;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::exec::many::Manner;
pub use crate::cli::exec::order::Order;
use crate::cli::failure::{Failure, NOT_ENTERED, Outcome};
use crate::cli::select::ChosenOrAll;
use crate::cli::terminal;
use crate::control::{Entrance, Selector};
use crate::engine::Access;
use crate::error::SysError;
use crate::runtime::enter;
use crate::settings::Settings;

/// What `--help` says at its end.
const AFTER_HELP: &str = "Exit status: the command's own, 128+N if signal N ended it, 127 if it does not exist, 126 if it \
    cannot be executed, 125 if vzd cannot enter the VE. For several VEs it is the highest of all.\n\n\
    With one VE standard input is passed on; with several it is empty unless -i is given.";

/// Options of `vzd exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    ves: ChosenOrAll,
    /// On a terminal of the VE, even if this is none
    #[arg(short, long, conflicts_with = "no_tty")]
    tty: bool,
    /// Not on a terminal, even if this is one
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Give standard input to each of several VEs
    #[arg(short = 'i', long)]
    stdin: bool,
    /// In so many VEs at a time
    #[arg(short, long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    jobs: u16,
    /// Show the output of several VEs one after the other instead of line by line
    #[arg(long)]
    group: bool,
    /// Set a variable of its environment
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// Run it in this directory of the VE
    #[arg(short, long, default_value = "/", value_name = "DIR")]
    workdir: PathBuf,
    /// Command and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command line's command.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let selector = args.ves.required()?;
    let terminal = args.tty || !args.no_tty && inside::on_terminal();
    let command = enter::Command { argv: args.command, env: environment(args.env), cwd: args.workdir };
    if is_one(&selector) {
        let entrance = one(&cx.settings, &selector)?;
        return Err(become_inside(order(&cx.settings, entrance, command, terminal)));
    }
    if args.tty {
        return Err(Failure::usage("a terminal can only be that of one VE"));
    }
    let several = Several { jobs: args.jobs, group: args.group, stdin: args.stdin };
    in_several(&selector, &command, &several, cx)
}

/// How something is run in several VEs.
pub struct Several {
    /// In so many at a time.
    pub jobs: u16,
    /// The output of each VE when it has ended, not line by line.
    pub group: bool,
    /// Each gets standard input.
    pub stdin: bool,
}

/// Runs a command in all VEs that are meant, with their output told apart; the highest status is the exit code.
pub fn in_several(
    selector: &Selector,
    command: &enter::Command,
    several: &Several,
    cx: &mut Context,
) -> Outcome {
    let entrances = entrances(&cx.settings, selector)?;
    let orders = entrances
        .into_iter()
        .map(|entrance| Order { supervised: true, ..order(&cx.settings, entrance, command.clone(), false) })
        .collect();
    let Several { jobs, group, stdin } = *several;
    many::run(orders, &Manner { jobs: usize::from(jobs), group, stdin }, &mut cx.out)
}

/// Whether exactly one VE is meant, whatever there is.
fn is_one(selector: &Selector) -> bool {
    selector.names.len() == 1 && selector.labels.is_empty() && !selector.all
}

/// How to enter running VEs; that there is none is an error.
fn entrances(settings: &Settings, selector: &Selector) -> Result<Vec<Entrance>, Failure> {
    let control = connect(settings, Access::Read).map_err(not_entered)?;
    let entrances = control.entrances(selector).map_err(not_entered)?;
    if entrances.is_empty() {
        return Err(Failure::new("none of the VEs is running").exiting(NOT_ENTERED));
    }
    Ok(entrances)
}

/// How to enter the one VE that is meant.
pub fn one(settings: &Settings, selector: &Selector) -> Result<Entrance, Failure> {
    let mut entrances = entrances(settings, selector)?;
    Ok(entrances.swap_remove(0))
}

fn not_entered(error: impl Into<Failure>) -> Failure {
    error.into().exiting(NOT_ENTERED)
}

/// An order of this process for one VE.
pub fn order(settings: &Settings, entrance: Entrance, command: enter::Command, terminal: bool) -> Order {
    Order { entrance, run_dir: settings.run_dir.clone(), command, terminal, supervised: false, missing: None }
}

/// Becomes the process that carries the order out; returns only when that failed.
pub fn become_inside(order: Order) -> Failure {
    match order.seal() {
        Ok(sealed) => {
            let error = SysError::new("execute", "/proc/self/exe", sealed.command().exec());
            inside::not_entered(error)
        }
        Err(error) => inside::not_entered(error),
    }
}

/// The environment of a program in a VE: the usual one, and what was asked for instead.
pub fn environment(asked: Vec<String>) -> Vec<String> {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let mut env = enter::default_env(&terminal::kind());
    for pair in asked {
        env.retain(|known| name(known) != name(&pair));
        env.push(pair);
    }
    env
}

fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_replaces_what_is_usual() {
        let env = environment(vec!["HOME=/a".to_owned(), "X=1=2".to_owned(), "HOME=/b".to_owned()]);
        let home: Vec<_> = env.iter().filter(|pair| pair.starts_with("HOME=")).collect();
        assert_eq!(home, ["HOME=/b"]);
        assert!(env.contains(&"X=1=2".to_owned()));
    }
}
