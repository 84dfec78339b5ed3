//! Trees of files to make containers of and to unpack. Must be the same for everybody and in each run.

use std::fs;
use std::path::Path;

use crate::result::{Context, Result};

const DIRECTORIES: usize = 100;

/// Fills a directory with so many files of so many bytes, whose content no file system can make smaller.
pub(crate) fn grow(top: &Path, files: usize, bytes: usize) -> Result<()> {
    let mut state = 1_u64;
    let mut content = vec![0_u8; bytes];
    for file in 0..files {
        for piece in content.chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
        }
        let directory = top.join(format!("d{}", file % DIRECTORIES));
        fs::create_dir_all(&directory).context(directory.display())?;
        let path = directory.join(format!("f{file}"));
        fs::write(&path, &content).context(path.display())?;
    }
    Ok(())
}

/// Bytes of disk that a tree takes; what is removed meanwhile takes none.
pub(crate) fn allocated(top: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    /// Of `st_blocks`.
    const SECTOR: u64 = 512;
    let Ok(data) = fs::symlink_metadata(top) else { return 0 };
    let below = if data.is_dir() { fs::read_dir(top).ok() } else { None };
    let entries = below.into_iter().flatten().flatten();
    data.blocks() * SECTOR + entries.map(|entry| allocated(&entry.path())).sum::<u64>()
}
