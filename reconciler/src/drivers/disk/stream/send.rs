//! Telling a VE's own files. While the VE runs, what it holds is hostile and moves: every step is from a directory that is held
//! open, and nothing is followed.
//!
//! Whether a file has changed since it was told is known by its inode and the time of its last change, which no program can
//! set. Two things could hide a change from that time, and files that they could be true of are told again: the kernel's clock
//! moves in steps, so that a file which was changed a moment ago may change again in the same; and who writes to memory that is
//! mapped from a file changes it once for all that he writes until the kernel has written it out, which is done before each round.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::{Bytes, DIRECTORY, Item, Layers, Sink, Traits, links};
use crate::drivers::Ve;
use crate::error::{At, SysError, SysResult};

const PIECE: usize = 256 << 10;
const OPAQUE: &str = "trusted.overlay.opaque";
const REDIRECT: &str = "trusted.overlay.redirect";
/// Longer than a step of the kernel's clock on any kernel.
const STEP: Duration = Duration::from_secs(1);

/// Tells a VE's files, in rounds.
#[derive(Debug)]
pub struct Sender {
    upper: PathBuf,
    /// What that lies on.
    _layers: Option<Layers>,
    /// What was told before and could not have changed unseen.
    told: HashMap<PathBuf, Seen>,
    /// A directory of the template has another name.
    redirects: bool,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    kind: u32,
    changed: (i64, i64),
}

impl Seen {
    fn of(is: &Metadata) -> Self {
        Seen { inode: is.ino(), kind: is.mode() & libc::S_IFMT, changed: (is.ctime(), is.ctime_nsec()) }
    }
}

impl Sender {
    /// Of a VE.
    pub fn new(ve: Ve<'_>) -> SysResult<Self> {
        let layers = Layers::open(ve, &ve.host.ve_dir(&ve.entry.uid))?;
        let upper = layers.path.join("upper");
        Ok(Self { _layers: Some(layers), ..Self::of(upper) })
    }

    pub(super) fn of(upper: PathBuf) -> Self {
        Self { upper, _layers: None, told: HashMap::new(), redirects: false }
    }

    /// A round while the VE may be writing: what is gone, or changes while it is told, is for the next.
    pub fn ahead(&mut self, to: &mut dyn Sink) -> SysResult<()> {
        self.ahead_since(SystemTime::now().checked_sub(STEP).unwrap_or(UNIX_EPOCH), to)
    }

    pub(super) fn ahead_since(&mut self, quiet: SystemTime, to: &mut dyn Sink) -> SysResult<()> {
        let top = self.top()?;
        rustix::fs::syncfs(&top).at("write out", self.upper.display())?;
        self.round(top, Some(quiet), to)
    }

    /// The last round, of a VE that is down: nobody writes any more.
    pub fn rest(&mut self, ve: Ve<'_>, to: &mut dyn Sink) -> SysResult<()> {
        let layers = self.upper.parent().unwrap_or(&self.upper).to_owned();
        links::tell(ve, &layers)?;
        self.last(to)?;
        if self.redirects && links::any(&layers)? {
            let why = "directories of its template were renamed, and files that have several names changed";
            return Err(SysError::refused("send", format_args!("VE {}", ve.entry.name), why));
        }
        Ok(())
    }

    pub(super) fn last(&mut self, to: &mut dyn Sink) -> SysResult<()> {
        let top = self.top()?;
        self.round(top, None, to)
    }

    fn top(&self) -> SysResult<OwnedFd> {
        rustix::fs::open(&self.upper, DIRECTORY, Mode::empty()).at("open", self.upper.display())
    }

    fn round(&mut self, top: OwnedFd, live: Option<SystemTime>, to: &mut dyn Sink) -> SysResult<()> {
        let told = std::mem::take(&mut self.told);
        let (numbers, redirects) = (HashMap::new(), false);
        let mut round = Round { to, live, before: told, told: HashMap::new(), numbers, redirects };
        let top = File::from(top);
        let traits = traits_of(&top, Path::new("/"))?;
        round.dir(OsStr::new(""), (&top, traits), Path::new(""))?;
        (self.told, self.redirects) = (round.told, round.redirects);
        Ok(())
    }
}

