//! Counts writes, so that it can be shown that a pass with nothing to do makes none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often something was written since the start. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Writes {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    kernel: AtomicU64,
    disk: AtomicU64,
}

impl Writes {
    /// Something in the kernel was changed.
    pub fn kernel(&self) {
        self.counts.kernel.fetch_add(1, Ordering::Relaxed);
    }

    /// Something on disk was changed.
    pub fn disk(&self) {
        self.counts.disk.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes to the kernel so far.
    pub fn to_kernel(&self) -> u64 {
        self.counts.kernel.load(Ordering::Relaxed)
    }

    /// Writes to disk so far.
    pub fn to_disk(&self) -> u64 {
        self.counts.disk.load(Ordering::Relaxed)
    }

    /// All writes so far.
    pub fn total(&self) -> u64 {
        self.to_kernel() + self.to_disk()
    }
}
