//! Turns a template source (an archive, an image, a directory, or busybox) into a root file system directory that
//! overlayfs can use as the lower layer of many VEs.
//!
//! What the rest of the program sees is [`Store::ensure`]: same source, same content, same directory. The ids in it
//! are plain (0..65535); shifting them into a VE's range is the overlay's business.
//!
//! An archive is hostile until proven otherwise: nothing in it may touch a file outside of its own
//! directory, outgrow its limits, or forge what overlayfs keeps in extended attributes and whiteouts.
//! This module must not mount anything, must not write to a directory that an operator names as a template, and
//! must not run a program that came out of a template (mmdebstrap, which builds one, runs those of its packages in there).

mod archive;
mod busybox;
mod codec;
mod error;
pub(crate) mod index;
mod manage;
mod oci;
mod pax;
mod recipe;
mod remove;
mod source;
mod space;
mod store;
mod tally;
mod tiny;
mod tree;
mod unpack;
mod unused;
mod verify;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vzd_schema::v1::OciImage;
use vzd_state::application::Application;

pub use error::{Problem, TemplateError};
pub use manage::{Listed, Origin};
pub use oci::ImageProblem;
pub use recipe::{RECIPES, Recipe};
pub use store::Store;
pub use tally::{Reached, Tally};
pub(crate) use unpack::capability_of;
pub use unused::Removal;

/// Where a VE's root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Made on this machine from Debian's `busybox-static`.
    Tiny,
    /// A name looked up in the templates directory: a directory, an archive or an image layout. `tiny` is [`Source::Tiny`].
    Named(String),
    /// A directory of the operator's, used in place and never written to.
    Dir(PathBuf),
    /// A tar archive, plain or compressed with gzip, xz or zstd.
    File(PathBuf),
    /// Nothing: what has all of its own.
    Empty,
    /// An OCI image, of a layout on disk or of a registry.
    Image(Box<OciImage>),
}

/// A root file system that is ready to be a lower layer.
///
/// It holds its directory open. For a directory of the store's own it also holds a shared lock, so that
/// [`Store::remove_unused`] leaves it alone between [`Store::ensure`] and the mount: keep it until the
/// overlay is mounted.
#[derive(Debug, Clone)]
pub struct Template {
    /// The root directory. It is to be treated as read-only.
    pub root: PathBuf,
    /// SHA-256, in hexadecimal, of what the template is made of: the archive file; an image's manifest;
    /// busybox and the recipe; or,
    /// for a directory used in place, its path and inode.
    pub digest: String,
    /// What an archive held that a template cannot have.
    pub skipped: Skipped,
    /// How the program is run that it is the image of, if it is one.
    pub application: Option<Box<Application>>,
    dir: Arc<OwnedFd>,
}

impl Template {
    /// The root directory, open: for `open_tree` and its like, with no second walk of the path.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// What was left out of a template on purpose, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Device nodes and overlay whiteouts: a root is mounted nodev, and /dev is made by vzd.
    pub devices: u64,
    /// Extended attributes other than `user.*` and `security.capability`, and access control lists.
    pub xattrs: u64,
}

/// Unpacks an archive of a root into a directory where nobody else works, for a VE whose ids begin at `base`, by the rules of
/// templates. `trash` is a directory beside it. On an error the caller throws both away.
pub fn unpack(
    archive: &Path,
    root: OwnedFd,
    trash: BorrowedFd<'_>,
    base: u32,
) -> Result<Skipped, TemplateError> {
    let (file, _) = source::open_file(archive)?;
    unpack::unpack(&file, archive, root, trash, (&Limits::default(), base)).map(|(_, skipped)| skipped)
}

/// How much an archive may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of disk that one template may take, whatever is free.
    pub max_bytes: u64,
    /// Most entries, directories that an archive only implies included.
    pub max_entries: u64,
    /// Bytes of the file system that unpacking leaves free.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 64 << 30, max_entries: 5_000_000, reserve_bytes: 512 << 20 }
    }
}
