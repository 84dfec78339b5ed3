//! What a VE uses now, read through cgroups-rs from the controllers that its groups have.
//!
//! For people's eyes (`vzd describe`, status); limits are not this file's concern.

use std::collections::BTreeMap;

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, hierarchies};
use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::VeCgroup;

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
        }
    }
}
