//! `vzd start`, `stop`, `restart`, `pause`, `suspend` and `resume`: an operator's orders. They stand above the
//! manifest until that changes.

use serde_json::{Map, Value, json};

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{FAILED, Failure, OK, Outcome};
use crate::cli::progress::Progress;
use crate::cli::select::ChosenOrAll;
use crate::control::{Outcomes, PowerAction, PowerRequest};
use crate::engine::Access;

/// Options of orders that nothing can be forced about.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: ChosenOrAll,
}

/// Options of orders that stop VEs.
#[derive(Debug, clap::Args)]
pub struct ForceArgs {
    #[command(flatten)]
    ves: ChosenOrAll,
    /// Kill at once instead of asking init to stop
    #[arg(short, long)]
    force: bool,
}

/// Options of a stop.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    how: ForceArgs,
    /// Let them run again once the host has booted: for its shutdown. Lower boot orders stop first
    #[arg(long)]
    until_boot: bool,
}

/// Stops VEs.
pub fn stop(args: StopArgs, cx: &mut Context) -> Outcome {
    let action = if args.until_boot { PowerAction::StopUntilBoot } else { PowerAction::Stop };
    run(args.how, action, cx)
}

impl From<Args> for ForceArgs {
    fn from(args: Args) -> Self {
        ForceArgs { ves: args.ves, force: false }
    }
}

/// Gives the order and waits until it is carried out.
pub fn run(args: ForceArgs, action: PowerAction, cx: &mut Context) -> Outcome {
    order(&PowerRequest { select: args.ves.required()?, action, force: args.force }, cx)
}

/// The same, of a request that is there already.
pub fn order(request: &PowerRequest, cx: &mut Context) -> Outcome {
    let control = connect(&cx.settings, Access::Write)?;
    let (doing, done) = words(request.action);
    let outcomes = {
        let _progress = Progress::start(doing);
        control.power(request)?
    };
    show(&outcomes, done, cx)
}

fn words(action: PowerAction) -> (&'static str, &'static str) {
    match action {
        PowerAction::Start | PowerAction::StartBare => ("starting", "started"),
        PowerAction::Stop | PowerAction::StopUntilBoot => ("stopping", "stopped"),
        PowerAction::Restart => ("restarting", "restarted"),
        PowerAction::Pause => ("pausing", "paused"),
        PowerAction::Suspend => ("suspending", "suspended"),
        PowerAction::Resume => ("resuming", "resumed"),
    }
}

/// Shows what came of each VE; the exit code tells whether all went well.
fn show(outcomes: &Outcomes, done: &str, cx: &mut Context) -> Outcome {
    if cx.out.is_data() {
        let item = |(name, error): (&String, &_)| {
            (name.clone(), json!({ "done": Option::is_none(error), "error": error }))
        };
        cx.out.data(&Value::Object(outcomes.iter().map(item).collect::<Map<_, _>>()))?;
    }
    for (name, error) in outcomes {
        match error {
            None if cx.out.is_data() => {}
            None => cx.out.line(&format!("{name}: {done}"))?,
            Some(error) => {
                let failure = Failure::from(error.clone());
                Failure { message: format!("{name}: {}", failure.message), ..failure }
                    .print(cx.out.colour_notes);
            }
        }
    }
    if outcomes.is_empty() {
        cx.out.note("no VE matches");
    }
    Ok(if outcomes.values().all(Option::is_none) { OK } else { FAILED })
}
