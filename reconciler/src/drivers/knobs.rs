//! The files that hold the values of a control group, and their text in version 1 and version 2.
//!
//! Straight files: each write says which file refused which value and why, values are read back exactly,
//! and a controller is used in whichever hierarchy it is (cgroups-rs knows one version at a time and
//! swallows some errors). Nothing is decided here.

use std::path::{Path, PathBuf};

use vzd_schema::v1::CpuList;
use vzd_state::capability::{Capabilities, Controller};
use vzd_state::subsystem::cgroup::{Knob, PERIOD, Value};

use crate::error::{At, SysError, SysResult};
use crate::kernel::cgroup::{Hierarchy, VeCgroup, write};

/// The values of one VE's groups.
pub struct Knobs<'a> {
    group: VeCgroup<'a>,
    caps: &'a Capabilities,
}

/// How a file holds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A number, or a word for no limit.
    Number { no_limit: &'static str },
    /// `default 100`.
    Weight,
    /// Microseconds and the period beside it in a file of its own; -1 for no limit.
    Quota { period: &'static str },
    /// `50000 100000`, `max 100000`.
    Max,
    /// `0-3,8`; empty for what is above.
    List,
    /// A line `254:0 1048576` for each disk, none for no limit.
    PerDisk,
    /// A line `254:0 rbps=1048576 wbps=max` for each disk: the number behind this key.
    PerDiskKey(&'static str),
}

const NUMBER: Form = Form::Number { no_limit: "max" };
const NUMBER_V1: Form = Form::Number { no_limit: "-1" };

/// Names of files and how each holds its value.
type Files = &'static [(&'static str, Form)];

/// The files of a knob. Where there are several they hold the same; one that isn't there is left out.
fn files(knob: Knob, hierarchy: Hierarchy<'_>) -> Files {
    match (hierarchy, knob) {
        (Hierarchy::V1(_), Knob::CpuWeight) => &[("cpu.shares", NUMBER_V1)],
        (Hierarchy::V1(_), Knob::CpuQuota) => {
            &[("cpu.cfs_quota_us", Form::Quota { period: "cpu.cfs_period_us" })]
        }
        (Hierarchy::V1(_), Knob::MemoryMax) => &[("memory.limit_in_bytes", NUMBER_V1)],
        (Hierarchy::V1(_), Knob::MemoryTotal) => &[("memory.memsw.limit_in_bytes", NUMBER_V1)],
        (Hierarchy::V1(_), Knob::IoWeight) => &[("blkio.bfq.weight", NUMBER_V1)],
        (Hierarchy::V1(_), Knob::IoBytes) => &[
            ("blkio.throttle.read_bps_device", Form::PerDisk),
            ("blkio.throttle.write_bps_device", Form::PerDisk),
        ],
        (Hierarchy::V1(_), Knob::IoOps) => &[
            ("blkio.throttle.read_iops_device", Form::PerDisk),
            ("blkio.throttle.write_iops_device", Form::PerDisk),
        ],
        (Hierarchy::V1(_), Knob::MemoryHigh | Knob::MemoryLow | Knob::SwapMax) => &[],
        (Hierarchy::V2(_), Knob::CpuWeight) => &[("cpu.weight", NUMBER)],
        (Hierarchy::V2(_), Knob::CpuQuota) => &[("cpu.max", Form::Max)],
        (Hierarchy::V2(_), Knob::MemoryHigh) => &[("memory.high", NUMBER)],
        (Hierarchy::V2(_), Knob::MemoryMax) => &[("memory.max", NUMBER)],
        (Hierarchy::V2(_), Knob::MemoryLow) => &[("memory.low", NUMBER)],
        (Hierarchy::V2(_), Knob::SwapMax) => &[("memory.swap.max", NUMBER)],
        (Hierarchy::V2(_), Knob::IoWeight) => &[("io.weight", Form::Weight), ("io.bfq.weight", Form::Weight)],
        (Hierarchy::V2(_), Knob::IoBytes) => {
            &[("io.max", Form::PerDiskKey("rbps")), ("io.max", Form::PerDiskKey("wbps"))]
        }
        (Hierarchy::V2(_), Knob::IoOps) => {
            &[("io.max", Form::PerDiskKey("riops")), ("io.max", Form::PerDiskKey("wiops"))]
        }
        (Hierarchy::V2(_), Knob::MemoryTotal) => &[],
        (_, Knob::Cpus) => &[("cpuset.cpus", Form::List)],
        (_, Knob::Nodes) => &[("cpuset.mems", Form::List)],
        (_, Knob::Tasks) => &[("pids.max", NUMBER)],
        // Of the group that the VE takes for the top: it may not write there itself.
        (_, Knob::Subgroups) => &[("ve/cgroup.max.descendants", NUMBER)],
    }
}

