//! Keeps the templates that vzd made, and makes the ones that are missing.
//!
//! In the templates directory, which is the operator's, the store has `.store` for itself:
//!
//! ```text
//! .store/file-v1-<sha256>/   an unpacked archive
//! .store/oci-v1-<digest>/    the layers of an image
//! .store/tiny-<digest>/      busybox
//! .store/index.json          which file had which content (a cache)
//! .store/lock                held while something is made or removed
//! .store/fetch.lock          held while an image is fetched
//! .store/.partial-*, .trash-*  of the run that holds the lock; else of one that was killed
//! ```
//!
//! A template is there if its directory is: it is made under another name, synced and renamed. Nobody but the owner can
//! enter `.store`: templates hold setuid programs that users of the host must not get to run. Must not remove
//! or write anything outside of `.store`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::error::TemplateError;
use super::index::{Index, Record, Stamp, hex, key};
use super::oci::IMAGE;
use super::remove::{self, TRASH};
use super::source::{self, Found};
use super::{Limits, Skipped, Source, Tally, Template, busybox, tiny, tree::Tree, unpack};

const OWN: &str = ".store";
pub(super) const PARTIAL: &str = ".partial-";
/// With the version of the unpacker: what one version made, another does not take for its own.
const FILE: &str = "file-v1-";
const TINY: &str = "tiny-";
const EMPTY: &str = "empty-";

/// The templates directory of one controller.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    pub(super) own_path: PathBuf,
    pub(super) own: OwnedFd,
    index: Mutex<Index>,
    pub(super) limits: Limits,
    pub(super) tally: Tally,
    busybox: Vec<PathBuf>,
}

