//! `vzd checkpoint`: a VE written to disk, which ends with that as by `vzd suspend`, or runs on.
//!
//! What is written of one that runs on is a snapshot that holds its memory too: no checkpoint is of any use without the
//! disk of that moment.

use vzd_state::status::Document;

use crate::cli::Context;
use crate::cli::connect::look;
use crate::cli::failure::Outcome;
use crate::cli::power;
use crate::cli::snapshot;
use crate::control::{PowerAction, PowerRequest, Selector, SnapshotAction, SnapshotNote, SnapshotRequest};
use crate::engine::clock;

/// Options of `vzd checkpoint`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VE
    #[arg(value_name = "VE")]
    ve: String,
    /// Let it run on, and keep its disk and memory of this moment as a snapshot; so it is by itself where the manifest says
    /// `checkpoint.keepRunning`
    #[arg(long)]
    leave_running: bool,
    /// What the snapshot is called. Default: checkpoint-DATE-TIME
    #[arg(long, value_name = "SNAPSHOT")]
    name: Option<String>,
}

/// Carries it out.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let select = Selector { names: vec![args.ve.clone()], ..Selector::default() };
    let keeps = |ve: &Document| ve.spec["checkpoint"]["keepRunning"].as_bool() == Some(true);
    if !args.leave_running && !look(cx)?.list(&select, false)?.first().is_some_and(keeps) {
        return power::order(&PowerRequest { select, action: PowerAction::Suspend, force: false }, cx);
    }
    let snapshot = args.name.unwrap_or_else(of_now);
    let note = SnapshotNote { title: "checkpoint".to_owned(), ..SnapshotNote::default() };
    let action = SnapshotAction::Create;
    let request = SnapshotRequest { ve: args.ve, snapshot, action, memory: true, note, archive: None };
    snapshot::order(request, ("writing to disk", "taken, with what runs in it"), cx)
}

/// A name that says when.
fn of_now() -> String {
    let now: String = clock::now().to_string().chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    format!("checkpoint-{}", now.replace('T', "-"))
}
