//! A root in a file system of its own: one sparse ext4 image a VE, on a loop device.
//!
//! The image is larger than its limit. What the VE may not use is kept back: bytes as clusters that ext4 reserves
//! for itself (`/sys/fs/ext4/DEV/reserved_clusters`: live, exact, in both directions, for everyone, and in memory
//! only, so that the file system stays an ordinary one); inodes as empty files in a directory beside the VE's own.
//!
//! The host has no mount of it: the overlay of a running VE keeps the file system mounted and the loop device
//! attached, and both go with the VE, whoever ends. To look or to set a limit, the same file system is mounted once
//! more for a moment, attached nowhere.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use vzd_state::subsystem::Effect;
use vzd_state::subsystem::disk::quota::BLOCK;
use vzd_state::subsystem::disk::{Desired, Meter, Resource, Usage};

use super::{LAYERS, ext4, make_dir, make_layers};
use crate::error::{At, SysError, SysResult};
use crate::kernel::loopdev::{self, LoopDevice};
use crate::runtime::spec::VolumeSpec;
use crate::runtime::tree::open_volume;

/// The image, in the VE's directory.
const IMAGE: &str = "disk.img";
/// In the image: the files that keep inodes back.
const RESERVE: &str = "reserve";
/// ext4's own for what it can't foresee; it would keep as much by itself.
const KEPT: u64 = 4096;
/// Inodes of an empty image: the ten that ext4 keeps, lost+found, upper, work and reserve.
const OWN_INODES: u64 = 14;
/// How much larger than its limit an image is, so that the limit can be raised. The file is sparse.
const HEADROOM: u64 = 4;
/// How many more inodes than its limit an image has at most. Each of them is kept back by a file.
const HEADROOM_INODES: u64 = 4096;
/// For the journal and ext4's tables.
const OVERHEAD: u64 = 128 << 20;
/// Where the image of a VE's directory is.
pub fn file(dir: &Path) -> PathBuf {
    dir.join(IMAGE)
}

/// Where the VE's own files are once the starter has mounted the image.
pub fn point(dir: &Path) -> PathBuf {
    dir.join(LAYERS)
}

/// Makes the image, whole or not at all: it gets its name when all of it is on disk.
pub fn create(dir: &Path, want: &Desired, base: u32) -> SysResult<()> {
    let (new, layout) = (dir.join("disk.img.new"), dir.join("layout"));
    make_dir(&layout, 0o711)?;
    make_layers(&layout, base)?;
    make_dir(&layout.join(RESERVE), 0o700)?;
    let size = size(want, dir)?;
    let image = std::fs::File::create(&new).at("make", new.display())?;
    image.set_len(size).map_err(|e| SysError::new("enlarge", new.display(), e).value(size))?;
    format(&new, &layout, want)?;
    image.sync_all().at("write to disk", new.display())?;
    std::fs::rename(&new, file(dir)).at("rename", new.display())?;
    make_dir(&point(dir), 0o711)?;
    std::fs::remove_dir_all(&layout).at("remove", layout.display())?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).at("write to disk", dir.display())
}

/// Bytes of the image: room for the limit to be raised; with no limit, as much as the host has.
fn size(want: &Desired, dir: &Path) -> SysResult<u64> {
    let limit = want.space.hard.or(want.space.soft);
    let size = match limit {
        Some(limit) => limit.saturating_mul(HEADROOM),
        None => {
            let host = rustix::fs::statvfs(dir).at("stat file system of", dir.display())?;
            host.f_blocks.saturating_mul(host.f_frsize)
        }
    };
    if limit.is_some_and(|limit| limit > ext4::LARGEST - OVERHEAD) {
        return Err(SysError::refused("make", "image", "an ext4 image holds 16T at most").value(size));
    }
    Ok(size.saturating_add(OVERHEAD).min(ext4::LARGEST) / BLOCK * BLOCK)
}

fn format(image: &Path, layout: &Path, want: &Desired) -> SysResult<()> {
    // An orphan file's inode would be one more than those counted above; room for tables of a larger file system, which
    // this one never becomes, would be ten times what all the rest takes.
    let extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";
    let inodes = match want.inodes.hard {
        Some(limit) => {
            let number = limit.saturating_add(limit.min(HEADROOM_INODES)).saturating_add(OWN_INODES);
            ["-N".to_owned(), number.to_string()]
        }
        None => ["-i".to_owned(), "8192".to_owned()],
    };
    let options =
        ["-J", "size=16", "-O", "^orphan_file,^resize_inode", "-E", extended, &inodes[0], &inodes[1]];
    ext4::format(image, Some(layout), &options)
}

/// An image that is attached and mounted, at no place, as long as this lives.
#[derive(Debug)]
pub struct Image {
    device: LoopDevice,
    mount: OwnedFd,
}

impl Image {
    /// Attaches and mounts the image of a VE's directory.
    pub fn open(dir: &Path) -> SysResult<Self> {
        let file = canonical(dir)?;
        // One that is attached is in use: nobody else may touch it.
        if !loopdev::is_attached(&file) {
            ext4::mend_if_needed(&file)?;
        }
        Self::mounted(loopdev::attach(&file)?)
    }

    /// The image of a VE that runs.
    pub fn running(dir: &Path) -> SysResult<Self> {
        let file = canonical(dir)?;
        match loopdev::find(&file)? {
            Some(device) => Self::mounted(device),
            None => Err(SysError::refused("find the loop device of", file.display(), "it is not attached")),
        }
    }

    fn mounted(device: LoopDevice) -> SysResult<Self> {
        let mount = open_volume(&volume(&device, Path::new("")))?;
        Ok(Self { device, mount })
    }

