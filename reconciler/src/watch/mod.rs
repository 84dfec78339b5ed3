//! From the manifest directory to documents: hints in, rescans out.
//!
//! [`Hints`] say that something may have changed, never what; [`Settle`] waits for the writer to be done;
//! [`Scanner`] reads the whole directory again and gives a [`Revision`], in which a broken file has its
//! last good documents. Only a rescan is believed, so that a lost hint costs time and nothing else.
//!
//! Nothing here knows about VEs in the ledger or in the kernel, and nothing here writes.
//!
//! | module | what it is for |
//! |---|---|
//! | `ways` | which directories have to be watched: also those of symlinks, and of what is missing |
//! | `hints` | watches them |
//! | `settle` | when to read |
//! | `names` | which names are manifests |
//! | `list` | what is in the directory, without reading it |
//! | `read` | one file, with care: who may write it, what it is, whether it holds still |
//! | `content` | what a file holds |
//! | `scanner` | one pass over all; reads what has changed |
//! | `view` | what a pass saw |
//! | `compose` | the documents in force, each its last good version |
//! | `revision` | the result |

mod compose;
mod content;
mod hints;
mod list;
mod names;
mod read;
mod revision;
mod scanner;
mod settle;
#[cfg(test)]
mod tests;
mod view;
mod ways;

pub use hints::Hints;
pub use read::Trust;
pub use revision::{FileState, Held, Revision};
pub use scanner::{Scanner, Work};
pub use settle::Settle;
