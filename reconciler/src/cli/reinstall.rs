//! `vzd reinstall`: a VE's root anew, of its template as that is now.

use std::path::PathBuf;

use serde_json::json;
use vzd_state::ids::VeName;

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::progress::Progress;
use crate::control::{Control, Reinstall, Selector, SnapshotAction, SnapshotNote, SnapshotRequest};
use crate::engine::{Access, clock};
use crate::settings::Settings;

/// Options of `vzd reinstall`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VE, which has to be stopped
    #[arg(value_name = "VE")]
    ve: String,
    /// Keep no archive of what it has
    #[arg(long)]
    skip_backup: bool,
    /// Take users and passwords from the template too, instead of keeping the VE's
    #[arg(long)]
    reset_users: bool,
}

/// Makes it anew.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let control = connect(&cx.settings, Access::Write)?;
    let archive = {
        let _progress = Progress::start("making it anew");
        carry_out(&*control, &cx.settings, &args.ve, (args.skip_backup, args.reset_users))?
    };
    if cx.out.is_data() {
        cx.out.data(&json!({ "ve": args.ve, "reinstalled": true, "archive": archive }))?;
    } else {
        let kept = archive.map(|path| format!("; what it had is in {}", path.display()));
        cx.out.line(&format!("{}: reinstalled{}", args.ve, kept.unwrap_or_default()))?;
    }
    Ok(OK)
}

/// The same for OpenVZ's tool; tells where the archive is.
pub(crate) fn carry_out(
    control: &dyn Control,
    settings: &Settings,
    ve: &str,
    (skip_backup, reset_users): (bool, bool),
) -> Result<Option<PathBuf>, Failure> {
    let select = Selector { names: vec![ve.to_owned()], ..Selector::default() };
    let found = control.list(&select, false)?.into_iter().next();
    let found = found.ok_or_else(|| Failure::new(format!("there is no VE {ve:?}")))?;
    let ve = found.metadata.name.to_string();
    // What runs is refused before anything is packed.
    let archive = match skip_backup || found.status.init_pid.is_some() {
        true => None,
        false => Some(pack(control, settings, &ve)?),
    };
    control.reinstall(&Reinstall { ve, keep_users: !reset_users })?;
    Ok(archive)
}

/// Packs all that it has. The snapshot goes with the old root, or here if that stays.
fn pack(control: &dyn Control, settings: &Settings, ve: &str) -> Result<PathBuf, Failure> {
    let snapshot = format!("reinstall-{}", clock::now().0);
    let order = |action| {
        let note = SnapshotNote { title: "before it was reinstalled".to_owned(), ..SnapshotNote::default() };
        control.snapshot(&SnapshotRequest {
            ve: ve.to_owned(),
            snapshot: snapshot.clone(),
            action,
            memory: false,
            note,
            archive: None,
        })
    };
    order(SnapshotAction::Create)?;
    let packed = order(SnapshotAction::Export);
    order(SnapshotAction::Delete)?;
    packed?;
    let names: (Result<VeName, _>, Result<VeName, _>) = (ve.parse(), snapshot.parse());
    match names {
        (Ok(ve), Ok(snapshot)) => Ok(settings.export(&ve, &snapshot)),
        _ => Err(Failure::new("it has no name of its own")),
    }
}
