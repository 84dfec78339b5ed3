//! `vzd import`: configurations of containers and samples to manifests, with a report of everything that has
//! no home there. Nothing that is there is overwritten, and no disk is touched.

mod building;
pub mod convert;
mod foreign;
mod host;
mod incus;
mod lxc;
mod proxmox;
mod verify;

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use vzd_schema::edit::{Change, Value, edit};
use vzd_schema::render::{Style, render};
use vzd_schema::{Document, Kind};

use crate::cli::Context;
use crate::cli::failure::{BAD_MANIFEST, FAILED, Failure, OK, Outcome};
use crate::drivers::disk::own;
use crate::engine::host_device;
use crate::watch::{Scanner, Trust};
use convert::{Imported, container, profile};
use foreign::{Foreign, System};

/// Options of `vzd import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make manifests of OpenVZ's CTID.conf, ve-NAME.conf-sample and vz.conf
    Openvz(Openvz),
    /// Make manifests of configurations of LXC
    Lxc(Foreign),
    /// Make manifests of Proxmox VE's CTID.conf
    Proxmox(Foreign),
    /// Make manifests of what `incus config show --expanded` prints, or of index.yaml of a backup
    Incus(Foreign),
}

/// Options of `vzd import openvz`.
#[derive(Debug, clap::Args)]
pub struct Openvz {
    /// Files, such as /etc/vz/vz.conf; all containers and samples of the directory if left out
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directory of configurations
    #[arg(long, default_value = "/etc/vz/conf", value_name = "DIR")]
    conf: PathBuf,
    /// Directory of private areas: a container whose files are there (DIR/CTID, or DIR/CTID/fs) gets them as its template, in
    /// place and unchanged
    #[arg(long, value_name = "DIR")]
    private: Option<PathBuf>,
    /// A container gets its private area as files of its own: they are copied when it is made, with the ids of its range, and what is
    /// there is not needed afterwards
    #[arg(long, requires = "private")]
    copy: bool,
    /// Write manifests there instead of to the manifest directory
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Print manifests instead of writing them
    #[arg(long)]
    dry_run: bool,
    /// Read all manifests again, and prove that they say what the configurations describe
    ///
    /// Each container is made on a model kernel as its configuration describes it; the plan from there to its manifest has
    /// to be empty. A manifest that is there already is compared, not written.
    #[arg(long)]
    verify: bool,
}

/// What a file is.
enum Origin {
    Container(u32),
    Sample(String),
    Host,
}

/// Carries it out.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let (system, foreign) = match &args.command {
        Command::Openvz(args) => return openvz(args, cx),
        Command::Lxc(args) => (System::Lxc, args),
        Command::Proxmox(args) => (System::Proxmox, args),
        Command::Incus(args) => (System::Incus, args),
    };
    if foreign.name.is_some() && foreign.files.len() > 1 {
        return Err(Failure::usage("--name is for a single file"));
    }
    let to = foreign.to.as_ref().unwrap_or(&cx.settings.manifests).clone();
    let mut results = Results::default();
    for file in &foreign.files {
        let imported = foreign.convert(system, file)?;
        let target = to.join(format!("{}.yaml", imported.name));
        results.add(file, &target, &imported, (foreign.dry_run, false), cx)?;
    }
    results.finish(cx)
}

/// What came of files, one after the other.
#[derive(Default)]
struct Results {
    reports: Vec<serde_json::Value>,
    failed: bool,
}

impl Results {
    /// Writes and tells what a file came to.
    fn add(
        &mut self,
        file: &Path,
        target: &Path,
        imported: &Imported,
        (dry_run, known): (bool, bool),
        cx: &mut Context,
    ) -> Result<(), Failure> {
        let written = if dry_run || known { Ok(()) } else { write(target, &imported.text) };
        if let Err(failure) = &written {
            self.failed = true;
            failure.print(cx.out.colour_notes);
        }
        self.reports.push(json!({
            "file": file, "name": imported.name, "manifest": (!dry_run && written.is_ok()).then_some(target),
            "kept": imported.kept, "residue": residue(imported),
        }));
        if cx.out.is_data() { Ok(()) } else { show(file, target, imported, (dry_run, known), cx) }
    }

    fn finish(&self, cx: &mut Context) -> Outcome {
        if cx.out.is_data() {
            cx.out.data(&self.reports)?;
        }
        Ok(if self.failed { FAILED } else { OK })
    }
}

fn openvz(args: &Openvz, cx: &mut Context) -> Outcome {
    let files = if args.files.is_empty() { listed(&args.conf)? } else { args.files.clone() };
    let to = args.to.as_ref().unwrap_or(&cx.settings.manifests).clone();
    let (mut results, mut containers) = (Results::default(), Vec::new());
    for file in files {
        let Some(origin) = origin(&file) else {
            return Err(Failure::usage(format!(
                "{} is neither CTID.conf nor ve-NAME.conf-sample nor vz.conf",
                file.display()
            )));
        };
        let bytes = fs::read(&file).map_err(|error| cannot("read", &file, error))?;
        let text = String::from_utf8_lossy(&bytes);
        let (imported, stem) = match &origin {
            Origin::Container(ctid) => {
                let private = args.private.as_deref().map(|dir| (dir, args.copy));
                (adopted(container(*ctid, &text), *ctid, private), ctid.to_string())
            }
            Origin::Sample(name) => (profile(name, &text), format!("profile-{name}")),
            Origin::Host => (host::host(&text), "host".to_owned()),
        };
        let target = to.join(format!("{stem}.yaml"));
        let known = args.verify && target.exists();
        results.add(&file, &target, &imported, (args.dry_run, known), cx)?;
        if matches!(origin, Origin::Container(_)) {
            containers.push(imported);
        }
    }
    let ended = results.finish(cx)?;
    if args.verify && !args.dry_run && !verify(&to, &containers, cx)? {
        return Ok(BAD_MANIFEST);
    }
    Ok(ended)
}

