//! Reads the headers of a tar stream: v7, ustar, pax and GNU.
//!
//! The `tar` crate serves for the layout of a header only. Its iterator reads extension headers of any length into
//! memory and splits pax records at newlines (see `pax`), and both are in the archive's hand.
//! This file must not touch the file system, and must not judge names, owners or kinds: that is `unpack`'s.

use std::io::{self, Read};

use super::error::Problem;
use super::pax::Pax;

const BLOCK: usize = 512;
/// Longest name or pax header. A name is at most 4096 bytes, an attribute's value 64 KiB.
const MAX_EXTENSION: u64 = 1 << 20;
/// Most zeros after the end marker; GNU tar fills up to a record, which is seldom more than a megabyte.
const MAX_PADDING: u64 = 64 << 20;

/// One entry, with what its pax and GNU extensions say of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    /// The type flag of tar.
    pub(super) flag: u8,
    pub(super) size: u64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) mode: u16,
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) acls: u64,
    pub(super) sparse: bool,
}

/// A tar stream. As a [`Read`] it gives the data of the entry that `next` returned last.
pub(super) struct Archive<R> {
    inner: R,
    at: u64,
    limit: u64,
    before: u64,
    left: u64,
    padding: u64,
    number: u64,
    name: Vec<u8>,
}

impl<R: Read> Archive<R> {
    /// Reads no more than `limit` bytes of stream, whatever the compressed file grows to; of them, `before` were read of
    /// other archives.
    pub(super) fn new(inner: R, limit: u64, before: u64) -> Self {
        Self { inner, at: 0, limit, before, left: 0, padding: 0, number: 0, name: Vec::new() }
    }

    /// The number (from 1) and name of the entry that is being read.
    pub(super) fn current(&self) -> (u64, &[u8]) {
        (self.number, &self.name)
    }

    /// Bytes of stream read so far.
    pub(super) fn read(&self) -> u64 {
        self.at
    }

