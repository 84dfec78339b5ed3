//! Waiting for a state instead of for a time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Longer than anything takes on two slow cores that others use too; reached only by failures.
pub const LONG: Duration = Duration::from_secs(30);

const BETWEEN: Duration = Duration::from_millis(15);

/// Waits until `found` gives something, and returns it. `what` says what was waited for.
#[track_caller]
pub fn within<T>(timeout: Duration, what: impl Display, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}");
        std::thread::sleep(BETWEEN);
    }
}

/// Waits until it is so.
#[track_caller]
pub fn eventually(what: impl Display, mut so: impl FnMut() -> bool) {
    within(LONG, what, || so().then_some(()));
}

/// Fails if it stops being so within a time: for what must not happen, where no event could tell.
#[track_caller]
pub fn holds_for(time: Duration, what: impl Display, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(so(), "no longer so after {:?}: {what}", start.elapsed());
        std::thread::sleep(BETWEEN);
    }
}
