//! Memory in use: on the whole host, charged to our cgroup, and of one process.
//!
//! Must not drop caches or otherwise change what it measures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::place::Place;
use crate::result::{Context, Result};
use crate::sys;

/// Kilobytes that the kernel has counted as used, by kind: its own objects, stacks, tables and buffers, and what is
/// processes' own. What is merely not free would be a worse measure: the pages that each CPU keeps at hand for its next
/// allocations come and go by megabytes. (Stacks of threads are among what vmalloc gives.)
fn used_now() -> Result<f64> {
    // Reading this makes the kernel add up what each CPU has counted for itself.
    drop(std::fs::read("/proc/sys/vm/stat_refresh"));
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        number.ok_or("not there").context(name)
    };
    let kinds = ["Slab", "PageTables", "Percpu", "AnonPages", "Shmem"];
    kinds.into_iter().map(field).chain([vmalloc()]).sum()
}

/// Kilobytes that vmalloc has given. The tables that come with each chunk of per-CPU memory are left out: they take two
/// megabytes at once, and whichever of the peers happens to need the next chunk would seem to cost that. `Percpu` tells
/// what each has of the chunks.
fn vmalloc() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/vmallocinfo").context("/proc/vmallocinfo")?;
    let areas = text.lines().filter(|line| !line.contains(" pcpu_create_chunk"));
    let pages = areas.filter_map(|area| area.split(" pages=").nth(1)?.split(' ').next()?.parse::<u32>().ok());
    Ok(pages.map(f64::from).sum::<f64>() * sys::page_kilobytes())
}

/// The same over a second: the least of some readings, since what disturbs takes memory for a while.
pub(crate) fn used() -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        least = least.min(used_now()?);
    }
    Ok(least)
}

/// Our cgroup's account: less than the host's (some of a namespace is charged to nobody), but undisturbed by others.
pub(crate) struct Account {
    directory: PathBuf,
}

impl Account {
    pub(crate) fn of(place: &Place) -> Account {
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let top = if version_1.is_dir() { version_1 } else { Path::new("/sys/fs/cgroup") };
        Account { directory: top.join(&place.cgroup) }
    }

    /// Kilobytes charged, cache of files left out; none where the kernel has no such controller.
    pub(crate) fn charged(&self) -> Option<f64> {
        let read = |name: &str| std::fs::read_to_string(self.directory.join(name)).ok();
        let stat = read("memory.stat")?;
        let field =
            |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let (all, cache, shared) = match read("memory.usage_in_bytes") {
            Some(all) => (all, field("total_cache ")?, field("total_shmem ")?),
            None => (read("memory.current")?, field("file ")?, field("shmem ")?),
        };
        Some((all.trim().parse::<f64>().ok()? - cache + shared) / 1024.0)
    }
}

/// Resident kilobytes of a process.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).context(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or("no VmRSS").context(path)
}
