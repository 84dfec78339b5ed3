//! Frames of a conversation that are put together and compressed (zstd), for links that are slow. Each batch is by itself and of a
//! bounded size, so that neither end ever holds more than one, whatever the other one says.
//!
//! Knows nothing of what the frames say.

use zstd::bulk::{Compressor, Decompressor};

use crate::error::{At, SysResult};
use crate::handover::link::{HEAD, LARGEST};

/// What a frame is that has other frames in it.
pub(super) const PACKED: u8 = b'z';
/// A batch goes when it is of so many bytes: little more would be found in a larger one.
const FULL: usize = 1 << 20;
const LARGEST_BATCH: usize = FULL + HEAD + LARGEST as usize;
const LEVEL: i32 = 3;

/// Frames that wait to be sent.
pub(super) struct Batch {
    frames: Vec<u8>,
    /// How much of the VE they are, in bytes.
    bytes: u64,
    compressor: Compressor<'static>,
}

impl Batch {
    pub(super) fn new() -> SysResult<Self> {
        let compressor = Compressor::new(LEVEL).at("compress", "what is sent")?;
        Ok(Batch { frames: Vec::new(), bytes: 0, compressor })
    }

    /// Adds a frame, in parts, of so many bytes of the VE. Whether it is to go now.
    pub(super) fn add<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>, bytes: u64) -> bool {
        parts.for_each(|part| self.frames.extend_from_slice(part));
        self.bytes += bytes;
        self.frames.len() >= FULL
    }

    /// What is to be sent of it, and how much of the VE that is; it is empty then. As it is, where compressing made it no smaller.
    pub(super) fn take(&mut self) -> SysResult<(Vec<u8>, u64)> {
        let (frames, bytes) = (std::mem::take(&mut self.frames), std::mem::take(&mut self.bytes));
        let packed = self.compressor.compress(&frames).at("compress", "what is sent")?;
        match u32::try_from(packed.len()) {
            Ok(length) if packed.len() + HEAD < frames.len() => {
                Ok(([&[PACKED][..], &length.to_be_bytes(), &packed].concat(), bytes))
            }
            _ => Ok((frames, bytes)),
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("bytes", &self.frames.len()).finish_non_exhaustive()
    }
}

/// The frames in a batch. None if it is none, or is of more than one may be: no more than that is ever made of it.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    Decompressor::new().ok()?.decompress(packed, LARGEST_BATCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_batch_is_made_of_one() {
        let zeros = |bytes| zstd::bulk::compress(&vec![0; bytes], 1).unwrap();
        assert_eq!(unpack(&zeros(LARGEST_BATCH)).unwrap().len(), LARGEST_BATCH);
        assert!(unpack(&zeros(LARGEST_BATCH + 1)).is_none());
        // One that does not say how much it is of.
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 1 << 30), &mut encoder).unwrap();
        assert!(unpack(&encoder.finish().unwrap()).is_none());
        assert!(unpack(b"nonsense").is_none());
    }
}
