//! `vzd why`: a field's value, who says it and where, and what the kernel has.

use serde_json::Value;

use crate::cli::Context;
use crate::cli::connect::look;
use crate::cli::failure::{OK, Outcome};
use crate::cli::output::Paint;
use crate::cli::table::{Cell, Table};
use crate::control::Why;

/// Options of `vzd why`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VE, by name or ctid
    #[arg(value_name = "VE")]
    ve: String,
    /// The field, such as spec.hostname
    #[arg(value_name = "FIELD")]
    field: String,
}

/// Asks and shows.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let why = look(cx)?.why(&args.ve, &args.field)?;
    if cx.out.is_data() {
        cx.out.data(&why)?;
    } else {
        let text = told(&why, cx.out.colour);
        cx.out.text(&text)?;
    }
    Ok(OK)
}

fn told(why: &Why, colour: bool) -> String {
    let mut table = Table::bare();
    let mut say = |name: &str, text: &str| {
        table.row([Cell::painted(name, Some(Paint::Strong)), Cell::from(text)]);
    };
    let value = match (&why.value, &why.default) {
        (Value::Null, Some(default)) => default.clone(),
        (value, _) => shown(value),
    };
    say(&format!("{}:", why.field), &value);
    let said = match (&why.source, &why.profile) {
        (Some(source), Some(profile)) => format!("{source} (profile {profile})"),
        (Some(source), None) => source.clone(),
        (None, _) => "nobody; it is the default".to_owned(),
    };
    match &why.transient {
        Some(is) => {
            say("said by:", &format!("an order of {}, until the VE stops", is.at));
            say("otherwise:", &format!("{} (said by {said})", shown(&is.over)));
        }
        None => say("said by:", &said),
    }
    if let Some(update) = &why.update {
        say("a change is:", update);
    }
    if let Some(observed) = &why.observed {
        say("in force:", &shown(observed));
    }
    if let Some(held) = &why.held {
        say("held back:", held);
    }
    table.render("", colour)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
