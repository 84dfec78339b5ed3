//! What live steps do to a VE in the model kernel.

use std::collections::BTreeMap;

use super::{SimRun, SimVe};
use crate::capability::Capabilities;
use crate::subsystem::cgroup::{self, Knob};
use crate::subsystem::{Effect, devices, namespaces, network, packages, users};
use crate::units::Timestamp;

pub(super) fn set<T: PartialEq>(place: &mut T, value: T) -> Effect {
    if *place == value {
        Effect::AlreadySo
    } else {
        *place = value;
        Effect::Changed
    }
}

fn put<T: PartialEq>(map: &mut BTreeMap<String, T>, key: &str, value: Option<T>) -> Effect {
    if map.get(key) == value.as_ref() {
        return Effect::AlreadySo;
    }
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
    Effect::Changed
}

impl SimRun {
    pub(super) fn knob(&self, knob: Knob, caps: &Capabilities) -> cgroup::Value {
        self.knobs.get(&knob).cloned().unwrap_or_else(|| knob.default(caps))
    }

    fn set_knob(&mut self, knob: Knob, value: &cgroup::Value, caps: &Capabilities) -> Result<Effect, ()> {
        let (recent, held) = &mut self.memory;
        match knob {
            // The kernel takes back what it can.
            Knob::MemoryHigh => *recent = (*recent).min(value.limit().saturating_sub(*held)),
            Knob::MemoryMax | Knob::MemoryTotal if *recent + *held > value.limit() => return Err(()),
            _ => {}
        }
        if self.knob(knob, caps) == *value {
            return Ok(Effect::AlreadySo);
        }
        self.knobs.insert(knob, value.clone());
        self.knobs.retain(|knob, value| *value != knob.default(caps));
        let (memory, total) = (self.knob(Knob::MemoryMax, caps), self.knob(Knob::MemoryTotal, caps));
        if memory.limit() > total.limit() { Err(()) } else { Ok(Effect::Changed) }
    }
}

pub(super) fn apply_cgroup(run: &mut SimRun, step: &cgroup::Live, caps: &Capabilities) -> Result<Effect, ()> {
    use cgroup::Live;
    match step {
        Live::Freeze => Ok(set(&mut run.frozen, true)),
        Live::Thaw => Ok(set(&mut run.frozen, false)),
        Live::Set { knob, to, .. } | Live::Reset { knob, to, .. } => run.set_knob(*knob, to, caps),
        Live::Squeeze { knob, to } => {
            run.memory.0 = run.memory.0.min(to.saturating_sub(run.memory.1));
            let enough = run.memory.0 + run.memory.1 <= *to;
            let fits = *knob == Knob::MemoryMax || run.knob(Knob::MemoryMax, caps).limit() <= *to;
            match enough && fits {
                true => run.set_knob(*knob, &cgroup::Value::Number(*to), caps),
                false => Ok(Effect::AlreadySo),
            }
        }
    }
}

pub(super) fn apply_namespaces(run: &mut SimRun, step: &namespaces::Live) -> Effect {
    use namespaces::Live;
    match step.clone() {
        Live::SetHostname { to, .. } => set(&mut run.hostname, to),
        Live::SetDomainname { to, .. } => set(&mut run.domainname, to),
        Live::SetTimezone { to, .. } => set(&mut run.timezone, to),
        Live::SetLocale { to, .. } => set(&mut run.locale, to),
        Live::RemoveMount { target, .. } => put(&mut run.mounts, &target, None),
        Live::ReplaceMount { target, mount, .. } | Live::AddMount { target, mount } => {
            put(&mut run.mounts, &target, Some(mount))
        }
    }
}

pub(super) fn apply_devices(run: &mut SimRun, step: &devices::Live) -> Effect {
    use devices::Live;
    match step.clone() {
        Live::RemoveNode { path, .. } => put(&mut run.nodes, &path, None),
        Live::SetRules { to, .. } => set(&mut run.rules, to),
        Live::AddNode { path, node, .. } => put(&mut run.nodes, &path, Some(node)),
    }
}

