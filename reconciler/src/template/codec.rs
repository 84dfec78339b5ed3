//! Tells how an archive is compressed, by its first bytes, and unpacks that.
//!
//! The name of a file says nothing here. Memory is bounded: the file chooses the size of a decoder's window.

use std::io::{BufReader, Read};

use super::error::Problem;

/// What xz may take. `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;
/// The largest zstd window, as a power of two: 128 MiB, `zstd`'s own default bound.
const ZSTD_WINDOW: u32 = 27;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// Not at all: it starts with a tar header.
    Plain,
    /// gzip, of one member or many.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// Judges by the first bytes of a file; 512 are enough.
    pub(super) fn of(head: &[u8]) -> Result<Self, Problem> {
        Ok(match head {
            [] => return Err(Problem::Format("the file is empty")),
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // The second is a skippable frame, which pzstd writes first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => return Err(Problem::Format("bzip2 is not supported")),
            [b'h', b's', b'q', b's', ..] => {
                return Err(Problem::Format("a squashfs image is not an archive"));
            }
            [b'Q', b'F', b'I', 0xfb, ..] => return Err(Problem::Format("a disk image is not an archive")),
            [b'P', b'K', 3, 4, ..] => return Err(Problem::Format("zip is not supported")),
            // The header's checksum will tell.
            _ => Self::Plain,
        })
    }

    /// A reader of what `raw` holds.
    pub(super) fn reader<'a, R: Read + 'a>(self, raw: R) -> Result<Box<dyn Read + 'a>, Problem> {
        let raw = BufReader::with_capacity(128 << 10, raw);
        let start = |source| Problem::Read { at: 0, source };
        Ok(match self {
            Self::Plain => Box::new(raw),
            Self::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(raw))),
            Self::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
                let stream = stream.map_err(|e| start(e.into()))?;
                Box::new(BufReader::new(liblzma::bufread::XzDecoder::new_stream(raw, stream)))
            }
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(raw).map_err(start)?;
                decoder.window_log_max(ZSTD_WINDOW).map_err(start)?;
                Box::new(BufReader::new(decoder))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        assert_eq!(Codec::of(b"\x1f\x8b\x08").unwrap(), Codec::Gzip);
        assert_eq!(Codec::of(b"\xfd7zXZ\0").unwrap(), Codec::Xz);
        assert_eq!(Codec::of(b"\x28\xb5\x2f\xfd").unwrap(), Codec::Zstd);
        assert_eq!(Codec::of(b"./etc/").unwrap(), Codec::Plain);
        for other in [&b""[..], b"BZh9", b"hsqs", b"PK\x03\x04", b"QFI\xfb"] {
            assert!(matches!(Codec::of(other), Err(Problem::Format(_))), "{other:?}");
        }
    }
}
