//! The parser's events to a tree: anchors and merge keys resolved, keys checked, the cost counted.
//!
//! A document that cannot be finished (bad syntax, too much) still yields the tree of what was read
//! before, so that its kind and name can be told.

use super::budget::{Budget, Cost, too_much};
use super::limits;
use super::node::{Entry, Key, Node, NodeKind};
use super::text::narrow;
use crate::code::Code;
use crate::diag::Diagnostic;
use crate::span::{Position, Span};
use crate::yaml::shared::shared;
use granit_parser::{Event, Marker, ScalarStyle};
use std::collections::HashMap;
use std::sync::Arc;

/// One document as a tree.
pub(crate) struct Tree {
    pub(crate) root: Node,
    pub(crate) state: TreeState,
}

/// How much of what was written a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TreeState {
    /// All of it.
    Good,
    /// All of it, but for what was refused at its place (a key written twice, a tag).
    Flawed,
    /// What came before an error that ended the document.
    CutShort,
}

/// Puts trees together, one after the other.
pub(super) struct Builder<'f> {
    file: &'f Arc<str>,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, Cost)>,
    state: TreeState,
    pub(super) budget: Budget,
    /// What was found wrong without ending the document.
    pub(super) problems: Vec<Diagnostic>,
    /// The tree, once it is complete.
    pub(super) finished: Option<Tree>,
}

/// A list or map that has begun.
struct Frame {
    start: Position,
    end: Position,
    anchor: usize,
    cost: Cost,
    kind: FrameKind,
}

enum FrameKind {
    Seq(Vec<Node>),
    Map { entries: Vec<Entry>, known: HashMap<Arc<str>, usize>, key: Option<Key>, merges: Vec<Node> },
}

impl<'f> Builder<'f> {
    pub(super) fn new(file: &'f Arc<str>) -> Self {
        Self {
            file,
            frames: Vec::new(),
            anchors: HashMap::new(),
            state: TreeState::Good,
            budget: Budget::default(),
            problems: Vec::new(),
            finished: None,
        }
    }

