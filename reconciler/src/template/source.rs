//! Finds and checks what an operator names as a template.
//!
//! Whoever can write to a template decides what runs in every VE made of it, so it must belong to root (or to the
//! user that vzd runs as) and must not be writable by others. Nothing is written here.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::TemplateError;
use super::oci::is_layout;

const NAMED: &str = "named";
const SUFFIXES: [&str; 4] = [".tar.zst", ".tar.xz", ".tar.gz", ".tar"];

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Tiny,
    Dir(PathBuf),
    File(PathBuf),
    /// A directory that is a layout of one OCI image.
    Layout(PathBuf),
}

/// Looks a name up in the templates directory `dir`: `named/<name>`, `<name>`, then `<name>.tar.zst`, `.xz`, `.gz`
/// and plain `.tar`. The first that exists counts.
pub(super) fn find(dir: &Path, name: &str) -> Result<Found, TemplateError> {
    if name == "tiny" {
        return Ok(Found::Tiny);
    }
    checked_name(name)?;
    let named = dir.join(NAMED).join(name);
    if file_type(&named)?.is_some() {
        return Ok(directory(named));
    }
    let plain = dir.join(name);
    match file_type(&plain)? {
        Some(FileType::RegularFile) => return Ok(Found::File(plain)),
        Some(_) if name != NAMED => return Ok(directory(plain)),
        _ => {}
    }
    for suffix in SUFFIXES {
        let archive = dir.join(format!("{name}{suffix}"));
        if file_type(&archive)?.is_some() {
            return Ok(Found::File(archive));
        }
    }
    Err(TemplateError::UnknownName { name: name.to_owned(), dir: dir.to_owned(), known: names(dir) })
}

fn directory(path: PathBuf) -> Found {
    if is_layout(&path) { Found::Layout(path) } else { Found::Dir(path) }
}

/// Refuses what cannot be a template's name.
pub(super) fn checked_name(name: &str) -> Result<(), TemplateError> {
    if is_name(name) { Ok(()) } else { Err(TemplateError::BadName(name.to_owned())) }
}

/// The names that `find` would find, sorted.
pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names = vec!["tiny".to_owned()];
    for (folder, archives) in [(dir.to_owned(), true), (dir.join(NAMED), false)] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            let stem =
                SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|_| archives && !is_dir);
            match stem {
                Some(stem) if is_name(stem) => names.push(stem.to_owned()),
                None if is_dir && is_name(&name) && name != NAMED => names.push(name),
                _ => {}
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

/// A directory that serves in place.
pub(super) fn open_dir(path: &Path) -> Result<(OwnedFd, Stat), TemplateError> {
    absolute(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| match e {
        Errno::NOTDIR | Errno::LOOP => unfit(path, "it is not a directory (a symlink is not followed)"),
        e => TemplateError::io("open template directory", path, e),
    })?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| TemplateError::io("stat", path, e))?;
    trusted(path, &stat)?;
    Ok((fd, stat))
}

/// A regular file: an archive, or busybox.
pub(super) fn open_file(path: &Path) -> Result<(File, Stat), TemplateError> {
    absolute(path)?;
    // Non-blocking, or the open of a fifo waits for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| TemplateError::io("open", path, e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| TemplateError::io("stat", path, e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unfit(path, "it is not a regular file"));
    }
    trusted(path, &stat)?;
    Ok((File::from(fd), stat))
}

/// Owned by root or this process's user, and writable by no one else.
pub(super) fn trusted(path: &Path, stat: &Stat) -> Result<(), TemplateError> {
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != me {
        return Err(unfit(path, "it does not belong to root"));
    }
    if stat.st_mode & 0o002 != 0 || (stat.st_mode & 0o020 != 0 && stat.st_gid != 0) {
        return Err(unfit(path, "others can write to it"));
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<(), TemplateError> {
    if path.is_absolute() { Ok(()) } else { Err(unfit(path, "the path is not absolute")) }
}

fn unfit(path: &Path, why: &'static str) -> TemplateError {
    TemplateError::Unfit { path: path.to_owned(), why }
}

fn file_type(path: &Path) -> Result<Option<FileType>, TemplateError> {
    match rustix::fs::statat(CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(TemplateError::io("stat", path, io::Error::from(e))),
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    name.len() <= 128 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        for good in ["debian-12", "centos-6-x86_64", "a", "9front", "x.y+z"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".store", "a/b", "../a", "-x", "a b", "ä", &"x".repeat(129)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
