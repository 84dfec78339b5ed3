//! Makes files inside one directory, whatever names it is given.
//!
//! Every path is first made plain (no empty, `.` or `..` component, no leading slash). The directory that a name is in
//! is then opened by the kernel with RESOLVE_IN_ROOT: symlinks in it are followed as a VE with this root would
//! follow them, absolute ones included, and can never lead outside. Refusing symlinks altogether would be simpler, but
//! would refuse archives that put `lib/x` behind `lib -> usr/lib`. The last component is never followed:
//! what is there is unlinked, and the new thing made with O_EXCL or its like, so that neither a symlink nor another
//! hard link of an old file is written through.
//!
//! The tree lies in a directory that only its owner can enter and that no other process works in; names do not
//! change between two calls here. Must not be used on a tree that a VE can write to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::error::Problem;
use super::remove;

const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;

/// An extended attribute: name and value.
pub(super) type Xattr = (Vec<u8>, Vec<u8>);

/// Owner, mode and the rest of one file.
#[derive(Debug, Clone, Default)]
pub(super) struct Meta {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u16,
    /// Seconds and nanoseconds; the present time if there is none.
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<Xattr>,
}

impl Meta {
    /// Root's, with this mode.
    pub(super) fn root(mode: u16) -> Self {
        Self { mode, ..Self::default() }
    }
}

/// A root file system under construction.
pub(super) struct Tree<'a> {
    root: Rc<OwnedFd>,
    trash: BorrowedFd<'a>,
    /// The directory used last: archives go directory by directory.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    made: u64,
    /// Whose directories are that an archive only implies.
    base: u32,
}

