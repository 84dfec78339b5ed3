//! Files of the template that have several names. overlayfs notes in its index that one of them was changed or removed, so that
//! the others follow; beside another host's template that note means nothing. So before the last round the VE's own layer is
//! made to have all of their names, by the kernel itself: as when a program opens each to write to it.
//!
//! Only for a VE that is down. What it holds is hostile: nothing in it is followed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use vzd_state::lower::lower_entry;

use super::send::is_opaque;
use crate::drivers::Ve;
use crate::drivers::disk::host_mount;
use crate::engine::host_device;
use crate::error::{At, SysError, SysResult};
use crate::kernel::handle::Handle;

/// In what an entry of the index is called, as bytes: where the handle's kind is, and where its bytes begin
/// (`struct ovl_fb` of fs/overlayfs/overlayfs.h).
const KIND: usize = 4;
const BYTES: usize = 21;

/// The template's files of several names that the VE has changed, or removed under some of them.
fn changed(layers: &Path) -> SysResult<HashSet<Handle>> {
    let index = layers.join("work/index");
    let mut changed = HashSet::new();
    let entries = match std::fs::read_dir(&index) {
        // It has not run yet.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(changed),
        other => other.at("list", index.display())?,
    };
    for entry in entries {
        let entry = entry.at("list", index.display())?;
        // Others are marks for files that are gone under all of their names.
        if entry.file_type().at("stat", entry.path().display())?.is_file() {
            changed.extend(handle(&entry.file_name()));
        }
    }
    Ok(changed)
}

/// The handle that an entry of the index is called after.
fn handle(name: &OsStr) -> Option<Handle> {
    let digits = name.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<_>>()?;
    Some(Handle { kind: i32::from(*bytes.get(KIND)?), bytes: bytes.get(BYTES..)?.to_vec() })
}

/// Whether there are any whose names count.
pub(super) fn any(layers: &Path) -> SysResult<bool> {
    Ok(!changed(layers)?.is_empty())
}

/// Names of such files that the VE has, and that are in the template alone.
fn untold(layers: &Path, template: &Path) -> SysResult<Vec<PathBuf>> {
    let changed = changed(layers)?;
    let mut names = Vec::new();
    if !changed.is_empty() {
        below(template, Path::new(""), &mut |name| {
            if changed.contains(&Handle::of(&template.join(name))?) && !is_told(&layers.join("upper"), name)?
            {
                names.push(name.to_owned());
            }
            Ok(())
        })?;
    }
    Ok(names)
}

/// Each file of several names, by each of them.
fn below(top: &Path, path: &Path, found: &mut dyn FnMut(&Path) -> SysResult<()>) -> SysResult<()> {
    let dir = top.join(path);
    for entry in std::fs::read_dir(&dir).at("list", dir.display())? {
        let entry = entry.at("list", dir.display())?;
        let is = entry.metadata().at("stat", entry.path().display())?;
        let path = path.join(entry.file_name());
        if is.is_dir() {
            below(top, &path, found)?;
        } else if is.is_file() && is.nlink() > 1 {
            found(&path)?;
        }
    }
    Ok(())
}

/// Whether the VE's own layer says what is to be found under that name, or that nothing is.
fn is_told(upper: &Path, name: &Path) -> SysResult<bool> {
    let (mut at, mut hides_all) = (upper.to_owned(), false);
    for part in name.components() {
        at.push(part);
        match std::fs::symlink_metadata(&at) {
            Ok(is) if is.is_dir() => hides_all |= is_opaque(&at)?,
            // A file, or a mark for one that is gone.
            Ok(_) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(hides_all),
            Err(e) => return Err(SysError::new("stat", at.display(), e)),
        }
    }
    Ok(true)
}

/// Has the VE's own layer, which lies in `layers`, say all that the index knows.
pub(super) fn tell(ve: Ve<'_>, layers: &Path) -> SysResult<()> {
    let template = ve.host.ve_dir(&ve.entry.uid).join("lower");
    let template = std::fs::read_link(&template).at("read", template.display())?;
    let names = untold(layers, &template)?;
    if names.is_empty() {
        return Ok(());
    }
    let refused = |why: &str| SysError::refused("send", format_args!("VE {}", ve.entry.name), why);
    let want =
        lower_entry(ve.entry, &host_device).map_err(|_| refused("its record cannot be carried out"))?;
    host_mount::within(ve, &want, |root| names.iter().try_for_each(|name| have_copied(root, name)))?;
    match untold(layers, &template)?.first() {
        None => Ok(()),
        Some(name) => Err(refused(&format!(
            "/{} is another name of a file that was changed, and stays in the template",
            name.display()
        ))),
    }
}

/// overlayfs copies what is opened to be written to, and knows the copy of another name.
fn have_copied(root: &OwnedFd, name: &Path) -> SysResult<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let opened = rustix::fs::openat2(root, name, flags, Mode::empty(), within);
    opened.map(drop).at("open", name.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_index_is_called_after_a_handle() {
        let name = "00fb1d0001f1af6b8d2b0a4a6e8e7a3f7a52d1c0ff0c0000007b9a1e55";
        let found = handle(OsStr::new(name)).unwrap();
        assert_eq!((found.kind, found.bytes), (1, vec![0x0c, 0, 0, 0, 0x7b, 0x9a, 0x1e, 0x55]));
        assert_eq!(handle(OsStr::new("00fb1d")), None);
        assert_eq!(handle(OsStr::new("incomplete#name")), None);
    }

    #[test]
    fn what_the_own_layer_says_or_hides_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let upper = dir.path();
        std::fs::create_dir_all(upper.join("a/b")).unwrap();
        std::fs::write(upper.join("a/b/own"), "").unwrap();
        std::fs::write(upper.join("file"), "").unwrap();
        let told = |name: &str| is_told(upper, Path::new(name)).unwrap();
        assert_eq!(["a/b/own", "file", "file/below"].map(told), [true; 3]);
        assert_eq!(["a/b/other", "a/other/own", "other"].map(told), [false; 3]);
    }
}
