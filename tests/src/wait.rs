//! Waiting for a state instead of for a time.

use std::fmt::Display;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Longer than anything takes on two slow cores that others use too; reached only by failures. [`slow`] where it is not
/// given to one of the functions here.
pub const LONG: Duration = Duration::from_secs(30);

/// What `VZD_TEST_SLOWNESS` says: how much longer than usual everything may take, under emulation for one.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    std::env::var("VZD_TEST_SLOWNESS").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
});

/// A time limit as it is to be on this machine. For limits that only failures reach; not for times that are waited for.
pub fn slow(limit: Duration) -> Duration {
    limit.saturating_mul(*SLOWNESS)
}

const BETWEEN: Duration = Duration::from_millis(15);

/// Waits until `found` gives something, and returns it, for `timeout` on a machine of usual speed. `what` says what was
/// waited for. Half of the time at most goes into looking, which what is waited for may need, on slow cores above all.
#[track_caller]
pub fn within<T>(timeout: Duration, what: impl Display, mut found: impl FnMut() -> Option<T>) -> T {
    let (start, timeout) = (Instant::now(), slow(timeout));
    loop {
        let looked = Instant::now();
        if let Some(value) = found() {
            return value;
        }
        assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}");
        std::thread::sleep(BETWEEN.max(looked.elapsed()));
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
