//! What the manifest directory came to: documents in force, and what is wrong with the rest.
//!
//! A revision never tells anyone to delete something that may only be unreadable at the moment: ask
//! [`Revision::is_removed`], not whether a document is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};
use vzd_schema::{Diagnostic, Document, Kind, Set};

use super::content::{self, Hash};
use super::read::{self, MOST_BYTES};

/// What became of a manifest file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// Its documents are known, though some of them may have errors.
    Good,
    /// It cannot be used now; its documents of the last good version are carried on.
    Kept {
        /// Why, in words.
        why: String,
    },
    /// It cannot be used, and no version of it has been seen that could: what it holds is known to
    /// the ledger at most.
    Unknown {
        /// Why, in words.
        why: String,
    },
}

/// A document in force.
#[derive(Debug, Clone)]
pub struct Held {
    /// The document. It has no errors.
    pub document: Arc<Document>,
    /// The file that describes it now, or that it came from when it was last seen.
    pub file: Arc<str>,
    /// None if it is what the file says now. Otherwise it is the last good version, and this is why.
    pub kept: Option<Arc<[Diagnostic]>>,
}

/// One state of the manifest directory.
#[derive(Debug, Clone, Default)]
pub struct Revision {
    /// Digest of all files: equal directories have equal digests.
    pub digest: String,
    /// Whether it is known of every document whether it is there. If not, nothing may be deleted.
    pub complete: bool,
    /// Whether the directory is there, can be read, and holds no manifest at all. Nothing may be deleted for
    /// that either, unless someone says that it is meant.
    pub is_empty: bool,
    /// What became of each manifest file, by its path as diagnostics call it.
    pub files: BTreeMap<Arc<str>, FileState>,
    /// Documents in force, by file: one of each kind and name, without errors alone and together.
    pub documents: Vec<Held>,
    /// VEs that have errors and of which no good version is known here: the ledger may have one.
    pub broken: BTreeMap<String, Vec<Diagnostic>>,
    /// Whether the host's settings are known. If not, specs cannot be resolved, and VEs stay as the
    /// ledger has them.
    pub host_known: bool,
    /// Everything that is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// What is passed over, and why.
    pub skipped: BTreeMap<String, String>,
    /// When to scan again although nothing hints at it: a file was caught in the middle of a change.
    pub look_again: Option<Duration>,
    /// Documents with errors that are in force in no version, so that a set can tell why they are missing.
    pub(super) unusable: Vec<Arc<Document>>,
    /// Names that files which cannot be understood may hold.
    pub(super) mentioned: BTreeSet<String>,
    /// The text that each file had.
    pub(super) texts: BTreeMap<Arc<str>, Hash>,
}

impl Revision {
    /// The VE of that name.
    pub fn ve(&self, name: &str) -> Option<&Held> {
        self.of_kind(Kind::Ve).find(|held| held.document.name.as_deref() == Some(name))
    }

    /// Every VE.
    pub fn ves(&self) -> impl Iterator<Item = &Held> {
        self.of_kind(Kind::Ve)
    }

    /// The host's settings.
    pub fn host(&self) -> Option<&Held> {
        self.of_kind(Kind::Host).next()
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Held> {
        self.documents.iter().filter(move |held| held.document.kind == Some(kind))
    }

    /// Whether a VE's document that is the same in another revision comes to the same spec there: profiles
    /// and the host's settings are the same.
    pub fn resolves_like(&self, other: &Revision) -> bool {
        let shared = |revision: &Revision| -> Vec<*const Document> {
            let others = revision.documents.iter().filter(|held| held.document.kind != Some(Kind::Ve));
            let others = others.map(|held| &held.document).chain(&revision.unusable);
            others.map(Arc::as_ptr).collect()
        };
        self.host_known == other.host_known && shared(self) == shared(other)
    }

    /// All documents together, to resolve VEs' specs with.
    pub fn set(&self) -> Set<'_> {
        let held = self.documents.iter().map(|held| &*held.document);
        Set::new(held.chain(self.unusable.iter().map(|document| &**document)))
    }

    /// Whether a VE that the ledger has, from that file, was taken out of the directory for certain.
    pub fn is_removed(&self, name: &str, source: &str) -> bool {
        self.complete
            && self.ve(name).is_none()
            && !self.broken.contains_key(name)
            && !self.mentioned.contains(name)
            && !matches!(self.files.get(source), Some(FileState::Unknown { .. }))
    }

    /// The text of a file, to show diagnostics with; none if it is not the text that was read.
    pub fn source(&self, file: &str) -> Option<Arc<str>> {
        let hash = self.texts.get(file)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(Path::new(file), flags, Mode::empty()).ok()?;
        if read::stamp(&fd).ok()?.file_type() != FileType::RegularFile {
            return None;
        }
        let mut bytes = Vec::new();
        File::from(fd).take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
        (content::hash(&bytes) == *hash).then(|| String::from_utf8_lossy(&bytes).into())
    }
}