impl Store {
    /// Opens the templates directory `dir`, which is made if it is not there (for its owner only).
    pub fn open(dir: &Path) -> Result<Self, TemplateError> {
        if let Some(parent) = dir.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(parent);
            made.map_err(|e| TemplateError::io("make directory", parent, e))?;
        }
        let own_path = dir.join(OWN);
        for path in [dir, &own_path] {
            match std::fs::DirBuilder::new().mode(0o700).create(path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(TemplateError::io("make directory", path, e));
                }
                _ => {}
            }
            let stat = rustix::fs::stat(path).map_err(|e| TemplateError::io("stat", path, e))?;
            source::trusted(path, &stat)?;
        }
        let (own, _) = source::open_dir(&own_path)?;
        rustix::fs::fchmod(&own, Mode::RWXU).map_err(|e| TemplateError::io("chmod to 700", &own_path, e))?;
        let index = Mutex::new(Index::read(own.as_fd()));
        Ok(Self {
            dir: dir.to_owned(),
            own_path,
            own,
            index,
            limits: Limits::default(),
            tally: Tally::default(),
            busybox: busybox::places(),
        })
    }

    /// The same store with other limits for archives.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same store with busybox looked for elsewhere.
    #[cfg(test)]
    pub(super) fn with_busybox(mut self, places: Vec<PathBuf>) -> Self {
        self.busybox = places;
        self
    }

    /// How far it is with what it makes.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// The templates directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The names that [`Source::Named`] may have, sorted.
    pub fn names(&self) -> Vec<String> {
        source::names(&self.dir)
    }

    /// The root directory for a source. It is made if it is not there; if it is, this takes a few system calls.
    ///
    /// Blocks, for as long as unpacking takes, and while another caller, of this process or not, makes or removes a
    /// template.
    pub fn ensure(&self, source: &Source) -> Result<Template, TemplateError> {
        match source {
            Source::Tiny => self.ensure_tiny(),
            Source::Empty => self.ensure_empty(),
            Source::Dir(path) => in_place(path),
            Source::File(path) => self.ensure_file(path),
            Source::Image(image) => self.ensure_image(image),
            Source::Named(name) => match source::find(&self.dir, name)? {
                Found::Tiny => self.ensure_tiny(),
                Found::Dir(path) => in_place(&path),
                Found::File(path) => self.ensure_file(&path),
                Found::Layout(path) => self.ensure_layout(&path, None, None),
            },
        }
    }

    fn ensure_tiny(&self) -> Result<Template, TemplateError> {
        let (path, stamp) = busybox::stamp(&self.busybox)?;
        let key = key(&format!("tiny-{}", tiny::recipe()), path);
        if let Some(template) = self.known(&key, &stamp)? {
            return Ok(template);
        }
        let _lock = self.lock()?;
        let (program, stamp) = busybox::read(path)?;
        let digest = tiny::digest(&program);
        let name = format!("{TINY}{digest}");
        let skipped = Skipped::default();
        let mut record = Record { stamp, dir: name, digest, skipped, application: None };
        if self.open_own(&record)?.is_none() {
            let applets = busybox::applets(path)?;
            self.make(&record.dir, |root| {
                tiny::build(&mut Tree::new(root, self.own.as_fd()), &program, &applets)
                    .map_err(|problem| TemplateError::Tiny { source: Box::new(problem) })
            })?;
        }
        self.remember(key, &mut record)
    }

    fn ensure_empty(&self) -> Result<Template, TemplateError> {
        let digest = hex(&Sha256::digest(b""));
        let dir = format!("{EMPTY}{digest}");
        let record =
            Record { stamp: Stamp::never(), dir, digest, skipped: Skipped::default(), application: None };
        if let Some(template) = self.open_own(&record)? {
            return Ok(template);
        }
        let _lock = self.lock()?;
        if self.open_own(&record)?.is_none() {
            self.make(&record.dir, |_| Ok(()))?;
        }
        let gone = || TemplateError::io("open", &self.own_path.join(&record.dir), Errno::NOENT);
        self.open_own(&record)?.ok_or_else(gone)
    }

    fn ensure_file(&self, path: &Path) -> Result<Template, TemplateError> {
        // An error to open it is better told of by the open below.
        let key = key(FILE, path);
        if let Ok(stat) = rustix::fs::stat(path)
            && let Some(template) = self.known(&key, &Stamp::of(&stat))?
        {
            return Ok(template);
        }
        let _lock = self.lock()?;
        let (file, stat) = source::open_file(path)?;
        let stamp = Stamp::of(&stat);
        self.tally.reading("reading", &file);
        let digest = hash(&file, path)?;
        let name = format!("{FILE}{digest}");
        let skipped = self.index().of_dir(&name).map_or_else(Skipped::default, |known| known.skipped);
        let mut record = Record { stamp, dir: name, digest, skipped, application: None };
        if self.open_own(&record)?.is_none() {
            tracing::info!(archive = %path.display(), digest = record.digest, "unpacking a template");
            self.make(&record.dir, |root| {
                rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))
                    .map_err(|e| TemplateError::io("seek in", path, e))?;
                self.tally.reading("unpacking", &file);
                let (unpacked, skipped) =
                    unpack::unpack(&file, path, root, self.own.as_fd(), (&self.limits, 0))?;
                record.skipped = skipped;
                if unpacked == record.digest { Ok(()) } else { Err(TemplateError::Changed(path.to_owned())) }
            })?;
        }
        self.remember(key, &mut record)
    }

    /// A template that an index knows, if it still is there.
    pub(super) fn known(&self, key: &str, stamp: &Stamp) -> Result<Option<Template>, TemplateError> {
        let known = |index: &Index| index.find(key, stamp).cloned();
        let mut record = known(&self.index());
        if record.is_none() {
            // Another process may have made it. The index is replaced by renaming, so it can be read without the lock.
            let fresh = Index::read(self.own.as_fd());
            record = known(&fresh);
            *self.index() = fresh;
        }
        record.map_or(Ok(None), |record| self.open_own(&record))
    }

    /// Opens a directory of the store and takes a shared lock on it. `None` if it is not there.
    pub(super) fn open_own(&self, record: &Record) -> Result<Option<Template>, TemplateError> {
        let root = self.own_path.join(&record.dir);
        let failed = |op| move |e: io::Error| TemplateError::io(op, &self.own_path.join(&record.dir), e);
        if !is_own(record.dir.as_bytes()) {
            return Ok(None);
        }
        loop {
            let fd = match remove::open_dir(self.own.as_fd(), record.dir.as_bytes()) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                done => done.map_err(failed("open"))?,
            };
            flock(&fd, FlockOperation::LockShared).map_err(failed("lock"))?;
            // It may have been taken away between the two calls.
            let here = rustix::fs::fstat(&fd).map_err(|e| failed("stat")(e.into()))?;
            match rustix::fs::statat(&self.own, &record.dir, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) => {
                    let Record { digest, skipped, application, .. } = record.clone();
                    return Ok(Some(Template { root, digest, skipped, application, dir: Arc::new(fd) }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(e) => return Err(failed("stat")(e.into())),
            }
        }
    }

    /// Has `fill` make a root, and gives it its name when it is complete and on disk. The lock must be held.
    pub(super) fn make(
        &self,
        name: &str,
        fill: impl FnOnce(OwnedFd) -> Result<(), TemplateError>,
    ) -> Result<(), TemplateError> {
        let failed = |op| move |e: io::Error| TemplateError::io(op, &self.own_path.join(name), e);
        let (partial, fd) =
            remove::fresh_dir(self.own.as_fd(), PARTIAL).map_err(failed("make a directory for"))?;
        let filled = (|| {
            // In case the archive says nothing of its top directory. fchmod, as the umask may take bits away.
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(|e| failed("chmod")(e.into()))?;
            fill(fd.try_clone().map_err(failed("open"))?)?;
            rustix::fs::syncfs(&fd).map_err(|e| failed("sync")(e.into()))?;
            rustix::fs::renameat_with(&self.own, &partial, &self.own, name, RenameFlags::NOREPLACE)
                .and_then(|()| rustix::fs::fsync(&self.own))
                .map_err(|e| failed("rename the finished template to")(e.into()))
        })();
        if filled.is_err()
            && let Err(e) = remove::remove(self.own.as_fd(), partial.as_bytes(), self.own.as_fd())
            && e.kind() != io::ErrorKind::NotFound
        {
            // The next run under the lock tries again.
            tracing::warn!(error = %e, partial, "cannot remove an unfinished template");
        }
        filled
    }

    /// Writes down what was made, and opens it. The lock must be held, so it is there.
    pub(super) fn remember(&self, key: String, record: &mut Record) -> Result<Template, TemplateError> {
        if !record.stamp.settled(SystemTime::now()) {
            record.stamp = Stamp::never();
        }
        let mut index = Index::read(self.own.as_fd());
        index.insert(key, record.clone());
        self.save(index);
        let gone = || TemplateError::io("open", &self.own_path.join(&record.dir), Errno::NOENT);
        self.open_own(record)?.ok_or_else(gone)
    }

    /// Saves the index without the directories that are gone. It is a cache: that it can't be written is no error.
    pub(super) fn save(&self, mut index: Index) {
        index.retain(|dir| rustix::fs::statat(&self.own, dir, AtFlags::SYMLINK_NOFOLLOW).is_ok());
        if let Err(e) = index.write(self.own.as_fd()) {
            tracing::warn!(error = %e, store = %self.own_path.display(), "cannot write the index of templates");
        }
        *self.index() = index;
    }

    /// Waits for the store's lock, and clears away what a killed run left.
    pub(super) fn lock(&self) -> Result<OwnedFd, TemplateError> {
        let path = || self.own_path.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.own, "lock", flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| TemplateError::io("open", &path(), e))?;
        flock(&fd, FlockOperation::LockExclusive).map_err(|e| TemplateError::io("lock", &path(), e))?;
        let own = self.own.as_fd();
        let names = remove::names(own).map_err(|e| TemplateError::io("list", &self.own_path, e))?;
        for name in
            names.iter().filter(|n| n.starts_with(PARTIAL.as_bytes()) || n.starts_with(TRASH.as_bytes()))
        {
            // It is in nobody's way; only its space is lost until the next try.
            if let Err(e) = remove::remove(own, name, own) {
                tracing::warn!(error = %e, name = %String::from_utf8_lossy(name), "cannot remove a leftover");
            }
        }
        Ok(fd)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // It is replaced as a whole, so a panic elsewhere leaves it sound.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a name in `.store` is that of a finished template.
pub(super) fn is_own(name: &[u8]) -> bool {
    let digest = [FILE, TINY, EMPTY, IMAGE].iter().find_map(|kind| name.strip_prefix(kind.as_bytes()));
    digest.is_some_and(|d| d.len() == 64 && d.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// A directory of the operator's.
fn in_place(path: &Path) -> Result<Template, TemplateError> {
    let (fd, stat) = source::open_dir(path)?;
    let mut hash = Sha256::new();
    hash.update(format!("vzd-dir\0{}\0{}\0", stat.st_dev, stat.st_ino));
    hash.update(path.as_os_str().as_bytes());
    let digest = hex(&hash.finalize());
    let (skipped, dir) = (Skipped::default(), Arc::new(fd));
    Ok(Template { root: path.to_owned(), digest, skipped, application: None, dir })
}

/// SHA-256 of a file from its beginning, in hexadecimal digits.
pub(super) fn hash(mut file: &File, path: &Path) -> Result<String, TemplateError> {
    io::Seek::rewind(&mut file).map_err(|e| TemplateError::io("seek in", path, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(TemplateError::io("read", path, e)),
        }
    }
}

/// Locks an open file; waits through signals.
pub(super) fn flock(fd: &OwnedFd, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(fd, operation) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}
