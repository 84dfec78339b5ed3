//! Files below /etc of a VE's root that vzd writes, or writes a part of: how they are read and replaced.
//!
//! The VE's root may put anything in their place at any moment. They are opened beneath the VE's root, through no
//! link and into no other mount, and replaced by renaming: readers in the VE see the old file or the new one. What they
//! say is others' matter: [`super::zone`], [`super::locale`], `drivers::network`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use vzd_state::subsystem::network::{Part, join, split};

use super::beneath::BENEATH;
use crate::error::{At, SysError, SysResult};

/// What is called so stood at a file's place before vzd did.
const KEPT: &str = ".before-vzd";

/// No such file is longer, unless it is to eat the controller's memory.
const LONGEST: usize = 1 << 20;

const READ: &str = "read in the VE";
const WRITE: &str = "write in the VE";

/// What is at a file's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// A symbolic link to there.
    Link(String),
    /// A file: its content and permissions.
    File(Vec<u8>, Mode),
}

impl Seen {
    /// Its text; none if there is no file. `path` is for the error.
    pub fn text(&self, path: &str) -> SysResult<Option<&str>> {
        match self {
            Self::Nothing | Self::Link(_) => Ok(None),
            Self::File(content, _) => std::str::from_utf8(content)
                .map(Some)
                .map_err(|_| SysError::refused(READ, path, "it is not text")),
        }
    }

    fn parts(&self, path: &str) -> SysResult<(Option<Vec<String>>, String)> {
        Ok(self.text(path)?.map(split).unwrap_or_default())
    }

    /// The lines in it that are vzd's.
    pub fn lines(&self, path: &str) -> SysResult<Option<Vec<String>>> {
        Ok(self.parts(path)?.0)
    }
}

/// What to put at a file's place.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// A file with this content and these permissions.
    File(&'a [u8], u32),
    /// A symbolic link to there.
    Link(&'a str),
}

/// A file's place: the directory that it is in, and its name there.
#[derive(Debug)]
pub struct Place<'p> {
    dir: OwnedFd,
    name: &'p str,
    path: &'p str,
}

impl<'p> Place<'p> {
    /// Opens the directory of a file; it is an error if that is not there.
    pub fn open(root: impl AsFd, path: &'p str) -> SysResult<Self> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = if parent.is_empty() { "/" } else { parent };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat2(root, parent, flags, Mode::empty(), BENEATH | ResolveFlags::NO_XDEV);
        Ok(Self { dir: dir.at("open in the VE", parent)?, name, path })
    }

    /// Looks at what is there.
    pub fn look(&self) -> SysResult<Seen> {
        let other = |why: &str| SysError::refused(READ, self.path, why);
        let stat = match rustix::fs::statat(&self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Seen::Nothing),
            stat => stat.at(READ, self.path)?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&self.dir, self.name, Vec::new()).at(READ, self.path)?;
                return Ok(Seen::Link(target.to_string_lossy().into_owned()));
            }
            FileType::RegularFile => {}
            _ => return Err(other("it is no file")),
        }
        match read(&self.dir, Path::new(self.name), ResolveFlags::NO_SYMLINKS) {
            Ok((content, mode)) => Ok(Seen::File(content, mode)),
            Err(e) if e.errno == libc::EXDEV => Err(other("something is mounted on it")),
            Err(e) => Err(SysError { object: self.path.to_owned(), ..e }),
        }
    }

    /// Whether what stood here before vzd's is kept.
    pub fn has_kept(&self) -> SysResult<bool> {
        match rustix::fs::statat(&self.dir, self.kept().as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            other => other.at(READ, self.path).map(|_| true),
        }
    }

    fn kept(&self) -> String {
        format!("{}{KEPT}", self.name)
    }

    /// Puts something there, owned by the VE's root, which is user and group `owner` on the host. What was there is kept
    /// beside it, if it is to be.
    pub fn put(&self, owner: u32, content: Content<'_>, keep: bool) -> SysResult<()> {
        self.put_as(self.name, owner, content, keep)
    }

    /// Has this be what comes back in the end: of a place where nothing was.
    pub fn keep(&self, owner: u32, content: Content<'_>) -> SysResult<()> {
        self.put_as(&self.kept(), owner, content, false)
    }

    fn put_as(&self, name: &str, owner: u32, content: Content<'_>, keep: bool) -> SysResult<()> {
        let fresh = format!(".{}.vzd", self.name);
        let made = match self.make(&fresh, content) {
            // Left by one that was killed.
            Err(Errno::EXIST) => rustix::fs::unlinkat(&self.dir, fresh.as_str(), AtFlags::empty())
                .and_then(|()| self.make(&fresh, content)),
            other => other,
        };
        let place = || {
            let (user, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)));
            rustix::fs::chownat(&self.dir, fresh.as_str(), user, group, AtFlags::SYMLINK_NOFOLLOW)?;
            if keep {
                rustix::fs::renameat(&self.dir, self.name, &self.dir, self.kept())?;
            }
            rustix::fs::renameat(&self.dir, fresh.as_str(), &self.dir, name)
        };
        let placed = made.and_then(|()| place()).at(WRITE, self.path);
        if placed.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, fresh.as_str(), AtFlags::empty());
        }
        placed
    }

    fn make(&self, fresh: &str, content: Content<'_>) -> Result<(), Errno> {
        let (content, mode) = match content {
            Content::Link(target) => return rustix::fs::symlinkat(target, &self.dir, fresh),
            Content::File(content, mode) => (content, Mode::from_raw_mode(mode)),
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.dir, fresh, flags, Mode::from_raw_mode(0o600))?;
        let mut left = content;
        while !left.is_empty() {
            left = &left[rustix::io::write(&made, left)?..];
        }
        rustix::fs::fchmod(&made, mode)
    }

    /// Brings back what is kept, and tells whether there was anything.
    pub fn restore(&self) -> SysResult<bool> {
        match rustix::fs::renameat(&self.dir, self.kept(), &self.dir, self.name) {
            Err(Errno::NOENT) => Ok(false),
            other => other.at(WRITE, self.path).map(|()| true),
        }
    }

    fn remove(&self) -> SysResult<()> {
        rustix::fs::unlinkat(&self.dir, self.name, AtFlags::empty()).at(WRITE, self.path)
    }
}

