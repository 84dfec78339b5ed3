//! What serde's visitors find wrong, kept apart by kind, with the path to where it was.

use crate::v1::shorten;
use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// An error on its way out of the tree; each level adds its step.
#[derive(Debug)]
pub(super) struct DecodeError {
    pub(super) problem: Problem,
    /// It is the key that is wrong, not its value.
    pub(super) in_key: bool,
    /// Indices of entries and items, innermost first.
    steps: Vec<usize>,
}

/// What is wrong.
#[derive(Debug)]
pub(super) enum Problem {
    UnknownField { field: String, allowed: &'static [&'static str] },
    MissingField(&'static str),
    UnknownWord { word: String, allowed: &'static [&'static str] },
    BadValue(String),
    WrongType { found: String, expected: String, help: Option<String> },
}

impl DecodeError {
    pub(super) fn wrong_type(
        found: impl Into<String>,
        expected: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        Problem::WrongType { found: found.into(), expected: expected.into(), help }.into()
    }

    /// The same error, about a key.
    pub(super) fn about_key(self) -> Self {
        Self { in_key: true, ..self }
    }

    /// The same error, one level further out.
    pub(super) fn within(mut self, index: usize) -> Self {
        self.steps.push(index);
        self
    }

    /// Indices of entries and items, outermost first.
    pub(super) fn path(&self) -> Vec<usize> {
        self.steps.iter().rev().copied().collect()
    }
}

impl From<Problem> for DecodeError {
    fn from(problem: Problem) -> Self {
        Self { problem, in_key: false, steps: Vec::new() }
    }
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Problem::BadValue(message.to_string()).into()
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::wrong_type(describe(&found), expected.to_string(), None)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (found, expected) = (describe(&found), number_range(&expected.to_string()));
        Problem::BadValue(format!("{found} is not allowed: give {expected}")).into()
    }

    fn unknown_variant(word: &str, allowed: &'static [&'static str]) -> Self {
        Problem::UnknownWord { word: shorten(word), allowed }.into()
    }

    fn unknown_field(field: &str, allowed: &'static [&'static str]) -> Self {
        Problem::UnknownField { field: shorten(field), allowed }.into()
    }

    fn missing_field(field: &'static str) -> Self {
        Problem::MissingField(field).into()
    }
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.problem)
    }
}

fn describe(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        Unexpected::Str(text) => format!("`{}`", shorten(text)),
        Unexpected::Unsigned(number) => format!("`{number}`"),
        Unexpected::Signed(number) => format!("`{number}`"),
        other => other.to_string(),
    }
}

/// serde calls a number by its Rust type; users know none.
fn number_range(expected: &str) -> String {
    let bits = |prefix| expected.rsplit(prefix).next().and_then(|bits| bits.parse::<u32>().ok());
    let least = u8::from(expected.starts_with("a nonzero"));
    match (bits('u'), bits('i')) {
        (Some(bits), _) => format!("a whole number from {least} to {}", u128::MAX >> (128 - bits)),
        (_, Some(bits)) => {
            let most = u128::MAX >> (129 - bits);
            format!("a whole number from -{} to {most}", most + 1)
        }
        _ => expected.to_owned(),
    }
}
