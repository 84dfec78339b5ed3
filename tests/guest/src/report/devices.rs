//! Device nodes below a directory. Must not open any of them: opening some devices does something.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::Serialize;

/// A device node or symbolic link.
#[derive(Serialize)]
pub(crate) struct Node {
    pub(crate) path: String,
    /// `c`, `b` or `l`.
    pub(crate) kind: char,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    mode: String,
    owner: String,
}

/// Every device node and link below `directory`, which isn't left through links.
pub(crate) fn under(directory: &str) -> Vec<Node> {
    let mut found = Vec::new();
    visit(Path::new(directory), 0, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn visit(directory: &Path, depth: usize, found: &mut Vec<Node>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(data) = std::fs::symlink_metadata(&path) else { continue };
        let kind = data.file_type();
        let letter = match () {
            () if kind.is_dir() && depth < 8 => {
                visit(&path, depth + 1, found);
                continue;
            }
            () if kind.is_char_device() => 'c',
            () if kind.is_block_device() => 'b',
            () if kind.is_symlink() => 'l',
            () => continue,
        };
        let device = data.rdev();
        found.push(Node {
            kind: letter,
            number: (letter != 'l').then(|| format!("{}:{}", libc::major(device), libc::minor(device))),
            target: std::fs::read_link(&path).ok().map(|target| target.to_string_lossy().into_owned()),
            mode: format!("{:04o}", data.mode() & 0o7777),
            owner: format!("{}:{}", data.uid(), data.gid()),
            path: path.to_string_lossy().into_owned(),
        });
    }
}