/// Reads a file of a VE's that is in the same file system as `dir`, beneath it.
pub(super) fn read(dir: impl AsFd, path: &Path, resolve: ResolveFlags) -> SysResult<(Vec<u8>, Mode)> {
    let other = |why: &str| SysError::refused(READ, path.display(), why);
    // It may be another by now: a fifo or a lease must not hold the controller up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = BENEATH | ResolveFlags::NO_XDEV | resolve;
    let opened = rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve).at(READ, path.display())?;
    let stat = rustix::fs::fstat(&opened).at(READ, path.display())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(other("it is no file"));
    }
    let mut content = Vec::new();
    let mut some = vec![0; 16 * 1024];
    loop {
        match rustix::io::read(&opened, &mut some).at(READ, path.display())? {
            0 => return Ok((content, Mode::from_raw_mode(stat.st_mode))),
            _ if content.len() > LONGEST => return Err(other("it is longer than 1 MiB")),
            n => content.extend_from_slice(&some[..n]),
        }
    }
}

/// Looks at a file.
pub fn look(root: impl AsFd, path: &str) -> SysResult<Seen> {
    match Place::open(root, path) {
        Ok(place) => place.look(),
        Err(e) if e.is_absent() => Ok(Seen::Nothing),
        Err(e) => Err(e),
    }
}

/// Has a file hold these lines of vzd's, or none, and tells whether that changed anything. A link in the file's place is
/// kept beside it, and comes back when vzd has no lines any more.
pub fn write(root: impl AsFd, owner: u32, path: &str, part: Part, lines: &[String]) -> SysResult<bool> {
    let place = match Place::open(&root, path) {
        Err(e) if e.is_absent() && lines.is_empty() => return Ok(false),
        other => other?,
    };
    let seen = place.look()?;
    let (is, rest) = seen.parts(path)?;
    let text = join(lines, part, &rest);
    let in_place = part == Part::First || seen.text(path)?.is_none_or(|is| is == text);
    if is.as_deref().unwrap_or_default() == lines && (is.is_none() || !lines.is_empty()) && in_place {
        return Ok(false);
    }
    if lines.is_empty() && rest.is_empty() {
        // vzd's alone. What was there before comes back, if anything was.
        if !place.restore()? {
            place.remove()?;
        }
        return Ok(true);
    }
    let mode = if let Seen::File(_, mode) = &seen { mode.bits() & 0o777 } else { 0o644 };
    place.put(owner, Content::File(text.as_bytes(), mode), matches!(seen, Seen::Link(_)))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn lines(list: &[&str]) -> Vec<String> {
        list.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_file_keeps_what_is_not_vzds() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let owner = rustix::process::getuid().as_raw();
        let hosts = dir.path().join("etc/hosts");
        let set = |list: &[&str]| write(&root, owner, "/etc/hosts", Part::First, &lines(list)).unwrap();
        assert!(!set(&[]), "there is not even a directory");
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        assert!(!set(&[]));
        std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        std::fs::set_permissions(&hosts, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(set(&["10.0.0.1 a"]));
        assert!(!set(&["10.0.0.1 a"]));
        assert_eq!(look(&root, "/etc/hosts").unwrap().lines("").unwrap(), Some(lines(&["10.0.0.1 a"])));
        assert!(std::fs::read_to_string(&hosts).unwrap().ends_with("# END vzd\n127.0.0.1 localhost\n"));
        assert_eq!(std::fs::metadata(&hosts).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(set(&[]));
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "127.0.0.1 localhost\n");
    }

    #[test]
    fn links_lead_nowhere_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let owner = rustix::process::getuid().as_raw();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let conf = dir.path().join("etc/resolv.conf");
        symlink(outside.path(), &conf).unwrap();
        let set = |list: &[&str]| write(&root, owner, "/etc/resolv.conf", Part::First, &lines(list));
        assert!(set(&["nameserver 10.0.0.1"]).unwrap());
        assert!(std::fs::symlink_metadata(&conf).unwrap().is_file());
        assert_eq!(std::fs::read(outside.path()).unwrap(), b"");
        assert!(set(&[]).unwrap());
        assert_eq!(std::fs::read_link(&conf).unwrap(), outside.path());
        std::fs::remove_file(&conf).unwrap();
        std::fs::create_dir(&conf).unwrap();
        assert!(set(&["nameserver 10.0.0.1"]).unwrap_err().to_string().contains("it is no file"));
    }
}
