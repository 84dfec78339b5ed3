//! Diagnostics as text: in full as compilers show them, or one line each.
//!
//! The source is asked of the caller, who may have none any more, or a newer one: then the place is
//! told without showing the line. Control characters in what users wrote are made visible, so that a
//! manifest cannot write to a terminal.

use crate::diag::{Diagnostic, Label};
use crate::span::{Position, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::ops::Range;
use std::sync::Arc;

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    Plain,
    /// With ANSI colours.
    Coloured,
}

/// Shows a diagnostic with the lines it is about; ends with a newline. `source` gives the text of a
/// file by its name in the spans.
pub fn render(
    diagnostic: &Diagnostic,
    style: Style,
    mut source: impl FnMut(&str) -> Option<Arc<str>>,
) -> String {
    let level = if diagnostic.is_error() { Level::ERROR } else { Level::WARNING };
    let title = harmless(&diagnostic.message);
    let files = by_file(diagnostic);
    let excerpts: Vec<Excerpt<'_>> =
        files.into_iter().map(|labels| Excerpt::new(labels, &mut source)).collect();
    let mut group =
        level.primary_title(title).id(diagnostic.code.as_str()).elements(std::iter::empty::<Origin<'_>>());
    for excerpt in &excerpts {
        group = excerpt.add_to(group);
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(harmless(help)));
    }
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let mut text = renderer.render(&[group]);
    text.push('\n');
    text
}

/// Shows a diagnostic in one line, `file:line:column: error[VZ0101]: message`, without a newline.
pub fn render_short(diagnostic: &Diagnostic) -> String {
    let (severity, code) = (diagnostic.severity.as_str(), diagnostic.code);
    let message = harmless(&diagnostic.message);
    match &diagnostic.primary {
        Some(label) => format!("{}: {severity}[{code}]: {message}", harmless(&label.span.to_string())),
        None => format!("{severity}[{code}]: {message}"),
    }
}

/// The text with control characters, and those that turn the direction of writing, made visible.
pub fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        let invisible = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || invisible {
            harmless.extend(c.escape_default());
        } else {
            harmless.push(c);
        }
    }
    harmless
}

/// The labels of a diagnostic by file, the primary one's file first.
fn by_file(diagnostic: &Diagnostic) -> Vec<Vec<(&Label, AnnotationKind)>> {
    let primary = diagnostic.primary.iter().map(|label| (label, AnnotationKind::Primary));
    let secondary = diagnostic.secondary.iter().map(|label| (label, AnnotationKind::Context));
    let mut files: Vec<Vec<(&Label, AnnotationKind)>> = Vec::new();
    for (label, kind) in primary.chain(secondary) {
        match files.iter_mut().find(|labels| labels[0].0.span.file == label.span.file) {
            Some(labels) => labels.push((label, kind)),
            None => files.push(vec![(label, kind)]),
        }
    }
    files
}

/// What is shown of one file.
struct Excerpt<'d> {
    path: String,
    labels: Vec<(&'d Label, AnnotationKind)>,
    /// The lines from the first place to the last, and the number of the first.
    lines: Option<(String, u32)>,
}

/// More lines between two places of one file, and longer ones, are not shown.
const MOST_LINES: u32 = 2000;
const MOST_BYTES: usize = 32 << 10;

impl<'d> Excerpt<'d> {
    fn new(
        labels: Vec<(&'d Label, AnnotationKind)>,
        source: &mut impl FnMut(&str) -> Option<Arc<str>>,
    ) -> Self {
        let starts = || labels.iter().map(|(label, _)| label.span.start.line);
        let (first, last) = (starts().min().unwrap_or(1).max(1), starts().max().unwrap_or(1));
        let file = &labels[0].0.span.file;
        let lines = source(file).filter(|_| last - first <= MOST_LINES).and_then(|text| {
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            let count = usize::try_from(last - first).ok()? + 1;
            let lines: Vec<&str> = text.lines().skip(usize::try_from(first).ok()? - 1).take(count).collect();
            // Fewer lines than there were: it is not the text that was read.
            let shown =
                lines.len() == count && lines.iter().map(|line| line.len()).sum::<usize>() <= MOST_BYTES;
            shown.then(|| (lines.join("\n"), first))
        });
        Self { path: harmless(file), labels, lines }
    }

    fn add_to<'s>(&'s self, mut group: Group<'s>) -> Group<'s> {
        if let Some((text, first)) = &self.lines {
            let annotations = self.labels.iter().map(|(label, kind)| {
                let annotation = kind.span(range(text, *first, &label.span));
                let said = (!label.text.is_empty()).then(|| harmless(&label.text));
                annotation.label(said.map(std::borrow::Cow::Owned))
            });
            let line = usize::try_from(*first).unwrap_or(1);
            return group.element(
                Snippet::source(text.as_str())
                    .line_start(line)
                    .path(self.path.as_str())
                    .annotations(annotations),
            );
        }
        for (label, _) in &self.labels {
            let Position { line, column } = label.span.start;
            let origin = Origin::path(self.path.as_str())
                .line(usize::try_from(line).unwrap_or(1))
                .char_column(usize::try_from(column).unwrap_or(1));
            group = group.element(origin);
            if !label.text.is_empty() {
                group = group.element(Level::NOTE.message(harmless(&label.text)));
            }
        }
        group
    }
}

/// The bytes of a span in a text that begins with line `first`; what goes on for several lines is
/// only marked on its first.
fn range(text: &str, first: u32, span: &Span) -> Range<usize> {
    let above = usize::try_from(span.start.line - first).unwrap_or(0);
    let line_start = text.split_inclusive('\n').take(above).map(str::len).sum::<usize>();
    let line = text[line_start..].split('\n').next().unwrap_or_default();
    let byte = |column: u32| {
        let skip = usize::try_from(column).unwrap_or(1).saturating_sub(1);
        line_start + line.char_indices().nth(skip).map_or(line.len(), |(at, _)| at)
    };
    let start = byte(span.start.column);
    let end = if span.end.line == span.start.line {
        byte(span.end.column)
    } else {
        line_start + line.trim_end().len()
    };
    start..end.max(start)
}
