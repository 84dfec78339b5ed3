//! Checkpoints: a running VE written to disk, and brought back.

use super::macros::{group, words};
use super::scalars::AbsPath;

group! {
    /// Checkpoints of a VE.
    pub struct Checkpoint {
        /// A directory on the host, root's alone to write to, in which its checkpoint is kept from the next suspension on. Default:
        /// with the VE.
        live directory: Option<AbsPath>,
        /// Copy memory before freezing the VE, so that it is frozen for a shorter time.
        live pre_dump: Option<bool> = false,
        /// Keep established TCP connections; without, they are closed when the VE goes on.
        live tcp_established: Option<bool> = true,
        /// How memory is written from the next checkpoint on: compressed it takes less room, and more time to write and to resume
        /// from.
        live compress: Option<Compression> = "none",
        /// Let the VE run on after `vzd checkpoint`, as if `--leave-running` was given.
        live keep_running: Option<bool> = false,
    }
}

words! {
    /// How memory is written to disk.
    pub enum Compression as "camelCase" {
        /// As it is.
        None,
        /// By zstd, as far as that makes it smaller.
        Zstd,
    }
}
