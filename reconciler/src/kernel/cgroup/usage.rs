//! What a VE uses now, read through cgroups-rs from the controllers that its groups have; what those read
//! and write, which cgroups-rs gives by device, is summed here.
//!
//! For people's eyes (`vzd describe`, status, `vzd top`) and metrics; limits are not this file's concern.

use std::collections::BTreeMap;

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, hierarchies};
use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::{Hierarchy, VeCgroup};

/// What one VE uses. A value is `None` where this host has no controller that counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time since its groups were made, in microseconds.
    pub cpu_usec: Option<u64>,
    /// Memory charged to it, in bytes.
    pub memory_bytes: Option<u64>,
    /// Tasks (processes and threads).
    pub tasks: Option<u64>,
    /// What it has read from and written to block devices since its groups were made.
    pub io: Option<Io>,
}

/// What went to and came from block devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Io {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written. Version 1 counts only what is written past the page cache.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

impl Io {
    /// Lines of version 2's io.stat: `254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
    fn of_v2(text: &str) -> Self {
        let sum = |key: &str| -> u64 {
            let values = text.split_whitespace().filter_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            values.filter_map(|value| value.parse::<u64>().ok()).sum()
        };
        Self {
            read_bytes: sum("rbytes"),
            written_bytes: sum("wbytes"),
            reads: sum("rios"),
            writes: sum("wios"),
        }
    }

    /// Lines of version 1's files: `254:0 Read 4096`.
    fn of_v1(bytes: &str, count: &str) -> Self {
        let sum = |text: &str, what: &str| -> u64 {
            let lines = text.lines().filter_map(|line| line.split_once(' ')?.1.strip_prefix(what));
            lines.filter_map(|value| value.trim().parse::<u64>().ok()).sum()
        };
        Self {
            read_bytes: sum(bytes, "Read "),
            written_bytes: sum(bytes, "Write "),
            reads: sum(count, "Read "),
            writes: sum(count, "Write "),
        }
    }
}

impl Usage {
    /// By name, for status.
    pub fn to_map(self) -> BTreeMap<String, serde_json::Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => {
                map.into_iter().filter(|(_, value)| !value.is_null()).collect()
            }
            _ => BTreeMap::new(),
        }
    }
}

impl VeCgroup<'_> {
    /// Reads what the VE uses.
    pub fn usage(&self) -> Usage {
        let path = format!("{}/{}", self.layout().root, self.ctid());
        let group = Cgroup::load(hierarchies::auto(), path);
        let cpu_v1 = group.controller_of::<CpuAcctController>().map(|c| c.cpuacct().usage / 1000);
        let cpu_v2 = group.controller_of::<CpuController>().and_then(|c| {
            let stat = c.cpu().stat;
            stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse().ok()
        });
        Usage {
            cpu_usec: cpu_v1.or(cpu_v2),
            memory_bytes: group.controller_of::<MemController>().map(|c| c.memory_stat().usage_in_bytes),
            tasks: group.controller_of::<PidController>().and_then(|c| c.get_pid_current().ok()),
            io: self.io(),
        }
    }

    fn io(&self) -> Option<Io> {
        let (hierarchy, dir) = self.dir_of("io").ok()?;
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
        match hierarchy {
            // No line is there until something was read or written.
            Hierarchy::V2(_) => Some(Io::of_v2(&read("io.stat")?)),
            Hierarchy::V1(_) => {
                let [bytes, count] = ["io_service_bytes_recursive", "io_serviced_recursive"]
                    .map(|file| read(&format!("blkio.throttle.{file}")));
                Some(Io::of_v1(&bytes?, &count?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_is_summed_over_devices() {
        let is = Io { read_bytes: 11, written_bytes: 22, reads: 3, writes: 5 };
        let text = "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=9 dios=9\n7:1 rbytes=1 wbytes=2 rios=2 wios=3 dbytes=0 dios=0\n7:2\n";
        assert_eq!(Io::of_v2(text), is);
        let bytes = "254:0 Read 10\n254:0 Write 20\n254:0 Sync 30\n254:0 Total 30\n7:1 Read 1\n7:1 Write 2\nTotal 33\n";
        let count = "254:0 Read 3\n254:0 Write 5\n254:0 Total 8\nTotal 8\n";
        assert_eq!(Io::of_v1(bytes, count), is);
        assert_eq!(Io::of_v1("Total 0\n", "Total 0\n"), Io::default());
    }
}
