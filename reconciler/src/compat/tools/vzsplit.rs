//! `vzsplit`: the configuration of one of N equal containers that share a host, with VSwap.

use std::fmt::Write as _;

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
    -v    with VSwap: yes, there is no other memory management here";

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
    if let Some("no") = said.last("v") {
        return Err(Refusal::new(
            1,
            "-v no: memory without VSwap has no counterpart, `physpages` is always RAM",
        ));
    }
    if !said.words.is_empty() || said.last("v").is_some_and(|is| is != "yes") {
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

/// The share of one of so many. Swap space is twice the RAM, unless a size to be shared is given (bytes).
fn split(host: Host, count: u64, swap: Option<u64>) -> Result<String, String> {
    let (processes, ram) = match count {
        0 => return Err("the number of containers is at least 1".to_owned()),
        _ => (PROCESSES / count, whole(host.ram).saturating_sub(HOSTS_OWN) / count),
    };
    if processes < LEAST_PROCESSES || ram < LEAST_PROCESSES * PER_PROCESS + LEAST_BUFFERS {
        return Err(format!("the host is too small for {count} containers"));
    }
    let swap = swap.map_or(ram * 2, |all| all / count);
    let mut text = format!("# Configuration of one of {count} containers, by vzsplit\n");
    for (key, value) in [
        ("PHYSPAGES", format!("0:{}", ram / 4096)),
        ("SWAPPAGES", format!("0:{}", swap / 4096)),
        ("NUMPROC", format!("{processes}:{processes}")),
        ("CPUUNITS", "1000".to_owned()),
    ] {
        let _ = writeln!(text, "{key}=\"{value}\"");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::HOST;
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
}
