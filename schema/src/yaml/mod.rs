//! YAML as a tree that knows where each of its nodes stood.
//!
//! The one place that knows the YAML crate. What comes out has no tags, anchors or merge keys any
//! more, and no key twice; what it costs is bounded whatever the text is.

mod budget;
mod build;
pub mod limits;
mod merge;
mod node;
mod shared;
mod stream;
mod text;
mod written;

pub(crate) use build::{Tree, TreeState};
pub(crate) use granit_parser::ScalarStyle;
pub use merge::merge;
pub(crate) use node::path_steps;
pub use node::{Entry, Key, Node, NodeKind};
pub(crate) use stream::build;
pub(crate) use text::decode;
pub(crate) use written::{Written, WrittenEntry, WrittenKind, written};
