//! YAML as it was written: which bytes each key and value takes, and in which style.
//!
//! For changing a text in place. Anchors, aliases and merge keys stay what they are here; whoever wants
//! to know what a document means reads the tree that `build` makes.

use super::limits;
use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};

/// A value and the bytes it takes.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// Its first byte.
    pub(crate) start: usize,
    /// The byte after its last that is not white space.
    pub(crate) end: usize,
    /// The byte after all that belongs to it: the blank lines at the end of a block of text too.
    pub(crate) full_end: usize,
    pub(crate) kind: WrittenKind,
}

#[derive(Debug, Clone)]
pub(crate) enum WrittenKind {
    Scalar { text: String, style: ScalarStyle },
    Alias,
    Seq { flow: bool, items: Vec<Written> },
    Map { flow: bool, entries: Vec<WrittenEntry> },
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct WrittenEntry {
    pub(crate) key: Written,
    pub(crate) value: Written,
}

impl WrittenEntry {
    /// The key, if it is a word.
    pub(crate) fn name(&self) -> Option<&str> {
        if let WrittenKind::Scalar { text, .. } = &self.key.kind { Some(text) } else { None }
    }
}

impl Written {
    /// Whether nothing at all is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether it is a list or map whose items stand on lines of their own.
    pub(crate) fn is_block(&self) -> bool {
        matches!(self.kind, WrittenKind::Seq { flow: false, .. } | WrittenKind::Map { flow: false, .. })
    }
}

/// A list or map that has begun.
struct Frame {
    start: usize,
    flow: bool,
    map: bool,
    /// Of a map, keys and values by turns.
    nodes: Vec<Written>,
}

/// The documents of a text that is known to be good; `None` if it is not after all.
pub(crate) fn written(text: &str) -> Option<Vec<Written>> {
    let options = granit_parser::options! {
        flow_nesting_limit: limits::DEPTH,
        block_nesting_limit: limits::DEPTH,
        emit_comments: false,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let (mut documents, mut frames) = (Vec::new(), Vec::<Frame>::new());
    while let Some(next) = parser.next_event() {
        let (event, at) = next.ok()?;
        let (start, end) = (at.start.byte_offset()?, at.end.byte_offset()?);
        let node = match event {
            Event::Scalar(value, style, ..) => scalar(text, value.into_owned(), style, start, end)?,
            Event::Alias(_) => Written { start, end, full_end: end, kind: WrittenKind::Alias },
            Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) => {
                let map = matches!(event, Event::MappingStart(..));
                frames.push(Frame { start, flow: style == StructureStyle::Flow, map, nodes: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => finish(frames.pop()?, end),
            _ => continue,
        };
        match frames.last_mut() {
            Some(frame) => frame.nodes.push(node),
            None => documents.push(node),
        }
    }
    Some(documents)
}

fn scalar(text: &str, value: String, style: ScalarStyle, start: usize, end: usize) -> Option<Written> {
    let slice = text.get(start..end)?;
    let kind = WrittenKind::Scalar { text: value, style };
    let trimmed = start + slice.trim_end().len();
    let (start, full_end) = match style {
        // The parser may have gone on to the indentation of what follows.
        ScalarStyle::Literal | ScalarStyle::Folded => {
            (block_header(text, start)?, start + slice.trim_end_matches(' ').len())
        }
        _ => (start, trimmed),
    };
    Some(Written { start, end: trimmed, full_end: full_end.max(trimmed), kind })
}

/// Where the `|` or `>` is of a block of text that begins there: on the last line before it that is not blank.
fn block_header(text: &str, start: usize) -> Option<usize> {
    let before = text.get(..start)?.rsplit_once('\n')?.0.trim_end();
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    let is_header = |at: usize| {
        let rest =
            before[at + 1..].trim_start_matches(['+', '-', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
        rest.is_empty() || rest.starts_with([' ', '\t']) && rest.trim_start().starts_with('#')
    };
    let marks = before[line..].match_indices(['|', '>']).map(|(at, _)| line + at);
    marks.into_iter().find(|at| is_header(*at))
}

fn finish(frame: Frame, end: usize) -> Written {
    let Frame { start, flow, map, nodes } = frame;
    let (last_end, last_full) = nodes.last().map_or((end, end), |last| (last.end, last.full_end));
    // In block style the event is where the next thing begins.
    let (end, full_end) = if flow { (end, end) } else { (last_end, last_full) };
    let kind = if map {
        let mut entries = Vec::with_capacity(nodes.len() / 2);
        let mut nodes = nodes.into_iter();
        while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
            entries.push(WrittenEntry { key, value });
        }
        WrittenKind::Map { flow, entries }
    } else {
        WrittenKind::Seq { flow, items: nodes }
    };
    Written { start, end, full_end, kind }
}
