//! Snapshots of a VE's disk: what is its own, as it was at a moment, beside its root in `<state>/ves/<uid>/snapshots`.
//!
//! An image is copied as a file, a subvolume shares all that it has with its snapshot, and other roots are copied as trees:
//! the upper layer, and overlayfs's index, which knows the links of the template's files that were changed. A copy is on
//! disk before it gets its name. Nobody writes to the VE's files meanwhile: it is stopped or frozen, which is the caller's
//! part. What ran in that moment is in `<state>/ves/<uid>/memory`, if it was written down: a snapshot that is a subvolume
//! could not get it by a rename. What is thrown away is so in [`super::remove`].

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use vzd_state::ids::VeName;
use vzd_state::ledger::Suspension;
use vzd_state::subsystem::disk::{Backend, Resource};

use super::copy::{self, Trees};
use super::{Image, LAYERS, Layers, backend, btrfs, image, make_dir, make_layers, remove, shown};
use crate::control::Snapshot;
use crate::drivers::{Stopped, Ve};
use crate::engine::fault;
use crate::error::{At, SysError, SysResult};
use crate::store::{Writes, atomic};

/// In the VE's directory.
const SNAPSHOTS: &str = "snapshots";
/// In the VE's directory: checkpoints of its snapshots, and of what runs they are.
const MEMORY: &str = "memory";
/// In a snapshot: what [`list`] tells of it.
const ABOUT: &str = "snapshot.json";
pub(super) const IMAGE: &str = "disk.img";
/// One that is being made. No snapshot is called so.
const NEW: &str = ".new";

fn dir_of(ve: Ve<'_>) -> PathBuf {
    ve.host.ve_dir(&ve.entry.uid).join(SNAPSHOTS)
}

/// A VE's snapshots, the oldest first.
pub fn list(ve: Ve<'_>) -> SysResult<Vec<Snapshot>> {
    let dir = dir_of(ve);
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", dir.display())?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.at("list", dir.display())?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path().join(ABOUT);
        let text = std::fs::read_to_string(&path).at("read", path.display())?;
        let about: Snapshot =
            serde_json::from_str(&text).map_err(|e| SysError::refused("read", path.display(), e))?;
        all.push(about);
    }
    all.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    Ok(all)
}

/// Where the checkpoint lies that belongs to a snapshot.
pub fn memory_of(ve: Ve<'_>, name: &VeName) -> PathBuf {
    ve.host.ve_dir(&ve.entry.uid).join(MEMORY).join(name.as_str())
}

/// Where it lies of what run that is.
fn run_of(memory: &Path) -> PathBuf {
    let name = memory.file_name().unwrap_or_default().to_string_lossy();
    memory.with_file_name(format!("{name}.json"))
}

/// Gets ready for a checkpoint of a snapshot of this name; what belongs to no snapshot is thrown away.
pub fn make_memory(ve: Ve<'_>, name: &VeName) -> SysResult<PathBuf> {
    refuse_name(ve, name)?;
    let memory = memory_of(ve, name);
    let all = memory.with_file_name("");
    make_dir(&all, 0o700)?;
    for entry in std::fs::read_dir(&all).at("list", all.display())? {
        let path = entry.at("list", all.display())?.path();
        let of = path.file_stem().unwrap_or_default();
        if !dir_of(ve).join(of).exists() && path.extension().is_none_or(|is| is == "json") {
            remove::leftover(&path)?;
        }
    }
    Ok(memory)
}

/// Keeps of what run the checkpoint of a snapshot is.
pub fn keep_run(memory: &Path, run: &Suspension) -> SysResult<()> {
    let path = run_of(memory);
    let text = serde_json::to_vec(run).map_err(|e| SysError::refused("encode", path.display(), e))?;
    atomic::write(&path, &text, &Writes::default()).map(drop)
}

/// Of what run it is.
pub fn read_run(memory: &Path) -> SysResult<Suspension> {
    let path = run_of(memory);
    let text = std::fs::read(&path).at("read", path.display())?;
    serde_json::from_slice(&text).map_err(|e| SysError::refused("read", path.display(), e))
}

fn refuse_name(ve: Ve<'_>, name: &VeName) -> SysResult<()> {
    if dir_of(ve).join(name.as_str()).exists() {
        return Err(SysError::refused("take snapshot", name, "there is one of this name"));
    }
    Ok(())
}

/// A copy that has no name yet.
#[derive(Debug)]
pub struct Taken {
    pub(super) new: PathBuf,
}

/// Where one of this name is to be made. Nothing is there.
pub(super) fn fresh(ve: Ve<'_>, name: &VeName) -> SysResult<PathBuf> {
    let all = dir_of(ve);
    refuse_name(ve, name)?;
    make_dir(&all, 0o700)?;
    let new = all.join(NEW);
    remove::leftover(&new)?;
    Ok(new)
}

