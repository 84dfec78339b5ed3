//! Changing a manifest in place: fields are set and taken out, and everything else stays as it was
//! written: comments, order, quotes, line ends.
//!
//! No edit is believed: after each, the text is read again and compared with what it was to say, in all
//! documents of the file. What cannot be changed in place (because it is shared by an anchor, or stands
//! in an unusual style) is refused at its line. Pure: nothing is read or written here.

mod clone;
mod emit;
mod splice;
mod value;

pub use clone::{NewVe, clone};
pub use emit::document as to_yaml;
pub use value::Value;

use crate::code::Code;
use crate::diag::Diagnostic;
use crate::document::parse;
use crate::span::Span;
use crate::v1::Kind;
use crate::yaml::{self, Node, Tree, TreeState};
use splice::Place;
use std::sync::Arc;

/// One change of a document. Steps of a path are keys, and numbers in lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make a field say this; of a list, what is in both stays where it is.
    Set(Vec<String>, Value),
    /// Take a field out, if it is there, and the maps that have nothing left then.
    Remove(Vec<String>),
}

impl Change {
    /// Sets the field at a path such as `spec.cpu.cpus`.
    pub fn set(path: &str, value: Value) -> Self {
        Self::Set(steps(path), value)
    }

    /// Takes out the field at such a path.
    pub fn remove(path: &str) -> Self {
        Self::Remove(steps(path))
    }

    fn path(&self) -> &[String] {
        let (Self::Set(path, _) | Self::Remove(path)) = self;
        path
    }
}

/// The steps of a path. What follows `metadata.labels.` and `metadata.annotations.` is one key, dots and all,
/// and so is a name of a setting of the network.
pub fn steps(path: &str) -> Vec<String> {
    for map in ["metadata.labels", "metadata.annotations", "spec.network.sysctls"] {
        if let Some(key) = path.strip_prefix(map).and_then(|rest| rest.strip_prefix('.')) {
            return map.split('.').chain([key]).map(str::to_owned).collect();
        }
    }
    yaml::path_steps(path).map(str::to_owned).collect()
}

/// Carries out changes of the document of that kind and name, one after the other, and gives the new text.
///
/// The text stays as it is if all is said already.
///
/// # Errors
///
/// The text is no manifest, has no such document, cannot be changed in place, or would have errors that it
/// does not have now.
pub fn edit(
    file: &str,
    text: &str,
    (kind, name): (Kind, &str),
    changes: &[Change],
) -> Result<String, Vec<Diagnostic>> {
    let before = parse(file, text.as_bytes());
    let mut new = text.to_owned();
    for change in changes {
        new = one(&file.into(), &new, kind, name, change).map_err(|problem| vec![*problem])?;
    }
    if new == text {
        return Ok(new);
    }
    let known = |problem: &Diagnostic| {
        before.diagnostics.iter().any(|old| old.code == problem.code && old.message == problem.message)
    };
    let after = parse(file, new.as_bytes()).diagnostics.into_iter();
    let wrong: Vec<_> = after.filter(|problem| problem.is_error() && !known(problem)).collect();
    if wrong.is_empty() { Ok(new) } else { Err(wrong) }
}

fn one(
    file: &Arc<str>,
    text: &str,
    kind: Kind,
    name: &str,
    change: &Change,
) -> Result<String, Box<Diagnostic>> {
    let trees = read(file, text)?;
    let at = trees.iter().position(|tree| is_document(&tree.root, kind, name)).ok_or_else(|| {
        let message = format!("there is no {kind} `{name}` in {file}");
        Diagnostic::error(Code::NotEditable, message)
    })?;
    let refuse = |node: &Node| {
        let message = format!("`{}` cannot be changed in place", change.path().join("."));
        Diagnostic::error(Code::NotEditable, message)
            .at(&node.span, "")
            .help("edit the file by hand: the field is shared by an anchor, or written in an unusual style")
    };
    let root = &trees.get(at).ok_or_else(|| Diagnostic::error(Code::NotEditable, "no document"))?.root;
    let said = Value::of(root);
    let mut wanted = said.clone();
    match change {
        Change::Set(path, value) => {
            wanted.set(path, value.clone()).ok_or_else(|| refuse(nearest(root, path)))?;
        }
        Change::Remove(path) => wanted.remove(path),
    }
    if wanted.says_the_same(&said) {
        return Ok(text.to_owned());
    }
    // First in small steps; then, where that is not to be had, the whole value anew.
    for primitives in [in_steps(&said, change), vec![Primitive::whole(change)]] {
        let Some(new) = primitives.iter().try_fold(text.to_owned(), |text, step| step.carry_out(&text, at))
        else {
            continue;
        };
        let Ok(after) = read(file, &new) else { continue };
        let others = |(n, (a, b)): (usize, (&Tree, &Tree))| {
            let is = Value::of(&b.root);
            if n == at { is.says_the_same(&wanted) } else { is.says_the_same(&Value::of(&a.root)) }
        };
        if trees.len() == after.len() && trees.iter().zip(&after).enumerate().all(others) {
            return Ok(new);
        }
    }
    Err(Box::new(refuse(nearest(root, change.path()))))
}

