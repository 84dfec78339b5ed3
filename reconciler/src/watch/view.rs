//! What a scan saw, before anything is concluded from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::content::Content;
use super::read::Refusal;

/// What a scan saw.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) files: Vec<Seen>,
    /// Directories of which not everything is known.
    pub(super) troubles: Vec<(Arc<str>, Refusal)>,
    pub(super) skipped: BTreeMap<String, &'static str>,
    pub(super) look_again: Option<Duration>,
}

/// What a scan saw of a file.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) file: Arc<str>,
    /// Whether a version of it has been understood.
    pub(super) known: bool,
    pub(super) text: Text,
}

#[derive(Debug, Clone)]
pub(super) enum Text {
    Read(Arc<Content>),
    Refused {
        why: Refusal,
        /// Whether it may hold something that it did not when it was last read.
        may_be_new: bool,
    },
}

impl View {
    /// Whether it is known of every document whether it is there.
    pub(super) fn is_complete(&self) -> bool {
        let may_be_new = |seen: &Seen| matches!(seen.text, Text::Refused { may_be_new: true, .. });
        self.troubles.is_empty() && !self.files.iter().any(may_be_new)
    }

    /// Whether it is certain that there is no manifest, and nothing else is in doubt.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && matches!(self.troubles.as_slice(), [(_, Refusal::NoManifests)])
    }

    /// The digest of what was seen, however it came about.
    pub(super) fn digest(&self) -> String {
        let mut sum = Sha256::new();
        let mut add = |part: &[u8]| {
            sum.update(part.len().to_le_bytes());
            sum.update(part);
        };
        add(if self.is_complete() { b"complete" } else { b"incomplete" });
        for seen in &self.files {
            add(seen.file.as_bytes());
            match &seen.text {
                Text::Read(content) => add(&content.hash),
                Text::Refused { why, .. } => add(why.to_string().as_bytes()),
            }
        }
        for (directory, why) in &self.troubles {
            add(directory.as_bytes());
            add(why.to_string().as_bytes());
        }
        let bytes = sum.finalize();
        bytes.iter().fold(String::with_capacity(64), |hex, byte| hex + &format!("{byte:02x}"))
    }
}

/// A view that comes to the same revision.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Seen, &Seen)| {
            a.known == b.known
                && a.file == b.file
                && match (&a.text, &b.text) {
                    (Text::Read(a), Text::Read(b)) => Arc::ptr_eq(a, b),
                    (
                        Text::Refused { why: a, may_be_new: new_a },
                        Text::Refused { why: b, may_be_new: new_b },
                    ) => a == b && new_a == new_b,
                    _ => false,
                }
        };
        self.files.len() == other.files.len()
            && self.files.iter().zip(&other.files).all(same)
            && self.troubles == other.troubles
            && self.skipped == other.skipped
            && self.look_again == other.look_again
    }
}
