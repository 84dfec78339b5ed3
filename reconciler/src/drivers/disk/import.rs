//! A snapshot of a VE from an archive, such as [`super::export`] packs: a whole root, with the ids that it has inside.
//!
//! It is unpacked by the rules of templates, with the VE's ids, into a directory that has no name of a snapshot yet. Then
//! it is made an upper layer over the VE's template: what is the same there is taken out, and what is not in the archive gets
//! a whiteout. So a VE has of its own what it had, and shares the rest. An archive is hostile: nobody else works in that
//! directory meanwhile, no link in it is followed, and of a mark of overlayfs's there is none that was not made here.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use vzd_state::ids::VeName;
use vzd_state::subsystem::disk::Backend;

use super::copy::{Traits, Trees};
use super::snapshot::{self, IMAGE, Taken};
use super::{LAYERS, backend, btrfs, image, make_dir, make_layers, open_dir, remove};
use crate::drivers::{StepError, Ve};
use crate::engine::fault;
use crate::error::{At, SysError, SysResult};
use crate::kernel::loopdev;
use crate::kernel::mount;
use crate::kernel::ns::{self, Kind};
use crate::runtime::tree::open_volume;
use crate::template;

/// Makes a snapshot of an archive, which has no name yet. On an error nothing is left of it.
pub fn import(ve: Ve<'_>, name: &VeName, archive: &Path) -> Result<Taken, StepError> {
    let new = snapshot::fresh(ve, name)?;
    let filled = fill(ve, archive, &new);
    if filled.is_err() {
        remove::leftover(&new)?;
    }
    filled.map(|()| Taken { new })
}

fn fill(ve: Ve<'_>, archive: &Path, new: &Path) -> Result<(), StepError> {
    let (dir, base) = (ve.host.ve_dir(&ve.entry.uid), ve.entry.ids.start);
    let lower = std::fs::read_link(dir.join("lower")).at("read", dir.join("lower").display())?;
    match backend(ve) {
        Backend::Btrfs => {
            // Its files have numbers above the template's.
            btrfs::copy(&dir.join(LAYERS), new)?;
            remove::leftover(&new.join("upper"))?;
            remove::leftover(&new.join("work"))?;
        }
        Backend::Directory | Backend::Project | Backend::Image => make_dir(new, 0o700)?,
    }
    make_layers(new, base)?;
    let (upper, work) = (new.join("upper"), new.join("work"));
    template::unpack(archive, open_dir(&upper)?, open_dir(&work)?.as_fd(), base)?;
    fault::point();
    Layer { base }.lay_over(&upper, &lower)?;
    fault::point();
    if backend(ve) == Backend::Image {
        into_image(ve, new)?;
    }
    Ok(())
}

/// Moves the layer into an image like the VE's, at the place that a snapshot has one.
fn into_image(ve: Ve<'_>, new: &Path) -> SysResult<()> {
    let want = ve.entry.applied.disk.clone().unwrap_or_default();
    image::create(new, &want, ve.entry.ids.start)?;
    let (at, upper) = (image::point(new), new.join("upper"));
    let device = loopdev::attach(&new.join(IMAGE))?;
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            ns::unshare(&[Kind::Mount])?;
            mount::make_all_private()?;
            let volume = image::volume(&device, &at);
            mount::attach(&open_volume(&volume)?, CWD, &volume.at)?;
            std::fs::remove_dir(at.join("upper")).at("remove", at.display())?;
            Trees::default().copy(&upper, &at.join("upper"))?;
            snapshot::sync(&at)?;
            mount::unmount(&at)
        });
        let panicked = || Err(SysError::refused("fill", at.display(), "the thread that does it panicked"));
        worker.join().unwrap_or_else(|_| panicked())
    })?;
    [upper, new.join("work"), at].iter().try_for_each(|done| remove::leftover(done))
}

/// A directory that becomes an upper layer.
struct Layer {
    /// First host id of the VE's range.
    base: u32,
}

impl Layer {
    fn lay_over(&self, upper: &Path, lower: &Path) -> SysResult<()> {
        let was = std::fs::symlink_metadata(upper).at("stat", upper.display())?;
        for entry in std::fs::read_dir(lower).at("list", lower.display())? {
            let low = entry.at("list", lower.display())?.path();
            let up = upper.join(low.file_name().unwrap_or_default());
            let low_is = std::fs::symlink_metadata(&low).at("stat", low.display())?;
            let up_is = match std::fs::symlink_metadata(&up) {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    rustix::fs::mknodat(CWD, &up, FileType::CharacterDevice, Mode::empty(), 0)
                        .at("make whiteout", up.display())?;
                    continue;
                }
                other => other.at("stat", up.display())?,
            };
            if up_is.is_dir() && low_is.is_dir() {
                self.lay_over(&up, &low)?;
                if self.has_the_traits(&up, &up_is, &low, &low_is)? {
                    match std::fs::remove_dir(&up) {
                        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => {}
                        other => other.at("remove", up.display())?,
                    }
                }
            } else if self.is_the_same(&up, &up_is, &low, &low_is)? {
                std::fs::remove_file(&up).at("remove", up.display())?;
            }
        }
        let time = Timespec { tv_sec: was.mtime(), tv_nsec: was.mtime_nsec() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, upper, &times, AtFlags::SYMLINK_NOFOLLOW)
            .at("set times of", upper.display())
    }

    /// Whether a file that is no directory is just as that of the template.
    fn is_the_same(&self, up: &Path, up_is: &Metadata, low: &Path, low_is: &Metadata) -> SysResult<bool> {
        // One of several names is not one of them alone.
        if up_is.nlink() > 1 || low_is.nlink() > 1 || !self.has_the_traits(up, up_is, low, low_is)? {
            return Ok(false);
        }
        if up_is.is_symlink() {
            let to = |path: &Path| std::fs::read_link(path).at("read", path.display());
            return Ok(to(up)? == to(low)?);
        }
        Ok(!up_is.is_file() || (up_is.len() == low_is.len() && same_content(up, low)?))
    }

    /// Whether kind, owner, mode, time and attributes are the same. An archive knows whole seconds.
    fn has_the_traits(&self, up: &Path, up_is: &Metadata, low: &Path, low_is: &Metadata) -> SysResult<bool> {
        let shifted = |id: u32| self.base.checked_add(id);
        if up_is.mode() != low_is.mode()
            || Some(up_is.uid()) != shifted(low_is.uid())
            || Some(up_is.gid()) != shifted(low_is.gid())
            || up_is.mtime() != low_is.mtime()
        {
            return Ok(false);
        }
        Ok(Traits::of(up, up_is)?.attributes == Traits::of(low, low_is)?.attributes)
    }
}

fn same_content(one: &Path, other: &Path) -> SysResult<bool> {
    const PIECE: u64 = 256 << 10;
    let open = |path: &Path| {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        File::options().read(true).custom_flags(flags).open(path).at("open", path.display())
    };
    let (files, paths) = ([open(one)?, open(other)?], [one, other]);
    let mut pieces = [Vec::new(), Vec::new()];
    loop {
        for ((file, path), piece) in files.iter().zip(paths).zip(&mut pieces) {
            piece.clear();
            file.take(PIECE).read_to_end(piece).at("read", path.display())?;
        }
        if pieces[0] != pieces[1] {
            return Ok(false);
        }
        if pieces[0].is_empty() {
            return Ok(true);
        }
    }
}
