//! What is known of a checkpoint that has just come over a link whose sum was right: its files are as they were sent, so that
//! a VE that stands still need not wait until all of its memory has been read once more.
//!
//! That is known for minutes, and of files that nobody has written to, replaced or linked since: any of it moves a file's
//! `ctime`, which can't be set back. Whatever else is there is read. It must never vouch for what was not summed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::image::Image;
use crate::error::{At, SysError, SysResult};
use crate::store::{Writes, atomic};

/// What is on record of it.
const RECORD: &str = "received.json";
/// For so many seconds.
const KNOWN_FOR: i64 = 600;
/// Kernels before 6.13 tell times by the tick, 10 ms at most: who writes to a file within it leaves no trace.
const TICKS: i64 = 20_000_000;
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The files that came.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Received {
    /// In which boot.
    boot: String,
    /// Seconds since that.
    at: i64,
    /// By name.
    files: BTreeMap<String, Stamp>,
}

/// What tells that a file is the same one, and nobody has written to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// In nanoseconds.
    changed: i64,
}

/// Notes that all files of a checkpoint are as they were sent.
pub fn note(image: &Image) -> SysResult<()> {
    let before = nanoseconds(ClockId::Realtime) - TICKS;
    let names = image.names()?.into_iter();
    let files = names.filter_map(|name| Some((Stamp::of(&image.dir().join(&name))?, name)));
    let files =
        files.filter(|(stamp, _)| stamp.changed < before).map(|(stamp, name)| (name, stamp)).collect();
    let received = Received { boot: boot()?, at: clock_gettime(ClockId::Boottime).tv_sec, files };
    let text = serde_json::to_vec(&received).map_err(|e| SysError::refused("encode", RECORD, e))?;
    atomic::write(&image.dir().join(RECORD), &text, &Writes::default()).map(drop)
}

impl Received {
    /// What is still known; nothing, mostly.
    pub(super) fn of(dir: &Path) -> Received {
        let read = || {
            let text = std::fs::read(dir.join(RECORD)).ok()?;
            let found: Received = serde_json::from_slice(&text).ok()?;
            let age = clock_gettime(ClockId::Boottime).tv_sec - found.at;
            (found.boot == boot().ok()? && (0..KNOWN_FOR).contains(&age)).then_some(found)
        };
        read().unwrap_or_default()
    }

    /// Whether a file in that directory is as it was sent.
    pub(super) fn knows(&self, dir: &Path, name: &str) -> bool {
        self.files.get(name).is_some_and(|was| Stamp::of(&dir.join(name)).as_ref() == Some(was))
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let is = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let changed = is.ctime().checked_mul(1_000_000_000)?.checked_add(is.ctime_nsec())?;
        Some(Stamp { device: is.dev(), inode: is.ino(), bytes: is.len(), changed })
    }
}

fn nanoseconds(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

fn boot() -> SysResult<String> {
    std::fs::read_to_string(BOOT).at("read", BOOT)
}