/// Whether a directory hides what the template has under its name.
pub(super) fn is_opaque(dir: &Path) -> SysResult<bool> {
    let mut value = [0; 1];
    match rustix::fs::lgetxattr(dir, OPAQUE, &mut value) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(e) => Err(SysError::new("read", dir.display(), e)),
    }
}

/// A tree that is being told.
struct Round<'a> {
    to: &'a mut dyn Sink,
    /// The VE runs. What has not been changed since then cannot have been changed unseen.
    live: Option<SystemTime>,
    before: HashMap<PathBuf, Seen>,
    told: HashMap<PathBuf, Seen>,
    /// Files of several names, by inode.
    numbers: HashMap<u64, u64>,
    redirects: bool,
}

/// A name in a directory that is held open.
fn place(dir: &File, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
}

impl Round<'_> {
    fn dir(&mut self, name: &OsStr, (dir, traits): (&File, Traits), path: &Path) -> SysResult<()> {
        self.redirects |= traits.attributes.iter().any(|(Bytes(name), _)| name == REDIRECT.as_bytes());
        self.to.item(&Item::Enter(Bytes(name.as_bytes().to_vec()), traits))?;
        for entry in std::fs::read_dir(place(dir, OsStr::new("."))).at("list", path.display())? {
            let name = match entry {
                Ok(entry) => entry.file_name(),
                // It was removed.
                Err(e) if self.live.is_some() && e.kind() == ErrorKind::NotFound => break,
                Err(e) => return Err(SysError::new("list", path.display(), e)),
            };
            match self.entry(dir, &name, &path.join(&name)) {
                Err(Untold::Moved(_)) if self.live.is_some() => {}
                Err(Untold::Moved(e) | Untold::Failed(e)) => return Err(e),
                Ok(()) => {}
            }
        }
        self.to.item(&Item::Leave)
    }

    fn entry(&mut self, dir: &File, name: &OsStr, path: &Path) -> Result<(), Untold> {
        let here = place(dir, name);
        let stat = || std::fs::symlink_metadata(&here).at("stat", path.display()).map_err(Untold::read);
        let is = stat()?;
        let kind = is.file_type();
        if kind.is_dir() {
            let dir = rustix::fs::open(&here, DIRECTORY, Mode::empty()).map(File::from);
            let dir = dir.at("open", path.display()).map_err(Untold::read)?;
            let traits = traits_of(&dir, path).map_err(Untold::read)?;
            return Ok(self.dir(name, (&dir, traits), path)?);
        }
        let name = Bytes(name.as_bytes().to_vec());
        let (seen, mut number) = (Seen::of(&is), None);
        if kind.is_file() && is.nlink() > 1 {
            if let Some(first) = self.numbers.get(&is.ino()) {
                return Ok(self.to.item(&Item::Link(name, *first))?);
            }
            number = Some(self.numbers.len() as u64);
        }
        let is_same = self.before.get(path) == Some(&seen);
        let item = if is_same { Ok(Item::Same(name, number)) } else { item(&here, path, &is, name, number) };
        let item = item.map_err(Untold::read)?;
        let file =
            (kind.is_file() && !is_same).then(|| open(&here, path)).transpose().map_err(Untold::read)?;
        // What was read may be of several files that took each other's place.
        let opened = file.as_ref().map(File::metadata).transpose().at("stat", path.display())?;
        if Seen::of(&stat()?) != seen || opened.is_some_and(|opened| opened.ino() != seen.inode) {
            let why = "it is not what it was a moment ago";
            return Err(Untold::Moved(SysError::refused("read", path.display(), why)));
        }
        self.to.item(&item)?;
        if let Some(file) = file {
            pieces(&file, path, self.live.is_some(), self.to)?;
        }
        if let Some(number) = number {
            self.numbers.insert(is.ino(), number);
        }
        if is_same || self.live.is_some_and(|quiet_since| changed(&is) < quiet_since) {
            self.told.insert(path.to_owned(), seen);
        }
        Ok(())
    }
}

