//! `vzd undelete`: brings a VE back from quarantine.

use serde_json::json;

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{OK, Outcome};
use crate::engine::Access;

/// Options of `vzd undelete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VE that was removed
    #[arg(value_name = "VE")]
    name: String,
}

/// Brings it back.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    connect(&cx.settings, Access::Write)?.undelete(&args.name)?;
    if cx.out.is_data() {
        cx.out.data(&json!({ "name": args.name, "undeleted": true }))?;
    } else {
        cx.out.line(&format!("{}: brought back; it is kept until a manifest names it again", args.name))?;
    }
    Ok(OK)
}
