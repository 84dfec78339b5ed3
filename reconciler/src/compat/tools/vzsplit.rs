//! `vzsplit`: the configuration of one of N equal containers that share a host, with VSwap or with all counters.

use super::super::args::{self, value};
use super::super::exit::{Refusal, Tool};
use super::super::import::convert::profile;
use super::super::manifests::Manifests;
use super::memory::{Host, whole};
use super::{finish, print, settings};

pub(crate) const USAGE: &str = "\
Usage: vzsplit -n <num> [-f <name>] [-s <swap KB>] [-v yes|no]
    -n    number of containers
    -f    make the profile <name> of it, for `vzctl create --config <name>`; else it is printed
    -s    size of the swap space, instead of the host's
    -v    with VSwap (yes, unless no is said); without it all counters are said, and RAM is not limited";

/// What the host keeps for itself.
const HOSTS_OWN: u64 = 50 << 20;
/// Processes of all containers together, at most.
const PROCESSES: u64 = 8000;
/// Processes of one container, at least.
const LEAST_PROCESSES: u64 = 30;
/// What a process takes of the kernel, and the least buffers each way: less RAM than that is none.
const PER_PROCESS: u64 = 40 << 10;
const LEAST_BUFFERS: u64 = 2 * (64 << 10);

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    finish(run(&words))
}

fn run(words: &[String]) -> Tool {
    let known = [value("").short('n'), value("").short('f'), value("").short('s'), value("").short('v')];
    let said = args::parse(&known, words).map_err(|why| Refusal::new(1, format!("{why}\n{USAGE}")))?;
    if !said.words.is_empty() || said.last("v").is_some_and(|is| !matches!(is, "yes" | "no")) {
        return Err(Refusal::new(1, USAGE));
    }
    let number = |text: &str| {
        text.trim().parse::<u64>().map_err(|_| Refusal::new(1, format!("`{text}` is no number\n{USAGE}")))
    };
    let count = match said.last("n") {
        Some(count) => number(count)?,
        None => number(&asked()?)?,
    };
    let host = Host::read()?;
    let swap = said.last("s").map(number).transpose()?.map(|kib| kib.saturating_mul(1024));
    let split = if said.last("v") == Some("no") { split_counters } else { split };
    let text = split(host, count, swap).map_err(|why| Refusal::new(1, why))?;
    let Some(name) = said.last("f") else {
        print(&text);
        return Ok(0);
    };
    let made = profile(name, &text);
    let file = Manifests::read(&settings()).add(&format!("profile-{}", made.name), &made.text);
    let file = file.map_err(|wrong| Refusal::new(1, wrong.message))?;
    print(&format!("Config {} was created\n", file.display()));
    Ok(0)
}

