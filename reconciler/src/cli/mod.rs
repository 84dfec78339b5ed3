//! The command line: what can be said, and which file carries it out. One file a command.
//!
//! A command asks a [`Control`](crate::control::Control), whoever that is, and shows what it says. It
//! decides nothing about VEs and touches no kernel object, but for `exec`, `enter` and `console`, which
//! are about the caller's own terminal and descriptors. Data goes to stdout, everything else to stderr.

mod apply;
mod checkpoint;
mod clone;
mod completions;
pub(crate) mod connect;
pub(crate) mod console;
mod describe;
mod drift;
pub(crate) mod enter;
mod events;
pub(crate) mod exec;
mod explain;
mod export;
pub(crate) mod failure;
mod get;
mod keeper;
mod man;
pub(crate) mod migrate;
mod net;
pub(crate) mod output;
mod packages;
mod pki;
mod plan;
mod power;
mod progress;
mod ps;
pub(crate) mod reinstall;
mod run;
mod schema;
mod select;
pub(crate) mod shown;
pub(crate) mod snapshot;
mod status;
mod table;
mod template;
mod terminal;
mod top;
mod ubc;
mod undelete;
mod validate;
mod wait;
mod why;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::failure::{FAILED, OK, Outcome, USAGE};
use crate::cli::output::{Format, Out, When};
use crate::compat::{self, import, install};
use crate::settings::Settings;

/// Declarative system containers, as OpenVZ had them, on a stock Linux kernel
#[derive(Debug, Parser)]
#[command(name = "vzd", version, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    #[command(flatten, next_help_heading = "Common options")]
    settings: Settings,
    /// How results are shown: table, wide, json or yaml
    #[arg(short, long, global = true, value_enum, default_value = "table", value_name = "FORMAT")]
    #[arg(hide_possible_values = true)]
    output: Format,
    /// When to use colours: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    #[arg(hide_possible_values = true)]
    color: When,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller
    Run(run::Args),
    /// Check manifests; needs neither root nor the controller
    Validate(validate::Args),
    /// Show what would change
    Plan(plan::Args),
    /// Make it so: one pass, then exit
    Apply(apply::Args),
    /// Show what was changed behind vzd's back; changes nothing
    Drift(drift::Args),
    /// List VEs, or show one
    Get(get::Args),
    /// Show a VE with its conditions, limits, use and latest events
    Describe(describe::Args),
    /// Show what VEs hold of each user beancounter
    Ubc(ubc::Args),
    /// Show VEs' links, addresses, routes, limits of bandwidth, and what went over them
    Net(net::Args),
    /// Show VEs' processes, by the host's numbers and their own
    Ps(ps::Args),
    /// Show what VEs use right now, again and again
    Top(top::Args),
    /// Show what happened
    Events(events::Args),
    /// Run a command inside VEs
    Exec(exec::Args),
    /// Open a shell inside a VE
    Enter(enter::Args),
    /// Attach to a VE's console
    Console(console::Args),
    /// Start VEs, whatever stopped them
    Start(power::Args),
    /// Stop VEs, until their manifest changes or they are started
    Stop(power::StopArgs),
    /// Stop VEs and start them with everything that waited for it
    Restart(power::ForceArgs),
    /// Freeze VEs
    Pause(power::Args),
    /// Write VEs to disk with everything that runs in them, and end them
    Suspend(power::Args),
    /// Write a VE to disk, and end it or let it run on
    Checkpoint(checkpoint::Args),
    /// Thaw VEs, and bring those back that are suspended
    Resume(power::Args),
    /// Make a stopped VE's root anew, of its template as that is now
    Reinstall(reinstall::Args),
    /// Make a VE that has what another one has, with a manifest of its own
    Clone(clone::Args),
    /// Bring a VE back from quarantine
    Undelete(undelete::Args),
    /// Take, list, mount, revert to, export or delete snapshots of a VE's disk
    Snapshot(snapshot::Args),
    /// List, build, add, update, verify or remove templates
    Template(template::Args),
    /// Bring VEs' packages up to date
    Packages(packages::Args),
    /// Wait until VEs have a condition
    Wait(wait::Args),
    /// Hand a VE over to another host, with everything that runs in it
    Migrate(migrate::Args),
    /// Be the other end of `vzd migrate`, over standard input and output
    Receive(migrate::ReceiveArgs),
    /// Make and show the certificates by which hosts know each other
    Pki(pki::Args),
    /// Show the state of the controller
    Status(status::Args),
    /// Explain an error code or a field
    Explain(explain::Args),
    /// Show where a field's value comes from
    Why(why::Args),
    /// Print the JSON Schema of manifests
    Schema(schema::Args),
    /// Make manifests of what other systems have
    Import(import::Args),
    /// Give a VE away to other systems: as a configuration, an archive or an image
    Export(export::Args),
    /// Call vzd by the names of OpenVZ's tools
    Compat(install::Args),
    /// Print a script that completes vzd's commands in a shell
    Completions(completions::Args),
    /// Write man pages
    #[command(hide = true)]
    Man(man::Args),
    /// Hold consoles and exits of VEs
    #[command(hide = true)]
    Keeper,
    /// Run a command inside the VE that is described in a descriptor
    #[command(hide = true)]
    EnterVe(exec::inside::Args),
}

