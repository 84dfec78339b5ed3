//! What a file holds: its documents, and what names it may hold if it cannot be understood.

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use vzd_schema::{Diagnostic, Document, Kind};

/// SHA-256 of a file's bytes.
pub(super) type Hash = [u8; 32];

/// More names than that are not looked for in a file that cannot be understood.
const MOST_MENTIONS: usize = 10_000;

pub(super) fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// Who a document is about.
pub(super) type Key = (Kind, String);

/// The key of a document of which both is known.
pub(super) fn key(document: &Document) -> Option<Key> {
    Some((document.kind?, document.name.clone()?))
}

/// A file, parsed.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) hash: Hash,
    pub(super) documents: Vec<Arc<Document>>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Whether those are certainly all its documents.
    pub(super) whole: bool,
    /// What stands after the word `name` (or `kind`), if it is not whole.
    pub(super) mentions: BTreeSet<String>,
}

impl Content {
    pub(super) fn parse(file: &str, bytes: &[u8], hash: Hash) -> Self {
        let parsed = vzd_schema::parse(file, bytes);
        let mentions = if parsed.whole { BTreeSet::new() } else { mentions(&String::from_utf8_lossy(bytes)) };
        Self {
            hash,
            documents: parsed.documents.into_iter().map(Arc::new).collect(),
            diagnostics: parsed.diagnostics,
            whole: parsed.whole,
            mentions,
        }
    }

    /// Whether a document of the other is not in this one, both being whole.
    pub(super) fn lacks_some_of(&self, other: &Self) -> bool {
        let keys: BTreeSet<Key> = self.documents.iter().filter_map(|document| key(document)).collect();
        let lacking = |document: &Arc<Document>| key(document).is_some_and(|key| !keys.contains(&key));
        self.whole && other.whole && other.documents.iter().any(lacking)
    }

    /// Whether it may hold the host's settings, not being whole.
    pub(super) fn may_hold_host(&self) -> bool {
        self.mentions.contains(Kind::Host.as_str())
    }
}

/// Whether there is nothing but white space.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
}

/// The words after `name` and `kind`, however they are separated from it: rather one too many.
fn mentions(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let places = ["name", "kind"].into_iter().flat_map(|word| text.match_indices(word));
    let words = places.filter_map(|(at, word)| {
        let rest =
            text[at + word.len()..].trim_start_matches(|c: char| "\"':? ".contains(c) || c.is_whitespace());
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        (end > 0).then(|| rest[..end].to_owned())
    });
    words.take(MOST_MENTIONS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_what_is_no_yaml() {
        let text =
            "kind: VE\nmetadata: {name: web01, x: [\n\"name\": \"db-2\"\nname:\n  'mail'\n kind: Host ]]";
        let found: Vec<String> = mentions(text).into_iter().collect();
        assert_eq!(found, ["Host", "VE", "db-2", "mail", "web01"]);
    }
}
