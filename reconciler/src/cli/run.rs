//! `vzd run`: the controller.

use crate::cli::Context;
use crate::cli::failure::{OK, Outcome};
use crate::engine;
use crate::telemetry::{self, LogFormat};

/// Options of `vzd run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Log more; twice, everything (VZD_LOG says it in detail)
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// How the log on stderr is written: auto (for a terminal, the journal or a file) or json
    #[arg(long, value_enum, default_value = "auto", value_name = "FORMAT", hide_possible_values = true)]
    log_format: LogFormat,
}

/// Runs until it is told to stop; VEs run on.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    telemetry::init(args.verbose, args.log_format, cx.out.colour_notes)?;
    engine::run(&cx.settings)?;
    Ok(OK)
}
