//! The controller's workers: threads that take subjects and do passes over them.
//!
//! Passes are mostly waiting: for an init to stop, for a script of the administrator's. Whoever waits long is stood in for
//! by another worker meanwhile, so that what hangs in some VEs keeps no other VE from its pass.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::drivers::Census;
use crate::engine::view::Leave;
use crate::engine::{Engine, Subject};

/// Workers that are not at one pass for long.
const WORKERS: usize = 16;
/// Others that are there while some are.
const STAND_INS: usize = 64;
/// A pass that lasts so long is one that waits.
const LONG: Duration = Duration::from_secs(1);

/// Something to pass over, with a look at what runs that was taken for many.
pub(super) type Job = (Subject, Option<Arc<Census>>);

/// The workers.
#[derive(Clone)]
pub(super) struct Crew {
    engine: Arc<Engine>,
    jobs: Arc<Mutex<Receiver<Job>>>,
    roll: Arc<Mutex<Roll>>,
    /// Is told of each subject that was passed over; says whether anybody still listens.
    done: Arc<dyn Fn(Subject) -> bool + Send + Sync>,
}

/// Who is there, and since when at a pass.
#[derive(Default)]
struct Roll {
    last: u64,
    since: BTreeMap<u64, Option<Instant>>,
}

impl Roll {
    fn at_it_for_long(&self) -> usize {
        self.since.values().flatten().filter(|since| since.elapsed() > LONG).count()
    }

    fn missing(&self) -> usize {
        let wanted = WORKERS + self.at_it_for_long().min(STAND_INS);
        wanted.saturating_sub(self.since.len())
    }

    /// Whether there would be enough of them without one that is done.
    fn is_one_too_many(&self) -> bool {
        self.since.len() - self.at_it_for_long() > WORKERS
    }
}

impl Crew {
    /// Has workers begin.
    pub fn start(
        engine: &Arc<Engine>,
        jobs: Receiver<Job>,
        done: impl Fn(Subject) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (jobs, roll) = (Arc::new(Mutex::new(jobs)), Arc::default());
        let crew = Crew { engine: engine.clone(), jobs, roll, done: Arc::new(done) };
        crew.keep_up();
        crew
    }

    /// Sees to it that there are enough; tells when to look again, if all are busy.
    pub fn keep_up(&self) -> Option<Duration> {
        let mut roll = self.roll();
        for _ in 0..roll.missing() {
            roll.last += 1;
            let (crew, own) = (self.clone(), roll.last);
            if !super::run::spawn(&format!("worker-{own}"), move || crew.work(own)) {
                break;
            }
            roll.since.insert(own, None);
        }
        roll.since.values().all(Option::is_some).then_some(LONG)
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, own: u64) {
        loop {
            // Lines up before the next worker can take the next job.
            let next = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok((subject, census)) = next.recv() else { return };
            let place = self.engine.line_up(&subject);
            drop(next);
            self.roll().since.insert(own, Some(Instant::now()));
            // A bug that panics for one VE must not end the others' reconciliation.
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.engine.probe(&subject);
                self.engine.reconcile(&subject, Leave::default(), census.as_deref());
                self.engine.follow(&subject);
            }));
            drop(place);
            if worked.is_err() {
                tracing::error!(?subject, "a pass panicked; it is tried again at the next resync");
            }
            let is_heard = (self.done)(subject);
            let mut roll = self.roll();
            roll.since.insert(own, None);
            if !is_heard || roll.is_one_too_many() {
                roll.since.remove(&own);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_long_is_stood_in_for_and_nobody_stays_who_is_not_needed() {
        let Some(long_ago) = Instant::now().checked_sub(2 * LONG) else { return };
        let mut roll = Roll::default();
        assert_eq!(roll.missing(), WORKERS);
        roll.since = (0..16).map(|at| (at, Some(Instant::now()))).collect();
        assert_eq!((roll.missing(), roll.is_one_too_many()), (0, false));
        roll.since.insert(3, Some(long_ago));
        assert_eq!(roll.missing(), 1);
        roll.since.insert(16, None);
        assert_eq!((roll.missing(), roll.is_one_too_many()), (0, false));
        roll.since.insert(3, None);
        assert!(roll.is_one_too_many());
        roll.since = (0..200).map(|at| (at, Some(long_ago))).collect();
        assert_eq!(roll.missing(), 0);
    }
}
