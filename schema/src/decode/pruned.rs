//! The places of a tree that have been found wrong and are left out.

use std::collections::BTreeMap;

/// A set of places, as a tree of indices of entries and items.
#[derive(Default)]
pub(super) struct Pruned {
    gone: bool,
    below: BTreeMap<usize, Self>,
}

impl Pruned {
    /// Leaves out the place at the end of a path.
    pub(super) fn insert(&mut self, path: &[usize]) {
        match path {
            [] => self.gone = true,
            [index, rest @ ..] => self.below.entry(*index).or_default().insert(rest),
        }
    }

    /// What is left out below the entry or item of that index.
    pub(super) fn below(&self, index: usize) -> Option<&Self> {
        self.below.get(&index)
    }

    /// Whether this very place is left out.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }
}
