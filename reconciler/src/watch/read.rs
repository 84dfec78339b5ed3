//! One file, with care: who may write it, what it is, and whether it holds still while it is read.
//!
//! Nothing but regular files is ever opened for good, and nothing here waits: a fifo in the directory
//! costs nobody anything.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use vzd_schema::Code;

use super::list::Found;
use crate::settings::Settings;

/// Bytes of a manifest file, as the parser allows them.
pub(super) const MOST_BYTES: u64 = 1 << 20;
/// A write within one tick of the clock after another leaves the times as they were.
const TICK: Duration = Duration::from_millis(100);

/// Whose files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Those of root, of this process's user and of `also`, if nobody else can write to them.
    Owners {
        /// The user who may own manifests besides root.
        also: Option<u32>,
    },
    /// Anyone's: for looking at manifests that nothing is done with.
    Anyone,
}

impl Trust {
    /// For manifests that something is done with.
    pub fn of(settings: &Settings) -> Self {
        Self::Owners { also: settings.manifest_user }
    }

    /// Why a file or directory is not safe to follow, if it is not.
    pub(super) fn refuses(self, stamp: &Stamp) -> Option<Refusal> {
        let Self::Owners { also } = self else { return None };
        let me = rustix::process::geteuid().as_raw();
        let (uid, mode) = (stamp.uid, stamp.mode & 0o7777);
        if uid != 0 && uid != me && Some(uid) != also {
            return Some(Refusal::Owner(uid));
        }
        (mode & 0o022 != 0).then_some(Refusal::Writable(mode))
    }
}

/// What tells a file from itself at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    dev: u64,
    ino: u64,
    pub(super) size: u64,
    mtime: (i64, u64),
    ctime: (i64, u64),
    mode: u32,
    uid: u32,
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode,
            uid: stat.st_uid,
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Why it is not to be read as a manifest, if it is not.
    pub(super) fn refusal(&self, trust: Trust) -> Option<Refusal> {
        let what = match self.file_type() {
            FileType::RegularFile => None,
            FileType::Fifo => Some("a fifo"),
            FileType::Socket => Some("a socket"),
            FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
            _ => Some("something else"),
        };
        let what = what.map(Refusal::NotRegular).or_else(|| trust.refuses(self));
        what.or_else(|| (self.size > MOST_BYTES).then_some(Refusal::TooLarge(self.size)))
    }

    /// Which file it is, whatever it holds.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// Whether nothing was written in between, though owner, mode or links may have changed.
    pub(super) fn same_text(&self, other: &Self) -> bool {
        self.identity() == other.identity() && self.size == other.size && self.mtime == other.mtime
    }

    /// How long ago something was written.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        since(self.mtime, now)
    }

    /// Whether the last change is long enough ago that the next one shows.
    pub(super) fn settled(&self, now: SystemTime) -> bool {
        since(self.ctime, now) > TICK
    }
}

fn since(time: (i64, u64), now: SystemTime) -> Duration {
    let nanos = u32::try_from(time.1).unwrap_or(0);
    let time = Duration::new(u64::try_from(time.0).unwrap_or(0), nanos);
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(time)
}

/// Why a file or directory is not used as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It belongs to that user.
    Owner(u32),
    /// Others may write to it; its mode.
    Writable(u32),
    /// It is that instead of a file.
    NotRegular(&'static str),
    /// It has that many bytes.
    TooLarge(u64),
    /// The system refused: what, and the errno.
    Failed(&'static str, i32),
    /// It changed while it was read.
    Moving,
    /// Documents are missing from it, and it was written to just now.
    BeingWritten,
    /// There is nothing in it.
    Blank,
    /// There is no manifest in the directory.
    NoManifests,
    /// There is more in the directory than is read.
    TooMany(usize),
}

impl Refusal {
    pub(super) fn failed(what: &'static str, errno: Errno) -> Self {
        Self::Failed(what, errno.raw_os_error())
    }

    /// The error code that it is told with.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::TooLarge(_) | Self::TooMany(_) => Code::TooMuch,
            _ => Code::UnsafeDirectory,
        }
    }

    /// What would cure it.
    pub(super) fn help(&self) -> Option<&'static str> {
        match self {
            Self::Owner(_) => Some("chown it to root"),
            Self::Writable(_) => Some("chmod go-w"),
            Self::TooLarge(_) => Some("split it into several files"),
            Self::Blank => Some("to remove what it described, remove the file"),
            Self::NoManifests => Some(
                "to remove all VEs, allow it: `vzd apply --allow-prune=N`; or write `state: absent` for each",
            ),
            _ => None,
        }
    }

    /// Whether it is certain that no document can have been moved into it.
    pub(super) fn holds_nothing(&self) -> bool {
        matches!(self, Self::NotRegular(_) | Self::Blank)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(uid) => write!(f, "it belongs to user {uid}, who is not trusted"),
            Self::Writable(mode) => write!(f, "others can write to it (mode {mode:04o})"),
            Self::NotRegular(what) => write!(f, "it is {what}, not a regular file"),
            Self::TooLarge(size) => write!(f, "it has {size} bytes; {MOST_BYTES} are allowed"),
            Self::Failed(what, errno) => {
                write!(f, "cannot {what}: {}", io::Error::from_raw_os_error(*errno))
            }
            Self::Moving => write!(f, "it changes while it is read"),
            Self::BeingWritten => write!(f, "it is being written"),
            Self::Blank => write!(f, "it is empty"),
            Self::NoManifests => write!(f, "there are no manifests in it"),
            Self::TooMany(most) => write!(f, "there are more than {most} entries in it"),
        }
    }
}

/// What an open file or directory is.
pub(super) fn stamp(fd: impl AsFd) -> Result<Stamp, Refusal> {
    rustix::fs::fstat(fd).map(|stat| Stamp::of(&stat)).map_err(|e| Refusal::failed("stat it", e))
}

/// Reads a file that was listed as `expected`; gives the stamp that the text belongs to.
pub(super) fn read(
    root: BorrowedFd<'_>,
    found: &Found,
    expected: &Stamp,
    trust: Trust,
) -> Result<(Vec<u8>, Stamp), Refusal> {
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !found.is_link);
    let fd = rustix::fs::openat(root, found.path.as_str(), flags, Mode::empty())
        .map_err(|e| Refusal::failed("open it", e))?;
    let before = stamp(&fd)?;
    if before.identity() != expected.identity() {
        return Err(Refusal::Moving);
    }
    if let Some(why) = before.refusal(trust) {
        return Err(why);
    }
    let capacity = usize::try_from(before.size).unwrap_or(0).saturating_add(1);
    let mut bytes = Vec::with_capacity(capacity);
    let file = File::from(fd);
    let read = (&file).take(MOST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| Refusal::Failed("read it", e.raw_os_error().unwrap_or(libc::EIO)))?;
    let whole = u64::try_from(bytes.len()).is_ok_and(|length| length == before.size);
    if !whole || stamp(&file)? != before {
        return Err(Refusal::Moving);
    }
    Ok((bytes, before))
}
