//! A tree to a typed value, collecting everything that is wrong with it.
//!
//! serde stops at the first error. So after each one the place it concerns is left out, and the tree
//! is decoded again without it, until it decodes or there is nothing left to leave out. The number of
//! rounds is bounded. A value is only given when there was no error at all.

mod de;
mod error;
mod pruned;

use crate::code::Code;
use crate::diag::Diagnostic;
use crate::suggest::Suggest;
use crate::yaml::Node;
use de::NodeDeserializer;
use error::{DecodeError, Problem};
use pruned::Pruned;
use serde::de::DeserializeOwned;

/// More rounds than anyone reads error messages.
const ROUNDS: usize = 100;

/// Decodes a tree; `path` is how messages call its root, `suggest` knows the fields that there are.
pub(crate) fn decode<T: DeserializeOwned>(root: &Node, suggest: &Suggest) -> Result<T, Vec<Diagnostic>> {
    let mut pruned = Pruned::default();
    let mut diagnostics = Vec::new();
    for _ in 0..ROUNDS {
        match T::deserialize(NodeDeserializer::new(root, &pruned)) {
            Ok(value) if diagnostics.is_empty() => return Ok(value),
            Ok(_) => return Err(diagnostics),
            Err(wrong) => {
                let path = wrong.path();
                diagnostics.extend(diagnose(&wrong, root, &path, suggest));
                if path.is_empty() {
                    return Err(diagnostics);
                }
                pruned.insert(&path);
            }
        }
    }
    let last = Diagnostic::error(Code::TooMuch, format!("more than {ROUNDS} errors in this document"));
    diagnostics.push(last.at(&root.span, "").help("cure these first"));
    Err(diagnostics)
}

/// The message of an error, unless it only follows from one already given.
fn diagnose(wrong: &DecodeError, root: &Node, path: &[usize], suggest: &Suggest) -> Option<Diagnostic> {
    let place = Place::find(root, path);
    let field = &place.name;
    Some(match &wrong.problem {
        Problem::UnknownField { field: name, allowed } => {
            let parent = field.strip_suffix(name.as_str()).unwrap_or(field).trim_end_matches('.');
            let within = if parent.is_empty() { String::new() } else { format!(" in `{parent}`") };
            let error = Diagnostic::error(Code::UnknownField, format!("unknown field `{name}`{within}"));
            suggest.field(
                error.at(place.key.unwrap_or(&place.node.span), "no such field"),
                parent,
                name,
                allowed,
            )
        }
        // Left out by an earlier round: that has been said.
        Problem::MissingField(name) if place.node.entry(name).is_some() => return None,
        Problem::MissingField(name) => {
            let full = if field.is_empty() { (*name).to_owned() } else { format!("{field}.{name}") };
            Diagnostic::error(Code::MissingField, format!("missing field `{full}`"))
                .at(place.key.unwrap_or(&place.node.span), format!("`{name}` must be written here"))
        }
        Problem::UnknownWord { word, allowed } => {
            let error = Diagnostic::error(Code::BadValue, format!("`{word}` is not allowed for `{field}`"))
                .at(&place.node.span, "");
            suggest.word(error, word, allowed)
        }
        Problem::BadValue(message) => {
            let span = if wrong.in_key { place.key.unwrap_or(&place.node.span) } else { &place.node.span };
            Diagnostic::error(Code::BadValue, message.as_str()).at(span, in_field(field))
        }
        Problem::WrongType { found, expected, help } => {
            let error =
                Diagnostic::error(Code::WrongType, format!("`{field}` takes {expected}, not {found}"))
                    .at(&place.node.span, "");
            help.iter().fold(error, Diagnostic::help)
        }
    })
}

fn in_field(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("in `{field}`") }
}

/// What a path of indices leads to.
struct Place<'t> {
    name: String,
    key: Option<&'t crate::span::Span>,
    node: &'t Node,
}

impl<'t> Place<'t> {
    fn find(root: &'t Node, path: &[usize]) -> Self {
        let mut place = Self { name: String::new(), key: None, node: root };
        for &index in path {
            if let Some(entry) = place.node.entries().get(index) {
                let dot = if place.name.is_empty() { "" } else { "." };
                place.name = format!("{}{dot}{}", place.name, entry.key.text);
                (place.key, place.node) = (Some(&entry.key.span), &entry.value);
            } else if let Some(item) = place.node.items().get(index) {
                place.name = format!("{}[{index}]", place.name);
                (place.key, place.node) = (None, item);
            }
        }
        place
    }
}
