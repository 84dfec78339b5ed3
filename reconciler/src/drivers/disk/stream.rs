//! A VE's own files as a stream of items, for another host: the upper layer as it lies on disk, with overlayfs's marks
//! for what was removed. Nobody writes to it meanwhile.
//!
//! Marks that only mean something beside this host's template are left out; what cannot be done without them is refused
//! before it begins ([`refusal`]). What comes in is from a VE and may be hostile: every name is one component, is made
//! in a directory that is held open, and nothing is followed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use vzd_state::subsystem::disk::Backend;

use super::copy::{Bytes, Traits};
use super::{Layers, backend, snapshot};
use crate::drivers::Ve;
use crate::error::{At, SysError, SysResult};

/// One piece of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Item {
    /// A directory, and into it. The first is the top, whose name counts for nothing.
    Enter(Bytes, Traits),
    /// Out of the directory again.
    Leave,
    /// A regular file; its content follows, then `End`. One of several names has a number.
    File(Bytes, Traits, Option<u64>),
    /// The end of a file's content, with its length: what was not told is a hole.
    End(u64),
    /// Another name of the file of that number.
    Link(Bytes, u64),
    /// A symbolic link.
    Symlink(Bytes, Traits, Bytes),
    /// A pipe, socket or device, by type and mode as of `mknod`, and device number.
    Node(Bytes, Traits, u32, u64),
}

/// Where a stream goes: items, and pieces of the content of the file that was last named.
pub trait Sink {
    /// Takes an item.
    fn item(&mut self, item: &Item) -> SysResult<()>;
    /// Takes a piece of content, with its place in the file.
    fn data(&mut self, at: u64, bytes: &[u8]) -> SysResult<()>;
}

const PIECE: usize = 256 << 10;
const OPAQUE: &str = "trusted.overlay.opaque";

/// Why a VE's files cannot be sent, if so.
pub fn refusal(ve: Ve<'_>) -> SysResult<Option<String>> {
    if backend(ve) == Backend::Image {
        return Ok(Some(
            "its disk is an image (spec.disk.backend), which cannot be handed over yet".to_owned(),
        ));
    }
    let index = Layers::open(ve, &ve.host.ve_dir(&ve.entry.uid))?.path.join("work/index");
    // Others are marks for removed files.
    let is_file = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
    let linked =
        std::fs::read_dir(&index).is_ok_and(|entries| entries.flatten().any(|entry| is_file(&entry)));
    Ok(linked.then(|| {
        "files of its template that have several names (hard links) were changed or removed, which cannot be told \
         another host yet"
            .to_owned()
    }))
}

/// How much its own files take, in bytes.
pub fn size(ve: Ve<'_>) -> SysResult<u64> {
    fn below(dir: &Path) -> SysResult<u64> {
        let mut sum = 0;
        for entry in std::fs::read_dir(dir).at("list", dir.display())? {
            let entry = entry.at("list", dir.display())?;
            match entry.metadata() {
                Ok(is) if is.is_dir() => sum += is.blocks() * 512 + below(&entry.path())?,
                Ok(is) => sum += is.blocks() * 512,
                // A VE that runs removes files.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(SysError::new("stat", entry.path().display(), e)),
            }
        }
        Ok(sum)
    }
    match backend(ve) {
        Backend::Image => Ok(0),
        Backend::Directory | Backend::Project | Backend::Btrfs => {
            below(&Layers::open(ve, &ve.host.ve_dir(&ve.entry.uid))?.path.join("upper"))
        }
    }
}

/// Sends a VE's own files.
pub fn send(ve: Ve<'_>, to: &mut dyn Sink) -> SysResult<()> {
    if let Some(why) = refusal(ve)? {
        return Err(SysError::refused("send", format_args!("VE {}", ve.entry.name), why));
    }
    let layers = Layers::open(ve, &ve.host.ve_dir(&ve.entry.uid))?;
    Sender { to, numbers: HashMap::new() }.entry(&layers.path.join("upper"))
}

