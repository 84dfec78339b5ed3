//! A manifest file's text to its documents: the whole way from bytes to typed values.

use crate::check;
use crate::code::Code;
use crate::decode::decode;
use crate::diag::Diagnostic;
use crate::span::Span;
use crate::suggest::Suggest;
use crate::v1::{ApiVersion, Host, Kind, Manifest, Profile, Ve, carried, shorten};
use crate::yaml::{self, Node, NodeKind, Tree, TreeState};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};
use std::sync::Arc;

/// More diagnostics of one file than that are not kept.
const MOST_DIAGNOSTICS: usize = 500;

/// What a manifest file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Its documents, in order; also those with errors.
    pub documents: Vec<Document>,
    /// What is wrong, in order of the documents.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether `documents` is certainly everything the file holds, each with its kind and name. If
    /// not (broken syntax, limits, no name), a caller keeps whatever it knew to come from the file.
    pub whole: bool,
}

/// One document of a manifest file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it describes, as far as that could be read.
    pub kind: Option<Kind>,
    /// Its `metadata.name`, as far as that could be read: with errors elsewhere too.
    pub name: Option<String>,
    /// The stretch of the file it takes.
    pub span: Span,
    /// The document, typed. `None` when it has errors.
    pub manifest: Option<Manifest>,
    /// What was written, with places.
    pub tree: Node,
}

impl Document {
    /// Whether a diagnostic points into this document, first or second place.
    pub fn is_concerned_by(&self, diagnostic: &Diagnostic) -> bool {
        let within = |span: &Span| {
            span.file == self.span.file && self.span.start <= span.start && span.start <= self.span.end
        };
        diagnostic.primary.iter().chain(&diagnostic.secondary).any(|label| within(&label.span))
    }

    /// The typed VE, if it is one without errors.
    pub fn ve(&self) -> Option<&Ve> {
        if let Some(Manifest::Ve(ve)) = &self.manifest { Some(ve) } else { None }
    }

    /// The typed profile, if it is one without errors.
    pub fn profile(&self) -> Option<&Profile> {
        if let Some(Manifest::Profile(profile)) = &self.manifest { Some(profile) } else { None }
    }

    /// The typed host settings, if it is those without errors.
    pub fn host(&self) -> Option<&Host> {
        if let Some(Manifest::Host(host)) = &self.manifest { Some(host) } else { None }
    }
}

/// Reads a manifest file. `file` is what messages call it.
///
/// Never fails and never panics, whatever the bytes are; what is wrong is in the diagnostics. Empty
/// documents are left out.
pub fn parse(file: &str, bytes: &[u8]) -> Parsed {
    let file: Arc<str> = file.into();
    let text = match yaml::decode(&file, bytes) {
        Ok(text) => text,
        Err(problem) => return Parsed { documents: Vec::new(), diagnostics: vec![problem], whole: false },
    };
    let stream = yaml::build(&file, text);
    let mut parsed = Parsed { documents: Vec::new(), diagnostics: stream.diagnostics, whole: stream.whole };
    for tree in stream.documents {
        if tree.root.is_null() && tree.state == TreeState::Good {
            continue;
        }
        let (document, problems) = read(tree);
        parsed.whole &= document.kind.is_some() && document.name.is_some();
        parsed.documents.push(document);
        parsed.diagnostics.extend(problems);
    }
    // Most files hold one, and all are kept.
    parsed.documents.shrink_to_fit();
    if parsed.diagnostics.len() > MOST_DIAGNOSTICS {
        parsed.diagnostics.truncate(MOST_DIAGNOSTICS);
        let last = format!("more than {MOST_DIAGNOSTICS} errors in this file");
        parsed.diagnostics.push(Diagnostic::error(Code::TooMuch, last).at(&Span::start_of(&file), ""));
    }
    parsed
}

/// One tree to a document.
fn read(tree: Tree) -> (Document, Vec<Diagnostic>) {
    let root = tree.root;
    let mut problems = Vec::new();
    let (mut kind, mut manifest) = (None, None);
    if matches!(root.kind, NodeKind::Map(_)) {
        let version = word::<ApiVersion>(&root, "apiVersion", "vzd/v1", &mut problems);
        kind = word::<Kind>(&root, "kind", "VE", &mut problems);
        if let (Some(_), Some(kind)) = (version, kind) {
            // What was cut off would only be called missing.
            if tree.state != TreeState::CutShort {
                match typed(kind, &root) {
                    Ok(value) => manifest = Some(value),
                    Err(wrong) => problems.extend(wrong),
                }
            }
            problems.extend(carried::check(kind, &root));
            problems.extend(manifest.iter().flat_map(|manifest| check::document(manifest, &root)));
        }
    } else if tree.state != TreeState::CutShort {
        let wrong =
            Diagnostic::error(Code::WrongType, "a document is a map of apiVersion, kind, metadata and spec");
        problems.push(wrong.at(&root.span, "this is no map"));
    }
    if tree.state != TreeState::Good || problems.iter().any(Diagnostic::is_error) {
        manifest = None;
    }
    problems.sort_by(|a, b| a.place().cmp(&b.place()));
    let name = root.get("metadata.name").and_then(Node::text).map(str::to_owned);
    (Document { kind, name, span: root.span.clone(), manifest, tree: root }, problems)
}

fn typed(kind: Kind, root: &Node) -> Result<Manifest, Vec<Diagnostic>> {
    let suggest = Suggest::new(kind);
    Ok(match kind {
        Kind::Ve => Manifest::Ve(decode(root, &suggest)?),
        Kind::Profile => Manifest::Profile(decode(root, &suggest)?),
        Kind::Host => Manifest::Host(decode(root, &suggest)?),
    })
}

/// A word without which nothing else of a document can be understood.
fn word<T: for<'de> Deserialize<'de>>(
    root: &Node,
    key: &str,
    example: &str,
    problems: &mut Vec<Diagnostic>,
) -> Option<T> {
    let Some(entry) = root.entry(key).filter(|entry| !entry.value.is_null()) else {
        let wrong = Diagnostic::error(Code::MissingField, format!("missing field `{key}`"));
        problems.push(wrong.at(&root.span, "in this document").help(format!("write `{key}: {example}`")));
        return None;
    };
    let text = entry.value.text().unwrap_or("a list or map");
    let word: StrDeserializer<'_, WordError> = text.into_deserializer();
    let value = T::deserialize(word).ok();
    if value.is_none() {
        let wrong =
            Diagnostic::error(Code::UnknownKind, format!("`{}` is no `{key}` that vzd knows", shorten(text)));
        let kinds = Kind::ALL.map(Kind::as_str).join(", ");
        let known = if key == "kind" { kinds } else { example.to_owned() };
        problems.push(wrong.at(&entry.value.span, "").help(format!("known: {known}")));
    }
    value
}