impl<'a> Knobs<'a> {
    /// Those of a VE.
    pub fn of(group: VeCgroup<'a>, caps: &'a Capabilities) -> Self {
        Self { group, caps }
    }

    fn files(&self, knob: Knob) -> SysResult<(Hierarchy<'a>, PathBuf, Files)> {
        let (hierarchy, dir) = match knob.controller() {
            Some(controller) => self.group.dir_of(controller.name())?,
            None => self.group.v2(),
        };
        let files = files(knob, hierarchy);
        if files.is_empty() {
            return Err(SysError::refused("find", knob, "this version of control groups has none"));
        }
        Ok((hierarchy, dir, files))
    }

    fn disk(&self) -> &str {
        self.caps.io_disk.as_deref().unwrap_or("0:0")
    }

    /// The value in the kernel. Files that should hold the same and don't are a value that is like no other.
    pub fn read(&self, knob: Knob) -> SysResult<Value> {
        let (_, dir, files) = self.files(knob)?;
        let mut found: Vec<Value> = Vec::new();
        for (file, form) in files {
            match self.read_file(knob, &dir, file, *form) {
                Err(e) if e.is_absent() && files.len() > 1 => {}
                other => found.push(other?),
            }
        }
        found.dedup();
        match found.len() {
            0 => Err(SysError::new("read", dir.join(files[0].0).display(), libc::ENOENT)),
            1 => Ok(found.remove(0)),
            _ => Ok(Value::Text(found.iter().map(Value::to_string).collect::<Vec<_>>().join("/"))),
        }
    }

    fn read_file(&self, knob: Knob, dir: &Path, file: &str, form: Form) -> SysResult<Value> {
        let path = dir.join(file);
        let text = std::fs::read_to_string(&path).at("read", path.display())?;
        let parsed = match form {
            Form::Quota { period } => {
                let period = dir.join(period);
                let period = std::fs::read_to_string(&period).at("read", period.display())?;
                parse_max(&format!("{} {period}", if text.trim() == "-1" { "max" } else { text.trim() }))
            }
            Form::Number { .. } => parse_number(text.trim(), self.caps.page_size),
            Form::Weight => text.lines().find_map(|line| parse_number(line.strip_prefix("default ")?, 1)),
            Form::Max => parse_max(&text),
            Form::List if text.trim().is_empty() => Some(knob.default(self.caps)),
            Form::List => text.trim().parse::<CpuList>().ok().map(|list| Value::list(&list)),
            Form::PerDisk => {
                per_disk(&text, self.disk()).map_or(Some(Value::max()), |is| parse_number(is, 1))
            }
            Form::PerDiskKey(key) => {
                let line = per_disk(&text, self.disk()).unwrap_or_default();
                let value = line.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
                value.map_or(Some(Value::max()), |is| parse_number(is, 1))
            }
        };
        parsed.ok_or_else(|| {
            SysError::refused("understand", path.display(), "it is not in the form that it should be")
                .value(text.trim())
        })
    }