/// None where the real kernel would refuse.
pub(super) fn apply_network(run: &mut SimRun, step: &network::Live) -> Option<Effect> {
    use network::Live;
    let changed = match step {
        Live::Attach { .. } => {
            let made = run.venet.is_none();
            run.venet.get_or_insert_default();
            made
        }
        Live::Detach => match run.venet.take() {
            Some(addresses) if !addresses.is_empty() => return None,
            had => had.is_some(),
        },
        Live::AddAddress { address, .. } => run.venet.as_mut()?.insert(*address),
        Live::RemoveInterface { name, .. } => run.interfaces.remove(name).is_some(),
        Live::SetInterface { name, from, to } => {
            let now = run.interfaces.get(name);
            let from = from.as_ref().unwrap_or(to);
            let after = now.map_or_else(|| to.clone(), |now| network::Network::after(now, from, to));
            let changed = now != Some(&after);
            run.interfaces.insert(name.clone(), after);
            changed
        }
        Live::GiveBack { device, .. } => run.handed.remove(device).is_some(),
        Live::HandOver { device, to, .. } => {
            run.handed.insert(device.clone(), to.clone()).as_ref() != Some(to)
        }
        Live::ResetSysctl { name, .. } => run.sysctls.remove(name).is_some(),
        Live::SetSysctl { name, to, .. } if to == "0" => run.sysctls.remove(name).is_some(),
        Live::SetSysctl { name, to, .. } => run.sysctls.insert(name.clone(), to.clone()).as_ref() != Some(to),
        Live::SetRate { direction, to: None, .. } => run.rates.remove(direction).is_some(),
        Live::SetRate { direction, to: Some(to), .. } => run.rates.insert(*direction, *to) != Some(*to),
        Live::SetTranslations { to, .. } => std::mem::replace(&mut run.translations, to.clone()) != *to,
        Live::EndTrial { .. } => false,
        Live::SetFirewall { to, .. } | Live::RollBackFirewall { to, .. } => {
            set(&mut run.firewall, to.clone()) == Effect::Changed
        }
        Live::RemoveRoute { route } => {
            let before = run.routes.len();
            run.routes.retain(|is| !is.same_place(route));
            run.routes.len() < before
        }
        Live::SetRoute { to, .. } => {
            let there = run.routes.contains(to);
            run.routes.retain(|is| !is.same_place(to));
            run.routes.insert(to.clone());
            !there
        }
        Live::AddRule { rule } => run.routing_rules.insert(rule.clone()),
        Live::RemoveRule { rule } => run.routing_rules.remove(rule),
        Live::SetFile { file, to, .. } if to.is_empty() => run.files.remove(file).is_some(),
        Live::SetFile { file, to, .. } => run.files.insert(*file, to.clone()).as_ref() != Some(to),
        Live::RemoveAddress { address } => run.venet.as_mut().is_some_and(|venet| venet.remove(address)),
    };
    Some(if changed { Effect::Changed } else { Effect::AlreadySo })
}

/// Users are in the root: they outlast the run.
pub(super) fn apply_users(ve: &mut SimVe, step: &users::Live) -> Effect {
    use users::{Live, User, digest};
    let (name, from, to) = match step {
        Live::RemoveUser { name, had } if had.made => {
            return if ve.accounts.remove(name).is_some() { Effect::Changed } else { Effect::AlreadySo };
        }
        Live::RemoveUser { name, had } => (name, Some(&had.user), &User::default()),
        Live::SetUser { name, from, to, .. } => (name, from.as_ref(), to),
    };
    let mut account = ve.accounts.get(name).cloned().unwrap_or_default();
    let none = User::default();
    let from = from.unwrap_or(&none);
    match (&to.password, &from.password) {
        (Some(hash), _) => account.password = digest(hash),
        (None, Some(hash)) if account.password == digest(hash) => account.password = digest("*"),
        (None, _) => {}
    }
    account.keys.retain(|is| !from.keys.iter().any(|key| digest(key) == *is));
    account.keys.extend(to.keys.iter().map(|key| digest(key)));
    account.groups.retain(|group| !from.groups.contains(group));
    account.groups.extend(to.groups.iter().cloned());
    put(&mut ve.accounts, name, Some(account))
}

/// The model's package managers are done at once.
pub(super) fn apply_packages(ve: &mut SimVe, work: &packages::Work, now: Timestamp) -> Effect {
    let mut software = ve.software.clone();
    software.installed.extend(work.install.iter().cloned());
    software.installed.retain(|name| !work.remove.contains(name));
    if work.upgrade.is_some() {
        software.upgraded = Some(now);
    }
    set(&mut ve.software, software)
}
