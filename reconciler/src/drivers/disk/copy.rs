//! Copies of files and trees that nobody writes to meanwhile: by reflink where the file system can, else without their
//! holes; with everything that makes a file what it is, overlayfs's own marks too.
//!
//! What is copied belongs to a VE and may be hostile: nothing in it is followed, opened for its meaning or executed.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, SeekFrom, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::own::Left;
use super::shift::{Carry, Shift};
use crate::error::{At, SysError, SysResult};

/// The most that the kernel gives: names of a file's attributes, and the value of one.
const XATTR_MOST: usize = 1 << 16;
/// What these say is btrfs's own (how a file is compressed), and no other file system takes it.
const OF_BTRFS: &[u8] = b"btrfs.";
/// How XFS keeps access control lists, which are told as such, too.
const OF_XFS: &[u8] = b"trusted.SGI_ACL_";
/// The handle of the directory that an index belongs to: a copy is another one, and overlayfs notes its own.
pub(super) const INDEX_OF: &[u8] = b"trusted.overlay.upper";

/// Copies a regular file's content to a new file.
pub fn file(from: &Path, to: &Path) -> SysResult<()> {
    let options = |write: bool| {
        let mut options = File::options();
        options.read(!write).write(write).create_new(write).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options
    };
    let source = options(false).open(from).at("open", from.display())?;
    let target = options(true).open(to).at("make", to.display())?;
    match rustix::fs::ioctl_ficlone(&target, &source) {
        Ok(()) => Ok(()),
        // Another file system, or one that cannot share blocks.
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
            content(&source, &target).at("copy", from.display())
        }
        Err(e) => Err(SysError::new("copy", from.display(), e)),
    }
}

fn content(source: &File, target: &File) -> std::io::Result<()> {
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data from here on.
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(start))?;
        range(source, target, start, end)?;
        at = end;
    }
}

fn range(source: &File, target: &File, mut at: u64, end: u64) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = Vec::new();
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let (mut from, mut to) = (at, at);
        let copied = match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), left) {
            Ok(copied) => copied,
            // Not between these two.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                buffer.resize(1 << 20, 0);
                let most = buffer.len().min(left);
                let read = source.read_at(&mut buffer[..most], at)?;
                target.write_all_at(&buffer[..read], at)?;
                read
            }
            Err(e) => return Err(e.into()),
        };
        if copied == 0 {
            return Ok(());
        }
        at += copied as u64;
    }
    Ok(())
}

/// Copies of trees whose files may be linked to each other.
#[derive(Debug, Default)]
pub struct Trees {
    links: HashMap<(u64, u64), PathBuf>,
    ids: Ids,
    left: Left,
}

/// Whose files they are to be.
#[derive(Debug, Clone, Copy, Default)]
enum Ids {
    /// The same VE's: all is copied as it is.
    #[default]
    Same,
    /// A VE's, and were nobody's.
    Shifted(Shift),
    /// Another VE's.
    Carried(Carry),
}

impl Trees {
    /// Copies with other ids, and without devices.
    pub fn shifted(shift: Shift) -> Self {
        Self { ids: Ids::Shifted(shift), ..Self::default() }
    }

    /// Copies what is one VE's for another one.
    pub fn carried(carry: Carry) -> Self {
        Self { ids: Ids::Carried(carry), ..Self::default() }
    }

    /// What was left out.
    pub fn left(&self) -> Left {
        self.left
    }

    /// Copies a directory and all that is below it to a new one.
    pub fn copy(&mut self, from: &Path, to: &Path) -> SysResult<()> {
        let is = std::fs::symlink_metadata(from).at("stat", from.display())?;
        self.entry(from, to, &is)
    }

    fn entry(&mut self, from: &Path, to: &Path, is: &Metadata) -> SysResult<()> {
        let kind = is.file_type();
        if matches!(self.ids, Ids::Shifted(_)) && (kind.is_char_device() || kind.is_block_device()) {
            self.left.devices += 1;
            return Ok(());
        }
        if !kind.is_dir() && is.nlink() > 1 {
            if let Some(first) = self.links.get(&(is.dev(), is.ino())) {
                return std::fs::hard_link(first, to).at("link", to.display());
            }
            self.links.insert((is.dev(), is.ino()), to.to_owned());
        }
        if kind.is_dir() {
            std::fs::create_dir(to).at("make directory", to.display())?;
            for entry in std::fs::read_dir(from).at("list", from.display())? {
                let entry = entry.at("list", from.display())?;
                let is = entry.metadata().at("stat", entry.path().display())?;
                self.entry(&entry.path(), &to.join(entry.file_name()), &is)?;
            }
        } else if kind.is_file() {
            file(from, to)?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(from).at("read", from.display())?;
            std::os::unix::fs::symlink(target, to).at("link", to.display())?;
        } else {
            let node = rustix::fs::FileType::from_raw_mode(is.mode());
            let number = if kind.is_char_device() || kind.is_block_device() { is.rdev() } else { 0 };
            rustix::fs::mknodat(CWD, to, node, rustix::fs::Mode::empty(), number)
                .at("make node", to.display())?;
        }
        let mut traits = Traits::of(from, is)?;
        match self.ids {
            Ids::Same => {}
            Ids::Shifted(shift) => {
                let left;
                (traits, left) = shift.traits(from, traits)?;
                self.left.attributes += left;
            }
            Ids::Carried(carry) => traits = carry.traits(traits),
        }
        traits.give(to)
    }
}

