//! Where a text stands: file, line and column. Knows nothing of what stands there.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A place in a file, counted as editors count: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// A stretch of a file, from `start` up to but not including `end`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The file, as the caller named it. Shared by all spans of the file.
    pub file: Arc<str>,
    /// The first character.
    pub start: Position,
    /// The character after the last.
    pub end: Position,
}

impl Span {
    /// The empty span at the beginning of a file.
    pub fn start_of(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), start: Position::START, end: Position::START }
    }
}

/// `file:line:column`, as compilers print it and editors read it.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.start.line, self.start.column)
    }
}
