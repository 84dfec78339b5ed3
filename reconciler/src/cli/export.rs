//! `vzd export`: a VE for other systems: as OpenVZ's configuration, as an archive of its root, or as an OCI image. It changes
//! nothing of the VE, and overwrites nothing.

mod oci;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vzd_state::ids::VeName;
use vzd_state::status::Document;

use crate::cli::Context;
use crate::cli::connect::{connect, look};
use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::output::harmless;
use crate::cli::progress::Progress;
use crate::control::{Control, Selector, SnapshotAction, SnapshotNote, SnapshotRequest};
use crate::ctid_conf::{ctid_conf, of_notes};
use crate::engine::Access;

/// Options of `vzd export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VE
    #[arg(value_name = "VE")]
    ve: String,
    /// openvz: CTID.conf, printed unless --to says where; tar: its whole root, in zstd; oci: an image layout, with the root
    /// as its layer
    #[arg(long, value_enum, value_name = "FORMAT")]
    #[arg(hide_possible_values = true)]
    format: Format,
    /// File (tar: VE.tar.zst) or directory (oci: VE.oci; openvz: one that is there) to write
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Openvz,
    Tar,
    Oci,
}

/// Carries it out.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let select = Selector { names: vec![args.ve.clone()], ..Selector::default() };
    let documents = look(cx)?.list(&select, false)?;
    let document =
        documents.into_iter().next().ok_or_else(|| Failure::new(format!("there is no VE {}", args.ve)))?;
    let name = document.metadata.name.clone();
    let default = match args.format {
        Format::Openvz => return openvz(args, &document, cx),
        Format::Tar => format!("{name}.tar.zst"),
        Format::Oci => format!("{name}.oci"),
    };
    let to = args.to.clone().unwrap_or_else(|| default.into());
    if to.exists() {
        return Err(Failure::new(format!("{} is there already", to.display())));
    }
    packed(&name, cx, |archive| match args.format {
        Format::Oci => {
            oci::write(archive, &to, &oci::Image { name: name.to_string(), init: init(&document.spec) })
        }
        Format::Tar | Format::Openvz => moved(archive, &to),
    })?;
    if cx.out.is_data() {
        cx.out.data(&json!({ "ve": name, "to": to }))?;
    } else {
        cx.out.line(&to.display().to_string())?;
    }
    Ok(OK)
}

/// What it executes as its init.
fn init(spec: &Value) -> Vec<String> {
    let words = spec["init"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    Some(words.collect::<Vec<_>>())
        .filter(|words| !words.is_empty())
        .unwrap_or_else(|| vec!["/sbin/init".to_owned()])
}

fn openvz(args: &Args, document: &Document, cx: &mut Context) -> Outcome {
    let conf = ctid_conf(&document.spec);
    let name = document.metadata.name.as_str();
    let ctid = document.status.ctid.map(|ctid| ctid.to_string());
    let mut own = of_notes(&document.metadata.annotations);
    if document.metadata.alias().is_none() && ctid.as_deref() != Some(name) {
        own.push(("NAME", name.to_owned()));
    }
    let text = conf.text(&own);
    let file = format!("{}.conf", ctid.as_deref().unwrap_or(name));
    let to = args.to.as_ref().map(|dir| dir.join(file));
    if let Some(to) = &to {
        let mut out =
            OpenOptions::new().write(true).create_new(true).open(to).map_err(|e| cannot("make", to, e))?;
        out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(|e| cannot("write", to, e))?;
    }
    if cx.out.is_data() {
        let residue: Vec<_> =
            conf.residue.iter().map(|(field, why)| json!({ "field": field, "message": why })).collect();
        cx.out.data(&json!({ "ve": name, "to": to, "text": text, "residue": residue }))?;
        return Ok(OK);
    }
    match &to {
        Some(to) => cx.out.line(&to.display().to_string())?,
        None => cx.out.text(&text)?,
    }
    for (field, why) in &conf.residue {
        cx.out.note(&harmless(&format!("{field}: {why}")).to_string());
    }
    Ok(OK)
}

/// Packs the VE's root as it is now, gives the archive away, and leaves nothing of that behind.
fn packed(
    name: &VeName,
    cx: &Context,
    with: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let _progress = Progress::start("packing");
    let control = connect(&cx.settings, Access::Write)?;
    let snapshot = format!("export-{}", std::process::id());
    let order = |control: &dyn Control, action| {
        let (ve, snapshot) = (name.to_string(), snapshot.clone());
        control.snapshot(&SnapshotRequest {
            ve,
            snapshot,
            action,
            memory: false,
            note: SnapshotNote::default(),
            archive: None,
        })
    };
    order(&*control, SnapshotAction::Create)?;
    let archive = snapshot.parse().ok().map(|snapshot| cx.settings.export(name, &snapshot));
    let exported =
        order(&*control, SnapshotAction::Export).map_err(Failure::from).and_then(|()| match &archive {
            Some(archive) => with(archive),
            None => Err(Failure::new(format!("{snapshot} is no name"))),
        });
    if let Some(archive) = archive {
        // It may have been moved away, or never been there.
        let _ = fs::remove_file(archive);
    }
    let deleted = order(&*control, SnapshotAction::Delete);
    exported?;
    Ok(deleted?)
}

/// Moves a file, to another file system if need be.
fn moved(from: &Path, to: &Path) -> Result<(), Failure> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(|error| {
        // A part of it is worth nothing.
        let _ = fs::remove_file(to);
        cannot("write", to, error)
    })
}

fn cannot(operation: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::new(format!("cannot {operation} {}", path.display())).because(error)
}
