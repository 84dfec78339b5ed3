//! The root file system, IO half: a directory per VE with the overlay's own layers and a link to its
//! template.
//!
//! `<state>/ves/<uid>/` holds `upper` (the VE's own files, with the ids of its range), `work`
//! (overlayfs's) and `lower`, a link to the template as it was when the VE was made: a newer template of
//! the same name does not change a VE.
//! The overlay itself is mounted by the starter, in the VE's own mount namespace: the host has no mount
//! of it.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, chown, symlink};
use std::path::{Path, PathBuf};

use vzd_state::ledger::MadeRoot;
use vzd_state::reading::Reading;
use vzd_state::subsystem::disk::{Cold, Observed, Root};

use crate::drivers::{Effect, Made, StepError, Stopped, Ve};
use crate::error::{At, SysError, SysResult};
use crate::host::Host;
use crate::runtime::spec::RootSpec;
use crate::template::Source;

/// What is being removed has this before its name.
const TRASH: &str = ".trash-";

/// Reads whether the root is there. A directory that was not finished counts as absent.
pub fn observe(ve: Ve<'_>) -> Observed {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    let finished = ve.entry.disk.as_ref().is_some_and(|disk| disk.ready);
    let root = match std::fs::symlink_metadata(dir.join("lower")) {
        Ok(_) if finished => Reading::Is(Root { path: dir.display().to_string() }),
        Ok(_) => Reading::Absent,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Reading::Absent,
        Err(e) => Reading::Unreadable(SysError::new("stat", dir.join("lower").display(), e).to_string()),
    };
    Observed { root }
}

/// Makes or throws away the root.
pub fn apply_cold(ve: Ve<'_>, step: &Cold, _stopped: &Stopped) -> Result<(Effect, Made), StepError> {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    match step {
        Cold::CreateRoot { template } => create(ve, &dir, template),
        Cold::DestroyRoot => Ok((destroy(ve)?, Made::default())),
    }
}

/// Makes sure that a root can be made, before the one that there is is thrown away for it.
pub fn prepare(host: &Host, step: &Cold) -> Result<(), StepError> {
    if let Cold::CreateRoot { template } = step {
        host.templates()?.ensure(&source(template))?;
    }
    Ok(())
}

fn create(ve: Ve<'_>, dir: &Path, template: &str) -> Result<(Effect, Made), StepError> {
    // Held until the link is made: from then on the template counts as used.
    let template = ve.host.templates()?.ensure(&source(template))?;
    let made = MadeRoot { path: Some(dir.display().to_string()), digest: Some(template.digest.clone()) };
    let link = dir.join("lower");
    // A root is there though one is to be made: who made it, or was throwing it away, was killed. Nothing of
    // it may show in the new one.
    if std::fs::symlink_metadata(&link).is_ok() {
        destroy(ve)?;
    }
    let base = ve.entry.ids.start;
    for (name, mode, owner) in [("", 0o711, 0), ("upper", 0o755, base), ("work", 0o700, 0)] {
        let path = dir.join(name);
        make_dir(&path, mode)?;
        chown(&path, Some(owner), Some(owner)).at("chown", path.display())?;
    }
    symlink(&template.root, &link).at("link", link.display())?;
    Ok((Effect::Changed, Made { root: Some(made), init_pid: None }))
}

/// The source that a manifest's `template` names; the schema has checked its form.
fn source(template: &str) -> Source {
    match template.split_once(':') {
        Some(("dir", path)) => Source::Dir(PathBuf::from(path)),
        Some(("file", path)) => Source::File(PathBuf::from(path)),
        _ => Source::Named(template.to_owned()),
    }
}

/// Throws the root away. The directory is renamed first, so that one that is half gone is never taken
/// for a root.
pub fn destroy(ve: Ve<'_>) -> SysResult<Effect> {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    let trash = ve.host.settings.ves_dir().join(format!("{TRASH}{}", ve.entry.uid.as_str()));
    let renamed = match std::fs::rename(&dir, &trash) {
        // What an earlier removal that was killed has left.
        Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
            std::fs::remove_dir_all(&trash).at("remove", trash.display())?;
            std::fs::rename(&dir, &trash)
        }
        other => other,
    };
    let was = match renamed {
        Ok(()) => Effect::Changed,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Effect::AlreadySo,
        Err(e) => return Err(SysError::new("rename", dir.display(), e)),
    };
    match std::fs::remove_dir_all(&trash) {
        Ok(()) => Ok(Effect::Changed),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(was),
        Err(e) => Err(SysError::new("remove", trash.display(), e)),
    }
}

/// The layers of a VE's root, for its start.
pub fn root_spec(ve: Ve<'_>) -> SysResult<RootSpec> {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    let lower = std::fs::read_link(dir.join("lower")).at("read", dir.join("lower").display())?;
    let staging = ve.host.settings.staging_dir();
    Ok(RootSpec { lower, upper: dir.join("upper"), work: dir.join("work"), staging })
}

/// Finishes removals that a killed controller began, and lets go of templates that no VE uses.
pub fn tidy(host: &Host) -> Result<(), StepError> {
    let dir = host.settings.ves_dir();
    let mut used = BTreeSet::new();
    for entry in std::fs::read_dir(&dir).at("list", dir.display())?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(TRASH) {
            std::fs::remove_dir_all(entry.path()).at("remove", entry.path().display())?;
        } else if let Ok(template) = std::fs::read_link(entry.path().join("lower")) {
            used.insert(template);
        }
    }
    host.templates()?.remove_unused(&used)?;
    Ok(())
}

fn make_dir(path: &Path, mode: u32) -> SysResult<()> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(SysError::new("make directory", path.display(), e))
        }
        _ => Ok(()),
    }
}
