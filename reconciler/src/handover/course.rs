//! The course of a hand-over: how far it has come, how fast it may go, how long the other host is waited for, and whether it
//! is given up. Who works at it and who looks on share it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{At, SysError, SysResult};

/// While the VE runs, a host may be silent for so long: it may fetch a template, or write much to a slow disk.
const RUNS: Duration = Duration::from_secs(600);
/// While it stands still. What comes then has to be on disk before there is an answer, a part of it at a time.
const STANDS_STILL: Duration = Duration::from_secs(120);

/// A hand-over's.
#[derive(Debug)]
pub struct Course {
    /// Bytes a second at most.
    limit: Option<u64>,
    began: Instant,
    bytes: AtomicU64,
    rounds: AtomicU32,
    /// How long it is expected to stand still, in milliseconds; of 0 nothing is known.
    expected: AtomicU64,
    state: Mutex<State>,
    turned: Condvar,
    /// Can be read from once it was given up.
    given: OwnedFd,
}

#[derive(Debug)]
struct State {
    will: Will,
    /// When what was sent is paid for.
    paid: Instant,
    /// How long the other host is waited for.
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Will {
    /// It goes on until something stands in the way.
    Open,
    /// Whoever ordered it wants it no more.
    Given,
    /// It is the other host's.
    Ceded,
}

impl Course {
    /// One that begins now. `limit`: bytes a second at most.
    pub fn new(limit: Option<u64>) -> SysResult<Self> {
        let now = Instant::now();
        let given = eventfd(0, EventfdFlags::CLOEXEC).at("make", "an event")?;
        Ok(Course {
            limit: limit.filter(|limit| *limit > 0),
            began: now,
            bytes: AtomicU64::new(0),
            rounds: AtomicU32::new(0),
            expected: AtomicU64::new(0),
            state: Mutex::new(State { will: Will::Open, paid: now, patience: RUNS }),
            turned: Condvar::new(),
            given,
        })
    }

    /// One that has another patience.
    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        self.state().patience = patience;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it up, if that is still possible.
    pub fn give_up(&self) -> bool {
        let mut state = self.state();
        if state.will == Will::Open {
            state.will = Will::Given;
        }
        let is_given = state.will == Will::Given;
        if is_given {
            // It is never read from, and so cannot be full before this.
            let _ = rustix::io::write(&self.given, &1_u64.to_ne_bytes());
            self.turned.notify_all();
        }
        is_given
    }

    /// What can be read from once it was given up.
    pub(super) fn given_up(&self) -> BorrowedFd<'_> {
        self.given.as_fd()
    }

    /// From now on the VE stands still.
    pub(super) fn stands_still(&self) {
        self.state().patience = STANDS_STILL;
    }

    /// How long the other host may be silent; for as long as it likes, once the VE is its to have.
    pub(super) fn patience(&self) -> Option<Duration> {
        let state = self.state();
        (state.will != Will::Ceded).then_some(state.patience)
    }

    /// From now on it cannot be given up; an error if it was.
    pub(super) fn cede(&self) -> SysResult<()> {
        let mut state = self.state();
        refuse(state.will)?;
        state.will = Will::Ceded;
        Ok(())
    }

    /// Counts what was sent, and waits until as much as went over the link for it may be. An error when it was given up.
    pub(super) fn sent(&self, bytes: u64, wire: u64) -> SysResult<()> {
        self.bytes.fetch_add(bytes, Relaxed);
        let mut state = self.state();
        refuse(state.will)?;
        let Some(limit) = self.limit else { return Ok(()) };
        let takes = Duration::from_nanos(wire.saturating_mul(1_000_000_000) / limit);
        state.paid = state.paid.max(Instant::now()) + takes;
        let paid = state.paid;
        while let Some(rest) = paid.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            state = self.turned.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
            refuse(state.will)?;
        }
        Ok(())
    }

    /// A round begins; `left`: bytes that are to be sent while it stands still, as far as is known by now.
    pub(super) fn round(&self, left: Option<u64>) {
        self.rounds.fetch_add(1, Relaxed);
        if let (Some(left), Some(rate)) = (left, self.rate()) {
            self.expected.store((left.saturating_mul(1000) / rate).max(1), Relaxed);
        }
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> u32 {
        self.rounds.load(Relaxed)
    }

    /// Bytes a second so far.
    pub fn rate(&self) -> Option<u64> {
        let took = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let rate = self.bytes.load(Relaxed).saturating_mul(1_000_000).checked_div(took)?;
        (rate > 0).then_some(rate)
    }

    /// Where it is, in words.
    pub fn words(&self) -> String {
        let (bytes, rounds) = (self.bytes.load(Relaxed), self.rounds());
        let rate = self.rate().map_or_else(String::new, |rate| format!(", {} a second", amount(rate)));
        let expected = match self.expected.load(Relaxed) {
            0 => String::new(),
            ms => format!(", to stand still for {} s or more", seconds(Duration::from_millis(ms))),
        };
        format!("handing over, round {rounds}: {} sent{rate}{expected}", amount(bytes))
    }
}

fn refuse(will: Will) -> SysResult<()> {
    match will {
        Will::Given => Err(SysError::refused("send", "VE", "it was given up")),
        Will::Open | Will::Ceded => Ok(()),
    }
}

/// Bytes, for people.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub fn amount(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A time, for people; never 0.
pub fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64().max(0.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_no_faster_than_it_may() {
        let course = Course::new(Some(1_000_000)).unwrap();
        let began = Instant::now();
        for _ in 0..5 {
            course.sent(1_000_000, 10_000).unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn it_is_given_up_at_once_but_not_after_it_was_ceded() {
        let course = Course::new(Some(1)).unwrap();
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| course.sent(1_000_000_000, 1_000_000_000));
            assert!(course.give_up());
            assert!(sending.join().unwrap().unwrap_err().to_string().contains("given up"));
        });
        assert!(course.cede().is_err());
        let ceded = Course::new(None).unwrap();
        ceded.cede().unwrap();
        assert!(!ceded.give_up());
        ceded.sent(1, 1).unwrap();
    }

    #[test]
    fn it_tells_where_it_is() {
        let course = Course::new(None).unwrap();
        course.round(None);
        assert_eq!(course.words(), "handing over, round 1: 0 B sent");
        course.sent(2_500_000, 1_000).unwrap();
        course.round(Some(1));
        let words = course.words();
        assert!(words.starts_with("handing over, round 2: 2.5 MB sent, "), "{words}");
        assert!(words.ends_with(", to stand still for 0.1 s or more"), "{words}");
    }
}