    /// Goes on to the next entry, over what is left of this one. `None` is the end marker.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Problem> {
        self.skip()?;
        self.name.clear();
        let mut long_name = None;
        let mut long_link = None;
        let mut pax: Option<Pax> = None;
        loop {
            let at = self.at;
            let bad = |what| Problem::Malformed { what, at };
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            if block.iter().all(|b| *b == 0) {
                let alone = long_name.is_none() && long_link.is_none() && pax.is_none();
                return if alone { Ok(None) } else { Err(bad("an extension of no entry")) };
            }
            let header = tar::Header::from_byte_slice(&block);
            let old = header.as_old();
            if !checksum_fits(&block, &old.cksum) {
                return Err(bad(if at == 0 { "no tar header" } else { "a wrong header checksum" }));
            }
            let flag = old.linkflag[0];
            let size = numeric(&old.size).and_then(|n| u64::try_from(n).ok()).ok_or(bad("a bad size"))?;
            match flag {
                b'L' if long_name.is_none() => long_name = Some(self.text(size)?),
                b'K' if long_link.is_none() => long_link = Some(self.text(size)?),
                b'x' | b'X' if pax.is_none() => pax = Some(Pax::parse(&self.extension(size)?).map_err(bad)?),
                b'L' | b'K' | b'x' | b'X' => return Err(bad("two extensions of one kind for one entry")),
                b'g' => {
                    // Comments, as git writes them, are harmless; defaults for every entry are not in use.
                    if Pax::parse(&self.extension(size)?).map_err(bad)?.matters() {
                        return Err(Problem::Unsupported("global pax defaults are".into()));
                    }
                }
                _ => {
                    let pax = pax.unwrap_or_default();
                    self.number += 1;
                    self.name = pax.path.or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
                    let (uid, gid) = (numeric(&old.uid), numeric(&old.gid));
                    let (mode, mtime) = (numeric(&old.mode), numeric(&old.mtime));
                    let entry = Entry {
                        name: self.name.clone(),
                        link: pax.link.or(long_link).unwrap_or_else(|| text_of(&old.linkname).to_vec()),
                        flag: if flag == 0 && self.name.ends_with(b"/") { b'5' } else { flag },
                        size: pax.size.unwrap_or(size),
                        uid: pax.uid.or(uid).ok_or(bad("a bad uid"))?,
                        gid: pax.gid.or(gid).ok_or(bad("a bad gid"))?,
                        mode: u16::try_from(mode.ok_or(bad("a bad mode"))? & 0o7777).unwrap_or_default(),
                        mtime: pax.mtime.or(mtime.map(|s| (s, 0))).ok_or(bad("a bad time"))?,
                        xattrs: pax.xattrs.into_iter().collect(),
                        acls: pax.acls,
                        sparse: pax.sparse || flag == b'S',
                    };
                    self.start(entry.size)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads what follows the end marker, which must be zeros, to the end of the file: only then has a
    /// decompressor checked its checksums.
    pub(super) fn finish(&mut self) -> Result<(), Problem> {
        let start = self.at;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let at = self.at;
            let n = self.some(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            if buffer[..n].iter().any(|b| *b != 0) || self.at - start > MAX_PADDING {
                return Err(Problem::Trailing(at));
            }
        }
    }

    fn start(&mut self, size: u64) -> Result<(), Problem> {
        let at = self.at;
        let end = at.checked_add(size).and_then(|n| n.checked_add(BLOCK as u64));
        end.ok_or(Problem::Malformed { what: "a size beyond all bounds", at })?;
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn skip(&mut self) -> Result<(), Problem> {
        let mut buffer = [0; 16 << 10];
        self.left += std::mem::take(&mut self.padding);
        while self.left > 0 {
            let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
            self.fill(&mut buffer[..want])?;
            self.left -= want as u64;
        }
        Ok(())
    }

    /// The data of an extension header, and its padding.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Problem> {
        if size > MAX_EXTENSION {
            return Err(Problem::Malformed { what: "an extension header that is too long", at: self.at });
        }
        self.start(size)?;
        let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
        self.fill(&mut data)?;
        self.left = 0;
        self.skip()?;
        Ok(data)
    }

    fn text(&mut self, size: u64) -> Result<Vec<u8>, Problem> {
        Ok(text_of(&self.extension(size)?).to_vec())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Problem> {
        let mut done = 0;
        while done < buffer.len() {
            match self.some(&mut buffer[done..])? {
                0 => return Err(Problem::Truncated(self.at)),
                n => done += n,
            }
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        if self.before.saturating_add(self.at) > self.limit {
            return Err(Problem::TooBig(self.limit));
        }
        loop {
            match self.inner.read(buffer) {
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Problem::Truncated(self.at));
                }
                Err(source) => return Err(Problem::Read { at: self.at, source }),
            }
        }
    }

    /// Reads some of the current entry's data; 0 is its end.
    pub(super) fn data(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        match self.some(&mut buffer[..want])? {
            0 => Err(Problem::Truncated(self.at)),
            n => {
                self.left -= n as u64;
                Ok(n)
            }
        }
    }
}

/// A field up to its first NUL.
fn text_of(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// An octal field, or a binary one in GNU's style (top bit set, two's complement). An empty one is 0.
fn numeric(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let start = if first & 0x40 != 0 { -1 } else { i128::from(first & 0x3f) };
        let value =
            field[1..].iter().try_fold(start, |n: i128, b| n.checked_mul(256)?.checked_add(i128::from(*b)));
        return value.and_then(|n| i64::try_from(n).ok());
    }
    let text = text_of(field).trim_ascii();
    if !text.iter().all(|b| (b'0'..=b'7').contains(b)) {
        return None;
    }
    Some(text.iter().fold(0, |n, b| n * 8 + i64::from(b - b'0')))
}

/// The sum of a header's bytes with its own field as blanks. Old tars summed signed bytes.
fn checksum_fits(block: &[u8; BLOCK], field: &[u8]) -> bool {
    let bytes = || block[..148].iter().chain(&[b' '; 8]).chain(&block[156..]);
    let unsigned: i64 = bytes().map(|b| i64::from(*b)).sum();
    let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
    numeric(field).is_some_and(|n| n == unsigned || n == signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_octal_and_binary() {
        assert_eq!(numeric(b"0000644\0"), Some(0o644));
        assert_eq!(numeric(b"   644 \0"), Some(0o644));
        assert_eq!(numeric(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(numeric(b"00006x4\0"), None);
        assert_eq!(numeric(&[0x80, 0, 0, 0, 0, 1, 0, 0]), Some(65536));
        assert_eq!(numeric(&[0xff; 12]), Some(-1));
        assert_eq!(numeric(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
