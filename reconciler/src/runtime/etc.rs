//! Files below /etc of a VE's root of which a part is vzd's: how they are read and replaced.
//!
//! The VE's root may put anything in their place at any moment. They are opened beneath the VE's root, through no
//! link and into no other mount, and replaced by renaming: readers in the VE see the old file or the new one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use vzd_state::subsystem::network::{File, join, split};

use super::tree::BENEATH;
use crate::error::{At, SysError, SysResult};

/// What a link is called after vzd has put a file in its place.
const KEPT: &str = ".before-vzd";

/// No such file is longer, unless it is to eat the controller's memory.
const LONGEST: usize = 1 << 20;

/// What is at a file's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// A symbolic link to there.
    Link(String),
    /// A file: its text and permissions.
    Text(String, Mode),
}

impl Seen {
    fn parts(&self) -> (Option<Vec<String>>, String) {
        match self {
            Self::Nothing | Self::Link(_) => (None, String::new()),
            Self::Text(text, _) => split(text),
        }
    }

    /// The lines in it that are vzd's.
    pub fn lines(&self) -> Option<Vec<String>> {
        self.parts().0
    }
}

/// The directory of a file, and the file's name in it.
fn place(root: impl AsFd, file: File) -> SysResult<(OwnedFd, &'static str)> {
    let path = Path::new(file.path());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(SysError::refused("open", file.path(), "it has no directory"));
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat2(root, parent, flags, Mode::empty(), BENEATH | ResolveFlags::NO_XDEV);
    Ok((dir.at("open in the VE", parent.display())?, name))
}

/// Looks at a file.
pub fn look(root: impl AsFd, file: File) -> SysResult<Seen> {
    match place(root, file) {
        Ok((dir, name)) => look_at(&dir, name, file),
        Err(e) if e.is_absent() => Ok(Seen::Nothing),
        Err(e) => Err(e),
    }
}

fn look_at(dir: &OwnedFd, name: &str, file: File) -> SysResult<Seen> {
    const OP: &str = "read in the VE";
    let other = |why: &str| SysError::refused(OP, file.path(), why);
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Seen::Nothing),
        stat => stat.at(OP, file.path())?,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).at(OP, file.path())?;
            return Ok(Seen::Link(target.to_string_lossy().into_owned()));
        }
        FileType::RegularFile => {}
        _ => return Err(other("it is no file")),
    }
    // It may be another by now: a fifo or a lease must not hold the controller up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let opened = rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve);
    let opened = match opened {
        Err(Errno::XDEV) => return Err(other("something is mounted on it")),
        opened => opened.at(OP, file.path())?,
    };
    let stat = rustix::fs::fstat(&opened).at(OP, file.path())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(other("it is no file"));
    }
    let mut text = Vec::new();
    let mut some = vec![0; 16 * 1024];
    loop {
        match rustix::io::read(&opened, &mut some).at(OP, file.path())? {
            0 => break,
            _ if text.len() > LONGEST => return Err(other("it is longer than 1 MiB")),
            n => text.extend_from_slice(&some[..n]),
        }
    }
    let text = String::from_utf8(text).map_err(|_| other("it is not text"))?;
    Ok(Seen::Text(text, Mode::from_raw_mode(stat.st_mode)))
}

/// Has a file hold these lines of vzd's, or none, and tells whether that changed anything. What is made is owned by
/// the VE's root, which is user and group `owner` on the host. A link in the file's place is kept beside it, and comes
/// back when vzd has no lines any more.
pub fn write(root: impl AsFd, owner: u32, file: File, lines: &[String]) -> SysResult<bool> {
    const OP: &str = "write in the VE";
    let (dir, name) = match place(&root, file) {
        Err(e) if e.is_absent() && lines.is_empty() => return Ok(false),
        other => other?,
    };
    let seen = look_at(&dir, name, file)?;
    let (is, rest) = seen.parts();
    if is.as_deref().unwrap_or_default() == lines && (is.is_none() || !lines.is_empty()) {
        return Ok(false);
    }
    let kept = format!("{name}{KEPT}");
    if lines.is_empty() && rest.is_empty() {
        // vzd's alone. What was there before comes back, if anything was.
        return match rustix::fs::renameat(&dir, &kept, &dir, name) {
            Err(Errno::NOENT) => rustix::fs::unlinkat(&dir, name, AtFlags::empty()),
            other => other,
        }
        .at(OP, file.path())
        .map(|()| true);
    }
    let fresh = format!(".{name}.vzd");
    let make = || {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&dir, fresh.as_str(), flags, Mode::from_raw_mode(0o600))
    };
    let made = match make() {
        // Left by one that was killed.
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(&dir, fresh.as_str(), AtFlags::empty()).and_then(|()| make())
        }
        other => other,
    };
    let made = made.at(OP, file.path())?;
    let mode = if let Seen::Text(_, mode) = &seen { mode.bits() & 0o777 } else { 0o644 };
    let fill = || {
        let text = join(lines, &rest);
        let mut left = text.as_bytes();
        while !left.is_empty() {
            left = &left[rustix::io::write(&made, left)?..];
        }
        rustix::fs::fchown(&made, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
        if matches!(seen, Seen::Link(_)) {
            rustix::fs::renameat(&dir, name, &dir, &kept)?;
        }
        rustix::fs::renameat(&dir, fresh.as_str(), &dir, name)
    };
    let filled = fill().at(OP, file.path());
    if filled.is_err() {
        let _ = rustix::fs::unlinkat(&dir, fresh.as_str(), AtFlags::empty());
    }
    filled.map(|()| true)
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
        let set = |list: &[&str]| write(&root, owner, File::Hosts, &lines(list)).unwrap();
        assert!(!set(&[]), "there is not even a directory");
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        assert!(!set(&[]));
        std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        std::fs::set_permissions(&hosts, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(set(&["10.0.0.1 a"]));
        assert!(!set(&["10.0.0.1 a"]));
        assert_eq!(look(&root, File::Hosts).unwrap().lines(), Some(lines(&["10.0.0.1 a"])));
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
        let set = |list: &[&str]| write(&root, owner, File::ResolvConf, &lines(list));
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
