//! A root in a subvolume of the host's btrfs, where that counts them: its quota group limits its bytes, by what the
//! subvolume refers to. Quotas are never switched on here: on somebody's file system that is not vzd's to decide.
//!
//! btrfs numbers the inodes of each subvolume for itself, and overlayfs takes numbers of one file system to be unique. So
//! that no file of a VE has the number of another one of its template's, a VE's subvolume goes on counting where the
//! template's ends: it is made of [`blank`], which has counted so far once for all.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use vzd_state::capability::Feature;
use vzd_state::subsystem::Effect;
use vzd_state::subsystem::disk::{Meter, Resource, Usage};

use super::copy::INDEX_OF;
use super::{LAYERS, make_layers, open_dir, remove};
use crate::drivers::Ve;
use crate::engine::fault;
use crate::error::{At, SysError, SysResult};
use crate::kernel::btrfs;
use crate::settings::Settings;

/// In the state directory: the subvolume that those of VEs are made of.
const BLANK: &str = "blank";
/// In it, and in a VE's for a moment: the file with the highest number so far.
const LAST: &str = "last";
/// So many numbers can be passed over: 20 µs each.
const FARTHEST: u64 = 4 << 20;

/// One at a time counts on.
static COUNTING: Mutex<()> = Mutex::new(());

/// Whether this host can keep roots so.
pub fn probe(state_dir: &Path) -> Feature {
    let there = state_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let no = |why: String| Feature::No(why);
    let groups = match open_dir(there).and_then(groups) {
        Ok(Some(groups)) => groups,
        Ok(None) => return no(format!("{} is not on btrfs", state_dir.display())),
        Err(e) => return no(e.to_string()),
    };
    if !groups.join("enabled").exists() {
        return no(format!("its quotas are off (btrfs quota enable {})", there.display()));
    }
    // Before 6.7 there was no other mode, and it was not told.
    match std::fs::read_to_string(groups.join("mode")).as_deref().map(str::trim) {
        Ok("squota") => {
            no("its quotas are simple ones, which do not count what a snapshot shares".to_owned())
        }
        // As long as a transaction: `enabled` is there before the quotas are, and after they were.
        Ok("") => no("its quotas are being switched on or off".to_owned()),
        _ => Feature::Yes,
    }
}

/// Where the kernel tells of the quota groups of a file system; none if it is no btrfs.
fn groups(of: impl AsFd) -> SysResult<Option<PathBuf>> {
    let id = btrfs::file_system(of)?;
    Ok(id.map(|id| Path::new("/sys/fs/btrfs").join(id).join("qgroups")))
}

/// Makes the subvolume of a VE; without effect on one that is there already.
pub fn create(ve: Ve<'_>, dir: &Path, template: &Path) -> SysResult<()> {
    let point = dir.join(LAYERS);
    if !is_there(dir) {
        remove::leftover(&point)?;
        let _one = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot(&blank(&ve.host.settings, template)?, &point)?;
    }
    fault::point();
    make_layers(&point, ve.entry.ids.start)?;
    // The two directories have higher numbers now, and keep the count.
    remove::leftover(&point.join(LAST))?;
    fault::point();
    super::snapshot::sync(&point)
}

/// The subvolume that a VE's begins as: nothing is in it but a file whose number is above all of the template's, if they
/// are numbered by the same file system.
fn blank(settings: &Settings, template: &Path) -> SysResult<PathBuf> {
    let path = settings.state_dir.join(BLANK);
    if !path.exists() {
        btrfs::create_subvolume(open_dir(&settings.state_dir)?, BLANK.as_ref())?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o711)).at("chmod", path.display())?;
    }
    let (own, theirs) = (open_dir(&path)?, open_dir(template)?);
    if btrfs::file_system(&theirs)? == btrfs::file_system(&own)? {
        count_on(&path, &own, next_number(&theirs, template)?)?;
    }
    Ok(path)
}

/// The number that a new file in a directory gets.
fn next_number(dir: impl AsFd, shown: &Path) -> SysResult<u64> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, ".", flags, Mode::empty()).at("make a file in", shown.display())?;
    Ok(rustix::fs::fstat(file).at("stat", shown.display())?.st_ino)
}