/// What every command gets.
#[derive(Debug)]
pub struct Context {
    pub(crate) settings: Settings,
    pub(crate) out: Out,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Some(code) = compat::called(std::env::args_os()) {
        return ExitCode::from(code);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // What is set in the environment counts as said, so that clap does not see that nothing is.
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => {
            output::note(&command().render_help().to_string());
            return ExitCode::from(USAGE);
        }
        Err(error) => {
            // A closed stdout or stderr is nothing to fail over.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { OK });
        }
    };
    let mut cx = Context { settings: cli.settings, out: Out::new(cli.output, cli.color) };
    match carry_out(cli.command, &mut cx) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print(cx.out.colour_notes);
            ExitCode::from(failure.exit.max(FAILED))
        }
    }
}

fn carry_out(command: Command, cx: &mut Context) -> Outcome {
    use crate::control::PowerAction;
    match command {
        Command::Run(args) => run::run(&args, cx),
        Command::Validate(args) => validate::run(&args, cx),
        Command::Plan(args) => plan::run(args, cx),
        Command::Apply(args) => apply::run(args, cx),
        Command::Drift(args) => drift::run(args, cx),
        Command::Get(args) => get::run(args, cx),
        Command::Describe(args) => describe::run(&args, cx),
        Command::Ubc(args) => ubc::run(args, cx),
        Command::Net(args) => net::run(args, cx),
        Command::Ps(args) => ps::run(args, cx),
        Command::Top(args) => top::run(args, cx),
        Command::Events(args) => events::run(&args, cx),
        Command::Exec(args) => exec::run(args, cx),
        Command::Enter(args) => enter::run(args, cx),
        Command::Console(args) => console::run(&args, cx),
        Command::Start(args) => power::run(args.into(), PowerAction::Start, cx),
        Command::Stop(args) => power::stop(args, cx),
        Command::Restart(args) => power::run(args, PowerAction::Restart, cx),
        Command::Suspend(args) => power::run(args.into(), PowerAction::Suspend, cx),
        Command::Pause(args) => power::run(args.into(), PowerAction::Pause, cx),
        Command::Resume(args) => power::run(args.into(), PowerAction::Resume, cx),
        Command::Checkpoint(args) => checkpoint::run(args, cx),
        Command::Reinstall(args) => reinstall::run(&args, cx),
        Command::Clone(args) => clone::run(args, cx),
        Command::Undelete(args) => undelete::run(&args, cx),
        Command::Snapshot(args) => snapshot::run(&args, cx),
        Command::Template(args) => template::run(&args, cx),
        Command::Packages(args) => packages::run(args, cx),
        Command::Wait(args) => wait::run(args, cx),
        Command::Migrate(args) => migrate::run(&args, cx),
        Command::Receive(args) => migrate::receive(args, cx),
        Command::Pki(args) => pki::run(&args, cx),
        Command::Status(args) => status::run(&args, cx),
        Command::Explain(args) => explain::run(&args, cx),
        Command::Why(args) => why::run(&args, cx),
        Command::Schema(args) => schema::run(&args, cx),
        Command::Import(args) => import::run(&args, cx),
        Command::Export(args) => export::run(&args, cx),
        Command::Compat(args) => install::run(&args, cx),
        Command::Completions(args) => completions::run(&args, cx),
        Command::Man(args) => man::run(&args, cx),
        Command::Keeper => keeper::run(),
        Command::EnterVe(args) => exec::inside::run(&args),
    }
}

/// The whole command line, for completions and man pages.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
