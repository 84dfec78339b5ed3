//! Where a text has to be changed so that it says something else: the smallest stretches.
//!
//! Pure text: what comes of it is read again and compared by the caller, so that an unforeseen style is
//! a refusal and never a wrong manifest.

use super::emit::{block, entry, flow, flow_entry, scalar_like};
use super::value::Value;
use crate::yaml::{ScalarStyle, Written, WrittenEntry, WrittenKind};
use std::ops::Range;

/// Bytes that are exchanged for a text.
#[derive(Debug)]
pub(super) struct Splice {
    range: Range<usize>,
    text: String,
}

impl Splice {
    fn put(at: usize, text: String) -> Self {
        Self { range: at..at, text }
    }

    fn cut(range: Range<usize>) -> Self {
        Self { range, text: String::new() }
    }
}

/// The text with all that exchanged.
pub(super) fn apply(text: &str, mut splices: Vec<Splice>) -> Option<String> {
    let mut text = text.to_owned();
    splices.sort_by_key(|splice| splice.range.start);
    for splice in splices.into_iter().rev() {
        text.get(splice.range.clone())?;
        text.replace_range(splice.range, &splice.text);
    }
    Some(text)
}

/// One document of a text.
pub(super) struct Place<'t> {
    pub(super) text: &'t str,
    pub(super) root: &'t Written,
    pub(super) newline: &'static str,
    /// Spaces by which a map is deeper than what it belongs to.
    pub(super) step: usize,
}

