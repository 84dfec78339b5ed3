//! What the content of a checkpoint's file is known by.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
            Self::Now { bytes, .. } | Self::Before { bytes, .. } => *bytes,
        }
    }

    /// Of a file as it is.
    pub(super) fn of(path: &Path) -> SysResult<Self> {
        let mut hash = blake3::Hasher::new();
        let bytes = read_all(path, |piece| {
            hash.update(piece);
        })?;
        Ok(Self::Now { bytes, blake3: hash.finalize().to_hex().to_string() })
    }

    /// Whether a file is as it was.
    pub(super) fn is_of(&self, path: &Path) -> SysResult<bool> {
        let found = match self {
            Self::Now { .. } => Self::of(path)?,
            Self::Before { .. } => {
                let mut hash = Sha256::new();
                let bytes = read_all(path, |piece| hash.update(piece))?;
                Self::Before { bytes, sha256: hex(&hash.finalize()) }
            }
        };
        Ok(found == *self)
    }
}

/// The sums of CRIU's files, each of which is on disk when this is done.
pub(super) fn sums(images: BTreeMap<String, PathBuf>) -> SysResult<BTreeMap<String, Sum>> {
    let sync = |path: &PathBuf| File::open(path).and_then(|file| file.sync_data()).at("sync", path.display());
    // The disk works while the processor does.
    std::thread::scope(|scope| {
        let synced = scope.spawn(|| images.values().try_for_each(sync));
        let sums = images.iter().map(|(name, path)| Ok((name.clone(), Sum::of(path)?))).collect();
        let panicked = |_| Err(SysError::refused("sync", "checkpoint", "the thread panicked"));
        synced.join().unwrap_or_else(panicked)?;
        sums
    })
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
