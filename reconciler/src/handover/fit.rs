//! Whether a VE would fit another host: what the source tells of it, and what the target finds missing. What the ledger
//! and the manifests there say against it is asked elsewhere. Changes nothing, but for having a template unpacked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use vzd_state::ledger::Entry;
use vzd_state::subsystem::network;

use crate::drivers::disk::{self, stream};
use crate::drivers::{Ve, checkpoint, lifecycle};
use crate::error::{At, SysResult};
use crate::handover::problem::{Kind, Problem};
use crate::host::Host;
use crate::runtime::checkpoint::swrk;

/// A VE that is to be handed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Offer {
    /// The host that it comes from, as it calls itself.
    pub from: String,
    /// What the ledger holds of it.
    pub entry: Box<Entry>,
    /// The text of its manifest, and nothing else; empty if that is not the commands' to write.
    pub manifest: String,
    /// What it needs to go on in the middle of its work; none of one that is stopped.
    pub live: Option<Live>,
    /// How much its own files take, in bytes.
    pub disk_bytes: u64,
    /// How much memory its processes have, in bytes.
    pub memory_bytes: u64,
}

/// What processes that go on elsewhere need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Live {
    /// The machine's architecture.
    pub machine: String,
    /// The kernel's release.
    pub kernel: String,
    /// CRIU's version.
    pub criu: String,
    /// What the processors can do.
    pub cpu: BTreeSet<String>,
}

impl Live {
    /// What this host has.
    fn here(host: &Host) -> SysResult<Live> {
        let about = rustix::system::uname();
        let cpuinfo = "/proc/cpuinfo";
        let text = std::fs::read_to_string(cpuinfo).at("read", cpuinfo)?;
        let flags =
            text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == "flags"));
        Ok(Live {
            machine: about.machine().to_string_lossy().into_owned(),
            kernel: about.release().to_string_lossy().into_owned(),
            criu: swrk::version(&host.settings.criu)?,
            cpu: flags.map_or_else(BTreeSet::new, |(_, flags)| {
                flags.split_whitespace().map(str::to_owned).collect()
            }),
        })
    }

    /// What of this the other host lacks.
    fn lacking(&self, there: &Live) -> Vec<Problem> {
        let mut problems = Vec::new();
        if there.machine != self.machine {
            problems.push(Kind::Processor.because(format!(
                "it is made for {}, and the machine there is {}",
                self.machine, there.machine
            )));
        }
        if numbers(&there.kernel) < numbers(&self.kernel) {
            let (there, here) = (&there.kernel, &self.kernel);
            problems.push(Kind::Version.because(format!("the kernel there is older: {there}, here {here}")));
        }
        if numbers(&there.criu) < numbers(&self.criu) {
            let why = format!("CRIU there is older: {}, here {}", there.criu, self.criu);
            problems.push(Kind::Version.because(why));
        }
        let missing: Vec<_> = self.cpu.difference(&there.cpu).map(String::as_str).collect();
        if !missing.is_empty() {
            problems.push(Kind::Processor.because(format!(
                "the processors there cannot do all that those here can: {}",
                missing.join(" ")
            )));
        }
        problems
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> [u32; 2] {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]
}

impl Offer {
    /// What is to be told of a VE; and why it cannot be sent at all, if so.
    pub fn of(ve: Ve<'_>, manifest: String) -> SysResult<(Offer, Vec<Problem>)> {
        let runs = lifecycle::running(ve).is_ok();
        let is_live = runs || ve.entry.suspension.is_some();
        let mut problems = Vec::new();
        let caps = ve.host.caps();
        let live = match caps.checkpoint.missing().filter(|_| is_live) {
            Some(why) => {
                let why = format!("it runs, and here it cannot be suspended: {why}");
                problems.push(Kind::Suspend.because(why));
                None
            }
            None => is_live.then(|| Live::here(ve.host)).transpose()?,
        };
        if runs && live.is_some() {
            problems.extend(checkpoint::obstacles(ve)?.into_iter().map(|why| Kind::Suspend.because(why)));
        }
        let applied = ve.entry.applied.network.as_deref();
        let network = applied.and_then(network::Desired::cannot_move);
        problems.extend(network.map(|why| Kind::Other.because(why)));
        let memory = ve.host.cgroup(ve.entry).usage().memory_bytes.filter(|_| runs);
        let offer = Offer {
            from: ve.host.settings.own_name().map_or_else(String::new, |own| own.to_string()),
            entry: Box::new(ve.entry.clone()),
            manifest,
            live,
            disk_bytes: stream::size(ve)?,
            memory_bytes: memory.unwrap_or_default(),
        };
        Ok((offer, problems))
    }

