//! How many VEs start at a time: a host that boots is not brought down by its own VEs.

use std::sync::{Condvar, Mutex, PoisonError};

/// Starts under way.
#[derive(Debug, Default)]
pub(super) struct Starts {
    under_way: Mutex<usize>,
    one_less: Condvar,
}

/// Leave to start one VE; given back when dropped.
pub(super) struct Leave<'a> {
    starts: &'a Starts,
}

/// Without a word from the host's manifest: a start is some milliseconds of CPU, then waiting.
fn default_limit() -> usize {
    2 * std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

impl Starts {
    /// Waits until fewer than `limit` starts are under way.
    pub fn take(&self, limit: Option<usize>) -> Leave<'_> {
        let limit = limit.unwrap_or_else(default_limit).max(1);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        while *under_way >= limit {
            under_way = self.one_less.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
        *under_way += 1;
        Leave { starts: self }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.starts.under_way.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.starts.one_less.notify_one();
    }
}
