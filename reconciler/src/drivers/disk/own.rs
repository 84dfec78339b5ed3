//! A root whose files are all the VE's own: a copy of a directory of the host's (`template: copy:/path`), with ids of the VE's, above
//! an empty template.
//!
//! Nobody writes to the directory meanwhile. It may be that of a container of another system's, and hostile: no link in it is followed.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use vzd_state::ids::IdRange;

use super::copy::{Traits, Trees};
use super::kept::Upper;
use super::shift::Shift;
use crate::drivers::Ve;
use crate::engine::fault;
use crate::error::{At, SysResult};

/// What a copy does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Device nodes.
    pub devices: u64,
    /// Attributes that are the host's or overlayfs's.
    pub attributes: u64,
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = |number: u64| if number == 1 { "" } else { "s" };
        let Left { devices, attributes } = *self;
        write!(f, "{devices} device node{}, {attributes} extended attribute{}", s(devices), s(attributes))
    }
}

/// Fills a root that was just made.
pub fn fill(ve: Ve<'_>, from: &Path) -> SysResult<Left> {
    let upper = Upper::open(ve)?;
    let to = PathBuf::from(format!("/proc/self/fd/{}", upper.dir.as_raw_fd()));
    let shift = Shift { base: ve.entry.ids.start, count: ve.entry.ids.count };
    let mut trees = Trees::shifted(shift);
    for entry in std::fs::read_dir(from).at("list", from.display())? {
        let entry = entry.at("list", from.display())?;
        trees.copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    fault::point();
    let is = std::fs::symlink_metadata(from).at("stat", from.display())?;
    let (traits, left) = shift.traits(from, Traits::of(from, &is)?)?;
    traits.give(&to.join("."))?;
    rustix::fs::syncfs(&upper.dir).at("sync", ve.entry.name.as_str())?;
    let mut all = trees.left();
    all.attributes += left;
    Ok(all)
}

/// What a copy of that directory would not have.
///
/// # Errors
///
/// It cannot be read, or has files of ids that no VE has.
pub fn survey(of: &Path) -> SysResult<Left> {
    let mut left = Left::default();
    look(of, &mut left)?;
    Ok(left)
}

fn look(at: &Path, left: &mut Left) -> SysResult<()> {
    use std::os::unix::fs::FileTypeExt;
    let is = std::fs::symlink_metadata(at).at("stat", at.display())?;
    if is.file_type().is_block_device() || is.file_type().is_char_device() {
        left.devices += 1;
        return Ok(());
    }
    let any = Shift { base: 0, count: IdRange::BLOCK };
    left.attributes += any.traits(at, Traits::of(at, &is)?)?.1;
    if is.is_dir() {
        for entry in std::fs::read_dir(at).at("list", at.display())? {
            look(&entry.at("list", at.display())?.path(), left)?;
        }
    }
    Ok(())
}
