//! What is wrong, where, and what would cure it. How that is shown is in [`crate::render`].
//!
//! Wording: lower case, no full stop, name the field and the value; a cure goes in `help`. Texts may
//! hold what users wrote, as it is: renderers make it harmless, writers of messages need not.

use crate::code::Code;
use crate::span::Span;
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The document (or the operation) is refused.
    Error,
    /// It is carried out, but probably not as meant.
    Warning,
}

impl Severity {
    /// The word that is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place, and what is to be said about it (possibly nothing).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is said about it.
    pub text: Box<str>,
}

/// One thing that is wrong. Its JSON form is stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Which error it is.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: Box<str>,
    /// Where; errors that concern no file have no place.
    pub primary: Option<Label>,
    /// Other places that have to do with it.
    pub secondary: Vec<Label>,
    /// What would cure it.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error, so far without place and cure.
    pub fn error(code: Code, message: impl Into<Box<str>>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            primary: None,
            secondary: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning, so far without place and cure.
    pub fn warning(code: Code, message: impl Into<Box<str>>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Says where, and what is to be said about that place.
    #[must_use]
    pub fn at(mut self, span: &Span, text: impl Into<Box<str>>) -> Self {
        self.primary = Some(Label { span: span.clone(), text: text.into() });
        self
    }

    /// Adds another place that has to do with it.
    #[must_use]
    pub fn also(mut self, span: &Span, text: impl Into<Box<str>>) -> Self {
        self.secondary.push(Label { span: span.clone(), text: text.into() });
        self
    }

    /// Adds a cure.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Where it is, if it is anywhere; for sorting.
    pub fn place(&self) -> Option<&Span> {
        self.primary.as_ref().map(|label| &label.span)
    }

    /// Whether it is an error, not a warning.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
