//! Panics that say what was being done: in a test that is what an error is for.

use std::fmt::Display;

/// Takes a value out, or fails the test.
pub trait Must<T> {
    /// The value; `doing` tells what could not be done.
    fn must(self, doing: impl Display) -> T;
}

impl<T, E: Display> Must<T> for Result<T, E> {
    #[track_caller]
    fn must(self, doing: impl Display) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{doing}: {error}"),
        }
    }
}

impl<T> Must<T> for Option<T> {
    #[track_caller]
    fn must(self, doing: impl Display) -> T {
        match self {
            Some(value) => value,
            None => panic!("{doing}: nothing there"),
        }
    }
}
