//! `vzd plan`: what would change. Shows plans for `apply` and `drift` as well.

use std::sync::Arc;

use serde_json::Value;
use vzd_schema::render::{Style, render};

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{FAILED, Failure, OK, Outcome};
use crate::cli::output::{Out, Paint, harmless};
use crate::cli::select::Chosen;
use crate::control::{PlanRequest, PlanView};
use crate::engine::Access;

/// A manifest larger than that is refused anyway, so its lines are not shown.
const MOST_SHOWN: u64 = 4 << 20;

/// Options of `vzd plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: Chosen,
    /// Exit with 0 for nothing, 2 for live changes only, 3 for a restart, 4 for a destroy or recreate
    #[arg(long)]
    detailed_exitcode: bool,
    /// Plan up to so many removals that the prune guard would hold
    #[arg(long, value_name = "N")]
    allow_prune: Option<usize>,
}

/// Shows the plan.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let control = connect(&cx.settings, Access::Read)?;
    let only = args.ves.selector();
    let view = control.plan(&PlanRequest { only, allow_prune: args.allow_prune, check_index: None })?;
    show(&view, &mut cx.out)?;
    // A plan that cannot be carried out as a whole is an error, whatever else it does.
    if has_errors(&view) || view.exit_code == i32::from(FAILED) {
        return Ok(FAILED);
    }
    Ok(if args.detailed_exitcode { u8::try_from(view.exit_code).unwrap_or(FAILED) } else { OK })
}

/// Whether a manifest has errors or a record cannot be read, so that the plan is not about all that there is.
pub fn has_errors(view: &PlanView) -> bool {
    view.diagnostics.iter().any(vzd_schema::Diagnostic::is_error)
}

/// Shows a plan on stdout and what is wrong with manifests on stderr.
pub fn show(view: &PlanView, out: &mut Out) -> Result<(), Failure> {
    diagnose(&view.diagnostics, out);
    if out.is_data() {
        return out.data(&with_diagnostics(view.json.clone(), &view.diagnostics));
    }
    let text: String = view.text.lines().map(|line| painted(line, out.colour) + "\n").collect();
    out.text(&text)
}

/// A JSON object with what is wrong, if anything is.
pub fn with_diagnostics(mut object: Value, diagnostics: &[vzd_schema::Diagnostic]) -> Value {
    if !diagnostics.is_empty() {
        object["diagnostics"] = serde_json::json!(diagnostics);
    }
    object
}

/// Shows diagnostics with the lines that they are about, as far as those can be read now.
pub fn diagnose(diagnostics: &[vzd_schema::Diagnostic], out: &Out) {
    let style = if out.colour_notes { Style::Coloured } else { Style::Plain };
    for diagnostic in diagnostics {
        out.note(&render(diagnostic, style, read));
    }
}

fn read(file: &str) -> Option<Arc<str>> {
    let meta = std::fs::metadata(file).ok().filter(|meta| meta.is_file() && meta.len() <= MOST_SHOWN)?;
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    std::io::Read::read_to_end(&mut std::fs::File::open(file).ok()?, &mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into())
}

/// A line of the plan's text in the colour of its symbol.
fn painted(line: &str, colour: bool) -> String {
    let line = harmless(line);
    let paint = match line.split_whitespace().next() {
        Some("+") => Paint::Good,
        Some("~") => Paint::Warn,
        Some("-" | "-/+" | "^" | "!") => Paint::Bad,
        Some("?" | ".") => Paint::Faint,
        Some("Plan:" | "Impact:") => Paint::Strong,
        _ => return line,
    };
    paint.text(colour, &line)
}
