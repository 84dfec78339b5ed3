//! The counters in OpenVZ's order, their bounds as a manifest gives them or as OpenVZ fills them in, and
//! what a stock kernel does about each.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use vzd_schema::v1::{self, Count, Limit, Pages, Pair, Size};

use super::{Desired, Setting};
use crate::capability::{Capabilities, Controller};
use crate::subsystem::cgroup::Value;

/// A counter, in the order of /proc/user_beancounters; `swappages`, which is not shown there, last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "what each counts is said in the format: schema/src/v1/beancounters.rs")]
pub enum Counter {
    Kmemsize,
    Lockedpages,
    Privvmpages,
    Shmpages,
    Numproc,
    Physpages,
    Vmguarpages,
    Oomguarpages,
    Numtcpsock,
    Numflock,
    Numpty,
    Numsiginfo,
    Tcpsndbuf,
    Tcprcvbuf,
    Othersockbuf,
    Dgramrcvbuf,
    Numothersock,
    Dcachesize,
    Numfile,
    Numiptent,
    Swappages,
}

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Pages of 4096 bytes.
    Pages,
    /// Things.
    Items,
}

impl Counter {
    /// All of them, with name and unit.
    pub const ALL: [(Self, &'static str, Unit); 21] = [
        (Self::Kmemsize, "kmemsize", Unit::Bytes),
        (Self::Lockedpages, "lockedpages", Unit::Pages),
        (Self::Privvmpages, "privvmpages", Unit::Pages),
        (Self::Shmpages, "shmpages", Unit::Pages),
        (Self::Numproc, "numproc", Unit::Items),
        (Self::Physpages, "physpages", Unit::Pages),
        (Self::Vmguarpages, "vmguarpages", Unit::Pages),
        (Self::Oomguarpages, "oomguarpages", Unit::Pages),
        (Self::Numtcpsock, "numtcpsock", Unit::Items),
        (Self::Numflock, "numflock", Unit::Items),
        (Self::Numpty, "numpty", Unit::Items),
        (Self::Numsiginfo, "numsiginfo", Unit::Items),
        (Self::Tcpsndbuf, "tcpsndbuf", Unit::Bytes),
        (Self::Tcprcvbuf, "tcprcvbuf", Unit::Bytes),
        (Self::Othersockbuf, "othersockbuf", Unit::Bytes),
        (Self::Dgramrcvbuf, "dgramrcvbuf", Unit::Bytes),
        (Self::Numothersock, "numothersock", Unit::Items),
        (Self::Dcachesize, "dcachesize", Unit::Bytes),
        (Self::Numfile, "numfile", Unit::Items),
        (Self::Numiptent, "numiptent", Unit::Items),
        (Self::Swappages, "swappages", Unit::Pages),
    ];

    /// What it counts.
    pub fn unit(self) -> Unit {
        Self::ALL[self as usize].2
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::ALL[*self as usize].1)
    }
}

/// OpenVZ's number for no limit: LONG_MAX.
pub const UNLIMITED: u64 = i64::MAX.unsigned_abs();

/// Barrier and limit of a counter, in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// Ordinary requests are refused above it; of a guarantee, what is guaranteed.
    pub barrier: u64,
    /// All requests are refused above it.
    pub limit: u64,
}

impl Bound {
    fn of<T: Copy>(pair: Pair<T>, number: impl Fn(T) -> u64) -> Self {
        let number = |limit: Limit<T>| limit.amount().map_or(UNLIMITED, &number);
        Self { barrier: number(pair.barrier()), limit: number(pair.limit()) }
    }
}

