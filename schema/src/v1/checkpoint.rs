//! Checkpoints: a running VE written to disk, and brought back.

use super::macros::group;
use super::scalars::AbsPath;

group! {
    /// Checkpoints of a VE.
    pub struct Checkpoint {
        /// Where on the host they are kept. Default: with the VE.
        live directory: Option<AbsPath>,
        /// Copy memory before freezing the VE, so that it is frozen for a shorter time.
        live pre_dump: Option<bool> = false,
        /// Keep TCP connections.
        live tcp_established: Option<bool> = false,
        /// Let the VE run on after a checkpoint.
        live keep_running: Option<bool> = false,
    }
}
