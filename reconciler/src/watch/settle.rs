//! When to read: some quiet time after the last hint, so that a writer is done, but not for ever.
//!
//! Pure; the time comes in.

use std::time::{Duration, Instant};

/// A busy writer delays a scan by no more than so many quiet times...
const MOST_QUIETS: u32 = 10;
/// ...or this long, if that is longer.
const LEAST_CEILING: Duration = Duration::from_secs(1);

/// Decides when hints are due to be followed by a scan.
#[derive(Debug, Clone)]
pub struct Settle {
    quiet: Duration,
    /// The first and the last hint that no scan has followed yet.
    pending: Option<(Instant, Instant)>,
}

impl Settle {
    /// Waits for that much quiet; none means at once.
    pub fn new(quiet: Duration) -> Self {
        Self { quiet, pending: None }
    }

    /// There was a hint.
    pub fn hint(&mut self, now: Instant) {
        let first = self.pending.map_or(now, |(first, _)| first);
        self.pending = Some((first, now));
    }

    /// When to scan, if there was a hint. It moves with every hint, up to the ceiling.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.pending?;
        let ceiling = (self.quiet * MOST_QUIETS).max(LEAST_CEILING);
        Some((last + self.quiet).min(first + ceiling))
    }

    /// Whether to scan now. If so, the hints so far are done with: take before scanning, so that what
    /// changes during the scan is a hint for the next.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            self.pending = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_scan_waits_for_quiet() {
        let start = Instant::now();
        let mut settle = Settle::new(50 * MS);
        assert_eq!(settle.due(), None);
        assert!(!settle.take(start));
        settle.hint(start);
        settle.hint(start + 30 * MS);
        assert_eq!(settle.due(), Some(start + 80 * MS));
        assert!(!settle.take(start + 79 * MS));
        assert!(settle.take(start + 80 * MS));
        assert!(!settle.take(start + 80 * MS), "the hints are used up");
    }

    #[test]
    fn a_busy_writer_does_not_starve_the_scan() {
        let start = Instant::now();
        for (quiet, ceiling) in [(50, 1000), (200, 2000)] {
            let mut settle = Settle::new(quiet * MS);
            let scanned = (0..4000).find(|at| {
                settle.hint(start + *at * MS);
                settle.take(start + *at * MS)
            });
            assert_eq!(scanned, Some(ceiling));
        }
    }

    #[test]
    fn without_quiet_time_a_scan_is_due_at_once() {
        let start = Instant::now();
        let mut settle = Settle::new(Duration::ZERO);
        settle.hint(start);
        assert!(settle.take(start));
    }
}
