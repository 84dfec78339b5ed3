//! A snapshot as an archive that other hosts and programs can read: the VE's whole root as the VE saw it, with the ids
//! that it has inside, as a tar in zstd. It comes back as a template, through the unpacker's rules.
//!
//! What is packed belongs to a VE and may be hostile: nothing in it is followed or opened for its meaning. The root is put
//! together by overlayfs, which alone knows what its marks mean, in a mount namespace of a thread's own that ends
//! with it. Only overlayfs's own notes in the snapshot's work directory are written.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};
use vzd_state::ids::{IdRange, VeName};
use vzd_state::subsystem::disk::Backend;

use super::snapshot::{self, IMAGE};
use super::{LAYERS, backend, copy, make_dir, remove};
use crate::drivers::Ve;
use crate::error::{At, SysError, SysResult};
use crate::kernel::loopdev;
use crate::kernel::mount::{self, Attr, FsOption};
use crate::kernel::ns::{self, Kind};
use crate::runtime::spec::VolumeSpec;
use crate::runtime::tree::open_volume;

/// In the VE's directory: a copy of an image while it is packed, and where that is mounted.
const PACKED: &str = "packed";
/// zstd's own default.
const LEVEL: i32 = 3;
/// The most that the kernel gives: names of a file's attributes, and the value of one.
const XATTR_MOST: usize = 1 << 16;

/// Packs a snapshot into `to`, which must not be there yet, whole or not at all.
pub fn export(ve: Ve<'_>, name: &VeName, to: &Path) -> SysResult<()> {
    let dir = ve.host.ve_dir(&ve.entry.uid);
    let from = snapshot::find(ve, name)?;
    let lower = std::fs::read_link(dir.join("lower")).at("read", dir.join("lower").display())?;
    if to.exists() {
        return Err(SysError::refused("write", to.display(), "it is there already"));
    }
    make_dir(&ve.host.settings.exports_dir(), 0o700)?;
    let new = to.with_extension("new");
    let packed = dir.join(PACKED);
    // Of one that was cut short.
    remove::leftover(&new)?;
    remove::leftover(&packed)?;
    make_dir(&packed, 0o700)?;
    let done = volume(ve, &from, &packed).and_then(|volume| {
        let layers = if volume.is_some() { packed.join(LAYERS) } else { from.clone() };
        let staging = ve.host.settings.staging_dir();
        let ids = ve.entry.ids;
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                ns::unshare(&[Kind::Mount])?;
                mount::make_all_private()?;
                if let Some((volume, _)) = &volume {
                    mount::attach(&open_volume(volume)?, CWD, &volume.at)?;
                }
                mount::attach(&root(&lower, &layers)?, CWD, &staging)?;
                pack(&staging, ids, &new)
            });
            let panicked =
                || Err(SysError::refused("pack", to.display(), "the thread that does it panicked"));
            worker.join().unwrap_or_else(|_| panicked())
        })
    });
    let gone = remove::leftover(&packed);
    if done.is_err() {
        remove::leftover(&new)?;
    }
    done.and(gone)?;
    std::fs::rename(&new, to).at("rename", new.display())
}

/// The file system that an image's snapshot is, on a copy: mounting it writes to it.
fn volume(ve: Ve<'_>, from: &Path, packed: &Path) -> SysResult<Option<(VolumeSpec, loopdev::LoopDevice)>> {
    if backend(ve) != Backend::Image {
        return Ok(None);
    }
    let image = packed.join(IMAGE);
    copy::file(&from.join(IMAGE), &image)?;
    let at = packed.join(LAYERS);
    make_dir(&at, 0o700)?;
    let device = loopdev::attach(&image)?;
    Ok(Some((super::image::volume(&device, &at), device)))
}

/// overlayfs over the template, with the snapshot's own layer and index.
fn root(lower: &Path, layers: &Path) -> SysResult<std::os::fd::OwnedFd> {
    let work = layers.join("work");
    make_dir(&work, 0o700)?;
    let upper = layers.join("upper");
    let options = [
        FsOption::Path("lowerdir", lower),
        FsOption::Path("upperdir", &upper),
        FsOption::Path("workdir", &work),
        FsOption::Text("index", "on"),
        FsOption::Text("xino", "auto"),
    ];
    mount::new_fs("overlay", &options, Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC)
}

fn pack(root: &Path, ids: IdRange, to: &Path) -> SysResult<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(to).at("make", to.display())?;
    let encoder = zstd::Encoder::new(file, LEVEL).at("write", to.display())?;
    let mut packer = Packer { tar: Builder::new(encoder), ids, root, to, links: HashMap::new() };
    packer.tar.follow_symlinks(false);
    packer.entry(Path::new(""))?;
    let encoder = packer.tar.into_inner().at("write", to.display())?;
    encoder.finish().and_then(|file| file.sync_all()).at("write", to.display())
}

