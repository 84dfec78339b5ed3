//! `vzd packages`: software of VEs' distributions, brought up to date by their own package managers.

use crate::cli::Context;
use crate::cli::exec::{self, Several};
use crate::cli::failure::Outcome;
use crate::cli::select::ChosenOrAll;
use crate::drivers::packages::SCRIPT;
use crate::runtime::enter;

/// Options of `vzd packages`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Bring the packages of VEs up to date, several VEs at a time
    Update(Update),
}

#[derive(Debug, clap::Args)]
struct Update {
    #[command(flatten)]
    ves: ChosenOrAll,
    /// Only what has security fixes, where the distribution tells which these are
    #[arg(long)]
    security: bool,
    /// In so many VEs at a time
    #[arg(short, long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    jobs: u16,
    /// Show the output of several VEs one after the other instead of line by line
    #[arg(long)]
    group: bool,
}

/// Carries it out.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let Command::Update(Update { ves, security, jobs, group }) = args.command;
    let mode = if security { "security" } else { "all" };
    let words = ["/bin/sh", "-c", SCRIPT, "vzd-packages", "update", mode];
    let command = enter::Command {
        argv: words.map(str::to_owned).into(),
        env: enter::default_env("dumb"),
        cwd: "/".into(),
    };
    exec::in_several(&ves.required()?, &command, &Several { jobs, group, stdin: false }, cx)
}