/// Makes files until one has a higher number, and keeps that one.
fn count_on(path: &Path, dir: &OwnedFd, above: u64) -> SysResult<()> {
    let mut number = next_number(dir, path)?;
    if above.saturating_sub(number) > FARTHEST {
        let why = "its subvolume has numbered millions of files: have the state directory, with its templates, in a \
                   subvolume of its own";
        return Err(SysError::refused("count beyond the files of", "the template", why).value(above));
    }
    if number > above {
        return Ok(());
    }
    while number < above {
        number = next_number(dir, path)?;
    }
    let (new, last) = (path.join(".new"), path.join(LAST));
    remove::leftover(&new)?;
    std::fs::File::create(&new).at("make", new.display())?;
    std::fs::rename(&new, &last).at("rename", new.display())
}

fn snapshot(of: &Path, to: &Path) -> SysResult<()> {
    let dir = to.parent().unwrap_or(to);
    btrfs::snapshot(open_dir(of)?, open_dir(dir)?, to.file_name().unwrap_or_default())
}

/// Makes a subvolume that has what another one has, with no limit. Nobody writes to that one meanwhile.
pub(super) fn copy(of: &Path, to: &Path) -> SysResult<()> {
    snapshot(of, to)?;
    btrfs::set_limit(open_dir(to)?, None)?;
    let index = to.join("work/index");
    match rustix::fs::removexattr(&index, INDEX_OF) {
        // Only a VE that has run once has one.
        Ok(()) | Err(Errno::NOENT | Errno::NODATA) => Ok(()),
        Err(e) => Err(SysError::new("remove attribute of", index.display(), e)),
    }
}

/// Whether a VE's subvolume is there.
pub(super) fn is_there(dir: &Path) -> bool {
    std::fs::symlink_metadata(dir.join(LAYERS)).is_ok_and(|is| is.is_dir() && is.ino() == btrfs::FIRST_INODE)
}

/// A VE's subvolume, and where the kernel tells of its quota group.
#[derive(Debug)]
pub struct Subvolume {
    dir: OwnedFd,
    groups: PathBuf,
    number: u64,
}

impl Subvolume {
    /// That of a VE's directory.
    pub fn open(dir: &Path) -> SysResult<Self> {
        let point = dir.join(LAYERS);
        let dir = open_dir(&point)?;
        let groups = groups(&dir)?;
        let groups =
            groups.ok_or_else(|| SysError::refused("look at", point.display(), "it is not on btrfs"))?;
        if !groups.join("enabled").exists() {
            return Err(SysError::refused(
                "look at",
                groups.display(),
                "quotas are off (btrfs quota enable)",
            ));
        }
        Ok(Self { number: btrfs::subvolume(&dir)?, dir, groups })
    }

    /// What is used, as of the file system's last commit, and the limit in force.
    pub fn usage(&self) -> SysResult<Usage> {
        if number(&self.groups.join("inconsistent"))? != 0 {
            let why = "btrfs has lost count, or still counts (btrfs quota rescan)";
            return Err(SysError::refused("look at", self.groups.display(), why));
        }
        Ok(Usage {
            space: Meter { used: self.tells("referenced")?, limit: self.limit()?, most: None },
            inodes: None,
        })
    }

    fn tells(&self, name: &str) -> SysResult<u64> {
        number(&self.groups.join(format!("0_{}", self.number)).join(name))
    }

    fn limit(&self) -> SysResult<Option<u64>> {
        let is_limited = self.tells("limit_flags")? & 1 != 0;
        is_limited.then(|| self.tells("max_referenced")).transpose()
    }

    /// Puts a limit in force; below what is used, nothing more can be written.
    pub fn set_limit(&self, resource: Resource, to: Option<u64>) -> SysResult<Effect> {
        if resource == Resource::Inodes {
            return Err(SysError::refused("limit", resource, "btrfs does not count them"));
        }
        if self.limit()? == to {
            return Ok(Effect::AlreadySo);
        }
        btrfs::set_limit(&self.dir, to)?;
        Ok(Effect::Changed)
    }
}

fn number(path: &Path) -> SysResult<u64> {
    let text = std::fs::read_to_string(path).at("read", path.display())?;
    let number = text.trim().parse();
    number.map_err(|_| SysError::refused("read", path.display(), "it is no number").value(text))
}