/// The bounds of counters: those that are given and, with a finite limit of RAM (VSwap), what OpenVZ lets
/// follow from RAM and swap. Everything else is unlimited, and takes no room.
pub fn fill(given: &v1::Beancounters, memory: &v1::Memory) -> Desired {
    let v1::Beancounters {
        kmemsize,
        lockedpages,
        privvmpages,
        shmpages,
        numproc,
        physpages,
        vmguarpages,
        oomguarpages,
        numtcpsock,
        numflock,
        numpty,
        numsiginfo,
        tcpsndbuf,
        tcprcvbuf,
        othersockbuf,
        dgramrcvbuf,
        numothersock,
        dcachesize,
        numfile,
        numiptent,
        swappages,
    } = given;
    let in_bytes = |pair: &Option<Pair<Size>>| pair.map(|pair| Bound::of(pair, Size::bytes));
    let in_pages = |pair: &Option<Pair<Pages>>| pair.map(|pair| Bound::of(pair, Pages::pages));
    let in_items = |pair: &Option<Pair<Count>>| pair.map(|pair| Bound::of(pair, Count::get));
    let of_memory = |size: Option<Limit<Size>>| {
        let limit = |size: Limit<Size>| size.amount().map_or(UNLIMITED, |size| Pages::of(size).pages());
        size.map(|size| Bound { barrier: 0, limit: limit(size) })
    };
    let physical = in_pages(physpages).or(of_memory(memory.ram));
    let swap = in_pages(swappages).or(of_memory(memory.swap));
    let ram = physical.map_or(UNLIMITED, |bound| bound.limit);
    let both = match swap.map_or(UNLIMITED, |bound| bound.limit) {
        UNLIMITED => UNLIMITED,
        swap => ram.saturating_add(swap).min(UNLIMITED),
    };
    let filled = |barrier: u64, limit: u64| (ram != UNLIMITED).then_some(Bound { barrier, limit });
    let bounds = [
        (Counter::Kmemsize, in_bytes(kmemsize)),
        (Counter::Lockedpages, in_pages(lockedpages).or(filled(ram, ram))),
        (Counter::Privvmpages, in_pages(privvmpages)),
        (Counter::Shmpages, in_pages(shmpages)),
        (Counter::Numproc, in_items(numproc)),
        (Counter::Physpages, physical),
        (Counter::Vmguarpages, in_pages(vmguarpages).or(filled(both, UNLIMITED))),
        (Counter::Oomguarpages, in_pages(oomguarpages).or(filled(ram, UNLIMITED))),
        (Counter::Numtcpsock, in_items(numtcpsock)),
        (Counter::Numflock, in_items(numflock)),
        (Counter::Numpty, in_items(numpty)),
        (Counter::Numsiginfo, in_items(numsiginfo)),
        (Counter::Tcpsndbuf, in_bytes(tcpsndbuf)),
        (Counter::Tcprcvbuf, in_bytes(tcprcvbuf)),
        (Counter::Othersockbuf, in_bytes(othersockbuf)),
        (Counter::Dgramrcvbuf, in_bytes(dgramrcvbuf)),
        (Counter::Numothersock, in_items(numothersock)),
        (Counter::Dcachesize, in_bytes(dcachesize)),
        (Counter::Numfile, in_items(numfile)),
        (Counter::Numiptent, in_items(numiptent)),
        (Counter::Swappages, swap),
    ];
    let bounds: BTreeMap<_, _> =
        bounds.into_iter().filter_map(|(counter, bound)| Some((counter, bound?))).collect();
    let given = [
        (Setting::Terminals, numpty.is_some()),
        (Setting::SharedMemory, shmpages.is_some()),
        (Setting::TcpSockets, numtcpsock.is_some()),
        (Setting::OtherSockets, numothersock.is_some()),
        (Setting::Files, numfile.is_some()),
    ];
    let settings = given.into_iter().filter(|(_, given)| *given).map(|(setting, _)| {
        // An ordinary request is refused at the barrier.
        let value = match (bounds[&setting.counter()].barrier, setting) {
            (UNLIMITED, _) => Value::max(),
            (number, Setting::Terminals) => Value::Number(number.min(MOST_TERMINALS)),
            (
                number,
                Setting::SharedMemory | Setting::TcpSockets | Setting::OtherSockets | Setting::Files,
            ) => Value::Number(number),
        };
        (setting, value)
    });
    let settings = settings.collect();
    Desired { bounds, settings }
}

/// The kernel's own bound; devpts takes none above it.
const MOST_TERMINALS: u64 = 1 << 20;

/// What becomes of a request above a bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Enforcement {
    /// The kernel refuses it, by this.
    Enforced(String),
    /// It is counted only, for this reason.
    Accounted(String),
}

