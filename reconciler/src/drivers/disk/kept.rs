//! What a VE keeps when its root is made anew: who its users are, with their passwords. Read from its own files, and put into the
//! new ones before it has ever run.
//!
//! What is read belongs to a VE and may be hostile: no link is followed, and what is no plain file, or a large one, is left out.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use vzd_state::subsystem::disk::Backend;

use super::{Image, Layers, backend, open_dir};
use crate::drivers::Ve;
use crate::error::{At, SysError, SysResult};

/// In /etc.
const FILES: [&str; 4] = ["passwd", "shadow", "group", "gshadow"];
/// The largest that is kept, in bytes.
const MOST: u64 = 4 << 20;

/// Files of /etc.
#[derive(Debug, Default)]
pub struct Kept(Vec<Plain>);

#[derive(Debug)]
struct Plain {
    name: &'static str,
    content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
}

/// The upper layer of a stopped VE, reachable as long as this lives.
pub(super) struct Upper {
    pub(super) dir: OwnedFd,
    _held: Option<Image>,
}

impl Upper {
    pub(super) fn open(ve: Ve<'_>) -> SysResult<Self> {
        let dir = ve.host.ve_dir(&ve.entry.uid);
        if backend(ve) == Backend::Image {
            let image = Image::open(&dir)?;
            return Ok(Upper { dir: image.upper()?, _held: Some(image) });
        }
        let layers = Layers::open(ve, &dir)?;
        Ok(Upper { dir: open_dir(&layers.path.join("upper"))?, _held: None })
    }
}

/// Reads what the VE has changed of them; the others are the template's.
pub fn read(ve: Ve<'_>) -> SysResult<Kept> {
    let upper = Upper::open(ve)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let etc = match rustix::fs::openat(&upper.dir, "etc", flags | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Kept::default()),
        other => other.at("open", "etc")?,
    };
    let mut kept = Vec::new();
    for name in FILES {
        let file = match rustix::fs::openat(&etc, name, flags, Mode::empty()) {
            // None, a link, or overlayfs's mark of one that was removed.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => continue,
            other => std::fs::File::from(other.at("open", name)?),
        };
        let is = file.metadata().at("stat", name)?;
        if !is.is_file() || is.len() > MOST {
            continue;
        }
        let mut content = Vec::new();
        file.take(MOST).read_to_end(&mut content).at("read", name)?;
        kept.push(Plain { name, content, mode: is.mode() & 0o7777, owner: (is.uid(), is.gid()) });
    }
    Ok(Kept(kept))
}

/// Puts them into a root that was just made.
pub fn write(ve: Ve<'_>, kept: &Kept) -> SysResult<()> {
    if kept.0.is_empty() {
        return Ok(());
    }
    let upper = Upper::open(ve)?;
    let etc = make_etc(ve, &upper.dir)?;
    for Plain { name, content, mode, owner } in &kept.0 {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&etc, *name, flags, Mode::RUSR | Mode::WUSR).at("make", name)?;
        own(&file, *owner, *mode, name)?;
        let mut file = std::fs::File::from(file);
        file.write_all(content).and_then(|()| file.sync_all()).at("write", name)?;
    }
    Ok(())
}

/// The directory as the template has it: overlayfs shows what is in either.
fn make_etc(ve: Ve<'_>, upper: &OwnedFd) -> SysResult<OwnedFd> {
    let lower = open_dir(&ve.host.ve_dir(&ve.entry.uid).join("lower/."))?;
    let is = rustix::fs::statat(&lower, "etc", rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    let is = is.at("stat the template's", "/etc")?;
    if FileType::from_raw_mode(is.st_mode) != FileType::Directory {
        return Err(SysError::refused("keep users in", "/etc", "the template has no such directory"));
    }
    rustix::fs::mkdirat(upper, "etc", Mode::RWXU).at("make", "etc")?;
    let etc =
        rustix::fs::openat(upper, "etc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let etc = etc.at("open", "etc")?;
    let base = ve.entry.ids.start;
    own(&etc, (base + is.st_uid, base + is.st_gid), is.st_mode & 0o7777, "etc")?;
    Ok(etc)
}

fn own(of: impl AsFd, (uid, gid): (u32, u32), mode: u32, shown: &str) -> SysResult<()> {
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::fchown(of.as_fd(), owner.0, owner.1).at("chown", shown)?;
    rustix::fs::fchmod(of, Mode::from_raw_mode(mode)).at("chmod", shown)
}
