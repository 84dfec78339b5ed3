//! A plan as a person reads it: Terraform's symbols, one line a field, two lines of summary.

use std::fmt;

use serde_json::Value;

use vzd_schema::v1::BitRate;

use super::{Action, Held, HostPlan, Step, Summary, VePlan};
use crate::digest::canonical;
use crate::disruption::{Cause, Change, Disruption, Feasible};
use crate::subsystem::lifecycle::{self, End};
use crate::subsystem::{beancounters, cgroup, devices, disk, namespaces, network, packages, users};

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => " ",
            Self::Create => "+",
            Self::Update => "~",
            Self::Restart => "^",
            Self::Recreate => "-/+",
            Self::Delete => "-",
            Self::Forget => ".",
        })
    }
}

/// Every VE about which there is something to say, then the summary.
impl<S> fmt::Display for HostPlan<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for plan in &self.plans {
            plan.fmt(f)?;
        }
        self.summary().fmt(f)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { add, change, remove, live, restart, destroy, corrections, held: _ } = self;
        writeln!(f, "Plan: {add} to add, {change} to change, {remove} to destroy.")?;
        let s = if *corrections == 1 { "" } else { "s" };
        writeln!(
            f,
            "Impact: {live} live, {restart} restart, {destroy} destroy. {corrections} correction{s} of drift."
        )
    }
}

impl<S> fmt::Display for VePlan<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nothing = self.action == Action::None
            && self.changes.is_empty()
            && self.held.is_empty()
            && self.unreadable.is_empty()
            && self.suspended.is_none();
        if nothing {
            return Ok(());
        }
        write!(f, "{:<3} VE {}", self.action, self.name)?;
        if let Some(source) = &self.source {
            write!(f, "  # {source}")?;
        }
        writeln!(f)?;
        let width = self.changes.iter().map(|change| change.field.len()).max().unwrap_or(0).min(44);
        for change in &self.changes {
            let held = self.held.iter().find(|held| held.field == change.field);
            field(f, change, held, width)?;
        }
        for planned in self.steps.iter().filter(|planned| planned.changes.is_empty()) {
            match &planned.step {
                Step::Lifecycle(lifecycle::Step::Create) => {}
                Step::Lifecycle(lifecycle::Step::Accept) if !self.changes.is_empty() => {}
                step => writeln!(f, "      {step}")?,
            }
        }
        for held in self.held.iter().filter(|held| self.changes.iter().all(|is| is.field != held.field)) {
            writeln!(f, "    ! {:<width$}  {}{}", held.field, held.why, Coded(held))?;
        }
        for unreadable in &self.unreadable {
            writeln!(f, "    ? {:<width$}  cannot be read: {}", unreadable.what, unreadable.why)?;
        }
        if let Some(why) = &self.suspended {
            writeln!(f, "    reconciling is suspended: {why}")?;
        }
        writeln!(f)
    }
}

fn field(f: &mut fmt::Formatter<'_>, change: &Change, held: Option<&Held>, width: usize) -> fmt::Result {
    let Change { field, before, after, disruption, cause, feasible, source } = change;
    let symbol = match (feasible, disruption, before, after) {
        (Feasible::Infeasible(_), ..) => "!",
        (_, Disruption::Recreate, ..) => "-/+",
        (_, Disruption::Restart, ..) => "^",
        (_, _, Value::Null, _) => "+",
        (_, _, _, Value::Null) => "-",
        _ => "~",
    };
    write!(f, "  {symbol:>3} {field:<width$}  ")?;
    match (before, after) {
        (Value::Null, after) => write!(f, "{}", canonical(after))?,
        (before, after) => write!(f, "{} -> {}", canonical(before), canonical(after))?,
    }
    write!(f, "  ({disruption})")?;
    match cause {
        Cause::Spec => {}
        Cause::Drift => f.write_str("  # drift")?,
        Cause::Profile => f.write_str("  # from a profile")?,
        Cause::Default => f.write_str("  # default of the host")?,
    }
    match (held, feasible) {
        (Some(held), _) => write!(f, "  # held: {}{}", held.why, Coded(held))?,
        (
            None,
            Feasible::Deferred(why)
            | Feasible::UnderWay(why)
            | Feasible::BackOff(why)
            | Feasible::Infeasible(why),
        ) => write!(f, "  # held: {why}")?,
        (None, Feasible::Yes) => return writeln!(f),
    }
    if let Some(source) = source {
        write!(f, " ({source})")?;
    }
    writeln!(f)
}

