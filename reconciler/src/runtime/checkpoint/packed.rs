//! Files of memory that are kept compressed (zstd): made when a checkpoint is sealed, and written out again for CRIU, which
//! reads plain ones only. Both go piece by piece, in a bounded amount of memory.
//!
//! What is written out is a help for one resume and no part of the checkpoint: whatever fails, the compressed file stays as it
//! is. Nothing may run from one before all of it was written and its sum was right.
//!
//! Level 3 by measurement: of pages of which half are source text and half random, it leaves 58 %, and takes a tenth longer than level
//! 1, which leaves 62 %. Two threads of zstd's were 1.6 times as fast where nothing else ran on two processors, and no faster beside
//! other work, which hosts of VEs have: one it is.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::contents::Contents;
use super::files::mode_of;
use super::image::is_torn;
use super::sum::Sum;
use crate::error::{At, SysError, SysResult};

/// What a compressed file has in its name behind that of the plain one.
const SUFFIX: &str = ".zst";
const LEVEL: i32 = 3;
/// The largest window that is read, as a power of two: more than this level ever has.
const LARGEST_WINDOW: u32 = 23;
const PIECE: usize = 1 << 20;

/// The name of a compressed file.
pub(super) fn packed(name: &str) -> String {
    format!("{name}{SUFFIX}")
}

/// The name of what is written out of a compressed file.
pub(super) fn plain(name: &str) -> Option<&str> {
    name.strip_suffix(SUFFIX)
}

/// Whether a file of a checkpoint's is compressed, by its name.
pub fn is_packed(name: &str) -> bool {
    plain(name).is_some()
}

/// The compressed files of a checkpoint in `dir`, by name, with where they are written out.
fn all<'a>(dir: &'a Path, contents: &'a Contents) -> impl Iterator<Item = (&'a str, PathBuf, &'a Sum)> {
    contents.files.iter().filter_map(|(name, sum)| Some((&**name, dir.join(plain(name)?), sum)))
}

/// Writes out what is compressed, beside it, for CRIU to find. If it is not as it was written, that is refused, and nothing is left
/// of what was written out.
pub(super) fn write_all_out(dir: &Path, contents: &Contents) -> SysResult<()> {
    forget_written_out(dir, contents)?;
    let written = all(dir, contents).try_for_each(|(name, to, sum)| {
        let length = sum.plain().unwrap_or_default();
        if write_out(&dir.join(name), &to, sum, length)? { Ok(()) } else { Err(is_torn(dir, name)) }
    });
    written.inspect_err(|_| drop(forget_written_out(dir, contents)))
}

/// Takes away what was written out.
pub(super) fn forget_written_out(dir: &Path, contents: &Contents) -> SysResult<()> {
    all(dir, contents).try_for_each(|(_, path, _)| match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(SysError::new("remove", path.display(), e)),
        _ => Ok(()),
    })
}

/// Replaces a file by a compressed one, which is on disk then; or leaves it, and says nothing, if that would be no smaller.
pub(super) fn pack(path: &Path) -> SysResult<Option<Sum>> {
    let to = path.with_added_extension(&SUFFIX[1..]);
    let (sum, plain) = write_packed(path, &to).inspect_err(|_| drop(std::fs::remove_file(&to)))?;
    let is_smaller = sum.bytes() < plain;
    let needless = if is_smaller { path } else { &to };
    std::fs::remove_file(needless).at("remove", needless.display())?;
    Ok(is_smaller.then_some(sum))
}

fn write_packed(path: &Path, to: &Path) -> SysResult<(Sum, u64)> {
    let mut from = File::open(path).at("open", path.display())?;
    let file = make(to, mode_of(path)?)?;
    let mut encoder = zstd::Encoder::new(Summed::of(file), LEVEL).at("compress", path.display())?;
    let (mut plain, mut piece) = (0, vec![0; PIECE]);
    loop {
        let n = from.read(&mut piece).at("read", path.display())?;
        if n == 0 {
            break;
        }
        encoder.write_all(&piece[..n]).at("write", to.display())?;
        plain += n as u64;
    }
    let done = encoder.finish().at("write", to.display())?;
    done.inner.sync_data().at("sync", to.display())?;
    Ok((done.sum(plain), plain))
}

