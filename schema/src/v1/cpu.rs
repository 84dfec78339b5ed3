//! How much CPU a VE gets, and which.

use super::defaults;
use super::macros::group;
use super::scalars::{CpuList, CpuUnits, Limit, Percent};
use std::num::NonZeroU32;

group! {
    /// CPU of a VE.
    pub struct Cpu {
        /// Weight against other VEs when CPU is scarce: 8 to 500000.
        live cpuunits: Option<CpuUnits> = defaults::CPU_UNITS,
        /// At most this much CPU time, in percent of one CPU. 0 or `unlimited` is no limit.
        live cpulimit: Option<Limit<Percent>> = "unlimited",
        /// How many CPUs the VE sees and may use at once. Default: all.
        live cpus: Option<NonZeroU32>,
        /// The host's CPUs the VE may run on. Default: all.
        live cpumask: Option<CpuList>,
        /// The NUMA nodes the VE's memory is taken from. Default: all.
        live nodemask: Option<CpuList>,
    }
}
