//! A checkpoint packed into one file, and back: a tar archive for root alone, its list of contents first.
//!
//! Such a file is a copy. It is of use for exactly the checkpoint that it is a copy of: the list of contents stays with
//! the VE and goes when the VE has been resumed, so that no file can bring a VE back twice, or onto another disk.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::image::{Image, LARGEST_LIST, LIST};
use crate::error::{At, SysError, SysResult};

/// Packs the checkpoint in `dir`. What is called `to` is replaced, once the new one is whole.
pub fn pack(dir: &Path, to: &Path) -> SysResult<()> {
    let image = Image::lock(dir)?;
    let new = to.with_added_extension("new");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
    let mut tar = tar::Builder::new(file.at("create", new.display())?);
    let mut parts = image.parts()?;
    // The list is the last of them.
    parts.rotate_right(1);
    let packed = parts.iter().try_for_each(|(name, path, mode)| {
        let mut part = File::open(path).at("open", path.display())?;
        let mut header = tar::Header::new_gnu();
        header.set_size(part.metadata().at("stat", path.display())?.len());
        header.set_mode(*mode);
        tar.append_data(&mut header, name, &mut part).at("write", new.display())
    });
    let whole = packed.and_then(|()| {
        let file = tar.into_inner().at("write", new.display())?;
        file.sync_all().at("write to disk", new.display())?;
        std::fs::rename(&new, to).at("rename", new.display())
    });
    whole.inspect_err(|_| drop(std::fs::remove_file(&new)))
}

/// Puts the files of the checkpoint in `dir` back as they are in `from`, which has to be a copy of that very one.
pub fn unpack(from: &Path, dir: &Path) -> SysResult<()> {
    let image = Image::lock(dir)?;
    let refuse = |why: &str| Err(SysError::refused("use", from.display(), why));
    let mut tar = tar::Archive::new(File::open(from).at("open", from.display())?);
    let mut entries = tar.entries().at("read", from.display())?;
    let mut list = Vec::new();
    match entries.next() {
        Some(Ok(first)) if first.path_bytes()[..] == *LIST.as_bytes() => {
            first.take(LARGEST_LIST).read_to_end(&mut list).at("read", from.display())?;
        }
        _ => return refuse("it is no checkpoint"),
    }
    let own = image.dir().join(LIST);
    if list != std::fs::read(&own).at("read", own.display())? {
        return refuse("it is not of this suspension: the VE has run since, or is another one");
    }
    let mut known: BTreeSet<String> = image.names()?;
    for entry in entries {
        let mut entry = entry.at("read", from.display())?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() || !known.remove(&name) {
            return refuse(&format!("{name} does not belong to it"));
        }
        let new = image.dir().join("part.new");
        let mode = entry.header().mode().at("read", from.display())? & 0o777;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(mode).open(&new);
        let mut file = file.at("create", new.display())?;
        std::io::copy(&mut entry, &mut file).at("write", new.display())?;
        std::fs::rename(&new, image.dir().join(&name)).at("rename", new.display())?;
    }
    Ok(())
}
