//! A VE's own files as a stream of items, for another host: the upper layer as it lies on disk, with overlayfs's marks
//! for what was removed. [`Sender`] tells it, [`Receiver`] takes it in.
//!
//! It is told in rounds, each a whole tree: in the first ones the VE runs and writes, and what is told may be torn; in the last
//! nobody writes. A round after the first names what has not changed since instead of sending it again, and what it does not
//! name is gone. Nothing is kept of a stream that did not come to its end.
//!
//! Marks that only mean something beside this host's template are left out; what they stand for is told by names ([`links`]).

mod links;
mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Layers;
use super::copy::{Bytes, Traits};
use crate::drivers::Ve;
use crate::error::{At, SysError, SysResult};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

pub use receive::Receiver;
pub use send::{Sender, content};

/// One piece of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Item {
    /// A directory, and into it. The first is the top, whose name counts for nothing; one after the end of the top begins
    /// another round.
    Enter(Bytes, Traits),
    /// Out of the directory again.
    Leave,
    /// A regular file; its content follows, then `End`. One of several names has a number.
    File(Bytes, Traits, Option<u64>),
    /// The end of a file's content, with its length: what was not told is a hole.
    End(u64),
    /// Another name of the file of that number.
    Link(Bytes, u64),
    /// What an earlier round has told under this name has not changed since. No directory; one of several names has a number.
    Same(Bytes, Option<u64>),
    /// A symbolic link.
    Symlink(Bytes, Traits, Bytes),
    /// A pipe, socket or device, by type and mode as of `mknod`, and device number.
    Node(Bytes, Traits, u32, u64),
}

/// Where a stream goes: items, and pieces of the content of the file that was last named.
pub trait Sink {
    /// Takes an item.
    fn item(&mut self, item: &Item) -> SysResult<()>;
    /// Takes a piece of content, with its place in the file.
    fn data(&mut self, at: u64, bytes: &[u8]) -> SysResult<()>;
}

/// How much its own files take, in bytes.
pub fn size(ve: Ve<'_>) -> SysResult<u64> {
    fn below(dir: &Path) -> SysResult<u64> {
        let mut sum = 0;
        for entry in std::fs::read_dir(dir).at("list", dir.display())? {
            let entry = entry.at("list", dir.display())?;
            match entry.metadata() {
                Ok(is) if is.is_dir() => sum += is.blocks() * 512 + below(&entry.path())?,
                Ok(is) => sum += is.blocks() * 512,
                // A VE that runs removes files.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(SysError::new("stat", entry.path().display(), e)),
            }
        }
        Ok(sum)
    }
    below(&Layers::open(ve, &ve.host.ve_dir(&ve.entry.uid))?.path.join("upper"))
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