struct Packer<'a, W: Write> {
    tar: Builder<W>,
    ids: IdRange,
    root: &'a Path,
    to: &'a Path,
    /// Where files of several names were packed first.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<'_, W> {
    fn entry(&mut self, path: &Path) -> SysResult<()> {
        let full = self.root.join(path);
        let is = std::fs::symlink_metadata(&full).at("stat", full.display())?;
        let kind = is.file_type();
        if kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            // Nobody listens at a socket any more, and a root has no devices.
            return Ok(());
        }
        let mut header = self.header(&is);
        let name = if path.as_os_str().is_empty() { Path::new("./") } else { path };
        if !kind.is_dir() && is.nlink() > 1 {
            if let Some(first) = self.links.get(&(is.dev(), is.ino())) {
                header.set_entry_type(EntryType::Link);
                return self.tar.append_link(&mut header, name, first).at("write", self.to.display());
            }
            self.links.insert((is.dev(), is.ino()), path.to_owned());
        }
        self.extend(&full, &is)?;
        let written = if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.tar.append_data(&mut header, name, std::io::empty())
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = std::fs::read_link(&full).at("read", full.display())?;
            self.tar.append_link(&mut header, name, target)
        } else if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
            self.tar.append_data(&mut header, name, std::io::empty())
        } else {
            let file =
                File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&full);
            header.set_size(is.len());
            self.tar.append_data(&mut header, name, file.at("open", full.display())?)
        };
        written.at("pack", full.display())?;
        if kind.is_dir() {
            let entries = std::fs::read_dir(&full).at("list", full.display())?;
            let names: Result<Vec<_>, _> =
                entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
            let mut names = names.at("list", full.display())?;
            names.sort();
            names.iter().try_for_each(|name| self.entry(&path.join(name)))?;
        }
        Ok(())
    }

    fn header(&self, is: &Metadata) -> Header {
        let mut header = Header::new_gnu();
        header.set_mode(is.mode() & 0o7777);
        header.set_uid(self.inside(is.uid()).into());
        header.set_gid(self.inside(is.gid()).into());
        header.set_mtime(u64::try_from(is.mtime()).unwrap_or(0));
        header.set_size(0);
        header
    }

    /// An id as it is inside: the template's are so already, the VE's own are in its range.
    fn inside(&self, id: u32) -> u32 {
        id.checked_sub(self.ids.start).filter(|id| *id < self.ids.count).unwrap_or(id)
    }

    /// What no header holds: attributes, and the time in full.
    fn extend(&mut self, full: &Path, is: &Metadata) -> SysResult<()> {
        let mut more = vec![("mtime".to_owned(), time(is).into_bytes())];
        for (name, value) in self.xattrs(full)? {
            more.push((format!("SCHILY.xattr.{name}"), value));
        }
        let more = more.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.tar.append_pax_extensions(more).at("write", self.to.display())
    }

    /// `user.*`, and a file's capability as it is inside. Lists of access hold ids, others are the host's.
    fn xattrs(&self, full: &Path) -> SysResult<Vec<(String, Vec<u8>)>> {
        let mut names = vec![0_u8; XATTR_MOST];
        let length = match rustix::fs::llistxattr(full, &mut names) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => 0,
            Err(e) => return Err(SysError::new("list attributes of", full.display(), e)),
        };
        let mut kept = Vec::new();
        for name in names[..length].split(|byte| *byte == 0) {
            // tar's own names hold no `=`, and no text but UTF-8.
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let capability = name == "security.capability";
            if !(capability || name.starts_with("user.")) || name.contains(['=', '%']) {
                continue;
            }
            let mut value = vec![0_u8; XATTR_MOST];
            let length =
                rustix::fs::lgetxattr(full, name, &mut value).at("read attribute of", full.display())?;
            value.truncate(length);
            if capability {
                kept.extend(self.capability(value).map(|value| (name.to_owned(), value)));
            } else {
                kept.push((name.to_owned(), value));
            }
        }
        Ok(kept)
    }

    /// Version 3 holds the host's id of the root that it counts for (include/uapi/linux/capability.h); inside that is
    /// version 2, and one of another root counts for nothing.
    fn capability(&self, mut value: Vec<u8>) -> Option<Vec<u8>> {
        match (value.get(3), value.len()) {
            (Some(2), 20) => Some(value),
            (Some(3), 24) if value[20..] == self.ids.start.to_le_bytes() => {
                value.truncate(20);
                value[3] = 2;
                Some(value)
            }
            _ => None,
        }
    }
}

fn time(is: &Metadata) -> String {
    format!("{}.{:09}", is.mtime(), is.mtime_nsec())
}