fn asked() -> Tool<String> {
    print("Enter the number of containers: ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Refusal::new(1, error.to_string()))?;
    Ok(answer)
}

/// Processes and bytes of RAM of one of so many.
fn share(host: Host, count: u64) -> Result<(u64, u64), String> {
    let (processes, ram) = match count {
        0 => return Err("the number of containers is at least 1".to_owned()),
        _ => (PROCESSES / count, whole(host.ram).saturating_sub(HOSTS_OWN) / count),
    };
    if processes < LEAST_PROCESSES || ram < LEAST_PROCESSES * PER_PROCESS + LEAST_BUFFERS {
        return Err(too_small(count));
    }
    Ok((processes, ram))
}

fn too_small(count: u64) -> String {
    format!("the host is too small for {count} containers")
}

fn written(count: u64, settings: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let head = format!("# Configuration of one of {count} containers, by vzsplit\n");
    settings.into_iter().fold(head, |text, (key, value)| text + &format!("{key}=\"{value}\"\n"))
}

/// The share of one of so many. Swap space is twice the RAM, unless a size to be shared is given (bytes).
fn split(host: Host, count: u64, swap: Option<u64>) -> Result<String, String> {
    let (processes, ram) = share(host, count)?;
    let swap = swap.map_or(ram * 2, |all| all / count);
    let settings = [
        ("PHYSPAGES", format!("0:{}", ram / 4096)),
        ("SWAPPAGES", format!("0:{}", swap / 4096)),
        ("NUMPROC", format!("{processes}:{processes}")),
        ("CPUUNITS", "1000".to_owned()),
    ];
    Ok(written(count, settings))
}

/// The same in counters: as many processes as the kernel has memory for, which is 40 % of RAM; what they may allocate is RAM and
/// swap space, the host's unless a size is given.
fn split_counters(host: Host, count: u64, swap: Option<u64>) -> Result<String, String> {
    let (processes, ram) = share(host, count)?;
    let kernel = ram / 5 * 2;
    let fits = |processes: &u64| Kernel::of(*processes).all() <= kernel;
    let processes = (LEAST_PROCESSES..=processes).rev().find(fits).ok_or_else(|| too_small(count))?;
    let it = Kernel::of(processes);
    let swap = swap.unwrap_or(whole(host.swap)) / count;
    let (ram, memory) = (ram / 4096, (ram + swap) / 4096);
    let same = |number: u64| format!("{number}:{number}");
    let gap = |number: u64| format!("{number}:{}", more(number));
    let least = |number: u64| format!("{number}:unlimited");
    let settings = [
        ("KMEMSIZE", gap(it.kmemsize)),
        ("LOCKEDPAGES", same((ram / 64).max(4))),
        ("PRIVVMPAGES", gap(memory)),
        ("SHMPAGES", same(ram / 8)),
        ("NUMPROC", same(processes)),
        ("PHYSPAGES", least(0)),
        ("VMGUARPAGES", least(ram)),
        ("OOMGUARPAGES", least(ram)),
        ("NUMTCPSOCK", same(processes)),
        ("NUMFLOCK", gap(processes)),
        ("NUMPTY", same(it.terminals)),
        ("NUMSIGINFO", same(256)),
        ("TCPSNDBUF", format!("{}:{}", it.buffers, it.buffers + it.gap)),
        ("TCPRCVBUF", format!("{}:{}", it.buffers, it.buffers + it.gap)),
        ("OTHERSOCKBUF", format!("{}:{}", it.buffers, it.buffers + it.gap)),
        ("DGRAMRCVBUF", same(it.buffers)),
        ("NUMOTHERSOCK", same(processes)),
        ("DCACHESIZE", gap(it.dcache)),
        ("NUMFILE", same(it.files)),
        ("AVNUMPROC", same(processes / 2)),
        ("NUMIPTENT", same(128)),
        ("CPUUNITS", "1000".to_owned()),
    ];
    Ok(written(count, settings))
}

/// With the tenth that is between barrier and limit.
fn more(number: u64) -> u64 {
    number + number / 10
}

/// What so many processes take of the kernel, in bytes; half of them are there on average. Each may have a socket of either kind.
struct Kernel {
    files: u64,
    terminals: u64,
    dcache: u64,
    kmemsize: u64,
    buffers: u64,
    gap: u64,
}

impl Kernel {
    fn of(processes: u64) -> Self {
        let average = processes / 2;
        let terminals = (processes / 10).clamp(4, 255);
        let files = (average * 32).max(processes * 2 + terminals);
        let dcache = files * 384;
        // A buffer of 129 KB is what a large datagram takes.
        let buffers = (processes * 4096).max(129 << 10);
        let kmemsize = PER_PROCESS * (average + 1) + more(dcache);
        Self { files, terminals, dcache, kmemsize, buffers, gap: processes * 2560 }
    }

    fn all(&self) -> u64 {
        more(self.kmemsize) + 4 * self.buffers + 3 * self.gap
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::HOST;
    use super::super::vzcfgvalidate::validate;
    use super::*;

    #[test]
    fn the_host_is_shared() {
        assert_eq!(
            split(HOST, 10, None).unwrap(),
            "# Configuration of one of 10 containers, by vzsplit\nPHYSPAGES=\"0:24934\"\nSWAPPAGES=\"0:49868\"\n\
             NUMPROC=\"800:800\"\nCPUUNITS=\"1000\"\n"
        );
        assert!(split(HOST, 10, Some(1 << 30)).unwrap().contains("SWAPPAGES=\"0:26214\""));
        // Fewer than 30 processes; less than 30 of them need.
        for (host, count) in
            [(HOST, 267), (HOST, 0), (Host { ram: 60e6, swap: 0.0 }, 100), (Host { ram: 1e6, swap: 0.0 }, 1)]
        {
            assert!(split(host, count, None).is_err(), "{count}");
        }
        assert!(split(HOST, 266, None).is_ok());
    }

    #[test]
    fn counters_fit_each_other_and_the_host() {
        for (host, counts) in [
            (HOST, [1, 2, 10, 100]),
            (Host { ram: 64e9, swap: 8e9 }, [1, 30, 100, 266]),
            (Host { ram: 256e6, swap: 0.0 }, [1, 2, 3, 4]),
        ] {
            for count in counts {
                let text = split_counters(host, count, None).unwrap();
                let mut told = Vec::new();
                let (same, failed) =
                    validate(&text, host, &mut |_| false, &mut |line| told.push(line.to_owned()));
                assert!(!failed && told.is_empty() && same == text, "{count}: {told:?}\n{text}");
            }
        }
        assert!(split_counters(Host { ram: 1e8, swap: 0.0 }, 20, None).is_err());
        assert!(split_counters(HOST, 0, None).is_err());
    }
}
