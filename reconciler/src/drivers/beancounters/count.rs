//! What a running VE holds of each counter, from where the kernel tells it.
//!
//! A number is only given where there is one; where nothing counts, nothing is told. What the kernel
//! counts by itself (peaks, refusals) comes from there; of the rest the highest that was seen is kept by
//! whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use vzd_state::subsystem::beancounters::Counter;

use crate::drivers::{Running, Ve, namespaces};
use crate::error::{At, SysResult};
use crate::kernel::bpf::{self, SocketKind};
use crate::kernel::cgroup::{Hierarchy, VeCgroup, refused_tasks};
use crate::kernel::{netfilter, sockdiag};

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// In use now.
    pub held: u64,
    /// The most since the start, where the kernel keeps it.
    pub maxheld: Option<u64>,
    /// Refusals since the start.
    pub failcnt: u64,
}

impl From<u64> for Counted {
    fn from(held: u64) -> Self {
        Self { held, ..Self::default() }
    }
}

impl From<bpf::Count> for Counted {
    fn from(count: bpf::Count) -> Self {
        Self { held: count.held, maxheld: Some(count.maxheld), failcnt: count.failcnt }
    }
}

const PAGE: u64 = 4096;

/// Counts everything that can be.
pub fn count(ve: Ve<'_>, running: &Running) -> BTreeMap<Counter, Counted> {
    let group = ve.host.cgroup(ve.entry);
    let mut all = BTreeMap::new();
    all.extend(tasks(&group).map(|tasks| (Counter::Numproc, tasks)));
    memory(&group, &mut all);
    let pids = group.pids().unwrap_or_default();
    processes(&pids, &mut all);
    // Descriptors are known of all VEs; files, with those that are only mapped, where they are bounded.
    let by_program = group.open().and_then(|group| bpf::file_count(&group));
    all.extend(by_program.ok().flatten().map(|files| (Counter::Numfile, files.into())));
    {
        // The sockets that rules are read through are the VE's for as long as that takes.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        sockets(&group, running.pid, &mut all);
        let rules = netfilter::entries(running.pid);
        all.extend(rules.ok().map(|held| (Counter::Numiptent, held.into())));
    }
    all.insert(Counter::Numflock, locks(&pids).into());
    all.extend(terminals(running.pid).ok().map(|held| (Counter::Numpty, held.into())));
    // Nothing is ever held of a guarantee.
    all.insert(Counter::Vmguarpages, 0.into());
    all
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

/// The number behind a word in a file of `word number` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let first = |rest: &str| rest.split_whitespace().next()?.parse().ok();
    text.lines().find_map(|line| first(line.strip_prefix(key)?.strip_prefix(' ')?))
}

fn text(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default()
}

fn tasks(group: &VeCgroup<'_>) -> Option<Counted> {
    let (_, dir) = group.dir_of("pids").ok()?;
    Some(Counted {
        held: number(&dir, "pids.current")?,
        maxheld: number(&dir, "pids.peak"),
        failcnt: refused_tasks(&dir),
    })
}

