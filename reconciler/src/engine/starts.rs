//! How many VEs start at a time, and which first: a host that boots is not brought down by its own VEs.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vzd_state::ids::VeName;

/// Starts under way, and those who stand in line.
#[derive(Debug, Default)]
pub(super) struct Starts {
    line: Mutex<Line>,
    moved: Condvar,
}

/// A start in which scripts of the administrator run counts for so long: what lasts longer waits for them, and costs the
/// host nothing that others would have to wait for.
const SCRIPTED: Duration = Duration::from_secs(1);
/// Who stands in line and has not come to its start after so long is passed by: it waits for something else.
const STANDING: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Line {
    /// Starts under way, and until when they count; without an end if none is here.
    under_way: BTreeMap<VeName, Option<Instant>>,
    /// VEs that may be about to start.
    places: BTreeMap<VeName, Standing>,
}

#[derive(Debug)]
struct Standing {
    /// The VE's boot order.
    order: i64,
    /// Others wait for it until then; without an end if none is here.
    until: Option<Instant>,
}

/// What a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All of it is vzd's own work.
    Plain,
    /// Scripts of the administrator run in it.
    Scripted,
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
    name: VeName,
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
        let until = Some(Instant::now() + STANDING);
        self.lock().places.insert(name.clone(), Standing { order, until });
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
    pub fn take(&self, limit: Option<usize>, name: &VeName, kind: Kind) -> Leave<'_> {
        let limit = limit.unwrap_or_else(default_limit).max(1);
        let mut line = self.lock();
        // It waits for nothing but its turn now.
        if let Some(own) = line.places.get_mut(name) {
            own.until = None;
        }
        loop {
            let now = Instant::now();
            if line.under_way(now) < limit && line.is_turn_of(name, now) {
                break;
            }
            let wait = line.next_end(now).map_or(Duration::MAX, |end| end - now);
            line = self.moved.wait_timeout(line, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        let until = (kind == Kind::Scripted).then(|| Instant::now() + SCRIPTED);
        line.under_way.insert(name.clone(), until);
        line.places.remove(name);
        drop(line);
        self.moved.notify_all();
        Leave { starts: self, name: name.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn is_turn_of(&self, name: &VeName, now: Instant) -> bool {
        let own = self.places.get(name).map_or(i64::MAX, |own| own.order);
        self.places.values().all(|other| other.order <= own || !counts(other.until, now))
    }

    fn under_way(&self, now: Instant) -> usize {
        self.under_way.values().filter(|until| counts(**until, now)).count()
    }

    /// When the next of those that count does not any more.
    fn next_end(&self, now: Instant) -> Option<Instant> {
        let ends = self.under_way.values().copied().chain(self.places.values().map(|is| is.until));
        ends.flatten().filter(|end| *end > now).min()
    }
}

fn counts(until: Option<Instant>, now: Instant) -> bool {
    until.is_none_or(|until| until > now)
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.starts.step_out(&self.name);
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.starts.lock().under_way.remove(&self.name);
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
                    let leave = starts.take(Some(1), &place.name, Kind::Plain);
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
        drop(starts.take(Some(1), &second.name, Kind::Plain));
        let again = starts.line_up(name("first"), 9);
        drop((again, first));
        drop(starts.take(Some(1), &name("not-in-line"), Kind::Plain));
        assert!(starts.lock().places.is_empty());
    }

    #[test]
    fn what_hangs_in_one_start_holds_up_no_other() {
        let starts = Starts::default();
        let hangs = starts.line_up(name("hangs"), 9);
        let _under_way = starts.take(Some(1), &hangs.name, Kind::Scripted);
        // One that is about to start, and does not come to it.
        let _never = starts.line_up(name("never"), 8);
        let began = Instant::now();
        drop(starts.take(Some(1), &starts.line_up(name("next"), 1).name, Kind::Plain));
        assert!((SCRIPTED..2 * STANDING).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert!(starts.lock().next_end(Instant::now()).is_none());
    }
}
