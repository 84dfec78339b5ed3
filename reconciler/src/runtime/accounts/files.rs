//! Small text files of a VE, read and replaced from inside it. Whoever rules the directory may have put anything there:
//! a link, a FIFO, a gigabyte. All of that is an error, and nothing here waits for it.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat};

use crate::error::{At, SysError, SysResult};
use crate::runtime::accounts::db::Lines;
use crate::runtime::beneath::BENEATH;

/// More than anyone's /etc/passwd or `authorized_keys` holds.
const MOST: u64 = 1 << 20;

/// A directory of the VE, and what it is called in messages.
pub struct Dir {
    fd: OwnedFd,
    path: String,
}

impl Dir {
    /// Opens a directory by its path in this mount namespace, through links but no magic ones. `None` if there is none.
    pub fn open(path: &str) -> SysResult<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).at("open", "/")?;
        let opened = rustix::fs::openat2(&root, path, flags, Mode::empty(), BENEATH);
        absent(opened).at("open", path).map(|fd| fd.map(|fd| Self { fd, path: path.to_owned() }))
    }

    /// Opens a directory in this one that is no link; made with `mode` if it is not there and that is given.
    pub fn inner(&self, name: &str, make: Option<u32>) -> SysResult<Option<Self>> {
        let path = self.shown(name);
        if let Some(mode) = make {
            match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(SysError::new("make directory", path, e)),
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = absent(rustix::fs::openat(&self.fd, name, flags, Mode::empty()));
        opened.at("open", &path).map(|fd| fd.map(|fd| Self { fd, path }))
    }

    fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.path.trim_end_matches('/'))
    }

    /// Who owns it.
    pub fn owner(&self) -> SysResult<u32> {
        Ok(rustix::fs::fstat(&self.fd).at("stat", &self.path)?.st_uid)
    }

    /// Gives something in it to a user.
    pub fn give(&self, name: &str, uid: u32, gid: u32) -> SysResult<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::chownat(&self.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .at("chown", self.shown(name))
    }

    /// The regular files in it, at most `most` of them.
    pub fn names(&self, most: usize) -> SysResult<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).at("open", &self.path)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd).at("list", &self.path)?.take(most) {
            let entry = entry.at("list", &self.path)?;
            if entry.file_type() == FileType::RegularFile {
                names.extend(entry.file_name().to_str().ok().map(str::to_owned));
            }
        }
        Ok(names)
    }

    /// A file with what it is; `None` if there is none.
    fn read_with_stat(&self, name: &str) -> SysResult<Option<(String, Stat)>> {
        let path = self.shown(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match absent(rustix::fs::openat(&self.fd, name, flags, Mode::empty())) {
            Err(rustix::io::Errno::LOOP) => {
                return Err(SysError::refused("read", path, "it is a symbolic link"));
            }
            other => other.at("open", &path)?,
        };
        let Some(file) = file else { return Ok(None) };
        let stat = rustix::fs::fstat(&file).at("stat", &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(SysError::refused("read", path, "it is no regular file"));
        }
        let mut text = Vec::new();
        std::fs::File::from(file).take(MOST + 1).read_to_end(&mut text).at("read", &path)?;
        if text.len() as u64 > MOST {
            return Err(SysError::refused("read", path, "it is larger than 1 MiB"));
        }
        let text = String::from_utf8(text).map_err(|_| SysError::refused("read", &path, "it is no text"))?;
        Ok(Some((text, stat)))
    }

    /// The lines of a file; `None` if there is none.
    pub fn read(&self, name: &str) -> SysResult<Option<Lines>> {
        Ok(self.read_with_stat(name)?.map(|(text, _)| text.lines().map(str::to_owned).collect()))
    }

    /// The text of a file; `None` if there is none.
    pub fn text(&self, name: &str) -> SysResult<Option<String>> {
        Ok(self.read_with_stat(name)?.map(|(text, _)| text))
    }

    /// Puts lines in the place of a file at once, with the owner and mode that it had; a new one has `mode`.
    pub fn replace(&self, name: &str, lines: &[String], mode: u32) -> SysResult<()> {
        let before = self.read_with_stat(name)?.map(|(_, stat)| stat);
        let mut text = lines.join("\n");
        text.push('\n');
        let mode = before.as_ref().map_or(mode, |stat| stat.st_mode & 0o7777);
        // Unfinished ones of an earlier try go; a name of ours, so that nobody's is taken.
        let new = format!(".{}.vzd", name.trim_start_matches('.'));
        let _ = rustix::fs::unlinkat(&self.fd, &new, AtFlags::empty());
        self.create(&new, &text, mode)?;
        if let Some(stat) = before {
            self.give(&new, stat.st_uid, stat.st_gid)?;
            // A change of owner takes bits away.
            rustix::fs::chmodat(&self.fd, &new, Mode::from_raw_mode(mode), AtFlags::empty())
                .at("chmod", self.shown(&new))?;
        }
        rustix::fs::renameat(&self.fd, &new, &self.fd, name).at("rename", self.shown(&new))
    }

    /// Makes a file that must not be there yet.
    pub fn create(&self, name: &str, text: &str, mode: u32) -> SysResult<()> {
        let path = self.shown(name);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode)).at("create", &path)?;
        // The creation mode went through the umask.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).at("chmod", &path)?;
        let mut file = std::fs::File::from(file);
        file.write_all(text.as_bytes()).at("write", &path)?;
        file.sync_all().at("sync", &path)
    }

    /// Takes the lock that every tool takes which changes /etc/passwd or /etc/shadow (lckpwdf(3)). It goes with the
    /// descriptor.
    pub fn lock(&self) -> SysResult<OwnedFd> {
        const NAME: &str = ".pwd.lock";
        const TRIES: u32 = 150;
        let path = self.shown(NAME);
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, NAME, flags, Mode::from_raw_mode(0o600)).at("open", &path)?;
        for _ in 0..TRIES {
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                Err(e) => return Err(SysError::new("lock", path, e)),
            }
        }
        Err(SysError::refused("lock", path, "another program changes users and does not end"))
    }
}

/// Whether a path of this mount namespace can be executed.
pub fn is_program(path: &str) -> bool {
    rustix::fs::accessat(CWD, Path::new(path), rustix::fs::Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// The directory of a path and its last part.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let path = Path::new(path);
    Some((path.parent()?.to_str()?, path.file_name().and_then(OsStr::to_str)?))
}

fn absent<T>(opened: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match opened {
        Err(rustix::io::Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}
