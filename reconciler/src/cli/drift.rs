//! `vzd drift`: what was changed behind vzd's back. What a manifest wants changed is no drift.

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{FAILED, OK, Outcome};
use crate::cli::plan;
use crate::cli::select::Chosen;
use crate::engine::Access;

/// Exit code of `--detailed-exitcode` when there is drift.
const DRIFTED: u8 = 2;

/// Options of `vzd drift`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: Chosen,
    /// Exit with 0 for none, 2 for drift
    #[arg(long)]
    detailed_exitcode: bool,
}

/// Compares and shows.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let control = connect(&cx.settings, Access::Read)?;
    let view = control.drift(&args.ves.or_all())?;
    plan::show(&view, &mut cx.out)?;
    if plan::has_errors(&view) {
        return Ok(FAILED);
    }
    Ok(if args.detailed_exitcode && view.exit_code > i32::from(FAILED) { DRIFTED } else { OK })
}
