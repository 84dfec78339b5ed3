//! `vzd snapshot`: a VE's disk as it was at a moment.

use serde_json::json;

use crate::cli::Context;
use crate::cli::connect::{connect, look};
use crate::cli::failure::{OK, Outcome};
use crate::cli::progress::Progress;
use crate::cli::table::Table;
use crate::control::{Selector, SnapshotAction, SnapshotNote, SnapshotRequest};
use crate::engine::Access;

/// Options of `vzd snapshot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Take one; a VE that runs is frozen for that moment
    Create {
        #[command(flatten)]
        one: One,
        /// A title to know it by; others may have the same
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        title: String,
        /// Why it was taken
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        description: String,
    },
    /// Show a VE's snapshots, the oldest first
    List {
        /// The VE
        #[arg(value_name = "VE")]
        ve: String,
    },
    /// Make the disk of a stopped VE what it was; what it has become since is lost
    Revert(One),
    /// Pack one, with the template below it, into an archive that `vzd template add` takes
    Export(One),
    /// Throw one away
    #[command(visible_alias = "rm")]
    Delete(One),
}

#[derive(Debug, clap::Args)]
struct One {
    /// The VE
    #[arg(value_name = "VE")]
    ve: String,
    /// The snapshot: small letters, digits and hyphens
    #[arg(value_name = "NAME")]
    name: String,
}

/// Carries it out.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    match &args.command {
        Command::Create { one, title, description } => {
            let note = SnapshotNote { title: title.clone(), description: description.clone() };
            order(one, SnapshotAction::Create, note, ("copying", "taken"), cx)
        }
        Command::Revert(one) => {
            order(one, SnapshotAction::Revert, SnapshotNote::default(), ("copying", "reverted to"), cx)
        }
        Command::Delete(one) => {
            order(one, SnapshotAction::Delete, SnapshotNote::default(), ("removing", "deleted"), cx)
        }
        Command::Export(one) => export(one, cx),
        Command::List { ve } => list(ve, cx),
    }
}

fn order(
    one: &One,
    action: SnapshotAction,
    note: SnapshotNote,
    (doing, done): (&'static str, &str),
    cx: &mut Context,
) -> Outcome {
    let control = connect(&cx.settings, Access::Write)?;
    {
        let _progress = Progress::start(doing);
        let (ve, snapshot) = (one.ve.clone(), one.name.clone());
        control.snapshot(&SnapshotRequest { ve, snapshot, action, note })?;
    }
    if cx.out.is_data() {
        cx.out.data(&json!({ "ve": one.ve, "snapshot": one.name, "done": action }))?;
    } else {
        cx.out.line(&format!("{}: snapshot {} {done}", one.ve, one.name))?;
    }
    Ok(OK)
}

fn export(one: &One, cx: &mut Context) -> Outcome {
    let code = order(one, SnapshotAction::Export, SnapshotNote::default(), ("packing", "packed"), cx)?;
    let select = Selector { names: vec![one.ve.clone()], ..Selector::default() };
    let named = look(cx)?.list(&select, false)?.into_iter().next();
    if let (false, Some(ve), Ok(name)) = (cx.out.is_data(), named, one.name.parse()) {
        cx.out.line(&cx.settings.export(&ve.metadata.name, &name).display().to_string())?;
    }
    Ok(code)
}

fn list(ve: &str, cx: &mut Context) -> Outcome {
    let snapshots = look(cx)?.snapshots(ve)?;
    if cx.out.is_data() {
        cx.out.data(&snapshots)?;
        return Ok(OK);
    }
    let mut table = Table::new(&["NAME", "TAKEN", "THE VE", "TITLE", "DESCRIPTION"]);
    for one in &snapshots {
        let state = if one.running { "ran" } else { "was stopped" };
        table.row([
            one.name.as_str().into(),
            one.created_at.to_string().into(),
            state.into(),
            one.note.title.as_str().into(),
            one.note.description.as_str().into(),
        ]);
    }
    cx.out.text(&table.render("", cx.out.colour))?;
    Ok(OK)
}