    /// What this host lacks for it.
    pub fn problems(&self, host: &Host) -> SysResult<Vec<Problem>> {
        let mut problems = Vec::new();
        match (&self.live, host.caps().checkpoint.missing()) {
            (None, _) => {}
            (Some(_), Some(why)) => {
                let why = format!("it runs, and there it cannot be resumed: {why}");
                problems.push(Kind::Version.because(why));
            }
            (Some(live), None) => problems.extend(live.lacking(&Live::here(host)?)),
        }
        if let Some(record) = &self.entry.disk {
            problems.extend(disk::lacks_template(host, record).map(|why| Kind::Other.because(why)));
            let caps = host.caps();
            let why = record.backend.missing(&caps);
            let told = |why| Kind::Disk.because(format!("its disk's backend is {}: {why}", record.backend));
            problems.extend(why.map(told));
        }
        let cold = self.entry.run.as_ref().map(|run| &run.cold);
        let cold = cold.or(self.entry.suspension.as_ref().map(|is| &is.cold));
        if self.live.is_some() && cold.is_some_and(|cold| cold.quota_ids > 0) {
            let told = |why| Kind::Disk.because(format!("it has quotas of its own users: {why}"));
            problems.extend(host.caps().disk_users.missing().map(told));
        }
        let recorded = self.entry.applied.namespaces.as_ref();
        let suspended = self.entry.suspension.as_ref().and_then(|is| is.namespaces.as_ref());
        let mounts = recorded.or(suspended).into_iter().flat_map(|is| &is.mounts);
        for (target, mount) in mounts {
            if !std::path::Path::new(&mount.source).exists() {
                let why = format!("{}, which is mounted at {target}, is not there", mount.source);
                problems.push(Kind::Other.because(why));
            }
        }
        let state = host.settings.ves_dir();
        let space = rustix::fs::statvfs(&state).at("stat", state.display())?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let needed = self.disk_bytes.saturating_add(self.memory_bytes);
        if free < needed {
            let why = format!("{} has {free} bytes free, and it needs {needed}", state.display());
            problems.push(Kind::Files.because(why));
        }
        Ok(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        Live {
            machine: "x86_64".into(),
            kernel: "6.12.9-amd64".into(),
            criu: "4.2.1".into(),
            cpu: ["sse", "avx"].map(str::to_owned).into(),
        }
    }

    #[test]
    fn what_is_less_is_told() {
        let here = live();
        assert!(here.lacking(&live()).is_empty());
        let newer = Live { kernel: "6.18.0".into(), criu: "4.3".into(), ..live() };
        assert!(here.lacking(&newer).is_empty());
        let kinds = |told: &[Problem]| told.iter().map(|is| is.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&newer.lacking(&here)), [Kind::Version, Kind::Version]);
        let other = Live { machine: "riscv64".into(), ..live() };
        assert_eq!(kinds(&here.lacking(&other)), [Kind::Processor]);
        let smaller = Live { cpu: ["sse"].map(str::to_owned).into(), ..live() };
        let told = here.lacking(&smaller);
        assert_eq!(
            told,
            [Kind::Processor.because("the processors there cannot do all that those here can: avx")]
        );
        assert!(smaller.lacking(&here).is_empty());
    }
}
