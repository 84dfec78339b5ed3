//! The files in a checkpoint's directory: what they may be called, where they are. A name leads to a file in that directory, or in
//! that of a round that was written ahead, and nowhere else.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{ahead, packed};
use crate::error::{At, SysError, SysResult};

/// The round, with its directory, and the file that a name means; none if it leads elsewhere.
pub(super) fn parse(name: &str) -> Option<(Option<(&str, u32)>, &str)> {
    let (round, file) = match name.split_once('/') {
        Some((directory, file)) => (Some((directory, ahead::round_of(directory)?)), file),
        None => (None, name),
    };
    is_plain(file).then_some((round, file))
}

/// Whether a name is one of a file in a directory itself, whatever that is joined to.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// Whether a file of CRIU's is nothing but what was in memory.
pub(super) fn is_pages(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|file| file.starts_with("pages-"))
}

/// CRIU's files, those that were written ahead too, by name.
pub(super) fn images(dir: &Path) -> SysResult<BTreeMap<String, PathBuf>> {
    let mut images = list(dir)?;
    for round in (1..).map(ahead::directory) {
        let path = dir.join(&round);
        if !std::fs::symlink_metadata(&path).is_ok_and(|is| is.is_dir()) {
            break;
        }
        images.extend(list(&path)?.into_iter().map(|(name, path)| (format!("{round}/{name}"), path)));
    }
    Ok(images)
}

/// CRIU's files in a directory, by name.
pub(super) fn list(dir: &Path) -> SysResult<BTreeMap<String, PathBuf>> {
    let mut images = BTreeMap::new();
    for entry in std::fs::read_dir(dir).at("list", dir.display())? {
        let path = entry.at("list", dir.display())?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if packed::plain(&name).unwrap_or(&name).ends_with(".img") {
            // A link would lead out of it, to what may be another thing when CRIU opens it.
            if !std::fs::symlink_metadata(&path).at("stat", path.display())?.is_file() {
                return Err(SysError::refused("use", path.display(), "it is no file"));
            }
            images.insert(name, path);
        }
    }
    Ok(images)
}

pub(super) fn mode_of(path: &Path) -> SysResult<u32> {
    Ok(std::fs::metadata(path).at("stat", path.display())?.permissions().mode() & 0o777)
}

/// Makes a directory in one that nobody else gets into.
pub(super) fn make_open(dir: &Path) -> SysResult<()> {
    std::fs::DirBuilder::new().mode(0o755).create(dir).at("make directory", dir.display())
}
