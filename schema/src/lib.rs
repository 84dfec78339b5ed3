//! The vzd manifest format: its types, its parser, its diagnostics and its JSON Schema.
//!
//! Text goes in, typed documents and diagnostics come out. Every value keeps its place in the text,
//! so that whatever is said about it later can point there. The crate is pure: it reads no file, no
//! clock and no environment, and a hostile text costs it bounded time and memory.
//!
//! | module | what it is for |
//! |---|---|
//! | [`v1`] | the fields, typed |
//! | [`yaml`] | text to a tree of nodes with places |
//! | [`diag`], [`code`] | what is wrong, and how that is shown |

pub mod code;
pub mod diag;
pub mod span;
pub mod v1;
pub mod yaml;

pub use code::Code;
pub use diag::{Diagnostic, Label, Severity};
pub use span::{Position, Span};
pub use v1::{Manifest, VeSpec};
pub use yaml::{Node, NodeKind};
