//! `vzd run`: the controller.

use crate::api::server::MetricsAt;
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
    /// Serve metrics for Prometheus there: an address of this host's loopback with a port, or the path of a socket
    #[arg(long, env = "VZD_METRICS", value_name = "ADDRESS")]
    metrics: Option<MetricsAt>,
}

/// Runs until it is told to stop; VEs run on.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    telemetry::init(args.verbose, args.log_format, cx.out.colour_notes)?;
    engine::run(&cx.settings, args.metrics.as_ref())?;
    Ok(OK)
}