struct Sender<'a> {
    to: &'a mut dyn Sink,
    /// Files of several names, by device and inode.
    numbers: HashMap<(u64, u64), u64>,
}

impl Sender<'_> {
    fn entry(&mut self, path: &Path) -> SysResult<()> {
        let is = std::fs::symlink_metadata(path).at("stat", path.display())?;
        let name = Bytes(path.file_name().unwrap_or_default().as_bytes().to_vec());
        let kind = is.file_type();
        let mut number = None;
        if kind.is_file() && is.nlink() > 1 {
            let next = self.numbers.len() as u64;
            if let Some(first) = self.numbers.get(&(is.dev(), is.ino())) {
                return self.to.item(&Item::Link(name, *first));
            }
            self.numbers.insert((is.dev(), is.ino()), next);
            number = Some(next);
        }
        let traits = told(Traits::of(path, &is)?, path)?;
        if kind.is_dir() {
            self.to.item(&Item::Enter(name, traits))?;
            for entry in std::fs::read_dir(path).at("list", path.display())? {
                self.entry(&entry.at("list", path.display())?.path())?;
            }
            self.to.item(&Item::Leave)
        } else if kind.is_file() {
            self.to.item(&Item::File(name, traits, number))?;
            content(path, self.to)
        } else if kind.is_symlink() {
            let target = std::fs::read_link(path).at("read", path.display())?;
            self.to.item(&Item::Symlink(name, traits, Bytes(target.into_os_string().into_vec())))
        } else {
            let rdev = if kind.is_char_device() || kind.is_block_device() { is.rdev() } else { 0 };
            self.to.item(&Item::Node(name, traits, is.mode(), rdev))
        }
    }
}

/// The traits that mean the same on another host.
fn told(mut traits: Traits, path: &Path) -> SysResult<Traits> {
    let name_of = |(Bytes(name), _): &(Bytes, Bytes)| String::from_utf8_lossy(name).into_owned();
    if traits.attributes.iter().any(|one| name_of(one) == "trusted.overlay.metacopy") {
        return Err(SysError::refused("send", path.display(), "its content is in the template (metacopy)"));
    }
    traits.attributes.retain(|one| {
        let name = name_of(one);
        !name.starts_with("trusted.overlay.") || [OPAQUE, "trusted.overlay.redirect"].contains(&&*name)
    });
    Ok(traits)
}

/// Sends a file's content, and its end.
pub fn content(path: &Path, to: &mut dyn Sink) -> SysResult<()> {
    let options = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, options, Mode::empty()).at("open", path.display())?);
    let size = file.metadata().at("stat", path.display())?.len();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data from here on.
            Err(Errno::NXIO) => break,
            Err(e) => return Err(SysError::new("read", path.display(), e)),
        };
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start)).at("read", path.display())?;
        at = start;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let read = file.read_at(&mut piece[..most], at).at("read", path.display())?;
            if read == 0 {
                return Err(SysError::refused("read", path.display(), "it has become shorter"));
            }
            to.data(at, &piece[..read])?;
            at += read as u64;
        }
    }
    to.item(&Item::End(size))
}

/// Takes in a VE's own files, into an upper layer that is empty.
#[derive(Debug)]
pub struct Receiver {
    layers: Layers,
    top: OwnedFd,
    /// The directories that it is in, with their paths below the top and what they are given at the end.
    within: Vec<(OwnedFd, PathBuf, Traits)>,
    /// The file whose content comes.
    file: Option<(File, PathBuf, Traits)>,
    /// Files of several names, by number.
    links: HashMap<u64, PathBuf>,
    done: bool,
}

impl Receiver {
    /// For a VE whose layers have been made.
    pub fn new(ve: Ve<'_>) -> SysResult<Self> {
        let layers = Layers::open(ve, &ve.host.ve_dir(&ve.entry.uid))?;
        let upper = layers.path.join("upper");
        let top = rustix::fs::open(&upper, DIRECTORY, Mode::empty()).at("open", upper.display())?;
        Ok(Self { layers, top, within: Vec::new(), file: None, links: HashMap::new(), done: false })
    }

