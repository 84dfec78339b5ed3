//! The root of a clone: another VE's own files as they are at one moment, above the same template, with ids of the clone's range.
//!
//! An image is copied as a file, a subvolume shares all that it has, and both get their ids afterwards, in place; other roots
//! are copied as trees with other ids. The VE that is copied stands still for the copy alone, which is the caller's part.
//! What is copied belongs to a VE and may be hostile: nothing in it is followed, opened for its meaning or executed.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use vzd_state::subsystem::disk::Backend;
use vzd_state::subsystem::lifecycle::ColdSpec;

use super::copy::{self, Traits, Trees};
use super::shift::Carry;
use super::snapshot::{copy_layers, sync};
use super::{Image, LAYERS, Layers, backend, btrfs, image, make_dir, make_layers, project, users};
use crate::drivers::Ve;
use crate::engine::fault;
use crate::error::{At, SysError, SysResult};
use crate::runtime::quotas::Kept;

/// A root that is being made.
pub struct Room<'a> {
    of: Ve<'a>,
    to: Ve<'a>,
    /// How the clone is started.
    cold: &'a ColdSpec,
    layers: Option<(Layers, Layers)>,
    users: Option<Kept>,
}

/// Makes everything that can be made before the VE `of` stands still. `cold`: how the clone is started.
pub fn make<'a>(of: Ve<'a>, to: Ve<'a>, cold: &'a ColdSpec) -> SysResult<Room<'a>> {
    if of.entry.ids.count != to.entry.ids.count {
        let (has, is) = (of.entry.ids.count, to.entry.ids.count);
        let why = format!("it has {has} ids, and a clone {is}");
        return Err(SysError::refused("clone", format_args!("VE {}", of.entry.name), why));
    }
    let (from, dir) = (of.host.ve_dir(&of.entry.uid), to.host.ve_dir(&to.entry.uid));
    make_dir(&dir, 0o711)?;
    let layers = match backend(to) {
        Backend::Image => {
            make_dir(&image::point(&dir), 0o711)?;
            None
        }
        Backend::Btrfs => None,
        Backend::Directory => {
            make_dir(&dir.join(LAYERS), 0o711)?;
            make_layers(&dir.join(LAYERS), to.entry.ids.start)?;
            Some((Layers::open(of, &from)?, Layers::open(to, &dir)?))
        }
        Backend::Project => {
            project::create(to, &dir)?;
            Some((Layers::open(of, &from)?, Layers::open(to, &dir)?))
        }
    };
    // From here on the template counts as used.
    let (template, link) = (from.join("lower"), dir.join("lower"));
    let template = std::fs::read_link(&template).at("read", template.display())?;
    symlink(&template, &link).at("link", link.display())?;
    if let Some((_, layers)) = &layers {
        let upper = layers.path.join("upper");
        std::fs::remove_dir(&upper).at("remove", upper.display())?;
    }
    Ok(Room { of, to, cold, layers, users: None })
}

impl Room<'_> {
    /// Copies what is the VE's own. Nobody writes to it meanwhile.
    pub fn copy(&mut self) -> SysResult<()> {
        let (from, dir) = (dir_of(self.of), dir_of(self.to));
        match (&self.layers, backend(self.to)) {
            (Some((from, to)), _) => {
                let mut trees = Trees::carried(self.carry());
                copy_layers(&mut trees, &from.path, &to.path)?;
            }
            (None, Backend::Btrfs) => btrfs::copy(&from.join(LAYERS), &dir.join(LAYERS))?,
            (None, _) => {
                if image::is_attached(&from) {
                    Image::running(&from)?.sync()?;
                }
                copy::file(&image::file(&from), &image::file(&dir))?;
            }
        }
        self.users = match &self.of.entry.run {
            Some(run) => users(self.of, &run.cold)?.map(|quotas| Kept::of(&quotas)).transpose()?,
            None => super::kept_users(self.of, self.cold)?,
        };
        fault::point();
        Ok(())
    }

    /// Makes it whole, and durable. Tells where it is.
    pub fn finish(self) -> SysResult<String> {
        let dir = dir_of(self.to);
        match (&self.layers, backend(self.to)) {
            (Some((_, layers)), _) => sync(&layers.path)?,
            (None, Backend::Btrfs) => carry_layers(&dir.join(LAYERS), self.carry())?,
            (None, _) => {
                let image = Image::open(&dir)?;
                let root = image.root()?;
                carry_layers(&of_fd(&root), self.carry())?;
                image.sync()?;
                drop((root, image));
                let file = image::file(&dir);
                std::fs::File::open(&file)
                    .and_then(|file| file.sync_all())
                    .at("write to disk", file.display())?;
            }
        }
        fault::point();
        if let Some(kept) = self.users.clone() {
            super::put_users_back(self.to, self.cold, kept)?;
        }
        sync(&dir)?;
        fault::point();
        Ok(dir.display().to_string())
    }

    fn carry(&self) -> Carry {
        Carry { from: self.of.entry.ids, to: self.to.entry.ids }
    }
}

fn dir_of(ve: Ve<'_>) -> PathBuf {
    ve.host.ve_dir(&ve.entry.uid)
}

fn of_fd(fd: &std::os::fd::OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Gives the files of layers other ids, in place: those of the upper one, and overlayfs's index, where they have other names.
fn carry_layers(layers: &Path, carry: Carry) -> SysResult<()> {
    let mut seen = HashSet::new();
    for tree in ["upper", "work/index"].map(|tree| layers.join(tree)) {
        match std::fs::symlink_metadata(&tree) {
            Ok(is) => carry_tree(&tree, &is, carry, &mut seen)?,
            // Only a VE that has run once has an index.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(SysError::new("stat", tree.display(), e)),
        }
    }
    Ok(())
}

fn carry_tree(path: &Path, is: &Metadata, carry: Carry, seen: &mut HashSet<u64>) -> SysResult<()> {
    if !is.is_dir() && is.nlink() > 1 && !seen.insert(is.ino()) {
        return Ok(());
    }
    let was = Traits::of(path, is)?;
    if is.is_dir() {
        for entry in std::fs::read_dir(path).at("list", path.display())? {
            let entry = entry.at("list", path.display())?;
            let is = entry.metadata().at("stat", entry.path().display())?;
            carry_tree(&entry.path(), &is, carry, seen)?;
        }
    }
    let now = carry.traits(was.clone());
    if now == was { Ok(()) } else { now.give(path) }
}
