//! `guest pause`: `guest-pause` for those who have only the one program at hand. Must do nothing but wait for SIGTERM.

use std::io;

use crate::sys::signal;

/// Writes the time of its start (CLOCK_REALTIME, nanoseconds) to `marker` if one is given, then waits for the end.
pub fn run(marker: Option<&str>) -> io::Result<i32> {
    signal::block(&[libc::SIGTERM])?;
    if let Some(path) = marker {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        std::fs::write(path, format!("{}\n", now.as_nanos()))?;
    }
    signal::wait(&[libc::SIGTERM])?;
    Ok(0)
}