/// With the files of its private area, if those are there.
fn adopted(mut imported: Imported, ctid: u32, private: Option<(&Path, bool)>) -> Imported {
    let Some((dir, copy)) = private else { return imported };
    let area = dir.join(ctid.to_string());
    let Some(files) = files_of(&area) else {
        imported.residue.push((0, format!("{} has no files as they lie there", area.display())));
        return imported;
    };
    if copy {
        match own::survey(&files) {
            Ok(left) if left == own::Left::default() => {}
            Ok(left) => {
                imported.residue.push((0, format!("a copy of {} is without {left}", files.display())))
            }
            Err(error) => {
                imported.residue.push((0, format!("it cannot be copied, and has no template: {error}")));
                return imported;
            }
        }
    }
    let kind = if copy { "copy" } else { "dir" };
    let template = Change::set("spec.template", Value::Text(format!("{kind}:{}", files.display())));
    match edit("f", &imported.text, (Kind::Ve, &imported.name), &[template]) {
        Ok(text) => imported.text = text,
        Err(wrong) => imported.residue.extend(wrong.into_iter().map(|is| (0, is.message.into()))),
    }
    imported
}

/// The root that a private area of OpenVZ's is, or has in it; not what is in an image.
pub(super) fn files_of(area: &Path) -> Option<PathBuf> {
    let there = |path: &Path| path.is_dir() && !path.join("root.hdd").exists();
    let of = [area.join("fs"), area.to_owned()]
        .into_iter()
        .find(|path| there(path) && path.join("etc").is_dir())?;
    fs::canonicalize(of).ok()
}

fn residue(imported: &Imported) -> Vec<serde_json::Value> {
    imported.residue.iter().map(|(line, message)| json!({ "line": line, "message": message })).collect()
}

fn show(
    file: &Path,
    target: &Path,
    imported: &Imported,
    (dry_run, known): (bool, bool),
    cx: &mut Context,
) -> Result<(), Failure> {
    if dry_run {
        cx.out.text(&format!("---\n# {}\n{}", file.display(), imported.text))?;
    } else {
        let (kept, told) = (imported.kept.len(), imported.residue.len());
        let there = if known { "there already, compared: " } else { "" };
        cx.out.line(&format!(
            "{} -> {}: {there}{kept} keys kept, {told} told below",
            file.display(),
            target.display()
        ))?;
    }
    for (line, message) in &imported.residue {
        cx.out.note(&crate::cli::output::harmless(&format!("{}:{line}: {message}", file.display())));
    }
    Ok(())
}

/// The files of a directory, containers by number, then samples. CT 0 is the host.
fn listed(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(dir).map_err(|error| cannot("list", dir, error))?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let order = match origin(&path)? {
                Origin::Container(ctid) => (ctid, String::new()),
                Origin::Sample(name) => (u32::MAX, name),
                Origin::Host => return None,
            };
            Some((order, path))
        })
        .collect();
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn origin(path: &Path) -> Option<Origin> {
    let name = path.file_name()?.to_str()?;
    if name == "vz.conf" {
        return Some(Origin::Host);
    }
    if let Some(sample) = name.strip_prefix("ve-").and_then(|name| name.strip_suffix(".conf-sample")) {
        return Some(Origin::Sample(sample.to_owned()));
    }
    let ctid = name.strip_suffix(".conf")?.parse().ok()?;
    (ctid > 0).then_some(Origin::Container(ctid))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .map_err(|error| cannot("make", path, error))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| cannot("write", path, error))
}

fn cannot(operation: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::new(format!("cannot {operation} {}", path.display())).because(error)
}

/// Whether all manifests of the directory are good, alone and together, and those of the containers say what their
/// configurations describe.
fn verify(dir: &Path, containers: &[Imported], cx: &mut Context) -> Result<bool, Failure> {
    let revision = Scanner::new(dir, Trust::of(&cx.settings)).scan();
    let problems: Vec<_> = revision.diagnostics.iter().filter(|is| is.is_error()).collect();
    for problem in &problems {
        cx.out.note(&render(problem, Style::Plain, |_| None));
    }
    let documents: Vec<&Document> = revision.documents.iter().map(|held| &*held.document).collect();
    let set = revision.set();
    let mut differ = 0_usize;
    for Imported { name, text, .. } in containers {
        match verify::difference(text, name, &set, &documents, &host_device) {
            Ok(None) => {}
            Ok(Some(plan)) => {
                differ += 1;
                cx.out.note(&format!("{name} is not what its configuration describes:\n{plan}"));
            }
            Err(why) => {
                differ += 1;
                cx.out.note(&format!("{name} cannot be compared: {why}"));
            }
        }
    }
    cx.out.note(&format!(
        "{} documents, {} errors; {} containers, {differ} not as described",
        documents.len(),
        problems.len(),
        containers.len()
    ));
    Ok(problems.is_empty() && differ == 0)
}