impl Place<'_> {
    /// Puts a value at a path.
    pub(super) fn set(&self, path: &[String], value: &Value) -> Option<Vec<Splice>> {
        let mut node = self.root;
        for (depth, step) in path.iter().enumerate() {
            let rest = path.get(depth + 1..)?;
            match &node.kind {
                WrittenKind::Map { flow: within, entries } => {
                    let Some(known) = entries.iter().find(|entry| entry.name() == Some(step)) else {
                        return self.insert_entry(node, entries, *within, step, &nest(rest, value));
                    };
                    if rest.is_empty() || is_null(&known.value) {
                        return self.replace(known, *within, &nest(rest, value));
                    }
                    node = &known.value;
                }
                WrittenKind::Seq { flow: within, items } => {
                    let item = items.get(step.parse::<usize>().ok()?)?;
                    if rest.is_empty() {
                        return replace_item(item, *within, value);
                    }
                    node = item;
                }
                _ => return None,
            }
        }
        None
    }

    /// Takes out an entry of a map, or an item of a list. Maps are not left empty by it.
    pub(super) fn remove(&self, path: &[String]) -> Option<Vec<Splice>> {
        let (last, parents) = path.split_last()?;
        let parent = self.find(parents)?;
        match &parent.kind {
            WrittenKind::Map { flow, entries } => {
                let at = entries.iter().position(|entry| entry.name() == Some(last))?;
                let entry = entries.get(at)?;
                if entries.len() == 1 && parents.len() > 1 {
                    return self.remove(parents);
                }
                if entries.len() == 1 && parents.len() == 1 {
                    return self.set(parents, &Value::Map(Vec::new()));
                }
                if *flow {
                    let spans: Vec<_> =
                        entries.iter().map(|entry| (entry.key.start, self.entry_end(entry))).collect();
                    return self.remove_in_flow(&spans, at);
                }
                self.remove_line(entry.key.start, self.entry_end(entry)).or_else(|| {
                    // The first key of an item of a list stands behind the dash.
                    let next = entries.get(at + 1)?.key.start;
                    let between = self.text.get(self.line_end(self.entry_end(entry))..next)?;
                    between.trim().is_empty().then(|| vec![Splice::cut(entry.key.start..next)])
                })
            }
            WrittenKind::Seq { flow, items } => {
                let at = last.parse::<usize>().ok()?;
                let item = items.get(at)?;
                if *flow {
                    let spans: Vec<_> = items.iter().map(|item| (item.start, item.end)).collect();
                    return self.remove_in_flow(&spans, at);
                }
                self.remove_line(self.dash(item)?, item.end)
            }
            _ => None,
        }
    }

    /// Puts an item into a list that has some.
    pub(super) fn insert_item(&self, path: &[String], at: usize, value: &Value) -> Option<Vec<Splice>> {
        let list = self.find(path)?;
        let WrittenKind::Seq { flow: within, items } = &list.kind else { return None };
        if *within {
            let spans: Vec<_> = items.iter().map(|item| (item.start, item.end)).collect();
            return self.insert_in_flow(list, &spans, at, &flow(value, true));
        }
        let column = self.column(self.dash(items.first()?)?);
        let line = format!("{}- {}{}", " ".repeat(column), flow(value, false), self.newline);
        Some(match at.checked_sub(1) {
            Some(before) => self.put_line_after(items.get(before)?.full_end, line),
            None => vec![Splice::put(self.line_start(self.dash(items.first()?)?), line)],
        })
    }

    fn find(&self, path: &[String]) -> Option<&Written> {
        path.iter().try_fold(self.root, |node, step| match &node.kind {
            WrittenKind::Map { entries, .. } => {
                entries.iter().find(|entry| entry.name() == Some(step)).map(|entry| &entry.value)
            }
            WrittenKind::Seq { items, .. } => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    fn insert_entry(
        &self,
        map: &Written,
        entries: &[WrittenEntry],
        within: bool,
        key: &str,
        value: &Value,
    ) -> Option<Vec<Splice>> {
        if within {
            let spans: Vec<_> =
                entries.iter().map(|entry| (entry.key.start, self.entry_end(entry))).collect();
            return self.insert_in_flow(map, &spans, spans.len(), &flow_entry(key, value));
        }
        let (first, last) = (entries.first()?, entries.last()?);
        let column = self.column(first.key.start);
        let margin = " ".repeat(column);
        let lines = format!("{margin}{}", entry(key, value, column, self.step, self.newline));
        let end = if last.value.is_empty() { self.entry_end(last) } else { last.value.full_end };
        Some(self.put_line_after(end, lines))
    }

    /// Exchanges the value of an entry.
    fn replace(&self, known: &WrittenEntry, within: bool, value: &Value) -> Option<Vec<Splice>> {
        let old = &known.value;
        let in_line = |text: String| if within { text } else { format!(" {text}") };
        if old.is_empty() || is_null(old) && matches!(value, Value::Map(_)) && !within {
            let Some(colon) = self.colon(known) else {
                return Some(vec![Splice::put(known.key.end, format!(": {}", flow(value, true)))]);
            };
            if !within && is_tall(value) {
                let below = block(value, self.column(known.key.start) + self.step, self.step, self.newline);
                let mut splices = self.put_line_after(colon, below);
                if !old.is_empty() {
                    splices.push(Splice::cut(colon..old.end));
                }
                return Some(splices);
            }
            return Some(vec![Splice::put(colon, format!(" {}", flow(value, within)))]);
        }
        if old.is_block() {
            // What was on lines of its own goes, and the new value comes behind the key.
            let colon = self.colon(known)?;
            if self.line_start(old.start) <= colon {
                return None;
            }
            let mut splices = vec![Splice::cut(self.line_start(old.start)..self.line_end(old.end))];
            splices.push(if is_tall(value) {
                let below = block(value, self.column(known.key.start) + self.step, self.step, self.newline);
                Splice::put(self.line_end(colon), below)
            } else {
                Splice::put(colon, in_line(flow(value, within)))
            });
            return Some(splices);
        }
        replace_item(old, within, value)
    }

    fn remove_line(&self, start: usize, end: usize) -> Option<Vec<Splice>> {
        let line = self.line_start(start);
        let alone = self.text.get(line..start)?.bytes().all(|byte| byte == b' ');
        alone.then(|| vec![Splice::cut(line..self.line_end(end))])
    }

    /// Puts whole lines behind the line on which something ends.
    fn put_line_after(&self, end: usize, lines: String) -> Vec<Splice> {
        let at = self.line_end(end);
        if at > 0 && !self.text[..at].ends_with('\n') {
            let lines = lines.strip_suffix(self.newline).unwrap_or(&lines);
            return vec![Splice::put(at, format!("{}{lines}", self.newline))];
        }
        vec![Splice::put(at, lines)]
    }

    fn insert_in_flow(
        &self,
        list: &Written,
        spans: &[(usize, usize)],
        at: usize,
        text: &str,
    ) -> Option<Vec<Splice>> {
        let Some(before) = at.checked_sub(1) else {
            let Some((first, _)) = spans.first() else {
                return Some(vec![Splice::put(list.start + 1, text.to_owned())]);
            };
            return Some(vec![Splice::put(*first, format!("{text}, "))]);
        };
        let (start, end) = *spans.get(before)?;
        let comma = self.comma(end);
        let next = spans.get(at).map_or(list.end.checked_sub(1)?, |(next, _)| *next);
        if self.line_end(comma.unwrap_or(end)) > next {
            return Some(vec![Splice::put(end, format!(", {text}"))]);
        }
        // What follows is on another line: so is the new one.
        let margin = " ".repeat(self.column(start));
        Some(match comma {
            Some(comma) => {
                vec![Splice::put(self.line_end(comma), format!("{margin}{text},{}", self.newline))]
            }
            None => vec![
                Splice::put(end, ",".to_owned()),
                Splice::put(self.line_end(end), format!("{margin}{text}{}", self.newline)),
            ],
        })
    }

    fn remove_in_flow(&self, spans: &[(usize, usize)], at: usize) -> Option<Vec<Splice>> {
        let (start, end) = *spans.get(at)?;
        if let Some(comma) = self.comma(end) {
            let rest = self.text.get(comma + 1..self.line_end(comma))?.trim();
            if let Some(line) = self.remove_line(start, comma)
                && (rest.is_empty() || rest.starts_with('#'))
            {
                return Some(line);
            }
            let after = self.text.get(comma + 1..)?;
            let spaces = after.len() - after.trim_start_matches(' ').len();
            return Some(vec![Splice::cut(start..comma + 1 + spaces)]);
        }
        let Some(before) = at.checked_sub(1) else { return Some(vec![Splice::cut(start..end)]) };
        let (_, before_end) = *spans.get(before)?;
        let between = self.text.get(before_end..start)?;
        if !between.contains('\n') {
            return Some(vec![Splice::cut(before_end..end)]);
        }
        let comma = self.comma(before_end)?;
        let rest = self.text.get(end..self.line_end(end))?.trim();
        let own = match self.remove_line(start, end) {
            Some(line) if rest.is_empty() || rest.starts_with('#') => line,
            _ => vec![Splice::cut(start..end)],
        };
        Some(own.into_iter().chain([Splice::cut(comma..comma + 1)]).collect())
    }

    /// Where the comma behind something in brackets is, if there is one.
    fn comma(&self, end: usize) -> Option<usize> {
        let mut at = end;
        loop {
            let rest = self.text.get(at..)?;
            let blank = rest.len() - rest.trim_start().len();
            at += blank;
            let rest = self.text.get(at..)?;
            match rest.as_bytes().first()? {
                b',' => return Some(at),
                b'#' => at = self.line_end(at),
                _ => return None,
            }
        }
    }

    /// Behind the colon of an entry; none where the key stands alone in braces.
    fn colon(&self, entry: &WrittenEntry) -> Option<usize> {
        let rest = self.text.get(entry.key.end..)?;
        let at = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        rest.get(at..)?.starts_with(':').then_some(entry.key.end + at + 1)
    }

    fn entry_end(&self, entry: &WrittenEntry) -> usize {
        if entry.value.is_empty() { self.colon(entry).unwrap_or(entry.key.end) } else { entry.value.end }
    }

    /// Where the dash of an item of a block list is.
    fn dash(&self, item: &Written) -> Option<usize> {
        let before = self.text.get(self.line_start(item.start)..item.start)?;
        let trimmed = before.trim_end_matches([' ', '\t']);
        // Only spaces may be before it: otherwise it is a list within a list.
        let margin = trimmed.strip_suffix('-')?;
        margin.bytes().all(|byte| byte == b' ').then_some(self.line_start(item.start) + margin.len())
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Behind the end of the line: `at` itself, if a line begins there.
    fn line_end(&self, at: usize) -> usize {
        if self.text[..at].ends_with('\n') {
            return at;
        }
        self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    fn column(&self, at: usize) -> usize {
        at - self.line_start(at)
    }
}

/// Exchanges a value that is no block for another on its place.
fn replace_item(old: &Written, within: bool, value: &Value) -> Option<Vec<Splice>> {
    if old.is_block() || old.is_empty() {
        return None;
    }
    let style = if let WrittenKind::Scalar { style, .. } = old.kind { style } else { ScalarStyle::Plain };
    let text = scalar_like(value, style, within).unwrap_or_else(|| flow(value, within));
    Some(vec![Splice { range: old.start..old.end, text }])
}

/// Whether it is nicer on lines of its own.
fn is_tall(value: &Value) -> bool {
    match value {
        Value::Map(entries) => !entries.is_empty(),
        Value::Seq(items) => items.iter().any(|item| matches!(item, Value::Map(_) | Value::Seq(_))),
        _ => false,
    }
}

fn is_null(node: &Written) -> bool {
    match &node.kind {
        WrittenKind::Scalar { text, style: ScalarStyle::Plain } => {
            matches!(&**text, "" | "~" | "null" | "Null" | "NULL")
        }
        _ => false,
    }
}

/// The maps that lead from a place to a value below it.
fn nest(path: &[String], value: &Value) -> Value {
    path.iter().rev().fold(value.clone(), |value, key| Value::Map(vec![(key.clone(), value)]))
}
