//! A file's text to the trees of its documents; after an error of syntax, on with the next document.

use super::budget::too_much;
use super::build::{Builder, Tree, position};
use super::limits;
use crate::code::Code;
use crate::diag::Diagnostic;
use crate::span::{Position, Span};
use granit_parser::{ErrorKind, Event, Parser, ScanError};
use std::sync::Arc;

/// The trees of a file, and what is wrong with it as YAML.
pub(crate) struct Stream {
    pub(crate) documents: Vec<Tree>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Whether the text was read to its end without an error of syntax or limits.
    pub(crate) whole: bool,
}

/// Reads the documents of a text.
pub(crate) fn build(file: &Arc<str>, text: &str) -> Stream {
    let options = granit_parser::options! {
        flow_nesting_limit: limits::DEPTH,
        block_nesting_limit: limits::DEPTH,
        emit_comments: false,
    };
    let mut builder = Builder::new(file);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut stream = Stream { documents: Vec::new(), diagnostics: Vec::new(), whole: true };
    while let Some(next) = parser.next_event() {
        let step = match next {
            Ok((Event::DocumentStart(..), at)) if stream.documents.len() == limits::DOCUMENTS => {
                let span =
                    Span { file: Arc::clone(file), start: position(&at.start), end: position(&at.end) };
                stream.diagnostics.push(too_much("documents in one file", limits::DOCUMENTS, &span));
                stream.whole = false;
                break;
            }
            Ok((event, at)) => builder.event(event, &at),
            Err(wrong) => Err(scan_error(file, &wrong)),
        };
        if let Err(stop) = step {
            stream.diagnostics.append(&mut builder.problems);
            stream.diagnostics.push(stop);
            stream.whole = false;
            stream.documents.extend(builder.abandon());
            if builder.budget.is_exhausted() || !matches!(parser.proceed_next_document(), Ok(true)) {
                break;
            }
        }
        if let Some(tree) = builder.finished.take() {
            stream.diagnostics.append(&mut builder.problems);
            stream.documents.push(tree);
        }
    }
    stream
}

fn scan_error(file: &Arc<str>, wrong: &ScanError) -> Diagnostic {
    let start = position(wrong.marker());
    let end = Position { column: start.column.saturating_add(1), ..start };
    let span = Span { file: Arc::clone(file), start, end };
    match wrong.kind() {
        ErrorKind::RecursionLimitExceeded => too_much("levels of lists and maps", limits::DEPTH, &span),
        ErrorKind::UnknownAnchor => {
            Diagnostic::error(Code::Syntax, "the alias names no anchor of this document").at(&span, "")
        }
        ErrorKind::TabInBlockIndentation | ErrorKind::TabNotAllowed => {
            Diagnostic::error(Code::Syntax, "a tab is used for indentation")
                .at(&span, "")
                .help("indent with spaces")
        }
        kind => Diagnostic::error(Code::Syntax, format!("not valid YAML: {kind}")).at(&span, ""),
    }
}
