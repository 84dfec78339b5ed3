//! From the limits of a manifest to the values that this host's control groups are to have.
//!
//! A field that is not written asks for nothing: what vzd never set is left alone. What the kernel
//! rounds or cannot represent is known here, so that a value that was read back is never taken for
//! drift, and said (`Wanted::note`) where it changes what was asked for.

use serde::{Deserialize, Serialize};
use vzd_schema::v1::{self, Count, CpuList, Limit, Pair, Size};

use super::knob::{IO_WEIGHT, Knob, PERIOD, Value};
use crate::capability::{Capabilities, Controller, Version};

/// What a manifest asks for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// CPU.
    pub cpu: v1::Cpu,
    /// Memory; `physpages` and `swappages` are in it.
    pub memory: v1::Memory,
    /// What `vmguarpages` and `oomguarpages` guarantee, where the kernel can.
    pub counted_guarantee: Option<Size>,
    /// Disk.
    pub io: v1::Io,
    /// Processes and threads.
    pub numproc: Option<Pair<Count>>,
}

/// A value that a knob is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which knob.
    pub knob: Knob,
    /// The field that says so.
    pub field: &'static str,
    /// What the manifest asks for, as it would write it.
    pub asked: String,
    /// What the kernel will have; or why this host cannot have it.
    pub value: Result<Value, String>,
    /// How that is not quite what was asked for.
    pub note: Option<String>,
}

/// The kernel's bounds.
const SHARES: (u64, u64) = (2, 262_144);
const WEIGHT: (u64, u64) = (1, 10_000);
const LEAST_QUOTA: u64 = 1000;
const MOST_TASKS: u64 = 4_194_304;
const MOST_GROUPS: u64 = i32::MAX as u64 - 1;

impl Limits {
    /// Every value that is asked for, in the order in which they are set. `ctid` spreads VEs over the
    /// CPUs of the host.
    pub fn wanted(&self, caps: &Capabilities, ctid: u32) -> Vec<Wanted> {
        let Self { cpu, memory, counted_guarantee, io, numproc } = self;
        let v1::Cpu { cpuunits, cpulimit, cpus, cpumask, nodemask } = cpu;
        let v1::Io { ioprio, iolimit, iopslimit } = io;
        let mut list = List { caps, wanted: Vec::new() };
        if let Some(units) = cpuunits {
            list.weight(units.get().into());
        }
        if let Some(limit) = cpulimit {
            list.quota(*limit);
        }
        if cpus.is_some() || cpumask.is_some() {
            list.cpus(cpus.map(u32::from), cpumask.as_ref(), ctid);
        }
        if let Some(mask) = nodemask {
            let (value, note) = narrowed(mask, &caps.nodes, "NUMA nodes");
            list.add(Knob::Nodes, mask, value, note);
        }
        list.memory(memory);
        list.guarantee(memory.guarantee, *counted_guarantee);
        if let Some(prio) = ioprio {
            let value = caps.io_weight.missing().map_or_else(
                || Ok(Value::Number((u64::from(prio.get()) + 1) * (IO_WEIGHT / 5))),
                |why| Err(why.to_owned()),
            );
            list.add(Knob::IoWeight, prio, value, caps.io_weight_note.clone());
        }
        if let Some(limit) = iolimit {
            list.rate(Knob::IoBytes, limit, limit.amount().map(v1::ByteRate::bytes), u64::MAX - 1);
        }
        if let Some(limit) = iopslimit {
            let most = u64::from(u32::MAX) - 1;
            list.rate(Knob::IoOps, limit, limit.amount().map(v1::OpRate::get), most);
        }
        if let Some(pair) = numproc {
            // A fork is an ordinary request: it is refused at the barrier.
            let (value, note) = match pair.barrier() {
                Limit::At(count) => clamped(count.get(), (0, MOST_TASKS)),
                Limit::Unlimited => (Value::max(), None),
            };
            list.add(Knob::Tasks, pair, Ok(value), note);
        }
        if let Some(limit) = memory.subgroups {
            let (value, note) = match limit {
                Limit::At(count) => clamped(count.get(), (0, MOST_GROUPS)),
                Limit::Unlimited => (Value::max(), None),
            };
            list.add(Knob::Subgroups, limit, Ok(value), note);
        }
        list.wanted
    }
}

struct List<'a> {
    caps: &'a Capabilities,
    wanted: Vec<Wanted>,
}

