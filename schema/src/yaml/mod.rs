//! YAML as a tree that knows where each of its nodes stood.
//!
//! The one place that knows the YAML crate. What comes out has no tags, anchors or merge keys any
//! more, and no key twice; what it costs is bounded whatever the text is.

mod node;

pub use node::{Entry, Key, Node, NodeKind};