/// Writes out a compressed file that is to be of that many bytes. Whether it was as it is known by `sum`: of one that is not, no
/// more than that is written.
fn write_out(path: &Path, to: &Path, sum: &Sum, length: u64) -> SysResult<bool> {
    let from = File::open(path).at("open", path.display())?;
    if from.metadata().at("stat", path.display())?.len() != sum.bytes() {
        return Ok(false);
    }
    let mut file = make(to, mode_of(path)?)?;
    // A disk that has not enough room says so before anything is written.
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length) {
        Err(Errno::OPNOTSUPP | Errno::INVAL) => {}
        other => other.map_err(|e| no_room(to, length, e.into()))?,
    }
    let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(PIECE, Summed::of(from)))
        .at("read", path.display())?;
    decoder.window_log_max(LARGEST_WINDOW).at("read", path.display())?;
    let (mut left, mut piece) = (length, vec![0; PIECE]);
    loop {
        let n = match decoder.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.raw_os_error().is_some() => return Err(SysError::new("read", path.display(), e)),
            // What zstd makes nothing of.
            Err(_) => return Ok(false),
        };
        let Some(rest) = left.checked_sub(n as u64) else { return Ok(false) };
        left = rest;
        file.write_all(&piece[..n]).map_err(|e| no_room(to, length, e))?;
    }
    Ok(left == 0 && decoder.finish().into_inner().sum(length) == *sum)
}

fn make(path: &Path, mode: u32) -> SysResult<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path).at("make", path.display())?;
    file.set_permissions(std::fs::Permissions::from_mode(mode)).at("chmod", path.display())?;
    Ok(file)
}

fn no_room(to: &Path, bytes: u64, error: io::Error) -> SysError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => SysError::refused(
            "write out",
            to.display(),
            format_args!(
                "there is no room on that disk for the {bytes} bytes that it is uncompressed: make some"
            ),
        ),
        _ => SysError::new("write out", to.display(), error),
    }
}

/// Sums what passes.
struct Summed<T> {
    inner: T,
    hash: blake3::Hasher,
    bytes: u64,
}

impl<T> Summed<T> {
    fn of(inner: T) -> Self {
        Summed { inner, hash: blake3::Hasher::new(), bytes: 0 }
    }

    /// Of a compressed file that has passed, and is of that many bytes.
    fn sum(&self, plain: u64) -> Sum {
        Sum::Packed { bytes: self.bytes, blake3: self.hash.finalize().to_hex().to_string(), plain }
    }

    fn passed(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(piece)?;
        self.passed(&piece[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(piece)?;
        self.passed(&piece[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 3 << 20;

    /// A file of that content, packed, and where it is to be written out.
    fn packed_file(dir: &Path, content: &[u8]) -> (PathBuf, PathBuf, Sum) {
        let path = dir.join("pages-1.img");
        std::fs::write(&path, content).unwrap();
        let sum = pack(&path).unwrap().unwrap();
        assert!(!path.exists());
        (dir.join(packed("pages-1.img")), path, sum)
    }

    #[test]
    fn what_was_packed_comes_out_as_it_was_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..LENGTH).map(|at| (at / 7 % 251) as u8).collect();
        let (path, to, sum) = packed_file(dir.path(), &content);
        assert!(sum.bytes() < LENGTH / 4 && sum.is_of(&path).unwrap());
        let out = |length| {
            let _ = std::fs::remove_file(&to);
            let is_whole = write_out(&path, &to, &sum, length).unwrap();
            (is_whole, std::fs::metadata(&to).map_or(0, |is| is.len()))
        };
        assert_eq!(out(LENGTH), (true, LENGTH));
        assert_eq!(std::fs::read(&to).unwrap(), content);
        // More, or less, than it is to be of.
        let (is_whole, written) = out(LENGTH - 1);
        assert!(!is_whole && written < LENGTH);
        assert!(!out(LENGTH + 1).0);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        for torn in [&bad, &good[1..], &[&good[..], &good[..]].concat()] {
            std::fs::write(&path, torn).unwrap();
            assert!(!out(LENGTH).0);
        }
    }

    #[test]
    fn what_would_not_be_smaller_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pages-1.img");
        for content in [&blake3::hash(b"").as_bytes()[..], &[]] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(pack(&path).unwrap(), None);
            assert_eq!(std::fs::read(&path).unwrap(), content);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }
}
