//! `vzd snapshot`: a VE's disk as it was at a moment, and what ran in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use vzd_schema::Code;
use vzd_state::ids::VeName;

use crate::cli::Context;
use crate::cli::connect::{connect, look};
use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::progress::Progress;
use crate::cli::table::Table;
use crate::control::{Selector, SnapshotAction, SnapshotNote, SnapshotRequest};
use crate::drivers::Ve;
use crate::drivers::disk::shown;
use crate::engine::Access;
use crate::error::{SysError, SysResult};
use crate::handover::Request;
use crate::host::Host;
use crate::settings::Settings;

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
        /// With what runs in the VE, which runs on
        #[arg(long)]
        memory: bool,
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
    Revert {
        #[command(flatten)]
        one: One,
        /// And what ran in it: the VE is suspended then, and `vzd resume` has it go on
        #[arg(long)]
        memory: bool,
    },
    /// Pack one, with the template below it, into an archive that `vzd template add` takes
    Export(One),
    /// Make one of an archive: of one that `export` has packed, or any other of a root
    Import {
        #[command(flatten)]
        one: One,
        /// A tar archive, plain or compressed with gzip, xz or zstd
        #[arg(value_name = "ARCHIVE")]
        archive: PathBuf,
        /// A title to know it by; others may have the same
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        title: String,
        /// What it is
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        description: String,
    },
    /// Show one, with the template below it, in a directory of the host, read-only
    Mount {
        #[command(flatten)]
        one: One,
        /// The directory
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Take it away from there again
    Umount(One),
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
        Command::Create { one, memory, title, description } => {
            let note = SnapshotNote { title: title.clone(), description: description.clone() };
            let request = SnapshotRequest { memory: *memory, ..one.asks(SnapshotAction::Create, note) };
            order(request, ("copying", "taken"), cx)
        }
        Command::Revert { one, memory } => {
            let request = one.asks(SnapshotAction::Revert, SnapshotNote::default());
            order(SnapshotRequest { memory: *memory, ..request }, ("copying", "reverted to"), cx)
        }
        Command::Delete(one) => {
            order(one.asks(SnapshotAction::Delete, SnapshotNote::default()), ("removing", "deleted"), cx)
        }
        Command::Import { one, archive, title, description } => {
            let note = SnapshotNote { title: title.clone(), description: description.clone() };
            // The controller works in a directory of its own.
            let archive = std::path::absolute(archive).unwrap_or_else(|_| archive.clone());
            let request =
                SnapshotRequest { archive: Some(archive), ..one.asks(SnapshotAction::Import, note) };
            order(request, ("unpacking", "imported"), cx)
        }
        Command::Export(one) => export(one, cx),
        Command::Mount { one, dir } => mount(one, dir, cx),
        Command::Umount(one) => umount(one, cx),
        Command::List { ve } => list(ve, cx),
    }
}

impl One {
    fn asks(&self, action: SnapshotAction, note: SnapshotNote) -> SnapshotRequest {
        let (ve, snapshot) = (self.ve.clone(), self.name.clone());
        SnapshotRequest { ve, snapshot, action, memory: false, note, archive: None }
    }
}

/// Gives the order and waits until it is carried out.
pub fn order(request: SnapshotRequest, (doing, done): (&'static str, &str), cx: &mut Context) -> Outcome {
    let control = connect(&cx.settings, Access::Write)?;
    {
        let _progress = Progress::start(doing);
        control.snapshot(&request)?;
    }
    let SnapshotRequest { ve, snapshot, action, .. } = &request;
    if cx.out.is_data() {
        cx.out.data(&json!({ "ve": ve, "snapshot": snapshot, "done": action }))?;
    } else {
        cx.out.line(&format!("{ve}: snapshot {snapshot} {done}"))?;
    }
    Ok(OK)
}

fn export(one: &One, cx: &mut Context) -> Outcome {
    let request = one.asks(SnapshotAction::Export, SnapshotNote::default());
    let code = order(request, ("packing", "packed"), cx)?;
    let select = Selector { names: vec![one.ve.clone()], ..Selector::default() };
    let named = look(cx)?.list(&select, false)?.into_iter().next();
    if let (false, Some(ve), Ok(name)) = (cx.out.is_data(), named, one.name.parse()) {
        cx.out.line(&cx.settings.export(&ve.metadata.name, &name).display().to_string())?;
    }
    Ok(code)
}

/// Shows a snapshot in a directory: here, whose mounts are the host's.
pub(crate) fn show(settings: &Settings, ve: &str, name: &str, dir: &Path) -> Result<(), Failure> {
    on_snapshot(settings, ve, name, |ve, name| shown::show(ve, name, dir))
}

/// Takes it away again; tells from where.
pub(crate) fn hide(settings: &Settings, ve: &str, name: &str) -> Result<PathBuf, Failure> {
    on_snapshot(settings, ve, name, shown::hide)
}

/// Where snapshots of a VE are shown, by their names.
pub(crate) fn shown(settings: &Settings, ve: &str) -> Result<BTreeMap<String, PathBuf>, Failure> {
    on_ve(settings, ve, shown::shown)
}

fn on_snapshot<T>(
    settings: &Settings,
    ve: &str,
    name: &str,
    body: impl FnOnce(Ve<'_>, &VeName) -> SysResult<T>,
) -> Result<T, Failure> {
    let name: VeName =
        name.parse().map_err(|e| Failure::usage(format!("{name:?} is no name of a snapshot: {e}")))?;
    on_ve(settings, ve, |ve| body(ve, &name))
}

fn on_ve<T>(settings: &Settings, ve: &str, body: impl FnOnce(Ve<'_>) -> SysResult<T>) -> Result<T, Failure> {
    let refused = |e: SysError| Failure::new(e.to_string()).coded(Code::SnapshotRefused);
    let control = connect(settings, Access::Read)?;
    let entry = control.handover(&Request::Look { ve: ve.to_owned() })?.entry;
    let entry = entry.ok_or_else(|| Failure::new(format!("there is no VE {ve:?}")))?;
    let host = Host::find(settings).map_err(refused)?;
    body(Ve { host: &host, entry: &entry, want: None }).map_err(refused)
}

fn mount(one: &One, dir: &Path, cx: &mut Context) -> Outcome {
    show(&cx.settings, &one.ve, &one.name, dir)?;
    said(one, "mounted", dir, cx)
}

fn umount(one: &One, cx: &mut Context) -> Outcome {
    let dir = hide(&cx.settings, &one.ve, &one.name)?;
    said(one, "unmounted", &dir, cx)
}

fn said(one: &One, done: &str, dir: &Path, cx: &mut Context) -> Outcome {
    if cx.out.is_data() {
        cx.out.data(&json!({ "ve": one.ve, "snapshot": one.name, "done": done, "dir": dir }))?;
    } else {
        cx.out.line(&format!("{}: snapshot {} {done}: {}", one.ve, one.name, dir.display()))?;
    }
    Ok(OK)
}

fn list(ve: &str, cx: &mut Context) -> Outcome {
    let snapshots = look(cx)?.snapshots(ve)?;
    if cx.out.is_data() {
        cx.out.data(&snapshots)?;
        return Ok(OK);
    }
    let mut table = Table::new(&["NAME", "TAKEN", "THE VE", "TITLE", "DESCRIPTION"]);
    for one in &snapshots {
        let state = match (one.running, one.memory) {
            (_, true) => "ran, memory too",
            (true, false) => "ran",
            (false, false) => "was stopped",
        };
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
