//! What the content of a checkpoint's file is known by.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::is_pages;
use super::packed;
use crate::error::{At, SysError, SysResult};
use crate::template::index::hex;

/// A file's length and content. While it is summed the VE stands still, so that the function is a fast one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Sum {
    /// As it is written.
    Now {
        /// Length.
        bytes: u64,
        /// In hexadecimal digits.
        blake3: String,
    },
    /// A compressed file, by what is on disk.
    Packed {
        /// Length.
        bytes: u64,
        /// In hexadecimal digits.
        blake3: String,
        /// How much it is of.
        plain: u64,
    },
    /// Of format 1.
    Before {
        /// Length.
        bytes: u64,
        /// In hexadecimal digits.
        sha256: String,
    },
}

impl Sum {
    /// Its length.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Now { bytes, .. } | Self::Packed { bytes, .. } | Self::Before { bytes, .. } => *bytes,
        }
    }

    /// How much a compressed file is of.
    pub(super) fn plain(&self) -> Option<u64> {
        match self {
            Self::Packed { plain, .. } => Some(*plain),
            Self::Now { .. } | Self::Before { .. } => None,
        }
    }

    /// Of a file as it is.
    pub(super) fn of(path: &Path) -> SysResult<Self> {
        let (bytes, blake3) = blake3_of(path)?;
        Ok(Self::Now { bytes, blake3 })
    }

    /// Whether a file is as it was.
    pub(super) fn is_of(&self, path: &Path) -> SysResult<bool> {
        let found = match self {
            Self::Now { .. } => Self::of(path)?,
            Self::Packed { plain, .. } => {
                let (bytes, blake3) = blake3_of(path)?;
                Self::Packed { bytes, blake3, plain: *plain }
            }
            Self::Before { .. } => {
                let mut hash = Sha256::new();
                let bytes = read_all(path, |piece| hash.update(piece))?;
                Self::Before { bytes, sha256: hex(&hash.finalize()) }
            }
        };
        Ok(found == *self)
    }
}

/// The sums of CRIU's files, each of which is on disk when this is done. What was in memory is compressed if that is wanted, and
/// has another name then.
pub(super) fn sums(
    mut images: BTreeMap<String, PathBuf>,
    compress: bool,
) -> SysResult<BTreeMap<String, Sum>> {
    let mut sums = BTreeMap::new();
    let pages: Vec<_> = images.keys().filter(|name| compress && is_pages(name)).cloned().collect();
    for name in pages {
        if let Some(sum) = packed::pack(&images[&name])? {
            images.remove(&name);
            sums.insert(packed::packed(&name), sum);
        }
    }
    let sync = |path: &PathBuf| File::open(path).and_then(|file| file.sync_data()).at("sync", path.display());
    // The disk works while the processor does.
    std::thread::scope(|scope| {
        let synced = scope.spawn(|| images.values().try_for_each(sync));
        let of = |(name, path): (&String, &PathBuf)| Ok((name.clone(), Sum::of(path)?));
        let plain: SysResult<Vec<_>> = images.iter().map(of).collect();
        let panicked = |_| Err(SysError::refused("sync", "checkpoint", "the thread panicked"));
        synced.join().unwrap_or_else(panicked)?;
        sums.extend(plain?);
        Ok(sums)
    })
}

fn blake3_of(path: &Path) -> SysResult<(u64, String)> {
    let mut hash = blake3::Hasher::new();
    let bytes = read_all(path, |piece| {
        hash.update(piece);
    })?;
    Ok((bytes, hash.finalize().to_hex().to_string()))
}

/// Gives all of a file's content; returns its length.
fn read_all(path: &Path, mut piece_by_piece: impl FnMut(&[u8])) -> SysResult<u64> {
    let mut file = File::open(path).at("open", path.display())?;
    let (mut bytes, mut piece) = (0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece).at("read", path.display())? {
            0 => return Ok(bytes),
            n => {
                piece_by_piece(&piece[..n]);
                bytes += n as u64;
            }
        }
    }
}
