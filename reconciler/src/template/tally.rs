//! How far something is that takes a while, for whoever looks: what a progress bar shows of a template that is made.
//!
//! Who works says what it works at, once; who looks asks the kernel how far that is. Nothing is counted twice, and nobody who
//! works waits for one who looks.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What is being done. Cheap to clone: all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<Option<Stage>>>);

#[derive(Debug)]
struct Stage {
    doing: String,
    at: At,
    /// Bytes in all, if that is known.
    of: Option<u64>,
}

#[derive(Debug)]
enum At {
    /// Of a file that is read or written from its beginning to its end: its position, by a descriptor that shares it.
    Position(File),
    /// Of a directory that is filled: the sizes of its files.
    Filled(PathBuf),
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// What is being done.
    pub doing: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, if that is known.
    pub of: Option<u64>,
}

impl Tally {
    /// A file is read to its end.
    pub(super) fn reading(&self, doing: impl Into<String>, file: &File) {
        let of = file.metadata().ok().map(|metadata| metadata.len());
        self.at(doing, file.try_clone().ok().map(At::Position), of);
    }

    /// A file is written, nobody knows how long.
    pub(super) fn writing(&self, doing: impl Into<String>, file: &File) {
        self.at(doing, file.try_clone().ok().map(At::Position), None);
    }

    /// A directory gets files of so many bytes.
    pub(super) fn filling(&self, doing: impl Into<String>, directory: &Path, of: Option<u64>) {
        self.at(doing, Some(At::Filled(directory.to_owned())), of);
    }

    /// Without a descriptor to spare there is nothing to show, which is no reason to fail.
    fn at(&self, doing: impl Into<String>, at: Option<At>, of: Option<u64>) {
        let stage = at.map(|at| Stage { doing: doing.into(), at, of });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// How far it is now; `None` before anything has begun.
    pub fn reached(&self) -> Option<Reached> {
        let stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Stage { doing, at, of } = stage.as_ref()?;
        let done = match at {
            At::Position(file) => (&mut &*file).stream_position().ok()?,
            At::Filled(directory) => size(directory)?,
        };
        Some(Reached { doing: doing.clone(), done, of: *of })
    }
}

/// Of the files that lie in a directory.
fn size(directory: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    Some(entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn it_tells_how_far_a_file_is_read() {
        let tally = Tally::default();
        assert_eq!(tally.reached(), None);
        let mut file = File::open("/proc/self/exe").unwrap();
        let of = file.metadata().unwrap().len();
        tally.reading("reading", &file);
        file.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(tally.reached(), Some(Reached { doing: "reading".to_owned(), done: 1000, of: Some(of) }));
    }

    #[test]
    fn it_tells_how_full_a_directory_is() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), [0; 300]).unwrap();
        let tally = Tally::default();
        tally.filling("fetching", directory.path(), Some(900));
        std::fs::write(directory.path().join("b"), [0; 100]).unwrap();
        let reached = Reached { doing: "fetching".to_owned(), done: 400, of: Some(900) };
        assert_eq!(tally.reached(), Some(reached));
    }
}