/// The code of what is held, in brackets.
struct Coded<'a>(&'a Held);

impl fmt::Display for Coded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.held_for.code().map_or(Ok(()), |code| write!(f, " [{code}]"))
    }
}

/// A step in a few words, as events and logs name it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifecycle(step) => step.fmt(f),
            Self::Cgroup(cgroup::Live::Freeze) => f.write_str("freeze"),
            Self::Cgroup(cgroup::Live::Thaw) => f.write_str("thaw"),
            Self::Cgroup(cgroup::Live::Set { knob, to, .. }) => write!(f, "set {knob} to {to}"),
            Self::Cgroup(cgroup::Live::Reset { knob, to, .. }) => write!(f, "set {knob} back to {to}"),
            Self::Cgroup(cgroup::Live::Squeeze { knob, to }) => {
                write!(f, "take back memory above {to} for a lower {knob}")
            }
            Self::Beancounters(beancounters::Live::Set { setting, to, .. }) => {
                write!(f, "set {} to {to}", setting.counter())
            }
            Self::Beancounters(beancounters::Live::Reset { setting, .. }) => {
                write!(f, "set {} back to max", setting.counter())
            }
            Self::Disk(disk::Cold::CreateRoot { template, backend: disk::Backend::Directory }) => {
                write!(f, "create root from {template}")
            }
            Self::Disk(disk::Cold::CreateRoot { template, backend }) => {
                write!(f, "create root from {template} ({backend})")
            }
            Self::Disk(disk::Cold::DestroyRoot) => f.write_str("destroy root"),
            Self::DiskLive(disk::Live::SetLimit { resource, to, .. }) => {
                write!(f, "set {resource} to {}", resource.shown(*to))
            }
            Self::DiskLive(disk::Live::StartGrace { resource, since }) => {
                write!(f, "note that {resource} is above its soft limit since {since}")
            }
            Self::DiskLive(disk::Live::EndGrace { resource }) => {
                write!(f, "note that {resource} is within its soft limit")
            }
            Self::DiskLive(disk::Live::SetReadOnly { to: true }) => f.write_str("make the root read-only"),
            Self::DiskLive(disk::Live::SetReadOnly { to: false }) => f.write_str("make the root writable"),
            Self::Namespaces(step) => match step {
                namespaces::Live::SetHostname { to, .. } => write!(f, "set hostname {to}"),
                namespaces::Live::SetDomainname { to, .. } => write!(f, "set domainname {to:?}"),
                namespaces::Live::SetTimezone { to: Some(to), .. } => write!(f, "set time zone {to}"),
                namespaces::Live::SetTimezone { to: None, .. } => {
                    f.write_str("bring back the VE's own time zone")
                }
                namespaces::Live::SetLocale { to: Some(to), .. } => write!(f, "set locale {to}"),
                namespaces::Live::SetLocale { to: None, .. } => f.write_str("take vzd's locale out"),
                namespaces::Live::RemoveMount { target, .. } => write!(f, "unmount {target}"),
                namespaces::Live::ReplaceMount { target, mount, .. } => {
                    write!(f, "mount {} on {target} instead", mount.source)
                }
                namespaces::Live::AddMount { target, mount } => {
                    write!(f, "mount {} on {target}", mount.source)
                }
            },
            Self::Devices(step) => match step {
                devices::Live::RemoveNode { path, .. } => write!(f, "remove node {path}"),
                devices::Live::SetRules { to, .. } => {
                    let rules: Vec<_> = to.iter().map(devices::Rule::to_string).collect();
                    write!(f, "set device rules [{}]", rules.join(", "))
                }
                devices::Live::AddNode { path, .. } => write!(f, "make node {path}"),
            },
            Self::Network(step) => match step {
                network::Live::RemoveAddress { address } => write!(f, "remove address {address}"),
                network::Live::RemoveInterface { name, .. } => write!(f, "remove interface {name}"),
                network::Live::SetInterface { name, from: None, to } => {
                    write!(f, "make interface {name} on {}", to.on.name())
                }
                network::Live::SetInterface { name, .. } => write!(f, "change interface {name}"),
                network::Live::GiveBack { device, .. } => write!(f, "give {device} back to the host"),
                network::Live::HandOver { device, from: None, to } => {
                    write!(f, "move the host's {device} into the VE as {to}")
                }
                network::Live::HandOver { device, to, .. } => write!(f, "call {device} {to} in the VE"),
                network::Live::ResetSysctl { name, .. } => write!(f, "set {name} back"),
                network::Live::SetSysctl { name, to, .. } => write!(f, "set {name} to {to}"),
                network::Live::SetRate { direction, to: None, .. } => {
                    write!(f, "take the limit of {} away", direction.name())
                }
                network::Live::SetRate { direction, to: Some(to), .. } => {
                    write!(f, "limit {} to {}bit/s", direction.name(), BitRate::from_bits(*to))
                }
                network::Live::SetFirewall { to: None, .. } => f.write_str("take the firewall away"),
                network::Live::SetFirewall { trial: Some(trial), .. } if trial.is_open() => {
                    write!(f, "load the firewall, on trial until {}", trial.until)
                }
                network::Live::SetFirewall { .. } => f.write_str("load the firewall"),
                network::Live::RollBackFirewall { why, .. } => {
                    write!(f, "put the firewall of before back: {why}")
                }
                network::Live::EndTrial { passed: true } => {
                    f.write_str("keep the firewall: its trial is over")
                }
                network::Live::EndTrial { passed: false } => f.write_str("forget the firewall that failed"),
                network::Live::RemoveRoute { route } => write!(f, "remove route {route}"),
                network::Live::SetRoute { from: None, to } => write!(f, "add route {to}"),
                network::Live::SetRoute { to, .. } => write!(f, "change route {to}"),
                network::Live::AddRule { rule } => write!(f, "add rule {rule}"),
                network::Live::RemoveRule { rule } => write!(f, "remove rule {rule}"),
                network::Live::SetTranslations { to, .. } if to.is_empty() => {
                    f.write_str("translate no addresses and ports any more")
                }
                network::Live::SetTranslations { .. } => f.write_str("translate addresses and ports"),
                network::Live::SetFile { file, to, .. } if to.is_empty() => {
                    write!(f, "take vzd's lines out of {}", file.path())
                }
                network::Live::SetFile { file, .. } => write!(f, "set vzd's lines in {}", file.path()),
                network::Live::Detach => f.write_str("remove venet0"),
                network::Live::Attach { mend: false } => f.write_str("make venet0"),
                network::Live::Attach { mend: true } => f.write_str("mend venet0"),
                network::Live::AddAddress { address, mend: false } => write!(f, "add address {address}"),
                network::Live::AddAddress { address, mend: true } => write!(f, "mend address {address}"),
            },
            Self::Packages(packages::Live::Begin(work)) => write!(f, "begin to {work}"),
            Self::Users(step) => match step {
                users::Live::SetUser { name, from: None, made: true, .. } => write!(f, "make user {name}"),
                users::Live::SetUser { name, .. } => write!(f, "change user {name}"),
                users::Live::RemoveUser { name, had } if had.made => write!(f, "remove user {name}"),
                users::Live::RemoveUser { name, .. } => write!(f, "take back what user {name} was given"),
            },
        }
    }
}

