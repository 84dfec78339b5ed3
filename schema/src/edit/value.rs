//! What a document says, without places and style: what an edit is meant to come to.

use crate::yaml::{Node, NodeKind};

/// A value to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: in a VE it unsets what its profile says.
    Null,
    /// A number, a size, a word of the format: written without quotes where that can be read back.
    Word(String),
    /// A text: in quotes where it would be read as something else.
    Text(String),
    /// A list.
    Seq(Vec<Value>),
    /// A map, in the order it is to be written in.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A word, by how it is shown.
    pub fn word(value: impl ToString) -> Self {
        Self::Word(value.to_string())
    }

    /// What a tree says.
    pub fn of(node: &Node) -> Self {
        match &node.kind {
            NodeKind::Null => Self::Null,
            NodeKind::Scalar { text, plain: true } => Self::word(text),
            NodeKind::Scalar { text, plain: false } => Self::Text(text.to_string()),
            NodeKind::Seq(items) => Self::Seq(items.iter().map(Self::of).collect()),
            NodeKind::Map(entries) => Self::Map(
                entries.iter().map(|entry| (entry.key.text.to_string(), Self::of(&entry.value))).collect(),
            ),
        }
    }

    /// The value below it at a path.
    pub fn get(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |value, step| match value {
            Self::Map(entries) => entries.iter().find(|(key, _)| key == step).map(|(_, value)| value),
            Self::Seq(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Whether both say the same: the order of keys and quotes say nothing.
    pub fn says_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Word(a) | Self::Text(a), Self::Word(b) | Self::Text(b)) => a == b,
            (Self::Seq(a), Self::Seq(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says_the_same(b))
            }
            (Self::Map(a), Self::Map(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, a)| {
                        b.iter().find(|(other, _)| other == key).is_some_and(|(_, b)| a.says_the_same(b))
                    })
            }
            _ => false,
        }
    }

    /// Puts a value at a path, with the maps that lead to it.
    pub(super) fn set(&mut self, path: &[String], value: Self) -> Option<()> {
        let Some((step, rest)) = path.split_first() else {
            *self = value;
            return Some(());
        };
        if matches!(self, Self::Null) {
            *self = Self::Map(Vec::new());
        }
        match self {
            Self::Seq(items) => items.get_mut(step.parse::<usize>().ok()?)?.set(rest, value),
            Self::Map(entries) => {
                let at = entries.iter().position(|(key, _)| key == step).unwrap_or_else(|| {
                    entries.push((step.clone(), Self::Null));
                    entries.len() - 1
                });
                entries.get_mut(at)?.1.set(rest, value)
            }
            _ => None,
        }
    }

    /// Takes out what is at a path, and the maps that have nothing left then, but not one of the first
    /// level: a document keeps its `spec`.
    pub(super) fn remove(&mut self, path: &[String]) {
        let Some((last, parents)) = path.split_last() else { return };
        let Some(parent) = self.get_mut(parents) else { return };
        let left = match parent {
            Self::Map(entries) => {
                entries.retain(|(key, _)| key != last);
                entries.len()
            }
            Self::Seq(items) => {
                if let Some(at) = last.parse::<usize>().ok().filter(|at| *at < items.len()) {
                    items.remove(at);
                }
                1
            }
            _ => 1,
        };
        if left == 0 && parents.len() > 1 {
            self.remove(parents);
        }
    }

    fn get_mut(&mut self, path: &[String]) -> Option<&mut Self> {
        path.iter().try_fold(self, |value, step| match value {
            Self::Map(entries) => entries.iter_mut().find(|(key, _)| key == step).map(|(_, value)| value),
            Self::Seq(items) => items.get_mut(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
}
