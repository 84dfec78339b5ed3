//! The values of a control group that vzd sets, in the kernel's own units, and how a manifest would
//! write them. What a manifest's fields come to is `limits`; files and their text are the driver's.

use std::fmt;

use serde::{Deserialize, Serialize};
use vzd_schema::v1::{ByteRate, CpuList, Percent, Size};

use crate::capability::{Capabilities, Controller, Version};

/// A value of a control group. In the order in which they are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Knob {
    /// Share of CPU time against others: cpu.weight, cpu.shares.
    CpuWeight,
    /// CPU time in each [`PERIOD`], in microseconds.
    CpuQuota,
    /// CPUs.
    Cpus,
    /// NUMA nodes.
    Nodes,
    /// Memory above which the kernel takes back and slows down, in bytes (version 2).
    MemoryHigh,
    /// Memory, in bytes.
    MemoryMax,
    /// Memory and swap together, in bytes (version 1).
    MemoryTotal,
    /// Swap, in bytes (version 2).
    SwapMax,
    /// Memory that is not taken away, in bytes (version 2).
    MemoryLow,
    /// Share of the disk against others.
    IoWeight,
    /// Bytes a second, of reading and of writing.
    IoBytes,
    /// Operations a second, of reading and of writing.
    IoOps,
    /// Processes and threads.
    Tasks,
    /// Groups that the VE makes in its own.
    Subgroups,
}

/// The period of CPU quotas, in microseconds.
pub const PERIOD: u64 = 100_000;

/// The kernel's default weight of input and output.
pub(super) const IO_WEIGHT: u64 = 100;

impl Knob {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::CpuWeight,
        Self::CpuQuota,
        Self::Cpus,
        Self::Nodes,
        Self::MemoryHigh,
        Self::MemoryMax,
        Self::MemoryTotal,
        Self::SwapMax,
        Self::MemoryLow,
        Self::IoWeight,
        Self::IoBytes,
        Self::IoOps,
        Self::Tasks,
        Self::Subgroups,
    ];

    /// The controller that has it; none if the version 2 tree has it by itself.
    pub fn controller(self) -> Option<Controller> {
        Some(match self {
            Self::CpuWeight | Self::CpuQuota => Controller::Cpu,
            Self::Cpus | Self::Nodes => Controller::Cpuset,
            Self::MemoryHigh | Self::MemoryMax | Self::MemoryTotal | Self::SwapMax | Self::MemoryLow => {
                Controller::Memory
            }
            Self::IoWeight | Self::IoBytes | Self::IoOps => Controller::Io,
            Self::Tasks => Controller::Pids,
            Self::Subgroups => return None,
        })
    }

    /// The field of the manifest that says it.
    pub fn field(self) -> &'static str {
        match self {
            Self::CpuWeight => "spec.cpu.cpuunits",
            Self::CpuQuota => "spec.cpu.cpulimit",
            Self::Cpus => "spec.cpu.cpus",
            Self::Nodes => "spec.cpu.nodemask",
            Self::MemoryHigh | Self::MemoryMax => "spec.memory.ram",
            Self::MemoryTotal | Self::SwapMax => "spec.memory.swap",
            Self::MemoryLow => "spec.memory.guarantee",
            Self::IoWeight => "spec.io.ioprio",
            Self::IoBytes => "spec.io.iolimit",
            Self::IoOps => "spec.io.iopslimit",
            Self::Tasks => "spec.beancounters.numproc",
            Self::Subgroups => "spec.memory.subgroups",
        }
    }

    /// What a new group has.
    pub fn default(self, caps: &Capabilities) -> Value {
        match self {
            Self::CpuWeight => Value::Number(match caps.controllers.get(&Controller::Cpu) {
                Some(Version::V1) => 1024,
                Some(Version::V2) | None => 100,
            }),
            Self::Cpus => Value::list(&caps.cpus),
            Self::Nodes => Value::list(&caps.nodes),
            Self::MemoryLow => Value::Number(0),
            Self::IoWeight => Value::Number(IO_WEIGHT),
            Self::CpuQuota
            | Self::MemoryHigh
            | Self::MemoryMax
            | Self::MemoryTotal
            | Self::SwapMax
            | Self::IoBytes
            | Self::IoOps
            | Self::Tasks
            | Self::Subgroups => Value::max(),
        }
    }

    /// A value as a manifest would write it.
    pub fn shown(self, value: &Value, caps: &Capabilities) -> String {
        let Value::Number(number) = *value else {
            return if *value == Value::max() { "unlimited".to_owned() } else { value.to_string() };
        };
        match self {
            Self::CpuWeight => match caps.controllers.get(&Controller::Cpu) {
                Some(Version::V1) => (number * 1000 + 512) / 1024,
                Some(Version::V2) | None => number * 10,
            }
            .to_string(),
            Self::CpuQuota => Percent::from_hundredths(number / 10).to_string(),
            Self::MemoryHigh | Self::MemoryMax | Self::MemoryTotal | Self::SwapMax | Self::MemoryLow => {
                Size::from_bytes(number).to_string()
            }
            Self::IoWeight if number.is_multiple_of(20) && (20..=160).contains(&number) => {
                (number / 20 - 1).to_string()
            }
            Self::IoWeight => format!("weight {number}"),
            Self::IoBytes => ByteRate::from_bytes(number).to_string(),
            Self::Cpus | Self::Nodes | Self::IoOps | Self::Tasks | Self::Subgroups => number.to_string(),
        }
    }

    /// Whether it limits what the VE already holds: lowered below that, it has to wait.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::MemoryMax | Self::MemoryTotal)
    }
}

/// In a few words.
impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CpuWeight => "CPU weight",
            Self::CpuQuota => "CPU quota",
            Self::Cpus => "CPUs",
            Self::Nodes => "NUMA nodes",
            Self::MemoryHigh => "memory.high",
            Self::MemoryMax => "memory limit",
            Self::MemoryTotal => "limit of memory and swap",
            Self::SwapMax => "swap limit",
            Self::MemoryLow => "memory guarantee",
            Self::IoWeight => "I/O weight",
            Self::IoBytes => "I/O limit in bytes/s",
            Self::IoOps => "I/O limit in operations/s",
            Self::Tasks => "task limit",
            Self::Subgroups => "limit of control groups",
        })
    }
}

/// A value in canonical form, so that equal settings are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A number in the knob's unit.
    Number(u64),
    /// `max`, or a list of numbers.
    Text(String),
}

impl Value {
    /// No limit.
    pub fn max() -> Self {
        Self::Text("max".to_owned())
    }

    /// A list of CPUs or nodes.
    pub fn list(list: &CpuList) -> Self {
        Self::Text(list.to_string())
    }

    /// Whether it is a number.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Number(_))
    }

    /// As a limit: no limit is more than any number.
    pub fn limit(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Text(_) => u64::MAX,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}