    /// Writes a value.
    pub fn write(&self, knob: Knob, value: &Value) -> SysResult<()> {
        let (hierarchy, dir, files) = self.files(knob)?;
        if knob == Knob::Nodes && matches!(hierarchy, Hierarchy::V1(_)) {
            // What is on another node comes along, as in version 2.
            write(&dir.join("cpuset.memory_migrate"), "1")?;
        }
        if knob == Knob::MemoryLow {
            return self.protect(&dir.join("memory.low"), value);
        }
        let several = files.len() > 1;
        for (file, form) in files {
            let path = dir.join(file);
            if let Form::Quota { period } = form {
                let period = dir.join(period);
                if std::fs::read_to_string(&period).is_ok_and(|is| is.trim() != PERIOD.to_string()) {
                    write(&period, &PERIOD.to_string())?;
                }
            }
            match write(&path, &self.text(value, *form)) {
                Err(e) if e.is_absent() && several && *form == Form::Weight => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn text(&self, value: &Value, form: Form) -> String {
        let unlimited = !value.is_limit();
        match form {
            Form::Number { no_limit } if unlimited => no_limit.to_owned(),
            Form::Quota { .. } if unlimited => "-1".to_owned(),
            Form::Number { .. } | Form::Quota { .. } | Form::Weight => value.to_string(),
            Form::Max => format!("{value} {PERIOD}"),
            // Said in full: the kernel lets no group that holds tasks go back to an empty list.
            Form::List => value.to_string(),
            Form::PerDisk if unlimited => format!("{} 0", self.disk()),
            Form::PerDisk => format!("{} {value}", self.disk()),
            Form::PerDiskKey(key) => format!("{} {key}={value}", self.disk()),
        }
    }

    /// What is in use of a limit that the kernel would kill for.
    pub fn used(&self, knob: Knob) -> Option<u64> {
        let (hierarchy, dir) = self.group.dir_of(Controller::Memory.name()).ok()?;
        let file = match (knob, hierarchy) {
            (Knob::MemoryMax, Hierarchy::V1(_)) => "memory.usage_in_bytes",
            (Knob::MemoryTotal, Hierarchy::V1(_)) => "memory.memsw.usage_in_bytes",
            (Knob::MemoryMax, Hierarchy::V2(_)) => "memory.current",
            _ => return None,
        };
        std::fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
    }

    /// A group is protected as far as those around it are: each of them gets what all VEs below it have
    /// together, before when that grows and after when it shrinks.
    fn protect(&self, path: &Path, value: &Value) -> SysResult<()> {
        let around = |value: u64| self.group.protect_around(path, value);
        let is = parse_number(std::fs::read_to_string(path).at("read", path.display())?.trim(), 1);
        if is.is_none_or(|is| is.limit() < value.limit()) {
            around(value.limit())?;
        }
        write(path, &value.to_string())?;
        around(value.limit())
    }
}

/// A number; what is as large as the kernel's counters go is no limit.
fn parse_number(text: &str, page: u64) -> Option<Value> {
    if matches!(text, "max" | "-1") {
        return Some(Value::max());
    }
    let number: u64 = text.parse().ok()?;
    let most = i64::MAX.unsigned_abs() / page.max(1) * page.max(1);
    Some(if number >= most { Value::max() } else { Value::Number(number) })
}

/// Time in a period, as time in ours.
fn parse_max(text: &str) -> Option<Value> {
    let mut words = text.split_whitespace();
    let (quota, period) = (words.next()?, words.next()?.parse::<u64>().ok()?);
    match parse_number(quota, 1)? {
        Value::Number(quota) if period != PERIOD => Some(Value::Number(quota * PERIOD / period.max(1))),
        value => Some(value),
    }
}

/// What the line of a disk says.
fn per_disk<'t>(text: &'t str, disk: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(disk)?.strip_prefix(' ')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_has_files_in_the_version_that_it_is_of() {
        let top = Path::new("/");
        for knob in Knob::ALL {
            let v1 = !files(knob, Hierarchy::V1(top)).is_empty();
            let v2 = !files(knob, Hierarchy::V2(top)).is_empty();
            let only_v1 = knob == Knob::MemoryTotal;
            let only_v2 = matches!(knob, Knob::MemoryHigh | Knob::MemoryLow | Knob::SwapMax);
            assert_eq!((v1, v2), (!only_v2, !only_v1), "{knob}");
        }
    }

    #[test]
    fn what_the_kernel_shows_is_understood() {
        let number = |number| Some(Value::Number(number));
        assert_eq!(parse_number("4096", 4096), number(4096));
        assert_eq!(parse_number("max", 4096), Some(Value::max()));
        assert_eq!(parse_number("9223372036854771712", 4096), Some(Value::max()));
        assert_eq!(parse_max("50000 100000\n"), number(50_000));
        assert_eq!(parse_max("max 100000\n"), Some(Value::max()));
        assert_eq!(parse_max("5000 10000\n"), number(50_000));
        let text = "8:0 7\n254:0 1048576\n";
        assert_eq!(per_disk(text, "254:0"), Some("1048576"));
        assert_eq!(per_disk(text, "254:1"), None);
        assert_eq!(per_disk(text, "4:0"), None);
    }
}
