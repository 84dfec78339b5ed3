//! `guest probe`: tries what a VE must not be able to do, and says how each try ended.
//!
//! One small function a probe, in tables by subject. A probe must do no harm where it is allowed: it writes back what it
//! read, aims at names that don't exist, uses calls that fail right behind the permission check, works on a copy of the
//! mount tree, and undoes what it could do. It runs in a child of its own, so that a seccomp kill ends only the child.
//! None runs at all outside a container (see [`on_the_host`]). What should be allowed is for the tests to say: `expect`
//! is a hint, not a verdict.

mod cgroups;
mod devices;
mod files;
mod host;
mod kernel;
mod limits;
mod mounts;
mod outcome;
mod policy;
mod processes;
mod procfs;
mod scratch;

use std::time::Duration;

use serde::Serialize;

pub(crate) use host::on_the_host;
use outcome::Outcome;

use crate::sys::in_child;

/// A probe that hangs is ended after this long.
const LIMIT: Duration = Duration::from_secs(60);

/// What a well-made VE answers.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Expect {
    /// Refused, or not there at all.
    Refused,
    /// Not refused by namespaces, capabilities and masks; it takes seccomp, a sysctl or a decision.
    Policy,
    /// Allowed, since it reaches nothing but the VE itself.
    Allowed,
}

/// One thing to try.
#[derive(Serialize, Clone, Copy)]
pub(crate) struct Probe {
    name: &'static str,
    action: &'static str,
    expect: Expect,
    #[serde(skip)]
    run: fn() -> Outcome,
}

impl Probe {
    const fn refused(name: &'static str, action: &'static str, run: fn() -> Outcome) -> Probe {
        Probe { name, action, expect: Expect::Refused, run }
    }

    const fn policy(name: &'static str, action: &'static str, run: fn() -> Outcome) -> Probe {
        Probe { name, action, expect: Expect::Policy, run }
    }

    const fn allowed(name: &'static str, action: &'static str, run: fn() -> Outcome) -> Probe {
        Probe { name, action, expect: Expect::Allowed, run }
    }
}

/// A probe and how it ended.
#[derive(Serialize)]
pub(crate) struct Finding {
    #[serde(flatten)]
    probe: Probe,
    #[serde(flatten)]
    outcome: Outcome,
}

const TABLES: &[&[Probe]] = &[
    kernel::PROBES,
    procfs::PROBES,
    devices::PROBES,
    mounts::PROBES,
    cgroups::PROBES,
    limits::PROBES,
    files::PROBES,
    processes::PROBES,
    policy::PROBES,
];

/// Every probe there is.
pub(crate) fn list() -> Vec<Probe> {
    TABLES.iter().flat_map(|table| table.iter().copied()).collect()
}

/// Runs the probes of these names, or all; `--outside` tells of processes that must not be reachable.
pub(crate) fn run(words: &[&str]) -> Result<Vec<Finding>, String> {
    let mut names = Vec::new();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--all" => {}
            "--outside" => processes::set_outside(words.next().unwrap_or_default())?,
            name => names.push(name),
        }
    }
    if on_the_host() {
        return Err(
            "not in a container: the probes are only for a VE's own pid and user namespace".to_owned()
        );
    }
    let all = list();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|probe| probe.name == **name)) {
        return Err(format!("no probe is called {unknown}; guest probe --list tells all"));
    }
    let chosen = all.into_iter().filter(|probe| names.is_empty() || names.contains(&probe.name));
    let findings = chosen.map(|probe| Finding { probe, outcome: try_one(probe) }).collect();
    scratch::remove();
    Ok(findings)
}

fn try_one(probe: Probe) -> Outcome {
    scratch::prepare();
    let answer = in_child(LIMIT, || serde_json::to_string(&(probe.run)()).unwrap_or_default());
    match answer {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| {
            Outcome::unclear(format!("unreadable answer of the probe's process: {error}"))
        }),
        Err(no_answer) => Outcome::from(no_answer),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_plain() {
        let mut seen = BTreeSet::new();
        for probe in list() {
            assert!(seen.insert(probe.name), "two probes are called {}", probe.name);
            assert!(probe.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(!probe.action.is_empty());
        }
    }

    #[test]
    fn nothing_runs_on_the_host() {
        if on_the_host() {
            assert!(run(&[]).is_err());
        }
    }
}
