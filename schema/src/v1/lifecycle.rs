//! The words that steer a VE's life: whether it runs, and what happens when it ends or changes.

use super::macros::{group, words};
use super::scalars::Timestamp;

words! {
    /// What a VE is to be.
    pub enum State as "camelCase" {
        /// Up and running.
        Running,
        /// Down, its disk kept.
        Stopped,
        /// Frozen: in memory, but getting no CPU.
        Paused,
        /// Written to disk as a checkpoint, to be restored by `running`.
        Suspended,
        /// Destroyed on purpose, with its disk.
        Absent,
    }
}

words! {
    /// When a VE whose init has ended is started again.
    pub enum RestartPolicy as "PascalCase" {
        /// Never by itself.
        Never,
        /// When its init crashed, or the VE rebooted. A halt by the VE's owner stays.
        OnFailure,
        /// Whatever the reason was, a halt by the VE's owner too.
        Always,
    }
}

words! {
    /// What is done about a change that a running VE cannot take.
    pub enum UpdatePolicy as "PascalCase" {
        /// Hold it until the next start, and say so.
        Live,
        /// Restart the VE for it.
        Restart,
    }
}

words! {
    /// What becomes of a VE whose manifest is gone.
    pub enum DeletionPolicy as "PascalCase" {
        /// Stop it and keep it for `quarantineTTL`, for `vzd undelete`.
        Quarantine,
        /// Leave it running, unmanaged.
        Retain,
        /// Destroy it, with its disk.
        Destroy,
    }
}

group! {
    /// Leave a VE alone for a while: no correction, no change, no start.
    pub struct SuspendReconcile {
        /// Why, for whoever wonders.
        live reason: Option<String>,
        /// Until when; without it, until this is taken out.
        live until: Option<Timestamp>,
    }
}