/// The trees of a text that has no errors as YAML.
fn read(file: &Arc<str>, text: &str) -> Result<Vec<Tree>, Box<Diagnostic>> {
    let stream = yaml::build(file, text.strip_prefix('\u{feff}').unwrap_or(text));
    let flawed = stream.documents.iter().any(|tree| tree.state != TreeState::Good);
    match stream.diagnostics.into_iter().find(Diagnostic::is_error) {
        Some(problem) => Err(Box::new(problem)),
        None if !stream.whole || flawed => {
            let problem = Diagnostic::error(Code::NotEditable, format!("{file} has errors"));
            Err(Box::new(problem.at(&Span::start_of(file), "")))
        }
        None => Ok(stream.documents),
    }
}

fn is_document(root: &Node, kind: Kind, name: &str) -> bool {
    root.get("kind").and_then(Node::text) == Some(kind.as_str())
        && root.get("metadata.name").and_then(Node::text) == Some(name)
}

/// The deepest node on the way.
fn nearest<'n>(root: &'n Node, path: &[String]) -> &'n Node {
    let mut node = root;
    for step in path {
        let next = match step.parse::<usize>() {
            Ok(index) if !node.items().is_empty() => node.items().get(index),
            _ => node.entry(step).map(|entry| &entry.value),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

/// One change of the text.
enum Primitive {
    Set(Vec<String>, Value),
    Remove(Vec<String>),
    Insert(Vec<String>, usize, Value),
}

impl Primitive {
    fn whole(change: &Change) -> Self {
        match change {
            Change::Set(path, value) => Self::Set(path.clone(), value.clone()),
            Change::Remove(path) => Self::Remove(path.clone()),
        }
    }

    fn carry_out(&self, text: &str, document: usize) -> Option<String> {
        let (mark, body) = match text.strip_prefix('\u{feff}') {
            Some(body) => ("\u{feff}", body),
            None => ("", text),
        };
        let documents = yaml::written(body)?;
        let newline = if body.contains("\r\n") { "\r\n" } else { "\n" };
        let place = Place { text: body, root: documents.get(document)?, newline, step: step(body) };
        let splices = match self {
            Self::Set(path, value) => place.set(path, value),
            Self::Remove(path) => place.remove(path),
            Self::Insert(path, at, value) => place.insert_item(path, *at, value),
        };
        Some(format!("{mark}{}", splice::apply(body, splices?)?))
    }
}

/// A change in small steps: of a list, item by item.
fn in_steps(said: &Value, change: &Change) -> Vec<Primitive> {
    let (path, old, new) = match change {
        Change::Set(path, Value::Seq(new)) => match said.get(path) {
            Some(Value::Seq(old)) if !old.is_empty() && !new.is_empty() => (path, old, new),
            _ => return vec![Primitive::whole(change)],
        },
        _ => return vec![Primitive::whole(change)],
    };
    let merged = merged(old, new);
    let insert = merged
        .iter()
        .enumerate()
        .filter(|(_, (_, origin))| *origin == Origin::New)
        .map(|(at, (item, _))| Primitive::Insert(path.clone(), at, (*item).clone()));
    let remove = merged.iter().enumerate().rev().filter(|(_, (_, origin))| *origin == Origin::Old);
    let remove =
        remove.map(|(at, _)| Primitive::Remove(path.iter().cloned().chain([at.to_string()]).collect()));
    insert.chain(remove).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Old,
    Both,
    New,
}

/// Both lists in one, by their longest common subsequence.
fn merged<'v>(old: &'v [Value], new: &'v [Value]) -> Vec<(&'v Value, Origin)> {
    let width = new.len() + 1;
    let mut common = vec![0_usize; (old.len() + 1) * width];
    let at = |i: usize, j: usize| i * width + j;
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[at(i, j)] = if old[i].says_the_same(&new[j]) {
                common[at(i + 1, j + 1)] + 1
            } else {
                common[at(i + 1, j)].max(common[at(i, j + 1)])
            };
        }
    }
    let (mut i, mut j, mut merged) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i].says_the_same(&new[j]) {
            merged.push((&old[i], Origin::Both));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[at(i + 1, j)] >= common[at(i, j + 1)] {
            merged.push((&old[i], Origin::Old));
            i += 1;
        } else {
            merged.push((&new[j], Origin::New));
            j += 1;
        }
    }
    merged
}

/// By how much a text indents.
fn step(text: &str) -> usize {
    let margins = text.lines().filter_map(|line| {
        let margin = line.len() - line.trim_start_matches(' ').len();
        let first = line.get(margin..)?.chars().next()?;
        (margin > 0 && first != '#' && first != '-').then_some(margin)
    });
    margins.min().filter(|margin| *margin <= 8).unwrap_or(2)
}
