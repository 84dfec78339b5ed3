//! Unpacks archive files into one empty directory, and says what their content's hashes were.
//!
//! The entries are judged here: kinds, owners, attributes, and how much they may take. What is refused and what is left
//! out is in `judge` and `keep_xattrs`. Must not leave the tree it is given, and must not publish it: on an
//! error the caller throws the directory away.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::archive::{Archive, Entry};
use super::codec::Codec;
use super::error::{Problem, TemplateError};
use super::oci::whiteout::{self, Whiteout};
use super::space::{COST, PAGE, Space};
use super::tree::{Meta, Tree, Xattr, plain};
use super::{Limits, Skipped};

/// Most bytes of names of directories whose times are remembered.
const MAX_DIR_NAMES: usize = 256 << 20;

/// Unpacks `file` into `root`. Returns its SHA-256 and what was left out.
///
/// `trash` is a directory on the same file system as `root` and outside of it; `base` is added to all ids.
pub(super) fn unpack(
    file: &File,
    path: &Path,
    root: OwnedFd,
    trash: BorrowedFd<'_>,
    (limits, base): (&Limits, u32),
) -> Result<(String, Skipped), TemplateError> {
    let whole = |problem| TemplateError::Archive { archive: path.to_owned(), source: Box::new(problem) };
    let mut unpacker = Unpacker::new(root, trash, limits).map_err(whole)?.shifted(base);
    let digest = unpacker.archive(file, path, Part::Whole)?;
    Ok((digest, unpacker.finish().map_err(whole)?))
}

/// What of an archive is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All; it is alone, and must not be empty.
    Whole,
    /// Of a layer: what it takes away from those below.
    Removals,
    /// Of a layer: all else.
    Additions,
}

/// Hashes what is read of a file.
struct Hashing<'a> {
    file: &'a File,
    hash: &'a RefCell<Sha256>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hash.borrow_mut().update(&buffer[..n]);
        Ok(n)
    }
}

/// Unpacks archives one over the other into one directory.
pub(super) struct Unpacker<'a> {
    tree: Tree<'a>,
    limits: &'a Limits,
    /// Added to all ids.
    base: u32,
    space: Space,
    skipped: Skipped,
    /// Times of directories, set when nothing is made in them any more.
    dirs: BTreeMap<Vec<u8>, (i64, u32)>,
    dir_names: usize,
    buffer: Vec<u8>,
    /// Entries and bytes of stream of the archives before.
    before: (u64, u64),
}

impl<'a> Unpacker<'a> {
    /// `trash` is a directory on the same file system as `root` and outside of it.
    pub(super) fn new(root: OwnedFd, trash: BorrowedFd<'a>, limits: &'a Limits) -> Result<Self, Problem> {
        Ok(Self {
            space: Space::new(&root, limits).map_err(|e| Problem::sys("look at the free space", e))?,
            tree: Tree::new(root, trash),
            limits,
            base: 0,
            skipped: Skipped::default(),
            dirs: BTreeMap::new(),
            dir_names: 0,
            buffer: vec![0; 128 << 10],
            before: (0, 0),
        })
    }

    /// The same for a VE whose ids begin at `base`.
    fn shifted(mut self, base: u32) -> Self {
        self.tree = self.tree.owned_by(base);
        self.base = base;
        self
    }

    /// Reads `file` from where it stands, to its end. Returns the SHA-256 of what was read.
    pub(super) fn archive(&mut self, file: &File, path: &Path, part: Part) -> Result<String, TemplateError> {
        let whole = |problem| TemplateError::Archive { archive: path.to_owned(), source: Box::new(problem) };
        let mut head = vec![0; 512];
        let n = file.read_at(&mut head, 0).map_err(|source| whole(Problem::Read { at: 0, source }))?;
        let codec = Codec::of(&head[..n]).map_err(whole)?;

        let hash = RefCell::new(Sha256::new());
        let stream = codec.reader(Hashing { file, hash: &hash }).map_err(whole)?;
        // Headers of entries that are skipped cost no disk, but time.
        let limit = self.limits.max_bytes.saturating_add(self.limits.max_entries.saturating_mul(PAGE));
        let mut archive = Archive::new(stream, limit, self.before.1);
        self.run(&mut archive, part).map_err(|problem| match archive.current() {
            (_, []) => whole(problem),
            (number, name) => TemplateError::Entry {
                archive: path.to_owned(),
                entry: String::from_utf8_lossy(name).into_owned(),
                number,
                source: Box::new(problem),
            },
        })?;
        if part != Part::Removals {
            self.before.0 += archive.current().0;
            self.before.1 += archive.read();
        }
        drop(archive);
        // What a decompressor may have left unread belongs to the file all the same.
        io::copy(&mut Hashing { file, hash: &hash }, &mut io::sink())
            .map_err(|e| TemplateError::io("read", path, e))?;
        Ok(super::index::hex(&hash.into_inner().finalize()))
    }