impl List<'_> {
    fn add(&mut self, knob: Knob, asked: impl ToString, value: Result<Value, String>, note: Option<String>) {
        let value = match (value, knob.controller()) {
            (Ok(value), Some(controller)) => match self.caps.controller(controller) {
                // No limit is what a host without the controller has.
                Err(_) if value == Value::max() => return,
                there => there.map(|_| value),
            },
            (value, _) => value,
        };
        self.wanted.push(Wanted { knob, field: knob.field(), asked: asked.to_string(), value, note });
    }

    fn weight(&mut self, units: u64) {
        let (weight, bounds) = match self.caps.controllers.get(&Controller::Cpu) {
            Some(Version::V1) => ((units * 1024 + 500) / 1000, SHARES),
            Some(Version::V2) | None => ((units + 5) / 10, WEIGHT),
        };
        let value = Value::Number(weight.clamp(bounds.0, bounds.1));
        let in_force = Knob::CpuWeight.shown(&value, self.caps);
        let note = (in_force != units.to_string()).then(|| {
            let verb = if weight == weight.clamp(bounds.0, bounds.1) { "rounded" } else { "clamped" };
            format!("{verb} to {in_force}")
        });
        self.add(Knob::CpuWeight, units, Ok(value), note);
    }

    fn quota(&mut self, limit: Limit<v1::Percent>) {
        let value = match limit {
            Limit::At(percent) => {
                // A hundredth of a percent of the period.
                let quota = percent.hundredths().saturating_mul(PERIOD / 10_000);
                let (value, clamped) = clamped(quota, (LEAST_QUOTA, u64::from(u32::MAX)));
                let note = clamped.map(|_| format!("clamped to {}", Knob::CpuQuota.shown(&value, self.caps)));
                (value, note)
            }
            Limit::Unlimited => (Value::max(), None),
        };
        self.add(Knob::CpuQuota, limit, Ok(value.0), value.1);
    }

    /// So many CPUs of those in the mask, beginning elsewhere for each VE.
    fn cpus(&mut self, count: Option<u32>, mask: Option<&CpuList>, ctid: u32) {
        let (value, note) = match mask {
            Some(mask) => narrowed(mask, &self.caps.cpus, "CPUs"),
            None => (Ok(Value::list(&self.caps.cpus)), None),
        };
        let asked = match (count, mask) {
            (Some(count), Some(mask)) => format!("{count} of {mask}"),
            (Some(count), None) => count.to_string(),
            (None, mask) => mask.map_or_else(String::new, ToString::to_string),
        };
        let (mut value, mut note) = (value, note);
        if let (Some(count), Ok(allowed)) = (count, &value) {
            let allowed: Vec<u16> = parse_list(&allowed.to_string()).iter().flat_map(CpuList::iter).collect();
            if usize::try_from(count).is_ok_and(|count| count < allowed.len()) {
                let first = u64::from(ctid) * u64::from(count) % allowed.len() as u64;
                let some = allowed.iter().cycle().skip(usize::try_from(first).unwrap_or(0));
                let some: Vec<String> = some.take(count as usize).map(u16::to_string).collect();
                value = Ok(parse_list(&some.join(",")).map_or_else(Value::max, |list| Value::list(&list)));
            } else if count as usize > allowed.len() {
                note = Some(format!("there are only {}", allowed.len()));
            }
        }
        self.add(Knob::Cpus, asked, value, note);
        if let (None, Some(last)) = (count, self.wanted.last_mut()) {
            last.field = "spec.cpu.cpumask";
        }
    }

    fn memory(&mut self, memory: &v1::Memory) {
        let v1::Memory { ram, swap, guarantee: _, subgroups: _ } = memory;
        let page = self.caps.page_size.max(1);
        let pages = |size| whole_pages(size, page);
        let version = self.caps.controllers.get(&Controller::Memory).copied();
        if let Some(ram) = *ram {
            if version != Some(Version::V1) {
                let high = match pages(ram) {
                    // Slowed down before it has to be killed.
                    Value::Number(max) => Value::Number((max - max / 32) / page * page),
                    unlimited @ Value::Text(_) => unlimited,
                };
                self.add(Knob::MemoryHigh, ram, Ok(high), None);
            }
            self.add(Knob::MemoryMax, ram, Ok(pages(ram)), None);
        }
        if let Some(swap) = *swap {
            let missing = || self.caps.swap_limit.missing().map(str::to_owned);
            if version == Some(Version::V1) {
                let value = match (ram.map(pages), pages(swap)) {
                    (_, unlimited @ Value::Text(_)) => Ok(unlimited),
                    (Some(Value::Number(ram)), Value::Number(swap)) => {
                        missing().map_or(Ok(Value::Number(ram.saturating_add(swap))), Err)
                    }
                    (_, Value::Number(_)) => Err("this kernel limits swap only together with RAM (memory \
                                                  controller version 1); give `memory.ram` too"
                        .to_owned()),
                };
                self.add(Knob::MemoryTotal, swap, value, None);
            } else {
                let value = match pages(swap) {
                    limit @ Value::Number(_) => missing().map_or(Ok(limit), Err),
                    unlimited @ Value::Text(_) => Ok(unlimited),
                };
                self.add(Knob::SwapMax, swap, value, None);
            }
        }
    }

    /// A guarantee that is asked for by its name has to be carried out; those of the counters are counted
    /// where they cannot be.
    fn guarantee(&mut self, asked: Option<Size>, counted: Option<Size>) {
        let (size, missing) = match (asked, counted, self.caps.memory_low.missing()) {
            (Some(size), _, missing) if size.bytes() > 0 || missing.is_none() => (size, missing),
            (None, Some(size), None) => (size, None),
            _ => return,
        };
        let value = missing.map_or_else(
            || Ok(whole_pages(Limit::At(size), self.caps.page_size.max(1))),
            |why| Err(why.to_owned()),
        );
        self.add(Knob::MemoryLow, size, value, None);
        if let (None, Some(last)) = (asked, self.wanted.last_mut()) {
            last.field = "spec.beancounters.vmguarpages";
        }
    }

    fn rate(&mut self, knob: Knob, asked: impl ToString, rate: Option<u64>, most: u64) {
        let value = match rate {
            None => Ok(Value::max()),
            Some(rate) => match &self.caps.io_disk {
                Some(_) => Ok(Value::Number(rate.min(most))),
                None => Err("the file system that holds the VEs is on no disk of its own".to_owned()),
            },
        };
        self.add(knob, asked, value, None);
    }
}

