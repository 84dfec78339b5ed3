//! What a VE has put into its /dev beside what vzd gives it: links, directories, files, pipes.
//!
//! Device nodes are vzd's own and made anew; sockets are made by CRIU, which knows who listens on them. All of it was
//! written by the VE: no link is followed, and there is no more than the size of its /dev lets it have.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use serde::{Deserialize, Serialize};
use vzd_state::ids::IdRange;

use crate::error::{At, SysResult};

/// Something in a VE's /dev.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DevEntry {
    path: PathBuf,
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Kind {
    Directory,
    Link { to: PathBuf },
    File { bytes: Vec<u8> },
    Pipe,
}

/// A VE's /dev holds no more bytes than this (see `tree`).
const MOST_BYTES: u64 = 64 * 1024;
/// Nor more names.
const MOST_ENTRIES: usize = 1024;
const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

fn open(dev: &OwnedFd, path: &Path, flags: OFlags) -> SysResult<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat2(dev, path, flags, Mode::empty(), RESOLVE).at("open", path.display())
}

impl DevEntry {
    /// The same in another VE, whose ids are of another range.
    #[must_use]
    pub fn carried(self, from: IdRange, to: IdRange) -> Self {
        Self { uid: from.carry(self.uid, to), gid: from.carry(self.gid, to), ..self }
    }
}

/// Lists what is on the file system of `dev`; what is mounted below it is not looked into.
pub fn list(dev: &OwnedFd) -> SysResult<Vec<DevEntry>> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from(".")];
    while let Some(dir) = dirs.pop() {
        let Ok(opened) = open(dev, &dir, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
        for name in Dir::read_from(&opened).at("list", dir.display())? {
            let name = name.at("list", dir.display())?.file_name().to_bytes().to_vec();
            let path = dir.join(OsStr::from_bytes(&name));
            if [&b"."[..], b".."].contains(&name.as_slice()) || found.len() >= MOST_ENTRIES {
                continue;
            }
            let stat =
                rustix::fs::statat(&opened, &name, AtFlags::SYMLINK_NOFOLLOW).at("stat", path.display())?;
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    dirs.push(path.clone());
                    Kind::Directory
                }
                FileType::Symlink => {
                    let to = rustix::fs::readlinkat(&opened, &name, Vec::new()).at("read", path.display())?;
                    Kind::Link { to: OsStr::from_bytes(to.to_bytes()).into() }
                }
                // The mount points of what vzd mounts there are among them.
                FileType::RegularFile => match open(dev, &path, OFlags::RDONLY | OFlags::NONBLOCK) {
                    Ok(file) => {
                        let mut bytes = Vec::new();
                        let file = std::fs::File::from(file);
                        file.take(MOST_BYTES).read_to_end(&mut bytes).at("read", path.display())?;
                        Kind::File { bytes }
                    }
                    Err(_) => continue,
                },
                FileType::Fifo => Kind::Pipe,
                _ => continue,
            };
            found.push(DevEntry {
                path,
                kind,
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
            });
        }
    }
    // A directory comes before what is in it.
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Makes what is missing of it on a new /dev.
pub fn make(dev: &OwnedFd, entries: &[DevEntry]) -> SysResult<()> {
    for DevEntry { path, kind, mode, uid, gid } in entries {
        let shown = || path.display();
        let parent = path.parent().unwrap_or(Path::new("."));
        let Some(name) = path.file_name() else { continue };
        let dir = open(dev, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        let permissions = Mode::from_raw_mode(*mode);
        let made = match kind {
            Kind::Directory => rustix::fs::mkdirat(&dir, name, permissions),
            Kind::Link { to } => rustix::fs::symlinkat(to, &dir, name),
            Kind::Pipe => rustix::fs::mknodat(&dir, name, FileType::Fifo, permissions, 0),
            Kind::File { bytes } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&dir, name, flags, permissions)
                    .and_then(|file| rustix::io::write(&file, bytes).map(drop))
            }
        };
        match made {
            // What every VE has.
            Err(rustix::io::Errno::EXIST) => continue,
            other => other.at("make", shown())?,
        }
        let owner = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
        rustix::fs::chownat(&dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).at("chown", shown())?;
        if !matches!(kind, Kind::Link { .. }) {
            rustix::fs::chmodat(dir.as_fd(), name, permissions, AtFlags::empty()).at("chmod", shown())?;
        }
    }
    Ok(())
}