    /// Does what can only be done when all is there. Returns what was left out.
    pub(super) fn finish(mut self) -> Result<Skipped, Problem> {
        std::mem::take(&mut self.dirs)
            .into_iter()
            .try_for_each(|(path, mtime)| self.tree.dir_time(&path, mtime))?;
        Ok(self.skipped)
    }

    fn run<R: Read>(&mut self, archive: &mut Archive<R>, part: Part) -> Result<(), Problem> {
        let mut empty = true;
        while let Some(entry) = archive.next()? {
            empty = false;
            match part {
                Part::Whole => self.entry(entry, archive)?,
                Part::Removals => self.removal(&entry)?,
                Part::Additions if whiteout::read(&plain(&entry.name, "name")?)?.is_some() => {}
                Part::Additions => self.entry(entry, archive)?,
            }
            if self.tree.made().max(self.before.0 + archive.current().0) > self.limits.max_entries {
                return Err(Problem::TooMany(self.limits.max_entries));
            }
        }
        if empty && part == Part::Whole {
            return Err(Problem::Empty);
        }
        archive.finish()
    }

    fn removal(&mut self, entry: &Entry) -> Result<(), Problem> {
        match whiteout::read(&plain(&entry.name, "name")?)? {
            Some(Whiteout::Path(path)) => self.tree.remove(&path),
            Some(Whiteout::Content(dir)) => self.tree.empty(&dir),
            Some(Whiteout::Nothing) | None => Ok(()),
        }
    }

    fn entry<R: Read>(&mut self, entry: Entry, archive: &mut Archive<R>) -> Result<(), Problem> {
        let (flag, size) = (entry.flag, entry.size);
        match judge(&entry)? {
            Verdict::Make => {}
            Verdict::Leave => return Ok(()),
            Verdict::LeaveDevice => {
                self.skipped.devices += 1;
                return Ok(());
            }
        }
        let path = plain(&entry.name, "name")?;
        let link = entry.link.clone();
        self.space.take(COST)?;
        if flag == b'1' {
            return self.tree.hard_link(&path, &plain(&link, "link target")?);
        }
        let meta = self.meta(entry)?;
        match flag {
            b'2' => {
                self.space.take(link.len() as u64)?;
                self.tree.symlink(&path, &link, &meta)
            }
            b'6' => self.tree.fifo(&path, &meta),
            b'5' | b'D' => {
                self.space.take(PAGE)?;
                self.tree.dir(&path, &meta)?;
                self.remember_time(path, &meta)
            }
            _ => {
                self.space.take(size.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX))?;
                let (space, buffer) = (&mut self.space, &mut self.buffer);
                self.tree.file(&path, &meta, |fd| copy(archive, fd, space, buffer))
            }
        }
    }

    fn meta(&mut self, entry: Entry) -> Result<Meta, Problem> {
        let base = self.base;
        let id = |what, id| match u16::try_from(id) {
            Ok(inside) => Ok(base.saturating_add(inside.into())),
            Err(_) => Err(Problem::Owner { what, id }),
        };
        self.skipped.xattrs += entry.acls;
        let may_have = matches!(entry.flag, 0 | b'0' | b'7' | b'5' | b'D');
        Ok(Meta {
            uid: id("uid", entry.uid)?,
            gid: id("gid", entry.gid)?,
            mode: entry.mode,
            mtime: Some(entry.mtime),
            xattrs: if may_have {
                keep_xattrs(entry.xattrs, entry.flag, base, &mut self.skipped.xattrs)?
            } else {
                self.skipped.xattrs += entry.xattrs.len() as u64;
                Vec::new()
            },
        })
    }

    fn remember_time(&mut self, path: Vec<u8>, meta: &Meta) -> Result<(), Problem> {
        let Some(mtime) = meta.mtime else { return Ok(()) };
        self.dir_names += path.len();
        if self.dir_names > MAX_DIR_NAMES {
            return Err(Problem::Unsupported("more than 256 MiB of directory names are".into()));
        }
        self.dirs.insert(path, mtime);
        Ok(())
    }
}

