//! The tree. Its parts are shared, so that a clone is cheap and a profile's fields are held once,
//! however many VEs take them over.

use crate::span::Span;
use std::sync::Arc;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub kind: NodeKind,
}

/// What a value is. A scalar is text until the type of its field is known.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// Nothing, `~` or `null`.
    Null,
    /// A text, as it was written.
    Scalar {
        /// The text, without quotes and escapes.
        text: Arc<str>,
        /// Whether it was written without quotes; only then can it be a number or a boolean.
        plain: bool,
    },
    /// A list.
    Seq(Arc<[Node]>),
    /// A map, in the order of the file; no key is there twice.
    Map(Arc<[Entry]>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Node,
}

/// A key and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Where it stands.
    pub span: Span,
    /// The key.
    pub text: Arc<str>,
}

impl Node {
    /// The node at a path such as `spec.mounts[0].source`, if there is one.
    pub fn get(&self, path: &str) -> Option<&Self> {
        path_steps(path).try_fold(self, |node, step| match &node.kind {
            NodeKind::Map(_) => node.entry(step).map(|entry| &entry.value),
            NodeKind::Seq(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            NodeKind::Null | NodeKind::Scalar { .. } => None,
        })
    }

    /// The entry of a map with that key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key.text == key)
    }

    /// The entries, if it is a map; otherwise none.
    pub fn entries(&self) -> &[Entry] {
        if let NodeKind::Map(entries) = &self.kind { entries } else { &[] }
    }

    /// The items, if it is a list; otherwise none.
    pub fn items(&self) -> &[Self] {
        if let NodeKind::Seq(items) = &self.kind { items } else { &[] }
    }

    /// The text, if it is a scalar.
    pub fn text(&self) -> Option<&str> {
        if let NodeKind::Scalar { text, .. } = &self.kind { Some(text) } else { None }
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        matches!(self.kind, NodeKind::Null)
    }
}

/// Splits `a.b[0].c` into `a`, `b`, `0`, `c`. (A key with a dot in it, such as a label's, cannot be
/// named by such a path.)
pub(crate) fn path_steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[', ']']).filter(|step| !step.is_empty())
}
