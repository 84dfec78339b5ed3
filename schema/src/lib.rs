//! The vzd manifest format: its types, its parser, its diagnostics and its JSON Schema.
//!
//! Text goes in, typed documents and diagnostics come out. Every value keeps its place in the text,
//! so that whatever is said about it later can point there. The crate is pure: it reads no file, no
//! clock and no environment, and a hostile text costs it bounded time and memory.
//!
//! The way of a manifest: [`parse`] turns bytes into [`Document`]s; a [`Set`] of all documents finds
//! what they may not share ([`Set::check`]) and puts each VE's spec together with its profile's
//! ([`Set::resolve`]).
//!
//! | module | what it is for |
//! |---|---|
//! | [`v1`] | the fields, typed |
//! | [`yaml`] | text to a tree of nodes with places; laying one tree over another |
//! | `decode` | a tree to a typed value, collecting every error |
//! | `document` | bytes to documents |
//! | `check` | what types cannot say about one document |
//! | [`set`] | documents together |
//! | [`edit`] | changing a manifest in place, its comments and style kept |
//! | [`diag`], [`code`], [`render`] | what is wrong, and how that is shown |
//! | `json_schema`, `fields`, `suggest`, `explain` | the format described to editors and people |

mod check;
pub mod code;
mod decode;
pub mod diag;
mod document;
pub mod edit;
mod explain;
mod fields;
mod json_schema;
pub mod render;
pub mod set;
pub mod span;
mod suggest;
pub mod v1;
pub mod yaml;

pub use check::counters;
pub use code::Code;
pub use diag::{Diagnostic, Label, Severity};
pub use document::{Document, Parsed, parse};
pub use explain::explain;
pub use fields::{UpdateClass, default_value, update_class};
pub use json_schema::json_schema;
pub use set::{Resolved, Set};
pub use span::{Position, Span};
pub use v1::{Kind, Manifest, VeSpec};
pub use yaml::{Node, NodeKind, merge};
