//! Tests of templates on a real file system, most of them as root: hostile archives above all.
//!
//! Archives are put together by hand, header by header: no tar would write them.

mod archives;
mod hostile;
mod managed;
mod stores;
mod tinies;

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Limits, Source, Store, Template, TemplateError};

/// Whether the test may go on: owners and attributes need root.
pub(super) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// One header of an archive.
pub(super) struct Head<'a> {
    flag: u8,
    name: &'a [u8],
    link: &'a [u8],
    uid: u64,
    gid: u64,
    mode: u32,
    size: Option<u64>,
}

impl Default for Head<'_> {
    fn default() -> Self {
        Self { flag: b'0', name: b"", link: b"", uid: 0, gid: 0, mode: 0o644, size: None }
    }
}

/// An archive in the making.
#[derive(Default, Clone)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn put(mut self, head: Head<'_>, data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..head.name.len()].copy_from_slice(head.name);
        old.linkname[..head.link.len()].copy_from_slice(head.link);
        old.linkflag[0] = head.flag;
        header.set_uid(head.uid);
        header.set_gid(head.gid);
        header.set_mode(head.mode);
        header.set_mtime(1_000_000_000);
        header.set_size(head.size.unwrap_or(data.len() as u64));
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, data: &str) -> Self {
        self.put(Head { name: name.as_bytes(), ..Head::default() }, data.as_bytes())
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.put(Head { flag: b'5', name: name.as_bytes(), mode: 0o755, ..Head::default() }, b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        let (name, link) = (name.as_bytes(), target.as_bytes());
        self.put(Head { flag: b'2', name, link, mode: 0o777, ..Head::default() }, b"")
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.put(Head { flag: b'1', name: name.as_bytes(), link: target.as_bytes(), ..Head::default() }, b"")
    }

    /// A pax header for the next entry.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let mut len = body + 1;
            while body + len.to_string().len() != len {
                len += 1;
            }
            write!(data, "{len} {key}=").unwrap();
            data.extend(*value);
            data.push(b'\n');
        }
        self.put(Head { flag: b'x', name: b"pax", ..Head::default() }, &data)
    }

    /// The archive with its end marker.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// A store in a temporary directory, and a directory beside it that nothing may get into.
pub(super) struct Fixture {
    tmp: tempfile::TempDir,
    pub(super) store: Store,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("outside")).unwrap();
        std::fs::write(tmp.path().join("outside/secret"), "untouched").unwrap();
        let store = Store::open(&tmp.path().join("templates")).unwrap();
        Self { tmp, store }
    }

    pub(super) fn limited(limits: Limits) -> Self {
        let Self { tmp, store } = Self::new();
        Self { tmp, store: store.with_limits(limits) }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    pub(super) fn outside(&self) -> String {
        self.path("outside").to_str().unwrap().to_owned()
    }

    pub(super) fn archive(&self, bytes: &[u8]) -> PathBuf {
        let path = self.path("archive");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Unpacks an archive, and looks whether anything got out of it.
    pub(super) fn unpack(&self, bytes: &[u8]) -> Result<Template, TemplateError> {
        let template = self.store.ensure(&Source::File(self.archive(bytes)));
        assert_eq!(list(&self.path("outside")), ["secret"]);
        assert_eq!(read(&self.path("outside/secret")), "untouched");
        let left: Vec<String> = self.own().into_iter().filter(|n| n.starts_with('.')).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        template
    }

    /// The error of an archive that must leave nothing behind, with its cause.
    pub(super) fn refused(&self, bytes: &[u8]) -> String {
        let error = self.unpack(bytes).expect_err("it was unpacked");
        assert!(!self.own().iter().any(|n| n.starts_with("file-")), "{:?}", self.own());
        chain(&error)
    }

    /// What lies in the store's own directory.
    pub(super) fn own(&self) -> Vec<String> {
        list(&self.path("templates/.store"))
    }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

pub(super) fn list(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

pub(super) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
