//! Memory in use on the whole host, and of one process. Must not drop caches or otherwise change what it measures.

use std::time::Duration;

use crate::result::{Context, Result};

/// Kilobytes that nobody else could have: neither free nor cache of files. Kernel memory is in it.
fn used_now() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        number.ok_or("not there").context(name)
    };
    // Shared memory is counted among the cache but can't be dropped.
    Ok(field("MemTotal")? - field("MemFree")? - field("Buffers")? - field("Cached")? + field("Shmem")?)
}

/// The same, once it has stopped moving: the least of some readings, since what disturbs takes memory for a while.
pub(crate) fn used() -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        least = least.min(used_now()?);
    }
    Ok(least)
}

/// Resident kilobytes of a process.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).context(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or("no VmRSS").context(path)
}