/// A path inside the tree: components joined by single slashes; empty is the root itself.
pub(super) fn plain(path: &[u8], what: &'static str) -> Result<Vec<u8>, Problem> {
    let bad = |why| Problem::Name { what, why };
    if path.contains(&0) {
        return Err(bad("holds a NUL byte"));
    }
    if path.len() > MAX_PATH {
        return Err(bad("is longer than 4095 bytes"));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ if part.len() > MAX_NAME => return Err(bad("has a component longer than 255 bytes")),
            _ => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

impl<'a> Tree<'a> {
    /// `root` is the tree's top, open for reading; `trash` a directory beside it to take things apart in.
    pub(super) fn new(root: OwnedFd, trash: BorrowedFd<'a>) -> Self {
        Self { root: Rc::new(root), trash, last: None, made: 0, base: 0 }
    }

    /// The same for a VE whose ids begin at `base`.
    pub(super) fn owned_by(self, base: u32) -> Self {
        Self { base, ..self }
    }

    /// How many files of all kinds were made, implied directories included.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// A directory. One that is there already is kept, with its content.
    pub(super) fn dir(&mut self, path: &[u8], meta: &Meta) -> Result<(), Problem> {
        if path.is_empty() {
            return finish(&self.root, &Meta { mtime: None, ..meta.clone() });
        }
        let (parent, name) = self.parent(path)?;
        let made = match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Err(Errno::EXIST) if kind(&parent, name)? == FileType::Directory => Ok(()),
            Err(Errno::EXIST) => {
                self.clear(&parent, name)?;
                rustix::fs::mkdirat(&parent, name, Mode::RWXU)
            }
            other => other,
        };
        made.map_err(|e| Problem::sys("make the directory", e))?;
        self.made += 1;
        let fd = remove::open_dir(parent.as_fd(), name).map_err(|e| Problem::sys("open the directory", e))?;
        finish(&fd, &Meta { mtime: None, ..meta.clone() })
    }

    /// A regular file; `fill` writes its content.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        meta: &Meta,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.replacing(&parent, name, "make the file", |name| {
            rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        fill(&fd)?;
        finish(&fd, meta)
    }

    /// A symlink with this target, which is not looked at.
    pub(super) fn symlink(&mut self, path: &[u8], target: &[u8], meta: &Meta) -> Result<(), Problem> {
        let why = match target {
            [] => Some("is empty"),
            _ if target.len() > MAX_PATH => Some("is longer than 4095 bytes"),
            _ if target.contains(&0) => Some("holds a NUL byte"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(Problem::Name { what: "link target", why });
        }
        let (parent, name) = self.parent(path)?;
        self.replacing(&parent, name, "make the symlink", |name| {
            rustix::fs::symlinkat(target, &parent, name)
        })?;
        self.finish_at(&parent, name, meta)
    }

    /// A named pipe.
    pub(super) fn fifo(&mut self, path: &[u8], meta: &Meta) -> Result<(), Problem> {
        let (parent, name) = self.parent(path)?;
        self.replacing(&parent, name, "make the fifo", |name| {
            rustix::fs::mkfifoat(&parent, name, Mode::RUSR | Mode::WUSR)
        })?;
        self.finish_at(&parent, name, meta)?;
        // This follows symlinks, but the name is the fifo that was made just now. After the owner: chown clears setuid.
        rustix::fs::chmodat(&parent, name, mode(meta), AtFlags::empty()).map_err(|e| Problem::sys("chmod", e))
    }

    /// Another name for a file of this tree. A symlink as the target gets the name itself.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Problem> {
        let failed = |e| Problem::sys(format!("link to {:?}", String::from_utf8_lossy(target)), e);
        if target.is_empty() {
            return Err(failed(Errno::PERM));
        }
        let (in_dir, in_name) = split(target);
        let from = self.open(in_dir).map_err(failed)?;
        let was = rustix::fs::statat(&from, in_name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(was.st_mode) == FileType::Directory {
            return Err(failed(Errno::ISDIR));
        }
        let (parent, name) = self.parent(path)?;
        if let Ok(now) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
            && (now.st_dev, now.st_ino) == (was.st_dev, was.st_ino)
        {
            return Ok(());
        }
        let flags = AtFlags::empty();
        match rustix::fs::linkat(&from, in_name, &parent, name, flags) {
            Err(Errno::EXIST) => {
                self.clear(&parent, name)?;
                rustix::fs::linkat(&from, in_name, &parent, name, flags).map_err(failed)?;
            }
            done => done.map_err(failed)?,
        }
        self.made += 1;
        Ok(())
    }

    /// Removes what has this path, if there is something.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), Problem> {
        let (dir, name) = split(path);
        let Some(parent) = self.open_if_there(dir)? else { return Ok(()) };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Problem::sys("look at what is there", e)),
            Ok(_) => self.clear(&parent, name),
        }
    }

    /// Removes all that is in a directory, if it is there.
    pub(super) fn empty(&mut self, dir: &[u8]) -> Result<(), Problem> {
        let Some(fd) = self.open_if_there(dir)? else { return Ok(()) };
        let names = remove::open_dir(fd.as_fd(), b".").and_then(|fd| remove::names(fd.as_fd()));
        let names = names.map_err(|e| Problem::sys(format!("list {:?}", String::from_utf8_lossy(dir)), e))?;
        names.iter().try_for_each(|name| self.clear(&fd, name))
    }

    /// Sets the time of a directory, if it still is one. To be done last: files made in it change it.
    pub(super) fn dir_time(&mut self, path: &[u8], mtime: (i64, u32)) -> Result<(), Problem> {
        let failed = |e| Problem::sys("set the time of the directory", e);
        let fd = if path.is_empty() {
            self.root.clone()
        } else {
            let (dir, name) = split(path);
            match self.open(dir).map_err(io::Error::from).and_then(|p| remove::open_dir(p.as_fd(), name)) {
                Ok(fd) => Rc::new(fd),
                // A later entry has put something else there.
                Err(e)
                    if matches!(
                        Errno::from_io_error(&e),
                        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
                    ) =>
                {
                    return Ok(());
                }
                Err(e) => return Err(Problem::sys("open the directory", e)),
            }
        };
        rustix::fs::futimens(&fd, &times(mtime)).map_err(failed)
    }

    /// The directory that `path` is in, made if need be, and its last component.
    fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(Rc<OwnedFd>, &'p [u8]), Problem> {
        let (dir, name) = split(path);
        if name.is_empty() {
            return Err(Problem::Name { what: "name", why: "is that of the root itself" });
        }
        let fd = match self.open(dir) {
            Err(Errno::NOENT) => self.make_parents(dir)?,
            done => done.map_err(|e| Problem::sys(open_dir_op(dir), e))?,
        };
        Ok((fd, name))
    }

    /// Makes the directories of `dir` that are missing, the last one among them.
    fn make_parents(&mut self, dir: &[u8]) -> Result<Rc<OwnedFd>, Problem> {
        // Where to start is found by halving: a walk from the end, with every step resolved from the root, is quadratic,
        // and the archive chooses the depth.
        let mut ends: Vec<usize> = (0..dir.len()).filter(|i| dir[*i] == b'/').collect();
        ends.push(dir.len());
        let (mut there, mut missing) = (0, ends.len());
        let mut fd = self.root.clone();
        while there < missing {
            let middle = there + (missing - there) / 2;
            match self.open(&dir[..ends[middle]]) {
                Err(Errno::NOENT) => missing = middle,
                done => {
                    fd = done.map_err(|e| Problem::sys(open_dir_op(&dir[..ends[middle]]), e))?;
                    there = middle + 1;
                }
            }
        }
        for end in &ends[missing..] {
            let name = split(&dir[..*end]).1;
            // EEXIST here is a symlink that leads nowhere.
            rustix::fs::mkdirat(&fd, name, Mode::RWXU).map_err(|e| {
                Problem::sys(format!("make the directory {:?}", String::from_utf8_lossy(&dir[..*end])), e)
            })?;
            self.made += 1;
            let made =
                remove::open_dir(fd.as_fd(), name).map_err(|e| Problem::sys(open_dir_op(&dir[..*end]), e))?;
            finish(&made, &Meta { uid: self.base, gid: self.base, ..Meta::root(0o755) })?;
            fd = Rc::new(made);
        }
        self.last = Some((dir.to_vec(), fd.clone()));
        Ok(fd)
    }

    /// `None` if it is not there, or no directory.
    fn open_if_there(&mut self, dir: &[u8]) -> Result<Option<Rc<OwnedFd>>, Problem> {
        match self.open(dir) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            done => done.map(Some).map_err(|e| Problem::sys(open_dir_op(dir), e)),
        }
    }

    fn open(&mut self, dir: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if dir.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some((path, fd)) = &self.last
            && path == dir
        {
            return Ok(fd.clone());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        // The kernel gives up with EAGAIN when anything on the host was renamed while it resolved a `..`.
        let fd = loop {
            match rustix::fs::openat2(&*self.root, dir, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => break Rc::new(done?),
            }
        };
        self.last = Some((dir.to_vec(), fd.clone()));
        Ok(fd)
    }

    /// Does `make`, a second time without what was there before.
    fn replacing<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        op: &'static str,
        make: impl Fn(&[u8]) -> Result<T, Errno>,
    ) -> Result<T, Problem> {
        let made = match make(name) {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                make(name)
            }
            done => done,
        };
        self.made += 1;
        made.map_err(|e| Problem::sys(op, e))
    }

    /// Removes what has this name. Directories that were opened by path may be gone after that.
    fn clear(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), Problem> {
        self.last = None;
        remove::remove(parent.as_fd(), name, self.trash)
            .map_err(|e| Problem::sys("remove what was there before", e))
    }

    fn finish_at(&self, parent: &OwnedFd, name: &[u8], meta: &Meta) -> Result<(), Problem> {
        let (uid, gid) = owner(meta);
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| chown_failed(meta, e))?;
        let Some(mtime) = meta.mtime else { return Ok(()) };
        rustix::fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Problem::sys("set the time", e))
    }
}

