//! The cost of a file, counted as it is built up, with aliases followed.

use super::limits;
use crate::code::Code;
use crate::diag::Diagnostic;
use crate::span::Span;

/// What a value costs when it is walked through.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
    /// Lists and maps within each other.
    pub(super) depth: usize,
}

impl Cost {
    /// The cost of a text.
    pub(super) fn of_text(text: &str) -> Self {
        Self { nodes: 1, bytes: text.len(), depth: 0 }
    }

    /// Takes in a value that is put into this one.
    pub(super) fn take_in(&mut self, inner: Self) {
        self.nodes += inner.nodes;
        self.bytes += inner.bytes;
        self.depth = self.depth.max(inner.depth);
    }
}

/// What has been spent of the limits.
#[derive(Debug, Default)]
pub(super) struct Budget {
    document: Cost,
    /// Without the document that is being read.
    file: Cost,
    exhausted: bool,
}

impl Budget {
    /// Spends the cost of a value, if there is enough left.
    pub(super) fn charge(&mut self, cost: Cost, at: &Span) -> Result<(), Diagnostic> {
        self.document.take_in(cost);
        if self.file.nodes + self.document.nodes > limits::FILE_NODES {
            self.exhausted = true;
            return Err(too_much("values in one file, aliases followed", limits::FILE_NODES, at));
        }
        if self.file.bytes + self.document.bytes > limits::FILE_TEXT {
            self.exhausted = true;
            return Err(too_much("bytes of text in one file, aliases followed", limits::FILE_TEXT, at));
        }
        if self.document.nodes > limits::DOCUMENT_NODES {
            return Err(too_much("values in one document, aliases followed", limits::DOCUMENT_NODES, at));
        }
        Ok(())
    }

    /// Goes on with the next document.
    pub(super) fn next_document(&mut self) {
        self.file.take_in(std::mem::take(&mut self.document));
    }

    /// Whether nothing is left for a further document.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted
    }
}

pub(super) fn too_much(what: &str, most: usize, at: &Span) -> Diagnostic {
    Diagnostic::error(Code::TooMuch, format!("more than {most} {what}")).at(at, "here it was too much")
}
