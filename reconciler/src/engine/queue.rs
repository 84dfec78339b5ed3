//! The queue of the controller's loop: what is to be looked at, and when.
//!
//! Requests for one subject are merged and the earliest time wins; a subject that is being worked on
//! waits until that is done; why it was asked for is not kept, since a pass looks at everything. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What is to be done, and what is being done.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// When, and with which priority (higher first).
    waiting: BTreeMap<T, (Instant, i64)>,
    running: BTreeSet<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { waiting: BTreeMap::new(), running: BTreeSet::new() }
    }
}

impl<T: Ord + Clone> Queue<T> {
    /// Asks for a subject to be looked at, not before `at`.
    pub fn add(&mut self, subject: T, at: Instant, priority: i64) {
        let slot = self.waiting.entry(subject).or_insert((at, priority));
        *slot = (slot.0.min(at), priority);
    }

    /// The subject to work on now: of those due, the one with the highest priority.
    pub fn take(&mut self, now: Instant) -> Option<T> {
        let due =
            self.waiting.iter().filter(|(subject, (at, _))| *at <= now && !self.running.contains(subject));
        // Among equals the first one in order of names, so that passes are alike.
        let next =
            due.rev().max_by_key(|(_, (_, priority))| *priority).map(|(subject, _)| subject.clone())?;
        self.waiting.remove(&next);
        self.running.insert(next.clone());
        Some(next)
    }

    /// The work on a subject has ended.
    pub fn done(&mut self, subject: &T) {
        self.running.remove(subject);
    }

    /// When the next subject is due that nobody works on.
    pub fn next_due(&self) -> Option<Instant> {
        let free = self.waiting.iter().filter(|(subject, _)| !self.running.contains(subject));
        free.map(|(_, (at, _))| *at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_time_wins_and_running_subjects_wait() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut queue = Queue::default();
        queue.add("a", later, 0);
        queue.add("a", now, 0);
        assert_eq!(queue.take(now), Some("a"));
        queue.add("a", now, 0);
        assert_eq!(queue.take(now), None, "it is being worked on");
        assert_eq!(queue.next_due(), None);
        queue.done(&"a");
        assert_eq!(queue.take(now), Some("a"));
        queue.done(&"a");
        assert_eq!((queue.take(now), queue.next_due()), (None, None));
    }

    #[test]
    fn a_higher_priority_goes_first_and_equals_go_by_name() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (name, priority) in [("b", 0), ("c", 7), ("a", 0)] {
            queue.add(name, now, priority);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.take(now)).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }
}