/// Copies what is the VE's own.
pub fn take(ve: Ve<'_>, name: &VeName) -> SysResult<Taken> {
    let (dir, new) = (ve.host.ve_dir(&ve.entry.uid), fresh(ve, name)?);
    match backend(ve) {
        Backend::Image => {
            make_dir(&new, 0o700)?;
            if image::is_attached(&dir) {
                // What is not in the file yet: nobody writes, so nothing comes after it.
                Image::running(&dir)?.sync()?;
            }
            copy::file(&image::file(&dir), &new.join(IMAGE))?;
        }
        Backend::Btrfs => btrfs::copy(&dir.join(LAYERS), &new)?,
        Backend::Directory | Backend::Project => {
            make_dir(&new, 0o700)?;
            copy_layers(&mut Trees::default(), &Layers::open(ve, &dir)?.path, &new)?;
        }
    }
    fault::point();
    Ok(Taken { new })
}

impl Taken {
    /// Keeps it under its name.
    pub fn keep(self, about: &Snapshot) -> SysResult<()> {
        let text = serde_json::to_string(about).map_err(|e| SysError::refused("write", ABOUT, e))?;
        let path = self.new.join(ABOUT);
        std::fs::write(&path, text).at("write", path.display())?;
        sync(&self.new)?;
        fault::point();
        let kept = self.new.with_file_name(&about.name);
        std::fs::rename(&self.new, &kept).at("rename", self.new.display())?;
        sync_dir(&kept)
    }
}

/// Makes the VE's own files those of a snapshot, all at once; what they were is gone. The snapshot stays.
pub fn revert(ve: Ve<'_>, name: &VeName, _stopped: &Stopped) -> SysResult<()> {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    let from = find(ve, name)?;
    if backend(ve) == Backend::Image {
        if image::is_attached(&dir) {
            return Err(SysError::refused("replace", image::file(&dir).display(), "it is still in use"));
        }
        let new = dir.join("disk.img.new");
        remove::leftover(&new)?;
        copy::file(&from.join(IMAGE), &new)?;
        std::fs::File::open(&new).and_then(|new| new.sync_all()).at("write to disk", new.display())?;
        fault::point();
        std::fs::rename(&new, image::file(&dir)).at("rename", new.display())?;
        return sync_dir(&new);
    }
    let layers = Layers::open(ve, &dir)?;
    if let Some(project) = &layers.project {
        // For a moment there are both. The limits are set again when the VE starts.
        Resource::ALL.into_iter().try_for_each(|one| project.set_limit(one, None).map(drop))?;
    }
    let new = layers.path.with_file_name(format!(".new-{}", ve.entry.uid));
    remove::leftover(&new)?;
    if backend(ve) == Backend::Btrfs {
        btrfs::copy(&from, &new)?;
        std::fs::remove_file(new.join(ABOUT)).at("remove", new.join(ABOUT).display())?;
    } else {
        make_dir(&new, 0o711)?;
        if let Some(project) = &layers.project {
            project.take_in(&new)?;
        }
        make_layers(&new, ve.entry.ids.start)?;
        std::fs::remove_dir(new.join("upper")).at("remove", new.display())?;
        copy_layers(&mut Trees::default(), &from, &new)?;
    }
    sync(&new)?;
    fault::point();
    rustix::fs::renameat_with(CWD, &new, CWD, &layers.path, RenameFlags::EXCHANGE)
        .at("exchange", layers.path.display())?;
    fault::point();
    sync_dir(&new)?;
    remove::leftover(&new)
}

/// Throws a snapshot away.
pub fn delete(ve: Ve<'_>, name: &VeName) -> SysResult<()> {
    find(ve, name)?;
    if let Some(at) = shown::shown(ve)?.get(name.as_str()) {
        let why = format!("it is mounted at {}", at.display());
        return Err(SysError::refused("delete", format_args!("snapshot {name}"), why));
    }
    remove::snapshot(&dir_of(ve), name)?;
    let memory = memory_of(ve, name);
    remove::leftover(&memory)?;
    remove::leftover(&run_of(&memory))
}

/// Whether what ran is kept with it too.
pub fn has_memory(ve: Ve<'_>, name: &VeName) -> SysResult<bool> {
    find(ve, name)?;
    Ok(list(ve)?.iter().any(|one| one.name == name.as_str() && one.memory))
}

pub(super) fn find(ve: Ve<'_>, name: &VeName) -> SysResult<PathBuf> {
    let path = dir_of(ve).join(name.as_str());
    if path.exists() {
        return Ok(path);
    }
    Err(SysError::refused("find", format_args!("snapshot {name}"), "there is none of this name"))
}

/// The upper layer, and the index that belongs to it.
pub(super) fn copy_layers(trees: &mut Trees, from: &Path, to: &Path) -> SysResult<()> {
    trees.copy(&from.join("upper"), &to.join("upper"))?;
    // Only a VE that has run once has one.
    let index = Path::new("work/index");
    if from.join(index).exists() {
        make_dir(&to.join("work"), 0o700)?;
        trees.copy(&from.join(index), &to.join(index))?;
    }
    Ok(())
}

/// Writes all of the file system to disk that a directory is on: a tree has too many files to do so one by one.
pub(super) fn sync(dir: &Path) -> SysResult<()> {
    let fd = std::fs::File::open(dir).at("open", dir.display())?;
    rustix::fs::syncfs(fd).at("write to disk", dir.display())
}

/// Writes the directory to disk that a name is in.
fn sync_dir(path: &Path) -> SysResult<()> {
    let dir = path.parent().unwrap_or(path);
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).at("write to disk", dir.display())
}
