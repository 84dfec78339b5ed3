//! The command line. Must stay small enough to need no library.

use crate::benches;
use crate::result::{Context, Result, fail};

pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [--rounds N] [--only NAME]... [--peers NAME,...] [--disks NAME,...] [--count N] [--markdown] [--list]

  --rounds N     rounds of each benchmark's smallest part (default 25; the long ones take a fraction of it)
  --only NAME    only this one; may be given several times
  --peers A,B    only these peers, of vzd, crun, lxc, podman, runc (default: those that are installed)
  --disks A,B    only disks that these keep, of project, image, btrfs (default: those that can)
  --count N      containers in the benchmarks of many (default 100), manifests in those of passes (default 10 N)
  --markdown     tables for docs/bench.md
  --list         the benchmarks";

/// What the command line asks for.
pub(crate) enum Asked {
    Help,
    List,
    Run(Options),
}

/// How to measure.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    only: Vec<String>,
    peers: Vec<String>,
    disks: Vec<String>,
    pub(crate) count: usize,
    pub(crate) markdown: bool,
}

impl Options {
    pub(crate) fn parse(words: &[String]) -> Result<Asked> {
        let mut options = Options {
            rounds: 25,
            only: Vec::new(),
            peers: Vec::new(),
            disks: Vec::new(),
            count: 100,
            markdown: false,
        };
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or("wants a value").context(word);
            match word {
                "--help" | "-h" => return Ok(Asked::Help),
                "--list" => return Ok(Asked::List),
                "--rounds" => options.rounds = value()?.parse::<usize>().context("--rounds")?.max(1),
                "--count" => options.count = value()?.parse::<usize>().context("--count")?.max(1),
                "--only" => options.only.push(known(value()?)?),
                "--peers" => options.peers = value()?.split(',').map(str::to_owned).collect(),
                "--disks" => options.disks = value()?.split(',').map(str::to_owned).collect(),
                "--markdown" => options.markdown = true,
                other => return fail(format!("unknown option {other}\n{USAGE}")),
            }
        }
        Ok(Asked::Run(options))
    }

    /// Whether this benchmark is to be run.
    pub(crate) fn wants(&self, bench: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == bench)
    }

    /// Whether disks that this keeps are to take part.
    pub(crate) fn wants_disks(&self, backend: &str) -> bool {
        self.disks.is_empty() || self.disks.iter().any(|name| name == backend)
    }

    /// Whether this peer is to take part.
    pub(crate) fn wants_peer(&self, peer: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|name| name == peer)
    }
}

fn known(name: &str) -> Result<String> {
    match benches::ALL.iter().any(|bench| bench.name == name) {
        true => Ok(name.to_owned()),
        false => fail(format!("no benchmark is called {name}; --list tells all")),
    }
}