    /// Takes one event; an error ends the document.
    pub(super) fn event(&mut self, event: Event<'_>, at: &granit_parser::Span) -> Result<(), Diagnostic> {
        if event.tag().is_some() {
            let span = self.span(&at.tag_start.unwrap_or(at.start), &at.start);
            self.refuse(&span, "a tag", "leave it out: the type of a value follows from its field");
        }
        let (start, end) = (position(&at.start), position(&at.end));
        match event {
            Event::Scalar(text, style, anchor, _) => self.scalar(&text, style, anchor, start, end),
            Event::Alias(anchor) => self.alias(anchor, start, end),
            Event::SequenceStart(_, anchor, _) => self.open(FrameKind::Seq(Vec::new()), anchor, start, end),
            Event::MappingStart(_, anchor, _) => {
                let kind = FrameKind::Map {
                    entries: Vec::new(),
                    known: HashMap::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(kind, anchor, start, end)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                // In block style the end is where the next thing begins: the last item's end tells more.
                let flow = end != start;
                self.close(flow.then_some(end))
            }
            Event::DocumentEnd => {
                self.next_document();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        start: Position,
        end: Position,
    ) -> Result<(), Diagnostic> {
        let span = Span { file: Arc::clone(self.file), start, end };
        if text.len() > limits::SCALAR_BYTES {
            return Err(too_much("bytes in one value", limits::SCALAR_BYTES, &span));
        }
        if text.contains('\0') {
            let wrong = Diagnostic::error(Code::Encoding, "the value holds a NUL character").at(&span, "");
            self.problems.push(wrong);
            self.state = TreeState::Flawed;
        }
        let cost = Cost::of_text(text);
        self.budget.charge(cost, &span)?;
        let plain = style == ScalarStyle::Plain;
        if let Some(Frame { kind: FrameKind::Map { key: key @ None, .. }, cost: total, .. }) =
            self.frames.last_mut()
        {
            *key = Some(Key { span, text: shared(text) });
            total.take_in(cost);
            return if anchor == 0 { Ok(()) } else { self.anchored_key() };
        }
        let kind = match text {
            "" | "~" | "null" | "Null" | "NULL" if plain => NodeKind::Null,
            _ => NodeKind::Scalar { text: text.into(), plain },
        };
        self.add(Node { span, kind }, cost, anchor)
    }

    fn alias(&mut self, anchor: usize, start: Position, end: Position) -> Result<(), Diagnostic> {
        let span = Span { file: Arc::clone(self.file), start, end };
        if self.at_key() {
            return Err(unsupported(&span, "an alias as a key", "write the key itself"));
        }
        let Some((node, cost)) = self.anchors.get(&anchor).cloned() else {
            return Err(unsupported(
                &span,
                "an alias inside of what it stands for",
                "a value cannot hold itself",
            ));
        };
        self.budget.charge(cost, &span)?;
        self.add(node, cost, 0)
    }

    fn open(
        &mut self,
        kind: FrameKind,
        anchor: usize,
        start: Position,
        end: Position,
    ) -> Result<(), Diagnostic> {
        let span = Span { file: Arc::clone(self.file), start, end };
        if self.at_key() {
            return Err(unsupported(
                &span,
                "a list or map as a key",
                "a key is a word; a value in braces may need quotes",
            ));
        }
        let cost = Cost { nodes: 1, ..Cost::default() };
        self.budget.charge(cost, &span)?;
        if self.frames.len() >= limits::DEPTH {
            return Err(too_much("levels of lists and maps", limits::DEPTH, &span));
        }
        self.frames.push(Frame { start, end, anchor, cost, kind });
        Ok(())
    }

    fn close(&mut self, end: Option<Position>) -> Result<(), Diagnostic> {
        let Some(mut frame) = self.frames.pop() else { return Ok(()) };
        frame.end = end.unwrap_or(frame.end);
        let anchor = frame.anchor;
        let cost = Cost { depth: frame.cost.depth + 1, ..frame.cost };
        let node = self.finish(frame);
        self.add(node, cost, anchor)
    }

    /// The frame as a node, its merge keys expanded.
    fn finish(&mut self, frame: Frame) -> Node {
        let span = Span { file: Arc::clone(self.file), start: frame.start, end: frame.end };
        let kind = match frame.kind {
            FrameKind::Seq(items) => NodeKind::Seq(items.into()),
            FrameKind::Map { mut entries, mut known, merges, .. } => {
                for merged in &merges {
                    self.merge(merged, &mut entries, &mut known);
                }
                NodeKind::Map(entries.into())
            }
        };
        Node { span, kind }
    }

    /// Adds the entries of a `<<` that the map does not have.
    fn merge(&mut self, merged: &Node, entries: &mut Vec<Entry>, known: &mut HashMap<Arc<str>, usize>) {
        let maps = if let NodeKind::Seq(items) = &merged.kind { items } else { std::slice::from_ref(merged) };
        for map in maps {
            let NodeKind::Map(theirs) = &map.kind else {
                let wrong = Diagnostic::error(Code::WrongType, "`<<` takes a map, or a list of maps");
                self.problems.push(wrong.at(&map.span, "this is neither"));
                self.state = TreeState::Flawed;
                continue;
            };
            for entry in theirs.iter() {
                if !known.contains_key(&entry.key.text) {
                    known.insert(Arc::clone(&entry.key.text), entries.len());
                    entries.push(entry.clone());
                }
            }
        }
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, cost: Cost, anchor: usize) -> Result<(), Diagnostic> {
        if self.frames.len() + cost.depth > limits::DEPTH {
            return Err(too_much("levels of lists and maps", limits::DEPTH, &node.span));
        }
        if anchor != 0 {
            if self.anchors.len() >= limits::ANCHORS {
                return Err(too_much("anchors in one document", limits::ANCHORS, &node.span));
            }
            self.anchors.insert(anchor, (node.clone(), cost));
        }
        let Some(frame) = self.frames.last_mut() else {
            self.finished = Some(Tree { root: node, state: self.state });
            return Ok(());
        };
        frame.end = frame.end.max(node.span.end);
        frame.cost.take_in(cost);
        match &mut frame.kind {
            FrameKind::Seq(items) => items.push(node),
            FrameKind::Map { entries, known, key, merges } => {
                let Some(key) = key.take() else { return Ok(()) };
                if let Some(&first) = known.get(&key.text) {
                    let first = entries.get(first).map_or(&key.span, |entry| &entry.key.span);
                    let wrong =
                        Diagnostic::error(Code::DuplicateKey, format!("`{}` is written twice", key.text))
                            .at(&key.span, "written again here")
                            .also(first, "first written here")
                            .help("keep one of the two");
                    self.problems.push(wrong);
                    self.state = TreeState::Flawed;
                } else if &*key.text == "<<" {
                    known.insert(Arc::clone(&key.text), usize::MAX);
                    merges.push(node);
                } else {
                    known.insert(Arc::clone(&key.text), entries.len());
                    entries.push(Entry { key, value: node });
                }
            }
        }
        Ok(())
    }

    /// Ends the document where it is, and gives what there is of it.
    pub(super) fn abandon(&mut self) -> Option<Tree> {
        while let Some(frame) = self.frames.pop() {
            let node = self.finish(frame);
            match self.frames.last_mut().map(|parent| &mut parent.kind) {
                Some(FrameKind::Seq(items)) => items.push(node),
                Some(FrameKind::Map { entries, key, known, .. }) => {
                    if let Some(key) = key.take().filter(|key| !known.contains_key(&key.text)) {
                        entries.push(Entry { key, value: node });
                    }
                }
                None => self.finished = Some(Tree { root: node, state: TreeState::CutShort }),
            }
        }
        self.next_document();
        self.finished.take()
    }

    fn next_document(&mut self) {
        self.budget.next_document();
        self.anchors.clear();
        self.state = TreeState::Good;
    }

    /// Whether the next node would be a key.
    fn at_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { kind: FrameKind::Map { key: None, .. }, .. }))
    }

    fn anchored_key(&mut self) -> Result<(), Diagnostic> {
        let span = match self.frames.last() {
            Some(Frame { kind: FrameKind::Map { key: Some(key), .. }, .. }) => key.span.clone(),
            _ => Span::start_of(self.file),
        };
        Err(unsupported(&span, "an anchor on a key", "anchors stand on values"))
    }

    fn refuse(&mut self, span: &Span, what: &str, help: &str) {
        self.problems.push(unsupported(span, what, help));
        self.state = TreeState::Flawed;
    }

    fn span(&self, start: &Marker, end: &Marker) -> Span {
        Span { file: Arc::clone(self.file), start: position(start), end: position(end) }
    }
}

fn unsupported(span: &Span, what: &str, help: &str) -> Diagnostic {
    Diagnostic::error(Code::YamlFeature, format!("a manifest may not use {what}")).at(span, "").help(help)
}

pub(super) fn position(marker: &Marker) -> Position {
    Position { line: narrow(marker.line()), column: narrow(marker.col().saturating_add(1)) }
}