/// What this host's kernel does about a counter.
pub fn enforcement(counter: Counter, caps: &Capabilities) -> Enforcement {
    let by = |what: &str| Enforcement::Enforced(what.to_owned());
    let only = |why: &str| Enforcement::Accounted(why.to_owned());
    let limit = |controller: Controller, what: &str| match caps.controller(controller) {
        Ok(_) => by(what),
        Err(why) => Enforcement::Accounted(why),
    };
    match counter {
        Counter::Numproc => limit(Controller::Pids, "pids.max"),
        Counter::Physpages => limit(Controller::Memory, "the memory limit of its control group"),
        Counter::Swappages => match caps.swap_limit.missing() {
            Some(why) => only(why),
            None => limit(Controller::Memory, "the swap limit of its control group"),
        },
        Counter::Vmguarpages | Counter::Oomguarpages => match caps.memory_low.missing() {
            Some(why) => only(why),
            None => by("memory.low"),
        },
        Counter::Numpty => by("max= of its devpts"),
        Counter::Shmpages => by("kernel.shmall, of System V shared memory; tmpfs is counted only"),
        Counter::Kmemsize | Counter::Dcachesize => {
            only("the kernel limits its own memory only as part of physpages")
        }
        Counter::Privvmpages => only("the kernel does not limit what a group may come to need"),
        Counter::Lockedpages => only("RLIMIT_MEMLOCK limits a process, not a group"),
        Counter::Numsiginfo => only("RLIMIT_SIGPENDING limits a user, not a group"),
        Counter::Tcpsndbuf | Counter::Tcprcvbuf | Counter::Othersockbuf | Counter::Dgramrcvbuf => {
            only("the kernel limits socket buffers only as part of physpages")
        }
        Counter::Numtcpsock | Counter::Numothersock => match caps.socket_counters.missing() {
            Some(why) => only(why),
            None => by("eBPF on its control group, of IPv4 and IPv6 sockets that it makes"),
        },
        Counter::Numfile => match caps.file_counters.missing() {
            Some(why) => Enforcement::Accounted(format!("as descriptors; {why}")),
            None => by("eBPF at the kernel's security hooks, once numfile is bounded"),
        },
        Counter::Numflock => only("the kernel has no limit of a group's locks"),
        Counter::Numiptent => {
            only("the kernel has no limit of packet filter rules; those of ebtables are not counted")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Feature;

    fn filled(counters: &str, memory: &str) -> impl Fn(Counter) -> (u64, u64) {
        let counters = serde_json::from_str(counters).unwrap();
        let memory = serde_json::from_str(memory).unwrap();
        let Desired { bounds, .. } = fill(&counters, &memory);
        move |counter| bounds.get(&counter).map_or((UNLIMITED, UNLIMITED), |is| (is.barrier, is.limit))
    }

    #[test]
    fn the_list_is_in_the_order_of_its_numbers() {
        for (at, (counter, name, _)) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, at);
            assert_eq!(serde_json::to_value(counter).unwrap(), name);
        }
    }

    #[test]
    fn ram_and_swap_alone_are_a_whole_configuration() {
        let bound = filled("{}", r#"{"ram": "256M", "swap": "512M"}"#);
        assert_eq!(bound(Counter::Physpages), (0, 65536));
        assert_eq!(bound(Counter::Swappages), (0, 131_072));
        assert_eq!(bound(Counter::Lockedpages), (65536, 65536));
        assert_eq!(bound(Counter::Oomguarpages), (65536, UNLIMITED));
        assert_eq!(bound(Counter::Vmguarpages), (196_608, UNLIMITED));
        assert_eq!(bound(Counter::Privvmpages), (UNLIMITED, UNLIMITED));
        assert_eq!(bound(Counter::Numproc), (UNLIMITED, UNLIMITED));
    }

    #[test]
    fn the_page_counters_say_the_same_and_what_is_given_is_not_filled_in() {
        let bound = filled(r#"{"physpages": "0:65536", "swappages": "0:512M", "lockedpages": 4}"#, "{}");
        assert_eq!(bound(Counter::Lockedpages), (4, 4));
        assert_eq!(bound(Counter::Vmguarpages), (196_608, UNLIMITED));
        let classic = filled(r#"{"physpages": "0:unlimited", "kmemsize": "14372700:14790164"}"#, "{}");
        assert_eq!(classic(Counter::Kmemsize), (14_372_700, 14_790_164));
        assert_eq!(classic(Counter::Lockedpages), (UNLIMITED, UNLIMITED));
    }

    #[test]
    fn what_is_bounded_and_not_enforced_is_told_with_why() {
        let given =
            serde_json::from_str(r#"{"numfile": 9, "numothersock": "unlimited", "numpty": 1}"#).unwrap();
        let want = fill(&given, &v1::Memory::default());
        let mut caps = Capabilities::full("boot");
        assert_eq!(super::super::unenforced(&want, &caps), "");
        caps.file_counters = Feature::No("no bpf".to_owned());
        caps.socket_counters = Feature::No("no bpf".to_owned());
        assert_eq!(super::super::unenforced(&want, &caps), "numfile: no bpf");
    }

    #[test]
    fn only_what_is_given_is_set_in_the_kernel() {
        let settings =
            |counters: &str| fill(&serde_json::from_str(counters).unwrap(), &v1::Memory::default()).settings;
        assert!(settings("{}").is_empty());
        let both = settings(r#"{"numpty": 16, "shmpages": "unlimited"}"#);
        assert_eq!(both[&Setting::Terminals], Value::Number(16));
        assert_eq!(both[&Setting::SharedMemory], Value::max());
    }
}
