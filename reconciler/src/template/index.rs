//! Remembers which file had which content, so that a template that is there costs no hashing.
//!
//! It is a cache: a lost, damaged or foreign index only costs time. A file counts as unchanged when device, inode,
//! size, mtime and ctime are; nobody but the kernel sets a ctime.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};

use vzd_state::application::Application;

use super::Skipped;

const NAME: &str = "index.json";
const FORMAT: u32 = 1;
/// A write within one tick of the clock after another leaves the ctime as it was.
const SETTLED: Duration = Duration::from_secs(2);

/// What tells a file from itself at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    dev: u64,
    ino: u64,
    size: i64,
    mtime: (i64, u64),
    ctime: (i64, u64),
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size,
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// The stamp of no file: a record with it is only known by its directory.
    pub(super) fn never() -> Self {
        Self { dev: 0, ino: 0, size: -1, mtime: (0, 0), ctime: (0, 0) }
    }

    /// Whether the last change is long enough ago that the next one shows.
    pub(super) fn settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::new(u64::try_from(self.ctime.0).unwrap_or_default(), 0);
        now > changed + SETTLED
    }
}

/// What was made of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) stamp: Stamp,
    /// The directory's name in the store.
    pub(super) dir: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) skipped: Skipped,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) application: Option<Box<Application>>,
}

/// Records by what they were made of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Index {
    format: u32,
    records: BTreeMap<String, Record>,
}

impl Index {
    /// Reads the store's index; an empty one if it can't be read.
    pub(super) fn read(store: BorrowedFd<'_>) -> Self {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(store, NAME, flags, Mode::empty())
            .ok()
            .and_then(|fd| serde_json::from_reader(std::io::BufReader::new(std::fs::File::from(fd))).ok())
            .filter(|index: &Self| index.format == FORMAT)
            .unwrap_or_default()
    }

    /// Writes it under a temporary name and renames it. The store's lock must be held.
    pub(super) fn write(&mut self, store: BorrowedFd<'_>) -> std::io::Result<()> {
        self.format = FORMAT;
        let text = serde_json::to_vec_pretty(self)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let temporary = "index.json.new";
        let fd = rustix::fs::openat(store, temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(&text)?;
        file.sync_data()?;
        rustix::fs::renameat(store, temporary, store.as_fd(), NAME)?;
        Ok(())
    }

    /// What was made of `key`, if its file is as it was.
    pub(super) fn find(&self, key: &str, stamp: &Stamp) -> Option<&Record> {
        self.records.get(key).filter(|record| record.stamp == *stamp)
    }

    /// What is known of a directory of the store.
    pub(super) fn of_dir(&self, dir: &str) -> Option<&Record> {
        self.records.values().find(|record| record.dir == dir)
    }

    pub(super) fn insert(&mut self, key: String, record: Record) {
        self.records.insert(key, record);
    }

    /// Forgets directories that are gone.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.records.retain(|_, record| keep(&record.dir));
    }
}

/// A key for a path; paths that are not UTF-8 get a spelling of their own.
pub(super) fn key(kind: &str, path: &Path) -> String {
    match path.to_str() {
        Some(text) => format!("{kind}:{text}"),
        None => format!("{kind}:{path:?}"),
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changed_just_now_is_not_settled() {
        let stat = rustix::fs::stat("/proc/self/exe").unwrap();
        let mut stamp = Stamp::of(&stat);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        stamp.ctime = (1000, 5);
        assert!(!stamp.settled(at(1000)));
        assert!(!stamp.settled(at(1001)));
        assert!(!stamp.settled(at(900)), "a clock that was set back");
        assert!(stamp.settled(at(1003)));
    }
}