    /// For the starter.
    pub fn volume(&self, dir: &Path) -> VolumeSpec {
        volume(&self.device, &point(dir))
    }

    /// Writes all of it to the image.
    pub fn sync(&self) -> SysResult<()> {
        rustix::fs::syncfs(self.root()?).at("write to disk", self.device.path().display())
    }

    /// The top of it.
    pub fn root(&self) -> SysResult<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.mount, ".", flags, Mode::empty()).at("open", self.device.path().display())
    }

    /// The VE's own files on it.
    pub fn upper(&self) -> SysResult<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.mount, "upper", flags, Mode::empty()).at("open", "upper")
    }

    /// What is used, and the limits in force.
    pub fn usage(&self) -> SysResult<Usage> {
        let stat = self.stat()?;
        let reserved = self.reserved()?;
        let hidden = Hidden::open(&self.mount)?.count()?;
        let whole = stat.f_files - OWN_INODES;
        Ok(Usage {
            space: Meter {
                used: (stat.f_blocks - stat.f_bfree) * BLOCK,
                limit: (reserved > KEPT).then(|| stat.f_blocks.saturating_sub(reserved) * BLOCK),
                most: Some(stat.f_blocks.saturating_sub(KEPT + 1) * BLOCK),
            },
            inodes: Some(Meter {
                used: (stat.f_files - stat.f_ffree).saturating_sub(OWN_INODES + hidden),
                limit: (hidden > 0).then(|| whole - hidden),
                most: Some(whole - 1),
            }),
        })
    }

    /// Puts a limit in force, as far as what is used lets it come down.
    pub fn set_limit(&self, resource: Resource, to: Option<u64>) -> SysResult<Effect> {
        let stat = self.stat()?;
        match resource {
            Resource::Space => {
                let kept = to.map_or(KEPT, |to| stat.f_blocks.saturating_sub(to / BLOCK).max(KEPT + 1));
                if self.reserved()? == kept {
                    return Ok(Effect::AlreadySo);
                }
                let path = self.knob();
                std::fs::write(&path, kept.to_string())
                    .map_err(|e| SysError::new("write", path.display(), e).value(kept))?;
                Ok(Effect::Changed)
            }
            Resource::Inodes => {
                let whole = stat.f_files - OWN_INODES;
                Hidden::open(&self.mount)?.set(to.map_or(0, |to| whole.saturating_sub(to).max(1)))
            }
        }
    }

    fn stat(&self) -> SysResult<rustix::fs::StatVfs> {
        rustix::fs::fstatvfs(&self.mount).at("stat file system on", self.device.path().display())
    }

    fn knob(&self) -> PathBuf {
        PathBuf::from(format!("/sys/fs/ext4/{}/reserved_clusters", self.device.name()))
    }

    /// Blocks that the VE may not have.
    fn reserved(&self) -> SysResult<u64> {
        let path = self.knob();
        let text = std::fs::read_to_string(&path).at("read", path.display())?;
        text.trim()
            .parse()
            .map_err(|_| SysError::refused("read", path.display(), "it is no number").value(text))
    }
}

/// Whether the image is on a loop device.
pub fn is_attached(dir: &Path) -> bool {
    canonical(dir).is_ok_and(|file| loopdev::is_attached(&file))
}

fn canonical(dir: &Path) -> SysResult<PathBuf> {
    std::fs::canonicalize(file(dir)).at("find", file(dir).display())
}

pub(super) fn volume(device: &LoopDevice, at: &Path) -> VolumeSpec {
    VolumeSpec {
        kind: "ext4".to_owned(),
        device: device.path(),
        options: ext4::OPTIONS.map(str::to_owned).to_vec(),
        at: at.to_owned(),
    }
}

/// Empty files, numbered from 0 without a gap, whose inodes nobody else can have.
struct Hidden(OwnedFd);

impl Hidden {
    fn open(mount: impl AsFd) -> SysResult<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(mount, RESERVE, flags, Mode::empty()).at("open", RESERVE).map(Self)
    }

    fn has(&self, number: u64) -> SysResult<bool> {
        match rustix::fs::statat(&self.0, number.to_string(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(e) => Err(SysError::new("stat", format_args!("{RESERVE}/{number}"), e)),
        }
    }

    /// How many there are: found by halving, since there is no gap.
    fn count(&self) -> SysResult<u64> {
        let mut above = 1;
        while self.has(above - 1)? {
            above *= 2;
        }
        let mut below = above / 2;
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            if self.has(middle - 1)? { below = middle } else { above = middle }
        }
        Ok(below)
    }

    /// Makes and removes files until there are so many, or no inode is left.
    fn set(&self, number: u64) -> SysResult<Effect> {
        let is = self.count()?;
        for last in (number..is).rev() {
            let name = last.to_string();
            rustix::fs::unlinkat(&self.0, &name, AtFlags::empty())
                .at("remove", format_args!("{RESERVE}/{name}"))?;
        }
        for next in is..number {
            let mode = rustix::fs::FileType::RegularFile;
            match rustix::fs::mknodat(&self.0, next.to_string(), mode, Mode::empty(), 0) {
                Ok(()) => {}
                // The VE uses more than it is to have: it gets no other.
                Err(rustix::io::Errno::NOSPC) if next > is => return Ok(Effect::Changed),
                Err(rustix::io::Errno::NOSPC) => return Ok(Effect::AlreadySo),
                Err(e) => return Err(SysError::new("make", format_args!("{RESERVE}/{next}"), e)),
            }
        }
        Ok(if is == number { Effect::AlreadySo } else { Effect::Changed })
    }
}
