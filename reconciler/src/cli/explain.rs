//! `vzd explain`: an error code, or a field of a manifest.

use serde_json::json;
use vzd_schema::Code;

use crate::cli::Context;
use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::table::{Cell, Table};

/// Options of `vzd explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An error code (VZ0101) or a field (spec.hostname); all codes if left out
    #[arg(value_name = "CODE|FIELD")]
    what: Option<String>,
}

/// Explains.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let Some(what) = &args.what else {
        codes(cx)?;
        return Ok(OK);
    };
    let page = vzd_schema::explain(what).ok_or_else(|| {
        Failure::new(format!("`{what}` is neither an error code nor a field of a manifest"))
            .coded(Code::Usage)
            .help("`vzd explain` lists all codes; `vzd schema` has all fields")
    })?;
    if cx.out.is_data() {
        cx.out.data(&json!({ "what": what, "text": page }))?;
    } else {
        cx.out.line(page.trim_end())?;
    }
    Ok(OK)
}

fn codes(cx: &mut Context) -> Result<(), Failure> {
    if cx.out.is_data() {
        let codes: Vec<_> =
            Code::ALL.iter().map(|code| json!({ "code": code, "title": code.title() })).collect();
        return cx.out.data(&codes);
    }
    let mut table = Table::bare();
    for code in Code::ALL {
        table.row([Cell::from(code.as_str()), Cell::from(code.title())]);
    }
    cx.out.text(&table.render("", cx.out.colour))
}