    /// Whether the whole tree is there.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Writes it all to disk.
    pub fn sync(&self) -> SysResult<()> {
        snapshot::sync(&self.layers.path)
    }

    /// The place of a name in the directory that it is in: to be used at once, and the path that is told of it.
    fn place(&self, Bytes(name): &Bytes) -> SysResult<(PathBuf, PathBuf)> {
        let (dir, path, _) =
            self.within.last().ok_or_else(|| misplaced("a name outside of any directory"))?;
        if name.is_empty()
            || name == b"."
            || name == b".."
            || name.iter().any(|byte| matches!(byte, b'/' | 0))
        {
            return Err(misplaced("a name that is none"));
        }
        let name = OsStr::from_bytes(name);
        let here = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
        Ok((here, path.join(name)))
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn misplaced(why: &str) -> SysError {
    SysError::refused("receive", "files", why)
}

impl Sink for Receiver {
    fn item(&mut self, item: &Item) -> SysResult<()> {
        if self.done || self.file.is_some() != matches!(item, Item::End(_)) {
            return Err(misplaced("an item where none is expected"));
        }
        match item {
            Item::Enter(_, traits) if self.within.is_empty() => {
                let top = self.top.try_clone().at("open", "upper layer")?;
                self.within.push((top, PathBuf::new(), traits.clone()));
                Ok(())
            }
            Item::Enter(name, traits) => {
                let (place, path) = self.place(name)?;
                std::fs::create_dir(&place).at("make directory", path.display())?;
                let dir = rustix::fs::open(&place, DIRECTORY, Mode::empty()).at("open", path.display())?;
                self.within.push((dir, path, traits.clone()));
                Ok(())
            }
            Item::Leave => {
                let (dir, _, traits) = self.within.pop().ok_or_else(|| misplaced("one end too many"))?;
                self.done = self.within.is_empty();
                // What is made in it changes its times.
                traits.give(&PathBuf::from(format!("/proc/self/fd/{}/.", dir.as_raw_fd())))
            }
            Item::File(name, traits, number) => {
                let (place, path) = self.place(name)?;
                let mut options = File::options();
                options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
                let file = options.open(&place).at("make", path.display())?;
                if let Some(number) = number {
                    self.links.insert(*number, path);
                }
                self.file = Some((file, place, traits.clone()));
                Ok(())
            }
            Item::End(size) => {
                let (file, place, traits) = self.file.take().ok_or_else(|| misplaced("no file"))?;
                file.set_len(*size).at("write", place.display())?;
                traits.give(&place)
            }
            Item::Link(name, number) => {
                let (place, path) = self.place(name)?;
                let first = self.links.get(number).ok_or_else(|| misplaced("a link to nothing"))?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let first = rustix::fs::openat2(self.top.as_fd(), first, flags, Mode::empty(), BELOW)
                    .at("open", first.display())?;
                rustix::fs::linkat(&first, "", CWD, &place, AtFlags::EMPTY_PATH).at("link", path.display())
            }
            Item::Symlink(name, traits, Bytes(target)) => {
                let (place, path) = self.place(name)?;
                std::os::unix::fs::symlink(OsStr::from_bytes(target), &place).at("link", path.display())?;
                traits.give(&place)
            }
            Item::Node(name, traits, mode, device) => {
                let (place, path) = self.place(name)?;
                let kind = FileType::from_raw_mode(*mode);
                rustix::fs::mknodat(CWD, &place, kind, Mode::empty(), *device)
                    .at("make node", path.display())?;
                traits.give(&place)
            }
        }
    }

    fn data(&mut self, at: u64, bytes: &[u8]) -> SysResult<()> {
        let (file, place, _) = self.file.as_mut().ok_or_else(|| misplaced("content of no file"))?;
        file.write_all_at(bytes, at).at("write", place.display())
    }
}
