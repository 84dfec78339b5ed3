//! What one manifest file may cost. Far above what any honest file needs, and low enough that a
//! hostile one is an error message rather than a burden.

/// Bytes of a file.
pub const FILE_BYTES: usize = 1 << 20;
/// Bytes of one scalar or key.
pub const SCALAR_BYTES: usize = 64 << 10;
/// Lists and maps within each other, aliases followed.
pub const DEPTH: usize = 64;
/// Values and keys of one document, aliases followed.
pub const DOCUMENT_NODES: usize = 50_000;
/// Values and keys of one file, aliases followed.
pub const FILE_NODES: usize = 250_000;
/// Bytes of text of one file, aliases followed.
pub const FILE_TEXT: usize = 4 << 20;
/// Anchors of one document.
pub const ANCHORS: usize = 1_000;
/// Documents of one file.
pub const DOCUMENTS: usize = 10_000;
