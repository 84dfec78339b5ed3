//! `vzd get`: VEs in a table, or as documents.

use serde_json::json;
use vzd_state::status::{ConditionType, Document};

use crate::cli::Context;
use crate::cli::connect::{look, unreadable};
use crate::cli::failure::{OK, Outcome};
use crate::cli::output::Format;
use crate::cli::plan::with_diagnostics;
use crate::cli::select::Chosen;
use crate::cli::shown;
use crate::cli::table::{Cell, Table};

/// Options of `vzd get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: Chosen,
    /// Those in quarantine too
    #[arg(short, long)]
    all: bool,
}

/// Shows VEs.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let single = args.ves.names.len() == 1 && !args.all;
    let control = look(cx)?;
    let ves = control.list(&args.ves.or_all(), args.all)?;
    match (cx.out.is_data(), ves.as_slice()) {
        (true, [ve]) if single => cx.out.data(ve)?,
        (true, _) => {
            let list = json!({ "apiVersion": "vzd/v1", "kind": "List", "items": ves });
            cx.out.data(&with_diagnostics(list, &unreadable(&*control)?))?;
        }
        (false, []) => cx.out.note("there are no VEs"),
        (false, _) => {
            let table = table(&ves, cx.out.format == Format::Wide);
            cx.out.text(&table.render("", cx.out.colour))?;
        }
    }
    Ok(OK)
}

fn table(ves: &[Document], wide: bool) -> Table {
    let mut headings = vec!["NAME", "CTID", "STATE", "READY", "REASON", "UP"];
    if wide {
        headings.extend(["PID", "HOSTNAME", "TEMPLATE", "LABELS", "SOURCE"]);
    }
    let mut table = Table::new(&headings);
    for ve in ves {
        let (state, paint) = shown::state(ve);
        let ready = shown::condition(ve, ConditionType::Ready);
        let (is_ready, ready_paint) = ready.map_or(("Unknown", None), shown::status);
        let mut row = vec![
            Cell::from(ve.metadata.name.as_str()),
            ve.status.ctid.map(|ctid| ctid.get().to_string()).unwrap_or_default().into(),
            Cell::painted(state, paint),
            Cell::painted(is_ready, ready_paint),
            shown::reasons(ve).into(),
            ve.status.started_at.map(shown::age).unwrap_or_default().into(),
        ];
        if wide {
            let text = |field: &str| ve.spec.get(field).and_then(|value| value.as_str()).unwrap_or_default();
            let labels: Vec<_> =
                ve.metadata.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            row.extend([
                ve.status.init_pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
                ve.spec
                    .get("hostname")
                    .and_then(|is| is.as_str())
                    .unwrap_or(ve.metadata.name.as_str())
                    .into(),
                text("template").into(),
                labels.join(",").into(),
                ve.status.source.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            ]);
        }
        table.row(row);
    }
    table
}