/// Gives an open file its owner, mode, attributes and time, in the order in which none undoes another: chown clears
/// setuid and file capabilities, and all of them but the time itself leave the time alone.
fn finish(fd: &OwnedFd, meta: &Meta) -> Result<(), Problem> {
    let (uid, gid) = owner(meta);
    rustix::fs::fchown(fd, uid, gid).map_err(|e| chown_failed(meta, e))?;
    rustix::fs::fchmod(fd, mode(meta)).map_err(|e| Problem::sys(format!("chmod to {:o}", meta.mode), e))?;
    for (name, value) in &meta.xattrs {
        rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty())
            .map_err(|e| Problem::sys(format!("set attribute {:?}", String::from_utf8_lossy(name)), e))?;
    }
    let Some(mtime) = meta.mtime else { return Ok(()) };
    rustix::fs::futimens(fd, &times(mtime)).map_err(|e| Problem::sys("set the time", e))
}

fn kind(parent: &OwnedFd, name: &[u8]) -> Result<FileType, Problem> {
    let stat: Result<Stat, Errno> = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.map(|s| FileType::from_raw_mode(s.st_mode)).map_err(|e| Problem::sys("look at what is there", e))
}

fn owner(meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
}

fn mode(meta: &Meta) -> Mode {
    Mode::from_raw_mode(u32::from(meta.mode & 0o7777))
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
    }
}

fn chown_failed(meta: &Meta, e: Errno) -> Problem {
    Problem::sys(format!("chown to {}:{}", meta.uid, meta.gid), e)
}

fn open_dir_op(dir: &[u8]) -> String {
    format!("open the directory {:?}", String::from_utf8_lossy(dir))
}