enum Verdict {
    Make,
    Leave,
    LeaveDevice,
}

/// What is to be done with an entry of this kind.
fn judge(entry: &Entry) -> Result<Verdict, Problem> {
    if entry.sparse {
        return Err(Problem::Unsupported("sparse files are".into()));
    }
    match entry.flag {
        // Some tars give a hard link a size and no data, some give it data. Guessing wrong would read data as headers.
        b'1' if entry.size > 0 => Err(Problem::Unsupported("hard links with data are".into())),
        0 | b'0' | b'1' | b'2' | b'5' | b'6' | b'7' | b'D' => Ok(Verdict::Make),
        b'3' | b'4' => Ok(Verdict::LeaveDevice),
        b'V' => Ok(Verdict::Leave), // The archive's own label.
        b'M' => Err(Problem::Unsupported("archives of several volumes are".into())),
        other => Err(Problem::Unsupported(format!("entries of type {:?} are", char::from(other)))),
    }
}

/// `user.*` and a file's capability stay. All others are dropped: they are the kernel's or the host's
/// (`trusted.overlay.*` and `user.overlay.*` would steer the overlay, labels belong to the host's policy), or hold ids
/// (access control lists).
fn keep_xattrs(xattrs: Vec<Xattr>, flag: u8, base: u32, dropped: &mut u64) -> Result<Vec<Xattr>, Problem> {
    let mut kept = Vec::new();
    for (name, value) in xattrs {
        if name == b"security.capability" && !matches!(flag, b'5' | b'D') {
            kept.push((name, of_root(capability(&value)?, base)));
        } else if name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.contains(&0) {
            kept.push((name, value));
        } else {
            *dropped += 1;
        }
    }
    Ok(kept)
}

/// A file's capability as a file of a VE with that range has it; none if it is none, or one of another user namespace's.
pub(crate) fn capability_of(value: &[u8], base: u32) -> Option<Vec<u8>> {
    capability(value).ok().map(|plain| of_root(plain, base))
}

/// A file capability without a root id. One of a VE with shifted ids (version 3) would be void in every other VE.
fn capability(value: &[u8]) -> Result<Vec<u8>, Problem> {
    let version = value.get(3).copied();
    match (version, value.len()) {
        (Some(2), 20) => Ok(value.to_vec()),
        (Some(3), 24) if value[20..] == [0; 4] => {
            let mut plain = value[..20].to_vec();
            plain[3] = 2;
            Ok(plain)
        }
        (Some(3), 24) => Err(Problem::Capability("it belongs to a user namespace of its own")),
        _ => Err(Problem::Capability("neither version 2 nor version 3")),
    }
}

/// The same for a user namespace whose root is `base`: there it is one of version 3.
fn of_root(mut capability: Vec<u8>, base: u32) -> Vec<u8> {
    if base != 0 {
        capability[3] = 3;
        capability.extend(base.to_le_bytes());
    }
    capability
}

fn copy<R: Read>(
    archive: &mut Archive<R>,
    fd: &OwnedFd,
    space: &mut Space,
    buffer: &mut [u8],
) -> Result<(), Problem> {
    loop {
        let n = archive.data(buffer)?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let written = match rustix::io::write(fd, rest) {
                Err(rustix::io::Errno::INTR) => 0,
                done => done.map_err(|e| Problem::sys("write to the file", e))?,
            };
            rest = &rest[written..];
        }
        space.written(n as u64)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_file_capabilities_pass() {
        let v2 = [&[0, 0, 0, 2][..], &[7; 16]].concat();
        let v3 = |root: u8| [&[0, 0, 0, 3][..], &[7; 16], &[root, 0, 0, 0]].concat();
        assert_eq!(capability(&v2).unwrap(), v2);
        assert_eq!(capability(&v3(0)).unwrap(), v2);
        assert!(capability(&v3(9)).is_err());
        assert!(capability(&v2[..12]).is_err());
        assert!(capability(&[]).is_err());
        assert_eq!(of_root(v2.clone(), 0), v2);
        assert_eq!(of_root(v2, 9), v3(9));
    }
}