/// Rounded down, as the kernel does.
fn whole_pages(size: Limit<Size>, page: u64) -> Value {
    match size {
        Limit::At(size) => Value::Number(size.bytes() / page * page),
        Limit::Unlimited => Value::max(),
    }
}

fn clamped(number: u64, (least, most): (u64, u64)) -> (Value, Option<String>) {
    let value = number.clamp(least, most);
    (Value::Number(value), (value != number).then(|| format!("clamped to {value}")))
}

/// Those of a mask that there are.
fn narrowed(mask: &CpuList, all: &CpuList, what: &str) -> (Result<Value, String>, Option<String>) {
    let there: Vec<String> =
        mask.iter().filter(|cpu| all.iter().any(|is| is == *cpu)).map(|cpu| cpu.to_string()).collect();
    match parse_list(&there.join(",")) {
        None => (Err(format!("none of {mask} is there; the host's {what} are {all}")), None),
        Some(list) => {
            let note = (list != *mask).then(|| format!("the host's {what} are {all}"));
            (Ok(Value::list(&list)), note)
        }
    }
}

fn parse_list(text: &str) -> Option<CpuList> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hybrid() -> Capabilities {
        Capabilities::full("boot").hybrid()
    }

    fn limits(json: &str) -> Limits {
        serde_json::from_str(json).unwrap()
    }

    fn values(json: &str, caps: &Capabilities) -> Vec<String> {
        let shown = |is: Wanted| {
            let note = is.note.map_or_else(String::new, |note| format!(" ({note})"));
            format!("{} {}{note}", is.knob, is.value.map_or_else(|why| why, |value| value.to_string()))
        };
        limits(json).wanted(caps, 101).into_iter().map(shown).collect()
    }

    #[test]
    fn what_is_not_written_asks_for_nothing() {
        assert_eq!(values("{}", &Capabilities::full("boot")), [""; 0]);
    }

    #[test]
    fn cpu_units_are_shares_or_weights_and_said_where_they_are_not_exact() {
        let v2 = Capabilities::full("boot");
        for (units, shares, weight) in [
            (1000, "1024", "100"),
            (500, "512", "50"),
            (2000, "2048", "200"),
            (8, "8", "1 (rounded to 10)"),
            (1005, "1029", "101 (rounded to 1010)"),
            (500_000, "262144 (clamped to 256000)", "10000 (clamped to 100000)"),
        ] {
            let asked = format!(r#"{{"cpu": {{"cpuunits": {units}}}}}"#);
            assert_eq!(values(&asked, &hybrid()), [format!("CPU weight {shares}")]);
            assert_eq!(values(&asked, &v2), [format!("CPU weight {weight}")]);
        }
    }

    #[test]
    fn cpu_limits_are_hundredths_of_a_percent_of_the_period() {
        let v2 = Capabilities::full("boot");
        for (asked, quota) in [
            ("50%", "50000"),
            ("150", "150000"),
            ("0", "max"),
            ("unlimited", "max"),
            ("12.34%", "12340"),
            ("0.5%", "1000 (clamped to 1%)"),
        ] {
            let asked = format!(r#"{{"cpu": {{"cpulimit": "{asked}"}}}}"#);
            assert_eq!(values(&asked, &v2), [format!("CPU quota {quota}")]);
        }
    }

    #[test]
    fn cpus_are_taken_from_the_mask_and_spread_over_the_host() {
        let caps = Capabilities { cpus: "0-7".parse().unwrap(), ..Capabilities::full("boot") };
        let first = |json: &str, ctid| limits(json).wanted(&caps, ctid).remove(0).value.unwrap().to_string();
        assert_eq!(first(r#"{"cpu": {"cpus": 2}}"#, 100), "0-1");
        assert_eq!(first(r#"{"cpu": {"cpus": 2}}"#, 101), "2-3");
        assert_eq!(first(r#"{"cpu": {"cpus": 3}}"#, 101), "0-1,7");
        assert_eq!(first(r#"{"cpu": {"cpus": 2, "cpumask": "4,6-7"}}"#, 100), "4,7");
        assert_eq!(first(r#"{"cpu": {"cpumask": "4,6-7"}}"#, 100), "4,6-7");
        assert_eq!(values(r#"{"cpu": {"cpus": 20}}"#, &caps), ["CPUs 0-7 (there are only 8)"]);
        assert_eq!(values(r#"{"cpu": {"cpumask": "6-9"}}"#, &caps), ["CPUs 6-7 (the host's CPUs are 0-7)"]);
        assert_eq!(
            values(r#"{"cpu": {"cpumask": "8"}}"#, &caps),
            ["CPUs none of 8 is there; the host's CPUs are 0-7"]
        );
        assert_eq!(values(r#"{"cpu": {"nodemask": "0"}}"#, &caps), ["NUMA nodes 0"]);
    }

    #[test]
    fn memory_on_version_2_slows_before_it_kills_and_counts_swap_apart() {
        let asked = r#"{"memory": {"ram": "64M", "swap": "5000", "guarantee": "1M"}}"#;
        assert_eq!(
            values(asked, &Capabilities::full("boot")),
            ["memory.high 65011712", "memory limit 67108864", "swap limit 4096", "memory guarantee 1048576"]
        );
    }

    #[test]
    fn memory_on_version_1_counts_swap_on_top_of_ram() {
        let two = r#"{"memory": {"ram": "64M", "swap": "64M"}}"#;
        assert_eq!(values(two, &hybrid()), ["memory limit 67108864", "limit of memory and swap 134217728"]);
        let no_swap = r#"{"memory": {"ram": "64M", "swap": "unlimited"}}"#;
        assert_eq!(values(no_swap, &hybrid()), ["memory limit 67108864", "limit of memory and swap max"]);
        let alone = limits(r#"{"memory": {"swap": "64M"}}"#).wanted(&hybrid(), 101);
        assert!(alone[0].value.as_ref().unwrap_err().contains("memory.ram"), "{alone:?}");
        let low = limits(r#"{"memory": {"guarantee": "1M"}}"#).wanted(&hybrid(), 101);
        assert!(low[0].value.as_ref().unwrap_err().contains("memory.low"), "{low:?}");
    }

    #[test]
    fn disk_limits_need_a_disk_and_tasks_are_refused_at_the_barrier() {
        let asked = r#"{"io": {"ioprio": 7, "iolimit": "10M", "iopslimit": 500}, "numproc": "100:200"}"#;
        let there = Capabilities::full("boot");
        assert_eq!(
            values(asked, &there),
            [
                "I/O weight 160",
                "I/O limit in bytes/s 10485760",
                "I/O limit in operations/s 500",
                "task limit 100"
            ]
        );
        let none = Capabilities { io_disk: None, ..there };
        let wanted = limits(r#"{"io": {"iolimit": "10M"}}"#).wanted(&none, 101);
        assert!(wanted[0].value.is_err());
        let unlimited = limits(r#"{"io": {"iolimit": 0}}"#).wanted(&none, 101);
        assert_eq!(unlimited[0].value, Ok(Value::max()));
    }

    #[test]
    fn groups_inside_need_no_controller() {
        for caps in [Capabilities::full("boot"), hybrid()] {
            let asked = |number: &str| values(&format!(r#"{{"memory": {{"subgroups": {number}}}}}"#), &caps);
            assert_eq!(asked("512"), ["limit of control groups 512"]);
            assert_eq!(asked(r#""unlimited""#), ["limit of control groups max"]);
            assert_eq!(asked("9999999999"), ["limit of control groups 2147483646 (clamped to 2147483646)"]);
        }
    }

    #[test]
    fn a_missing_controller_is_said_but_no_limit_needs_none() {
        let bare = Capabilities { controllers: [].into(), ..Capabilities::full("boot") };
        assert_eq!(values(r#"{"numproc": "unlimited"}"#, &bare), [""; 0]);
        let wanted = limits(r#"{"numproc": 5}"#).wanted(&bare, 101);
        assert_eq!(wanted[0].value, Err("the kernel has no pids controller".to_owned()));
    }
}
