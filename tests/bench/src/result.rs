//! One plain error for people. Must not be matched on: a benchmark that fails is told of and left out.

use std::fmt;

/// What went wrong.
#[derive(Debug)]
pub(crate) struct Failure(String);

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Shorthand for a failure.
pub(crate) fn fail<T>(why: impl Into<String>) -> Result<T> {
    Err(Failure(why.into()))
}

/// Adds what was being done to an error.
pub(crate) trait Context<T> {
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{doing}: {error}")))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