/// Bytes that are text most of the time. They are told as one: each byte as the character of its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        bytes.0.into_iter().map(char::from).collect()
    }
}

impl From<String> for Bytes {
    /// What is no byte becomes a `?`: such a name does not fit what was summed, and is refused then.
    fn from(text: String) -> Bytes {
        Bytes(text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect())
    }
}

/// What a file has beside its content: owner, mode, times, and attributes, overlayfs's own marks too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Traits {
    /// Its owner and group, as the host's ids.
    pub owner: (u32, u32),
    /// Its permissions; a symbolic link has none.
    pub mode: Option<u32>,
    /// When it was read, in seconds and nanoseconds.
    pub accessed: (i64, i64),
    /// When it was written to.
    pub modified: (i64, i64),
    /// Its attributes, by name.
    pub attributes: Vec<(Bytes, Bytes)>,
}

impl Traits {
    /// Reads those of a file, which is not followed if it is a link.
    pub fn of(path: &Path, is: &Metadata) -> SysResult<Self> {
        Ok(Traits {
            owner: (is.uid(), is.gid()),
            mode: (!is.file_type().is_symlink()).then(|| is.mode() & 0o7777),
            accessed: (is.atime(), is.atime_nsec()),
            modified: (is.mtime(), is.mtime_nsec()),
            attributes: attributes(path)?,
        })
    }

    /// Takes attributes off a file that are not among these.
    pub fn take_others(&self, of: &Path) -> SysResult<()> {
        for (name, _) in attributes(of)? {
            if self.attributes.iter().all(|(wanted, _)| *wanted != name) {
                let shown = String::from_utf8_lossy(&name.0).into_owned();
                rustix::fs::lremovexattr(of, name.0.as_slice())
                    .map_err(|e| SysError::new("remove attribute of", of.display(), e).value(shown))?;
            }
        }
        Ok(())
    }

    /// Gives them to a file, in an order in which none undoes another.
    pub fn give(&self, to: &Path) -> SysResult<()> {
        let Traits { owner: (uid, gid), mode, accessed, modified, attributes } = self;
        std::os::unix::fs::lchown(to, Some(*uid), Some(*gid)).at("chown", to.display())?;
        for (Bytes(name), Bytes(value)) in attributes {
            rustix::fs::lsetxattr(to, name.as_slice(), value, XattrFlags::empty()).map_err(|e| {
                SysError::new("set attribute of", to.display(), e).value(String::from_utf8_lossy(name))
            })?;
        }
        if let Some(mode) = mode {
            let mode = std::fs::Permissions::from_mode(*mode);
            std::fs::set_permissions(to, mode).at("chmod", to.display())?;
        }
        let time = |(seconds, nanos): (i64, i64)| Timespec { tv_sec: seconds, tv_nsec: nanos };
        let times = Timestamps { last_access: time(*accessed), last_modification: time(*modified) };
        rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).at("set times of", to.display())
    }
}

fn attributes(of: &Path) -> SysResult<Vec<(Bytes, Bytes)>> {
    let mut names = vec![0_u8; XATTR_MOST];
    let length = match rustix::fs::llistxattr(of, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(SysError::new("list attributes of", of.display(), e)),
    };
    let mut all = Vec::new();
    let is_own = |name: &[u8]| name == INDEX_OF || name.starts_with(OF_BTRFS) || name.starts_with(OF_XFS);
    let is_kept = |name: &&[u8]| !name.is_empty() && !is_own(name);
    for name in names[..length].split(|byte| *byte == 0).filter(is_kept) {
        let mut value = vec![0_u8; XATTR_MOST];
        let length = rustix::fs::lgetxattr(of, name, &mut value).at("read attribute of", of.display())?;
        value.truncate(length);
        all.push((Bytes(name.to_vec()), Bytes(value)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stay_and_content_is_the_same() {
        use std::os::unix::fs::FileExt;
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let source = File::create(&from).unwrap();
        source.set_len(64 << 20).unwrap();
        for at in [0, 5 << 20, (64 << 20) - 3] {
            source.write_all_at(b"abc", at).unwrap();
        }
        file(&from, &to).unwrap();
        assert_eq!(std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
        assert!(std::fs::metadata(&to).unwrap().blocks() < 1 << 10);
        file(&from, &to).unwrap_err();
    }

    #[test]
    fn a_tree_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::write(from.join("a/file"), "text").unwrap();
        std::fs::hard_link(from.join("a/file"), from.join("a/b/other")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        std::fs::set_permissions(from.join("a/file"), std::fs::Permissions::from_mode(0o4711)).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(CWD, from.join("fifo"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        File::open(from.join("a")).unwrap().set_modified(old).unwrap();
        Trees::default().copy(&from, &to).unwrap();
        let of = |path: &str| std::fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("a/b/other")).unwrap(), "text");
        assert_eq!((of("a/file").ino(), of("a/file").nlink()), (of("a/b/other").ino(), 2));
        assert_eq!(of("a/file").mode() & 0o7777, 0o4711);
        assert_eq!(of("a").modified().unwrap(), old);
        assert!(of("fifo").file_type().is_fifo());
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
    }
}
