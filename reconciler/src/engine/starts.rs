//! How many VEs start at a time, and which first: a host that boots is not brought down by its own VEs.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vzd_state::ids::VeName;

/// Starts under way, and those who stand in line.
#[derive(Debug, Default)]
pub(super) struct Starts {
    line: Mutex<Line>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    under_way: usize,
    /// VEs that may be about to start, with their boot order.
    places: BTreeMap<VeName, i64>,
}

/// A place in the line; given up when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    starts: &'a Starts,
    name: VeName,
}

/// Leave to start one VE; given back when dropped.
pub(super) struct Leave<'a> {
    starts: &'a Starts,
}

/// Without a word from the host's manifest: a start is some milliseconds of CPU, much of it under locks of the
/// kernel's that all starts share, so that more at a time than there are CPUs only makes each dearer.
fn default_limit() -> usize {
    static LIMIT: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    *LIMIT
}

impl Starts {
    /// Stands in line for a VE whose pass begins now: none of a lower order starts before it has started or
    /// steps out. Passes have to begin in that order for this to mean anything.
    pub fn line_up(&self, name: VeName, order: i64) -> Place<'_> {
        self.lock().places.insert(name.clone(), order);
        Place { starts: self, name }
    }

    /// Lets the others go first: it does not start, or not so soon.
    pub fn step_out(&self, name: &VeName) {
        if self.lock().places.remove(name).is_some() {
            self.moved.notify_all();
        }
    }

    /// Waits until fewer than `limit` starts are under way and it is this VE's turn. One that does not stand
    /// in line has no turn to wait for.
    pub fn take(&self, limit: Option<usize>, name: &VeName) -> Leave<'_> {
        let limit = limit.unwrap_or_else(default_limit).max(1);
        let mut line = self.lock();
        while line.under_way >= limit || !line.is_turn_of(name) {
            line = self.moved.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        line.under_way += 1;
        line.places.remove(name);
        drop(line);
        self.moved.notify_all();
        Leave { starts: self }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn is_turn_of(&self, name: &VeName) -> bool {
        let own = self.places.get(name).copied().unwrap_or(i64::MAX);
        self.places.values().all(|order| *order <= own)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.starts.step_out(&self.name);
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.starts.lock().under_way -= 1;
        self.starts.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn name(name: &str) -> VeName {
        name.parse().unwrap()
    }

    #[test]
    fn starts_go_by_order_and_not_by_who_comes_first() {
        let starts = Starts::default();
        let (done, order) = channel();
        let places: Vec<_> =
            [("a", 3), ("b", 2), ("c", 1)].map(|(word, at)| starts.line_up(name(word), at)).into();
        std::thread::scope(|scope| {
            // The last one comes first.
            for place in places.into_iter().rev() {
                let (starts, done) = (&starts, done.clone());
                scope.spawn(move || {
                    let leave = starts.take(Some(1), &place.name);
                    done.send(place.name.to_string()).unwrap();
                    drop(leave);
                });
            }
        });
        drop(done);
        assert_eq!(order.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn who_steps_out_holds_nobody_up() {
        let starts = Starts::default();
        let first = starts.line_up(name("first"), 9);
        let second = starts.line_up(name("second"), 1);
        starts.step_out(&name("first"));
        drop(starts.take(Some(1), &second.name));
        let again = starts.line_up(name("first"), 9);
        drop((again, first));
        drop(starts.take(Some(1), &name("not-in-line")));
        assert!(starts.lock().places.is_empty());
    }
}