fn memory(group: &VeCgroup<'_>, all: &mut BTreeMap<Counter, Counted>) {
    let Ok((hierarchy, dir)) = group.dir_of("memory") else { return };
    let stat = text(&dir, "memory.stat");
    let pages = |key: &str| keyed(&stat, key).map(|bytes| bytes / PAGE);
    let (used, peak, killed, process, swap, shared) = match hierarchy {
        Hierarchy::V1(_) => (
            number(&dir, "memory.usage_in_bytes"),
            number(&dir, "memory.max_usage_in_bytes"),
            keyed(&text(&dir, "memory.oom_control"), "oom_kill"),
            pages("total_rss"),
            pages("total_swap"),
            pages("total_shmem"),
        ),
        Hierarchy::V2(_) => {
            let swap = number(&dir, "memory.swap.current").map(|bytes| bytes / PAGE);
            let killed = keyed(&text(&dir, "memory.events"), "oom_kill");
            (
                number(&dir, "memory.current"),
                number(&dir, "memory.peak"),
                killed,
                pages("anon"),
                swap,
                pages("shmem"),
            )
        }
    };
    let killed = killed.unwrap_or(0);
    if let Some(used) = used {
        // Reaching the limit is no refusal: the kernel takes back. It refuses when it kills.
        let physical =
            Counted { held: used / PAGE, maxheld: peak.map(|bytes| bytes / PAGE), failcnt: killed };
        all.insert(Counter::Physpages, physical);
    }
    if let Some(process) = process {
        let held = process + shared.unwrap_or(0) + swap.unwrap_or(0);
        all.insert(Counter::Oomguarpages, Counted { held, maxheld: None, failcnt: killed });
    }
    all.extend(shared.map(|pages| (Counter::Shmpages, pages.into())));
    all.extend(swap.map(|held| {
        let maxheld = number(&dir, "memory.swap.peak").map(|bytes| bytes / PAGE);
        let failcnt = keyed(&text(&dir, "memory.swap.events"), "fail").unwrap_or(0);
        (Counter::Swappages, Counted { held, maxheld, failcnt })
    }));
    let kernel = match hierarchy {
        Hierarchy::V1(_) => number(&dir, "memory.kmem.usage_in_bytes"),
        Hierarchy::V2(_) => keyed(&stat, "kernel"),
    };
    all.extend(kernel.map(|held| (Counter::Kmemsize, held.into())));
    // Version 1 does not tell its kinds of kernel memory apart.
    all.extend(keyed(&stat, "slab_reclaimable").map(|held| (Counter::Dcachesize, held.into())));
}

/// What is in /proc/PID of each process.
fn processes(pids: &[i32], all: &mut BTreeMap<Counter, Counted>) {
    let (mut private, mut locked, mut files) = (0, 0, 0);
    let mut signals: BTreeMap<String, u64> = BTreeMap::new();
    for pid in pids {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).unwrap_or_default()
        };
        let kib = |name| field(name).split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        private += (kib("VmData") + kib("VmStk")) / 4;
        locked += kib("VmLck") / 4;
        // Signals are counted by user: each process of one says the same.
        let queued = field("SigQ").split('/').next().and_then(|queued| queued.parse().ok()).unwrap_or(0);
        let user = field("Uid").split_whitespace().next().unwrap_or_default().to_owned();
        signals.entry(user).and_modify(|most| *most = queued.max(*most)).or_insert(queued);
        files += open_files(*pid);
    }
    all.insert(Counter::Privvmpages, private.into());
    all.insert(Counter::Lockedpages, locked.into());
    all.insert(Counter::Numsiginfo, signals.values().sum::<u64>().into());
    all.insert(Counter::Numfile, files.into());
}

/// The size of /proc/PID/fd is their number since Linux 6.2.
fn open_files(pid: i32) -> u64 {
    let path = format!("/proc/{pid}/fd");
    let size = std::fs::metadata(&path).map_or(0, |is| is.len());
    if size > 0 { size } else { std::fs::read_dir(path).map_or(0, |entries| entries.count() as u64) }
}

