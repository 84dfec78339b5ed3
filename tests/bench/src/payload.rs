//! The payload in each container: `guest-pause`, which puts the time of its first instruction into its own name.
//!
//! Must find it from outside only, so that no container manager is asked and none is slowed down by being asked.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::result::{Result, fail};

/// A payload that has started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload {
    /// As the host sees it.
    pub(crate) pid: i32,
    /// Since the epoch.
    pub(crate) started: Duration,
}

/// The clock that the payload reads.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// All that run now.
pub(crate) fn running() -> Vec<Payload> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some(Payload { pid, started: started(pid)? })).collect()
}

/// Those that are there already.
pub(crate) fn known() -> HashSet<i32> {
    running().into_iter().map(|payload| payload.pid).collect()
}

/// Waits until `count` payloads run that aren't in `known`.
pub(crate) fn wait_for(count: usize, known: &HashSet<i32>, limit: Duration) -> Result<Vec<Payload>> {
    let deadline = Instant::now() + limit;
    loop {
        let new: Vec<Payload> =
            running().into_iter().filter(|payload| !known.contains(&payload.pid)).collect();
        if new.len() >= count {
            return Ok(new);
        }
        if Instant::now() > deadline {
            return fail(format!("{} of {count} payloads started within {} s", new.len(), limit.as_secs()));
        }
        // The time is in the name: looking more often would only take CPU time from who is measured.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the name says; none for other programs, and for the payload's process before it is the payload.
fn started(pid: i32) -> Option<Duration> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let micros = u64::from_str_radix(name.trim_end().strip_prefix("p:")?, 16).ok()?;
    Some(Duration::from_micros(micros))
}