/// All of an entry but a file's content.
fn item(here: &Path, path: &Path, is: &Metadata, name: Bytes, number: Option<u64>) -> SysResult<Item> {
    let (kind, traits) = (is.file_type(), comparable(Traits::of(here, is)?, path)?);
    Ok(if kind.is_file() {
        Item::File(name, traits, number)
    } else if kind.is_symlink() {
        let target = std::fs::read_link(here).at("read", path.display())?;
        Item::Symlink(name, traits, Bytes(target.into_os_string().into_vec()))
    } else {
        let rdev = if kind.is_char_device() || kind.is_block_device() { is.rdev() } else { 0 };
        Item::Node(name, traits, is.mode(), rdev)
    })
}

fn traits_of(dir: &File, path: &Path) -> SysResult<Traits> {
    let is = dir.metadata().at("stat", path.display())?;
    comparable(Traits::of(&place(dir, OsStr::new(".")), &is)?, path)
}

fn changed(is: &Metadata) -> SystemTime {
    let (seconds, nanos) = (is.ctime(), is.ctime_nsec());
    let since = Duration::new(seconds.try_into().unwrap_or(0), nanos.try_into().unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or_else(SystemTime::now)
}

/// Why an entry was not told.
enum Untold {
    /// It is not there, or not what it was a moment ago.
    Moved(SysError),
    Failed(SysError),
}

impl Untold {
    /// Reading it has failed.
    fn read(error: SysError) -> Self {
        match error.errno {
            libc::ENOENT | libc::ELOOP | libc::ENOTDIR | libc::EINVAL => Untold::Moved(error),
            _ => Untold::Failed(error),
        }
    }
}

impl From<SysError> for Untold {
    fn from(error: SysError) -> Self {
        Untold::Failed(error)
    }
}

/// The traits that mean the same on another host.
fn comparable(mut traits: Traits, path: &Path) -> SysResult<Traits> {
    let name_of = |(Bytes(name), _): &(Bytes, Bytes)| String::from_utf8_lossy(name).into_owned();
    if traits.attributes.iter().any(|one| name_of(one) == "trusted.overlay.metacopy") {
        return Err(SysError::refused("send", path.display(), "its content is in the template (metacopy)"));
    }
    traits.attributes.retain(|one| {
        let name = name_of(one);
        !name.starts_with("trusted.overlay.") || [OPAQUE, REDIRECT].contains(&&*name)
    });
    Ok(traits)
}

fn open(here: &Path, path: &Path) -> SysResult<File> {
    let options = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(here, options, Mode::empty()).map(File::from).at("open", path.display())
}

/// Tells a file's content, and its end. Nobody writes to it.
pub fn content(path: &Path, to: &mut dyn Sink) -> SysResult<()> {
    pieces(&open(path, path)?, path, false, to)
}

fn pieces(file: &File, path: &Path, live: bool, to: &mut dyn Sink) -> SysResult<()> {
    let size = file.metadata().at("stat", path.display())?.len();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data from here on.
            Err(Errno::NXIO) => break,
            Err(e) => return Err(SysError::new("read", path.display(), e)),
        };
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) if live => break,
            Err(e) => return Err(SysError::new("read", path.display(), e)),
        };
        at = start;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let read = file.read_at(&mut piece[..most], at).at("read", path.display())?;
            if read == 0 && live {
                return to.item(&Item::End(size));
            }
            if read == 0 {
                return Err(SysError::refused("read", path.display(), "it has become shorter"));
            }
            to.data(at, &piece[..read])?;
            at += read as u64;
        }
    }
    to.item(&Item::End(size))
}