impl fmt::Display for lifecycle::Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::Restore => f.write_str("restore"),
            Self::Accept => f.write_str("accept manifest"),
            Self::Adopt { init_pid, .. } => write!(f, "adopt init {init_pid}"),
            Self::Reap { end } => write!(f, "reap: {end}"),
            Self::Stop { timeout, reason } => write!(f, "stop within {timeout} ({})", word(reason)),
            Self::Start { reason } => write!(f, "start ({})", word(reason)),
            Self::Suspend => f.write_str("suspend"),
            Self::Resume { reason } => write!(f, "resume ({})", word(reason)),
            Self::Discard => f.write_str("discard checkpoint"),
            Self::Quarantine { until } => write!(f, "quarantine until {until}"),
            Self::Forget => f.write_str("forget"),
            Self::Destroy => f.write_str("destroy"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HaltedByOwner => f.write_str("halted by its owner"),
            Self::RebootedByOwner => f.write_str("rebooted by its owner"),
            Self::Crashed(lifecycle::Exit::Exited(status)) => write!(f, "init ended with status {status}"),
            Self::Crashed(lifecycle::Exit::Killed(signal)) => write!(f, "init was killed by signal {signal}"),
            Self::Crashed(_) => f.write_str("init ended, nobody knows how"),
            Self::HostRebooted => f.write_str("the host went down"),
            Self::Ordered(reason) => write!(f, "stopped ({})", word(reason)),
            Self::NeverStarted => f.write_str("it never came up"),
        }
    }
}

/// The word by which a value is serialised.
fn word<T: serde::Serialize>(value: &T) -> String {
    match crate::subsystem::json(value) {
        Value::String(word) => word,
        other => canonical(&other),
    }
}
