//! `vzd status`: the state of the controller itself.

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{OK, Outcome};
use crate::cli::output::{Format, Out, Paint};
use crate::cli::plan;
use crate::cli::table::{Cell, Table};
use crate::control::{Info, NamesUse};
use crate::engine::Access;

/// Options of `vzd status`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Shows it.
pub fn run(_: &Args, cx: &mut Context) -> Outcome {
    let mut info = connect(&cx.settings, Access::Read)?.info()?;
    // Without a controller this process answered itself.
    info.pid = info.pid.filter(|pid| *pid != std::process::id());
    if cx.out.is_data() {
        cx.out.data(&info)?;
        return Ok(OK);
    }
    plan::diagnose(&info.diagnostics, &cx.out);
    let text = told(&info, &cx.out);
    cx.out.text(&text)?;
    Ok(OK)
}

fn told(info: &Info, out: &Out) -> String {
    let mut table = Table::bare();
    let mut say = |name: &str, text: String| {
        table.row([Cell::painted(format!("{name}:"), Some(Paint::Strong)), Cell::from(text)]);
    };
    say("Version", info.version.clone());
    say("Controller", info.pid.map_or_else(|| "not running".to_owned(), |pid| format!("running, pid {pid}")));
    say("Revision", info.revision.clone());
    say("VEs", info.ves.to_string());
    if let Some(pass) = &info.last_pass {
        let ms = u32::try_from(pass.duration_us).map_or(f64::INFINITY, f64::from) / 1000.0;
        say(
            "Last pass",
            format!("{ms:.1} ms for {} VEs, {} writes; {} so far", pass.ves, pass.writes, pass.count),
        );
    }
    if let Some(NamesUse { names, answered, forwarded, refused }) = &info.names {
        let told = format!("{answered} answered, {forwarded} forwarded, {refused} refused");
        say("Resolver", format!("names of {names} VEs; {told}"));
    }
    let errors = info.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    say("Manifest errors", errors.to_string());
    say("Skipped files", info.skipped.len().to_string());
    let mut text = table.render("", out.colour);
    if out.format == Format::Wide {
        let mut skipped = Table::bare();
        for (file, why) in &info.skipped {
            skipped.row([Cell::from(file), Cell::from(why)]);
        }
        text.push_str(&skipped.render("  ", out.colour));
    }
    text
}
