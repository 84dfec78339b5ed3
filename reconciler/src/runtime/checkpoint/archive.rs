//! A checkpoint packed into one file, and back: a tar archive for root alone, its list of contents first.
//!
//! Such a file is a copy. It is of use for exactly the checkpoint that it is a copy of: the list of contents stays with
//! the VE and goes when the VE has been resumed, so that no file can bring a VE back twice, or onto another disk.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::contents::{LARGEST_LIST, LIST};
use super::image::Image;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint in `ve/checkpoint`, and the whole of what is around it.
    fn place() -> (tempfile::TempDir, Image) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ve")).unwrap();
        let image = Image::lock(&dir.path().join("ve/checkpoint")).unwrap();
        image.make(None).unwrap();
        for (name, content) in [("core-1.img", "core"), ("pages-1.img", "pages")] {
            std::fs::write(image.dir().join(name), content).unwrap();
        }
        image.seal(super::super::image::tests::contents(), false).unwrap();
        (dir, image)
    }

    /// A copy with an entry more, or with another one of that name.
    fn with(image: &Image, name: &str, kind: tar::EntryType, link: &str) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let list = std::fs::read(image.dir().join(LIST)).unwrap();
        let mut add = |name: &str, kind, link: &str, content: &[u8]| {
            let mut header = tar::Header::new_old();
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            tar.append(&header, content).unwrap();
        };
        add(LIST, tar::EntryType::Regular, "", &list);
        add("core-1.img", tar::EntryType::Regular, "", b"core");
        add(name, kind, link, if kind.is_file() { b"evil" } else { b"" });
        tar.into_inner().unwrap()
    }

    fn all(dir: &Path) -> BTreeSet<std::path::PathBuf> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                found.extend(all(&path));
            }
            found.insert(path);
        }
        found
    }

    #[test]
    fn a_copy_comes_back_and_names_that_lead_elsewhere_do_not() {
        let (dir, image) = place();
        let copy = dir.path().join("copy");
        let at = image.dir().to_owned();
        drop(image);
        pack(&at, &copy).unwrap();
        std::fs::write(at.join("core-1.img"), "torn").unwrap();
        unpack(&copy, &at).unwrap();
        assert_eq!(std::fs::read_to_string(at.join("core-1.img")).unwrap(), "core");
        let evil = dir.path().join("evil").display().to_string();
        let (file, link) = (tar::EntryType::Regular, tar::EntryType::Symlink);
        for (name, kind, to) in [
            ("../evil", file, ""),
            ("../../evil", file, ""),
            (&*evil, file, ""),
            ("./core-1.img", file, ""),
            ("more.img", file, ""),
            // Named twice.
            ("core-1.img", file, ""),
            (LIST, file, ""),
            ("pages-1.img", link, &evil),
            ("pages-1.img", tar::EntryType::Link, &evil),
            ("pages-1.img", tar::EntryType::Directory, ""),
            ("pages-1.img", tar::EntryType::Fifo, ""),
        ] {
            let image = Image::lock(&at).unwrap();
            std::fs::write(&copy, with(&image, name, kind, to)).unwrap();
            drop(image);
            let before = all(dir.path());
            let refused = unpack(&copy, &at).unwrap_err().to_string();
            assert!(refused.contains("does not belong to it"), "{name}: {refused}");
            assert_eq!(all(dir.path()), before, "{name}");
            assert_eq!(std::fs::read_to_string(at.join("pages-1.img")).unwrap(), "pages", "{name}");
        }
    }
}
