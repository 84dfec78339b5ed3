//! What is in the directory, without opening any file.
//!
//! Directories within it are gone into, symlinked ones too (git-sync's `current`); each is read once,
//! however many names it has. Two listings of a tree in which nothing was added, removed or exchanged
//! are equal.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::names;
use super::read::{self, Refusal, Stamp, Trust};

/// Directories within each other.
pub(super) const MOST_DEPTH: usize = 8;
/// Names in the whole tree.
const MOST_ENTRIES: usize = 100_000;

/// A file with the name of a manifest.
#[derive(Debug)]
pub(super) struct Found {
    /// Its path in the directory.
    pub(super) path: String,
    /// Whether the path ends at a symlink.
    pub(super) is_link: bool,
    /// What it is, links followed.
    pub(super) stamp: Result<Stamp, Errno>,
}

/// What is in a directory tree.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Manifests, by path.
    pub(super) files: Vec<Found>,
    /// What is passed over, by path, and why.
    pub(super) skipped: BTreeMap<String, &'static str>,
    /// Directories of which not everything is known, by path: `""` is the directory itself.
    pub(super) troubles: Vec<(String, Refusal)>,
}

impl Listing {
    /// Lists what is below an open directory.
    pub(super) fn of(root: BorrowedFd<'_>, trust: Trust) -> Self {
        let mut walk = Walk { trust, seen: HashSet::new(), entries: 0, listing: Self::default() };
        match open(root, ".", false) {
            Ok(dir) => walk.directory(&dir, "", 0),
            Err(why) => walk.listing.troubles.push((String::new(), why)),
        }
        walk.listing.files.sort_by(|a, b| a.path.cmp(&b.path));
        walk.listing
    }

    /// Whether the two list the same files, whatever those hold.
    pub(super) fn same_files(&self, other: &Self) -> bool {
        let which = |found: &Found| found.stamp.map(|stamp| stamp.identity());
        self.files.len() == other.files.len()
            && self.troubles == other.troubles
            && self.files.iter().zip(&other.files).all(|(a, b)| a.path == b.path && which(a) == which(b))
    }
}

struct Walk {
    trust: Trust,
    /// The directories that were gone into.
    seen: HashSet<(u64, u64)>,
    entries: usize,
    listing: Listing,
}

impl Walk {
    fn directory(&mut self, dir: &OwnedFd, prefix: &str, depth: usize) {
        let subdirectories = match self.names(dir, prefix) {
            Ok(subdirectories) => subdirectories,
            Err(why) => return self.listing.troubles.push((prefix.trim_end_matches('/').to_owned(), why)),
        };
        for (name, is_link) in subdirectories {
            let path = format!("{prefix}{name}");
            if depth + 1 > MOST_DEPTH {
                self.skip(&path, "too deep");
                continue;
            }
            match open(dir.as_fd(), name.as_str(), is_link) {
                Ok(subdirectory) => self.directory(&subdirectory, &format!("{path}/"), depth + 1),
                Err(why) => self.listing.troubles.push((path, why)),
            }
        }
    }

    /// Lists one directory; gives the directories in it.
    fn names(&mut self, dir: &OwnedFd, prefix: &str) -> Result<Vec<(String, bool)>, Refusal> {
        let stamp = read::stamp(dir)?;
        if !self.seen.insert(stamp.identity()) {
            self.skip(prefix.trim_end_matches('/'), "the same directory under another name");
            return Ok(Vec::new());
        }
        if let Some(why) = self.trust.refuses(&stamp) {
            return Err(why);
        }
        let mut subdirectories = Vec::new();
        let mut buffer = Vec::with_capacity(16 << 10);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|e| Refusal::failed("read it", e))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err(Refusal::TooMany(MOST_ENTRIES));
            }
            let Ok(name) = str::from_utf8(name) else {
                self.skip(&format!("{prefix}{}", name.escape_ascii()), "its name is not UTF-8 text");
                continue;
            };
            match names::leftover(name) {
                Some(why) => self.skip(&format!("{prefix}{name}"), why),
                None => subdirectories.extend(self.entry(dir, prefix, name, entry.file_type())),
            }
        }
        // What a directory that is met twice is called shall not depend on the file system's order.
        subdirectories.sort();
        Ok(subdirectories)
    }

    /// Notes one entry, or gives it back if it is a directory.
    fn entry(&mut self, dir: &OwnedFd, prefix: &str, name: &str, kind: FileType) -> Option<(String, bool)> {
        let is_manifest = names::is_manifest(name);
        let stat = |flags| rustix::fs::statat(dir, name, flags).map(|stat| Stamp::of(&stat));
        let (mut kind, mut stamp) = (kind, None);
        if kind == FileType::Unknown || (kind != FileType::Symlink && is_manifest) {
            let is = stat(AtFlags::SYMLINK_NOFOLLOW);
            kind = is.map_or(kind, |is| is.file_type());
            stamp = Some(is);
        }
        let is_link = kind == FileType::Symlink;
        if is_link {
            let is = stat(AtFlags::empty());
            kind = is.map_or(kind, |is| is.file_type());
            stamp = Some(is);
        }
        if kind == FileType::Directory {
            return Some((name.to_owned(), is_link));
        }
        let path = format!("{prefix}{name}");
        match stamp.filter(|_| is_manifest) {
            Some(stamp) => self.listing.files.push(Found { path, is_link, stamp }),
            None => self.skip(&path, "not named .yaml, .yml or .json"),
        }
        None
    }

    fn skip(&mut self, path: &str, why: &'static str) {
        self.listing.skipped.insert(path.to_owned(), why);
    }
}

/// Opens a directory.
pub(super) fn open(
    dir: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
    is_link: bool,
) -> Result<OwnedFd, Refusal> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !is_link);
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| Refusal::failed("open it", e))
}