/// Sockets of the VE's network namespace, and the bytes that wait in them.
fn sockets(group: &VeCgroup<'_>, pid: i32, all: &mut BTreeMap<Counter, Counted>) {
    let by_program = |kind| {
        let counted = group.open().and_then(|group| bpf::socket_count(&group, kind));
        counted.ok().flatten().unwrap_or_default()
    };
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    let stat = read("sockstat");
    let Some(used) = keyed(&stat, "sockets: used") else { return };
    // The kernel walks all of its tables for these files: only where there is something in them.
    let six = read("sockstat6");
    let some = |of: &str| {
        let inuse = |text: &str, name: String| keyed(text, &format!("{name}: inuse")).unwrap_or(0);
        let four = inuse(&stat, of.to_owned());
        [(four, of.to_lowercase()), (inuse(&six, format!("{of}6")), format!("{}6", of.to_lowercase()))]
            .map(|(count, file)| if count > 0 { read(&file) } else { String::new() })
    };
    let tcp = some("TCP").map(|text| queues(&text)).into_iter().fold(Queues::default(), Queues::and);
    let udp = some("UDP").map(|text| queues(&text)).into_iter().fold(Queues::default(), Queues::and);
    let (made, others) = (by_program(SocketKind::Tcp), by_program(SocketKind::Other));
    // /proc lists those that are bound or connected, also accepted ones; the program knows all that were
    // made, and none that was accepted.
    let held = tcp.sockets.max(made.held);
    all.insert(Counter::Numtcpsock, Counted { held, maxheld: None, failcnt: made.failcnt });
    let held = used.saturating_sub(held);
    all.insert(Counter::Numothersock, Counted { held, maxheld: None, failcnt: others.failcnt });
    all.insert(Counter::Tcpsndbuf, tcp.to_send.into());
    all.insert(Counter::Tcprcvbuf, tcp.received.into());
    // A socket is made to ask: only where there are others than these.
    let unix = if used > tcp.sockets + udp.sockets { sockdiag::unix_bytes(pid).ok() } else { Some(0) };
    all.extend(unix.map(|unix| (Counter::Othersockbuf, (udp.to_send + unix).into())));
    all.insert(Counter::Dgramrcvbuf, udp.received.into());
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Queues {
    sockets: u64,
    to_send: u64,
    received: u64,
}

impl Queues {
    fn and(self, other: Self) -> Self {
        Self {
            sockets: self.sockets + other.sockets,
            to_send: self.to_send + other.to_send,
            received: self.received + other.received,
        }
    }
}

/// Lines of /proc/net/tcp and udp: `0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 ...`.
fn queues(text: &str) -> Queues {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let mut all = Queues::default();
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace().skip(3);
        let (Some(state), Some(queues)) = (words.next(), words.next()) else { continue };
        // What is left of a connection is no socket any more.
        if state == TIME_WAIT {
            continue;
        }
        all.sockets += 1;
        // The queue of a listening socket is one of connections.
        if let (true, Some((to_send, received))) = (state != LISTEN, queues.split_once(':')) {
            all.to_send += u64::from_str_radix(to_send, 16).unwrap_or(0);
            all.received += u64::from_str_radix(received, 16).unwrap_or(0);
        }
    }
    all
}

/// Locks that the VE's processes hold: `1: POSIX  ADVISORY  WRITE 1234 fe:00:5 0 EOF`.
fn locks(pids: &[i32]) -> u64 {
    let own: BTreeSet<i32> = pids.iter().copied().collect();
    let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let held = text.lines().filter(|line| !line.contains("->"));
    let ours = held.filter(|line| {
        let pid = line.split_whitespace().nth(4).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| own.contains(&pid))
    });
    ours.count() as u64
}

/// Entries of the VE's devpts, but for its ptmx.
fn terminals(pid: i32) -> SysResult<u64> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let root = namespaces::root_of(pid)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let dir = rustix::fs::openat2(root, "/dev/pts", flags, Mode::empty(), resolve)
        .at("open in the VE", "/dev/pts")?;
    let entries = rustix::fs::Dir::read_from(&dir).at("list in the VE", "/dev/pts")?;
    let numbers =
        entries.flatten().filter(|entry| entry.file_name().to_bytes().iter().all(u8::is_ascii_digit));
    Ok(numbers.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_counted_with_what_waits_in_them() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1 1\n\
            1: 0100007F:1F90 0100007F:8001 01 00000010:00000100 00:00000000 00000000     0        0 2 1\n\
            2: 0100007F:1F90 0100007F:8002 06 00000000:00000000 00:00000000 00000000     0        0 0 1\n";
        assert_eq!(queues(text), Queues { sockets: 2, to_send: 16, received: 256 });
    }

    #[test]
    fn a_keyed_number_is_that_of_the_whole_key() {
        assert_eq!(keyed("oom 1\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(keyed("sockets: used 5\nTCP: inuse 0\n", "sockets: used"), Some(5));
        assert_eq!(keyed("TCP: inuse 7 orphan 0\n", "TCP: inuse"), Some(7));
        assert_eq!(keyed("total_rss_huge 5\n", "total_rss"), None);
    }
}
