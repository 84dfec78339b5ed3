//! `vzd apply`: one pass over the manifests, then what came of it.

use serde_json::json;

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{FAILED, Failure, OK, Outcome};
use crate::cli::plan;
use crate::cli::progress::Progress;
use crate::cli::select::Chosen;
use crate::control::{ApplyOutcome, PlanRequest};
use crate::engine::Access;

/// Exit code bits of `--detailed-exitcode`.
const CHANGED: u8 = 2;
const SOME_FAILED: u8 = 4;

/// Options of `vzd apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: Chosen,
    /// Exit with 0 for nothing to do, 2 if something changed, 4 if some failed, 6 for both
    #[arg(long)]
    detailed_exitcode: bool,
    /// Allow so many removals that the prune guard would hold
    #[arg(long, value_name = "N")]
    allow_prune: Option<usize>,
    /// Refuse if the world moved since the plan with this index
    #[arg(long, value_name = "INDEX")]
    check_index: Option<String>,
}

/// Applies and reports.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let control = connect(&cx.settings, Access::Write)?;
    let only = args.ves.selector();
    let request = PlanRequest { only, allow_prune: args.allow_prune, check_index: args.check_index };
    let outcome = {
        let _progress = Progress::start("applying");
        control.apply(&request)?
    };
    report(&outcome, cx)?;
    let failed = !outcome.failed.is_empty() || plan::has_errors(&outcome.plan);
    Ok(match (args.detailed_exitcode, failed) {
        (false, false) => OK,
        (false, true) => FAILED,
        (true, _) => {
            let changed = if outcome.changed > 0 { CHANGED } else { 0 };
            changed | if failed { SOME_FAILED } else { 0 }
        }
    })
}

fn report(outcome: &ApplyOutcome, cx: &mut Context) -> Result<(), Failure> {
    if cx.out.is_data() {
        plan::diagnose(&outcome.plan.diagnostics, &cx.out);
        let ApplyOutcome { plan, changed, failed } = outcome;
        let plan = plan::with_diagnostics(plan.json.clone(), &plan.diagnostics);
        cx.out.data(&json!({ "plan": plan, "changed": changed, "failed": failed }))?;
    } else {
        plan::show(&outcome.plan, &mut cx.out)?;
        let s = if outcome.changed == 1 { "" } else { "s" };
        cx.out.line(&format!(
            "Applied: {} step{s} done, {} failed.",
            outcome.changed,
            outcome.failed.len()
        ))?;
    }
    for (name, error) in &outcome.failed {
        let failure = Failure::from(error.clone());
        Failure { message: format!("{name}: {}", failure.message), ..failure }.print(cx.out.colour_notes);
    }
    Ok(())
}
