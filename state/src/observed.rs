//! What is seen of one VE in the kernel and on the host's disk. Drivers fill it in, one field each.

use serde::{Deserialize, Serialize};

use crate::digest::{canonical, sha256_hex};
use crate::ids::VeName;
use crate::reading::Reading;
use crate::subsystem::lifecycle::Run;
use crate::subsystem::{
    beancounters, cgroup, devices, disk, json, lifecycle, namespaces, network, packages, users,
};

/// Everything that is seen of one VE. For one that doesn't run all but `lifecycle` and `disk` is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Whether it runs.
    pub lifecycle: lifecycle::Observed,
    /// Its control group.
    pub cgroup: cgroup::Observed,
    /// Its beancounters.
    pub beancounters: beancounters::Observed,
    /// Its root file system.
    pub disk: disk::Observed,
    /// What it sees of its own.
    pub namespaces: namespaces::Observed,
    /// Its devices.
    pub devices: devices::Observed,
    /// Its network.
    pub network: network::Observed,
    /// Users inside it.
    pub users: users::Observed,
    /// Software inside it.
    pub packages: packages::Observed,
}

impl Observed {
    /// Of a VE about which nothing can be said, for this reason.
    pub fn unreadable(why: &str) -> Self {
        Self {
            lifecycle: lifecycle::Observed {
                run: Reading::Unreadable(why.to_owned()),
                checkpoint: Reading::Absent,
            },
            ..Self::default()
        }
    }

    /// Pid and start of init, if the VE runs.
    pub fn running(&self) -> Option<&Run> {
        self.lifecycle.run.is().filter(|run| matches!(run, Run::Running { .. }))
    }

    /// Whether it is certain that the VE doesn't run.
    pub fn stopped(&self) -> bool {
        matches!(self.lifecycle.run, Reading::Absent | Reading::Is(Run::Stopped { .. }))
    }

    /// Whether every process of the VE is held still.
    pub fn frozen(&self) -> bool {
        self.cgroup.group.is().is_some_and(|group| group.frozen)
    }
}

/// A digest of the state of many VEs: a plan made for it can tell whether the world has moved since.
pub fn check_index<'a>(seen: impl IntoIterator<Item = (&'a VeName, &'a Observed)>) -> String {
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort_by_key(|(name, _)| *name);
    sha256_hex(canonical(&json(&seen)).as_bytes())
}
