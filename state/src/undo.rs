//! Taking back what a plan did to a subsystem when a later step of it fails.
//!
//! Every step carries what was there before, so its inverse needs nothing else. Only live steps are
//! taken back: a stop or a new disk cannot be.

use crate::plan::Step;
use crate::subsystem::{beancounters, cgroup, devices, disk, namespaces, network};

/// The step that takes another back; none if nothing can, or nothing is known of what was before.
pub fn inverse(step: &Step) -> Option<Step> {
    match step {
        // Users stand each for itself, and software was only begun with.
        Step::Lifecycle(_) | Step::Disk(_) | Step::Users(_) | Step::Packages(_) => None,
        Step::Cgroup(cgroup::Live::Freeze) => Some(Step::Cgroup(cgroup::Live::Thaw)),
        Step::Cgroup(cgroup::Live::Thaw) => Some(Step::Cgroup(cgroup::Live::Freeze)),
        Step::Cgroup(cgroup::Live::Set { knob, from, to } | cgroup::Live::Reset { knob, from, to }) => {
            let (knob, from, to) = (*knob, to.clone(), from.clone());
            Some(Step::Cgroup(cgroup::Live::Set { knob, from, to }))
        }
        Step::Cgroup(cgroup::Live::Squeeze { .. }) => None,
        Step::Beancounters(step) => {
            let (setting, from, to) = match step.clone() {
                beancounters::Live::Set { setting, from, to } => (setting, to, from),
                beancounters::Live::Reset { setting, from } => (setting, cgroup::Value::max(), from),
            };
            Some(Step::Beancounters(beancounters::Live::Set { setting, from, to }))
        }
        Step::DiskLive(disk::Live::SetLimit { resource, from, to }) => {
            let (resource, from, to) = (*resource, *to, *from);
            Some(Step::DiskLive(disk::Live::SetLimit { resource, from, to }))
        }
        Step::DiskLive(disk::Live::SetReadOnly { to }) => {
            Some(Step::DiskLive(disk::Live::SetReadOnly { to: !to }))
        }
        // What was noted is so.
        Step::DiskLive(disk::Live::StartGrace { .. } | disk::Live::EndGrace { .. }) => None,
        Step::Namespaces(step) => namespaces_inverse(step).map(Step::Namespaces),
        Step::Devices(step) => devices_inverse(step).map(Step::Devices),
        Step::Network(step) => network_inverse(step).map(Step::Network),
    }
}

/// The steps that take back those done, the last one first.
pub fn undo<'a>(done: impl DoubleEndedIterator<Item = &'a Step>) -> Vec<Step> {
    done.rev().filter_map(inverse).collect()
}

fn namespaces_inverse(step: &namespaces::Live) -> Option<namespaces::Live> {
    use namespaces::Live;
    Some(match step.clone() {
        Live::SetHostname { from, to } => Live::SetHostname { from: to, to: from },
        Live::SetDomainname { from, to } => Live::SetDomainname { from: to, to: from },
        Live::SetTimezone { had, to } => Live::SetTimezone { had: to, to: had },
        Live::SetLocale { had, to } => Live::SetLocale { had: to, to: had },
        Live::AddMount { target, mount } => Live::RemoveMount { target, had: mount },
        Live::RemoveMount { target, had } => Live::AddMount { target, mount: had },
        Live::ReplaceMount { target, had, mount } => {
            Live::ReplaceMount { target, had: Some(mount), mount: had? }
        }
    })
}

fn devices_inverse(step: &devices::Live) -> Option<devices::Live> {
    use devices::Live;
    Some(match step.clone() {
        Live::AddNode { path, had: None, node } => Live::RemoveNode { path, had: node },
        Live::AddNode { path, had: Some(had), node } => Live::AddNode { path, had: Some(node), node: had },
        Live::RemoveNode { path, had } => Live::AddNode { path, had: None, node: had },
        Live::SetRules { from, to } => Live::SetRules { from: Some(to), to: from? },
    })
}

/// What was mended stays so.
fn network_inverse(step: &network::Live) -> Option<network::Live> {
    use network::Live;
    Some(match step.clone() {
        Live::Attach { mend: true } | Live::AddAddress { mend: true, .. } => return None,
        Live::Attach { mend: false } => Live::Detach,
        Live::Detach => Live::Attach { mend: false },
        Live::AddAddress { address, mend: false } => Live::RemoveAddress { address },
        Live::SetSysctl { from: None, .. } => return None,
        Live::GiveBack { device, name } => Live::HandOver { device, from: None, to: name },
        Live::HandOver { device, from: None, to } => Live::GiveBack { device, name: to },
        Live::HandOver { device, from: Some(from), to } => {
            Live::HandOver { device, from: Some(to), to: from }
        }
        Live::SetSysctl { name, from: Some(from), to } => Live::SetSysctl { name, from: Some(to), to: from },
        Live::ResetSysctl { name, from } => Live::SetSysctl { name, from: None, to: from },
        Live::SetRate { direction, from, to } => Live::SetRate { direction, from: to, to: from },
        Live::SetFirewall { from, to, trial: _ } => Live::SetFirewall { from: to, to: from, trial: None },
        Live::RollBackFirewall { .. } | Live::EndTrial { .. } => return None,
        Live::SetTranslations { from, to } => Live::SetTranslations { from: to, to: from },
        Live::RemoveRoute { route } => Live::SetRoute { from: None, to: route },
        Live::SetRoute { from: None, to } => Live::RemoveRoute { route: to },
        Live::SetRoute { from: Some(from), to } => Live::SetRoute { from: Some(to), to: from },
        Live::AddRule { rule } => Live::RemoveRule { rule },
        Live::RemoveRule { rule } => Live::AddRule { rule },
        Live::SetFile { file, from, had, to, wish } => {
            Live::SetFile { file, from: to, had: wish, to: from, wish: had }
        }
        Live::RemoveAddress { address } => Live::AddAddress { address, mend: false },
        Live::RemoveInterface { name, had } => Live::SetInterface { name, from: None, to: had },
        Live::SetInterface { name, from: None, to } => Live::RemoveInterface { name, had: to },
        Live::SetInterface { name, from: Some(from), to } => {
            Live::SetInterface { name, from: Some(to), to: from }
        }
    })
}
