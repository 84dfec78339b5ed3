//! How much of the resolver one VE may use. What is over is not waited for: no VE makes another wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lock;

/// A VE may ask once in so long,
const INTERVAL: Duration = Duration::from_millis(1);
/// and as much more at once as it has not asked in this time.
const SPARED: Duration = Duration::from_secs(2);
/// What is under way for all VEs: questions to others, and connections. Each is two descriptors at most, of the 1024 that a
/// process has at least.
const MOST: usize = 256;
/// So much of what is free one VE may have, a fourth, or else a single one: something is always left for the next.
const SHARE: usize = 4;

/// What VEs use, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    ves: BTreeMap<u32, Use>,
    under_way: usize,
}

#[derive(Debug, Clone, Copy)]
struct Use {
    /// Until when it has used up what it may ask.
    due: Instant,
    under_way: usize,
}

/// Something under way for a VE, for as long as this lives.
#[derive(Debug)]
pub(super) struct Slot {
    bounds: Arc<Mutex<Bounds>>,
    ctid: u32,
}

impl Bounds {
    /// Whether a VE may ask once more.
    pub(super) fn may_ask(&mut self, ctid: u32, now: Instant) -> bool {
        let used = self.of(ctid, now);
        if used.due > now + SPARED {
            return false;
        }
        used.due = used.due.max(now) + INTERVAL;
        true
    }

    fn of(&mut self, ctid: u32, now: Instant) -> &mut Use {
        // Numbers of VEs that are gone: those that owe nothing are as if they had never been here.
        if self.ves.len() > 2 * MOST && !self.ves.contains_key(&ctid) {
            self.ves.retain(|_, is| is.under_way > 0 || is.due > now);
        }
        self.ves.entry(ctid).or_insert(Use { due: now, under_way: 0 })
    }

    fn begin(&mut self, ctid: u32, now: Instant) -> bool {
        let free = MOST - self.under_way;
        let used = self.of(ctid, now);
        if free == 0 || used.under_way >= (free / SHARE).max(1) {
            return false;
        }
        used.under_way += 1;
        self.under_way += 1;
        true
    }

    fn end(&mut self, ctid: u32) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(used) = self.ves.get_mut(&ctid) {
            used.under_way = used.under_way.saturating_sub(1);
        }
    }
}

impl Slot {
    /// Begins something for a VE, if it may.
    pub(super) fn take(bounds: &Arc<Mutex<Bounds>>, ctid: u32) -> Option<Self> {
        let may = lock(bounds).begin(ctid, Instant::now());
        may.then(|| Slot { bounds: bounds.clone(), ctid })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.bounds).end(self.ctid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_rate_and_others_do_not_notice() {
        let (mut bounds, now) = (Bounds::default(), Instant::now());
        let at_once = (0..10_000).filter(|_| bounds.may_ask(101, now)).count();
        assert_eq!(at_once, 2001);
        assert!(bounds.may_ask(102, now));
        let later = now + Duration::from_millis(500);
        assert_eq!((0..10_000).filter(|_| bounds.may_ask(101, later)).count(), 500);
    }

    #[test]
    fn something_is_always_left_for_the_next() {
        let bounds = Arc::default();
        let mut slots = Vec::new();
        for ctid in 1..=20 {
            let before = slots.len();
            slots.extend(std::iter::from_fn(|| Slot::take(&bounds, ctid)));
            assert!(slots.len() > before, "nothing is left for {ctid}");
        }
        assert!(Slot::take(&bounds, 1).is_none());
        slots.clear();
        assert_eq!(lock(&bounds).under_way, 0);
        assert!(Slot::take(&bounds, 1).is_some());
    }
}
