//! Whether an unpacked root still is what its archive or image holds: that is unpacked once more beside it, and the two are
//! compared, file by file.
//!
//! Must not change either, and must leave nothing of the second.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::Template;
use super::error::TemplateError;
use super::remove;
use super::store::{PARTIAL, Store};

/// Deeper roots are refused: two descriptors are open for each level.
const DEEPEST: usize = 200;

impl Store {
    /// Compares a template with what `unpack` makes of the same source now.
    pub(super) fn verify_root(
        &self,
        template: &Template,
        unpack: impl FnOnce(OwnedFd) -> Result<(), TemplateError>,
    ) -> Result<(), TemplateError> {
        let _lock = self.lock()?;
        let own = self.own.as_fd();
        let failed = |op| move |e: io::Error| TemplateError::io(op, &self.own_path, e);
        let (partial, fd) = remove::fresh_dir(own, PARTIAL).map_err(failed("make a directory in"))?;
        let compared = (|| {
            // As when it was made.
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(|e| failed("chmod in")(e.into()))?;
            unpack(fd.try_clone().map_err(failed("open"))?)?;
            let mut place = PathBuf::from("/");
            match difference(template.dir(), fd.as_fd(), &mut place, 0) {
                Ok(None) => Ok(()),
                Ok(Some(what)) => {
                    Err(TemplateError::Differs { root: template.root.clone(), path: place, what })
                }
                Err(e) => Err(TemplateError::io(
                    "compare",
                    &template.root.join(place.strip_prefix("/").unwrap_or(&place)),
                    e,
                )),
            }
        })();
        remove::remove(own, partial.as_bytes(), own).map_err(failed("remove a directory in"))?;
        compared
    }
}

/// What is first found to differ, and where: `place` is left there.
fn difference(
    is: BorrowedFd<'_>,
    should: BorrowedFd<'_>,
    place: &mut PathBuf,
    depth: usize,
) -> io::Result<Option<&'static str>> {
    if depth > DEEPEST {
        return Err(io::Error::other("it is deeper than 200 directories"));
    }
    let names = names(should)?;
    if self::names(is)? != names {
        return Ok(Some("it has other entries"));
    }
    for name in names {
        place.push(std::ffi::OsStr::from_bytes(name.as_bytes()));
        if let Some(what) = entry(is, should, &name, place, depth)? {
            return Ok(Some(what));
        }
        place.pop();
    }
    Ok(None)
}

fn entry(
    is: BorrowedFd<'_>,
    should: BorrowedFd<'_>,
    name: &CString,
    place: &mut PathBuf,
    depth: usize,
) -> io::Result<Option<&'static str>> {
    let stat = |dir| rustix::fs::statat(dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW);
    let (a, b): (Stat, Stat) = (stat(is)?, stat(should)?);
    if (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid) {
        return Ok(Some("its type, mode or owner is another"));
    }
    let open = |dir, flags| {
        rustix::fs::openat(dir, name.as_c_str(), flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    };
    match FileType::from_raw_mode(a.st_mode) {
        FileType::Directory => {
            let open = |dir| open(dir, OFlags::RDONLY | OFlags::DIRECTORY);
            let (a, b): (OwnedFd, OwnedFd) = (open(is)?, open(should)?);
            difference(a.as_fd(), b.as_fd(), place, depth + 1)
        }
        FileType::Symlink => {
            let target = |dir| rustix::fs::readlinkat(dir, name.as_c_str(), Vec::new());
            Ok((target(is)? != target(should)?).then_some("it leads elsewhere"))
        }
        FileType::RegularFile if a.st_size != b.st_size => Ok(Some("its size is another")),
        FileType::RegularFile => {
            let open = |dir| open(dir, OFlags::RDONLY).map(File::from);
            Ok((!same(&open(is)?, &open(should)?)?).then_some("its content is another"))
        }
        _ => Ok(None),
    }
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn same(a: &File, b: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let (mut left, mut right) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    let mut at = 0;
    loop {
        let n = a.read_at(&mut left, at)?;
        if n == 0 {
            return Ok(true);
        }
        b.read_exact_at(&mut right[..n], at)?;
        if left[..n] != right[..n] {
            return Ok(false);
        }
        at += n as u64;
    }
}
