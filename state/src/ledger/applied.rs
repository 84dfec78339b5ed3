//! What live steps do to the record of what was last set. Which steps there are is the subsystems'.

use super::Entry;
use crate::plan::Step;
use crate::subsystem::{beancounters, cgroup, devices, namespaces, network, users};
use crate::units::Timestamp;

/// When a step is noted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before it touches the kernel.
    Before,
    /// After it has.
    After,
}

impl Entry {
    /// What is added is noted before, what is taken away or replaced by a value after.
    pub(super) fn apply_namespaces(&mut self, step: &namespaces::Live, phase: Phase) {
        use namespaces::Live;
        let applied = self.applied.namespaces.get_or_insert_default();
        match (phase, step) {
            (Phase::Before, Live::AddMount { target, mount } | Live::ReplaceMount { target, mount, .. }) => {
                applied.mounts.insert(target.clone(), mount.clone());
            }
            (Phase::After, Live::RemoveMount { target, .. }) => drop(applied.mounts.remove(target)),
            (Phase::After, Live::SetHostname { to, .. }) => applied.hostname.clone_from(to),
            (Phase::After, Live::SetDomainname { to, .. }) => applied.domainname.clone_from(to),
            (Phase::Before, Live::SetTimezone { to: Some(to), .. }) => applied.timezone = Some(to.clone()),
            (Phase::After, Live::SetTimezone { to: None, .. }) => applied.timezone = None,
            (Phase::Before, Live::SetLocale { to: Some(to), .. }) => applied.locale = Some(to.clone()),
            (Phase::After, Live::SetLocale { to: None, .. }) => applied.locale = None,
            (_, Live::SetTimezone { .. } | Live::SetLocale { .. })
            | (
                Phase::Before,
                Live::RemoveMount { .. } | Live::SetHostname { .. } | Live::SetDomainname { .. },
            )
            | (Phase::After, Live::AddMount { .. } | Live::ReplaceMount { .. }) => {}
        }
    }

    pub(super) fn apply_cgroup(&mut self, step: &cgroup::Live, phase: Phase, now: Timestamp) {
        use cgroup::Live;
        let applied = self.applied.cgroup.get_or_insert_default();
        match (phase, step) {
            (Phase::After, Live::Freeze) => applied.frozen = true,
            (Phase::After, Live::Thaw) => applied.frozen = false,
            (Phase::Before, Live::Set { knob, to, .. }) => drop(applied.knobs.insert(*knob, to.clone())),
            (Phase::Before, Live::Squeeze { knob, to }) => {
                applied.knobs.insert(*knob, cgroup::Value::Number(*to));
                applied.squeezed = Some(cgroup::Squeezed { to: *to, at: now });
            }
            (Phase::After, Live::Reset { knob, .. }) => drop(applied.knobs.remove(knob)),
            (Phase::Before, Live::Freeze | Live::Thaw | Live::Reset { .. })
            | (Phase::After, Live::Set { .. } | Live::Squeeze { .. }) => {}
        }
    }

    pub(super) fn apply_beancounters(&mut self, step: &beancounters::Live, phase: Phase) {
        use beancounters::Live;
        let applied = self.applied.beancounters.get_or_insert_default();
        match (phase, step) {
            (Phase::Before, Live::Set { setting, to, .. }) => drop(applied.insert(*setting, to.clone())),
            (Phase::After, Live::Reset { setting, .. }) => drop(applied.remove(setting)),
            (Phase::Before, Live::Reset { .. }) | (Phase::After, Live::Set { .. }) => {}
        }
    }

    pub(super) fn apply_devices(&mut self, step: &devices::Live, phase: Phase) {
        use devices::Live;
        let applied = self.applied.devices.get_or_insert_default();
        match (phase, step) {
            (Phase::Before, Live::AddNode { path, node, .. }) => {
                applied.nodes.insert(path.clone(), *node);
            }
            (Phase::After, Live::RemoveNode { path, .. }) => drop(applied.nodes.remove(path)),
            (Phase::After, Live::SetRules { to, .. }) => applied.rules.clone_from(to),
            (Phase::Before, Live::RemoveNode { .. } | Live::SetRules { .. })
            | (Phase::After, Live::AddNode { .. }) => {}
        }
    }

    pub(super) fn apply_network(&mut self, step: &network::Live, phase: Phase) {
        use network::Live;
        match (phase, step) {
            (Phase::Before, Live::Attach { .. }) => drop(self.applied.network.get_or_insert_default()),
            (Phase::Before, Live::AddAddress { address, .. }) => {
                self.applied.network.get_or_insert_default().addresses.insert(*address);
            }
            (Phase::After, Live::RemoveAddress { address }) => {
                if let Some(applied) = &mut self.applied.network {
                    applied.addresses.remove(address);
                }
            }
            (Phase::Before, Live::SetInterface { name, from, to }) => {
                // Whatever it comes to, the addresses of both are vzd's.
                let mut both = to.clone();
                both.addresses.extend(from.iter().flat_map(|from| &from.addresses));
                self.applied.network.get_or_insert_default().interfaces.insert(name.clone(), both);
            }
            (Phase::After, Live::SetInterface { name, to, .. }) => {
                self.applied.network.get_or_insert_default().interfaces.insert(name.clone(), to.clone());
            }
            (Phase::After, Live::RemoveInterface { name, .. }) => {
                if let Some(applied) = &mut self.applied.network {
                    applied.interfaces.remove(name);
                }
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            (Phase::Before, Live::HandOver { device, to, .. }) => {
                self.applied.network.get_or_insert_default().devices.insert(device.clone(), to.clone());
            }
            (Phase::After, Live::GiveBack { device, .. }) => {
                if let Some(applied) = &mut self.applied.network {
                    applied.devices.remove(device);
                }
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            (Phase::Before, Live::SetSysctl { name, to, .. }) => {
                self.applied.network.get_or_insert_default().sysctls.insert(name.clone(), to.clone());
            }
            (Phase::After, Live::ResetSysctl { name, .. }) => {
                if let Some(applied) = &mut self.applied.network {
                    applied.sysctls.remove(name);
                }
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            (Phase::Before, Live::SetRate { direction, to: Some(to), .. }) => {
                self.applied.network.get_or_insert_default().rates.insert(*direction, *to);
            }
            (Phase::After, Live::SetRate { direction, to: None, .. }) => {
                if let Some(applied) = &mut self.applied.network {
                    applied.rates.remove(direction);
                }
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            (Phase::Before, Live::SetFirewall { to: Some(to), trial, .. }) => {
                self.applied.network.get_or_insert_default().firewall = Some(to.clone());
                self.firewall_trial.clone_from(trial);
            }
            // Whatever becomes of this step, the text that failed is not loaded again.
            (Phase::Before, Live::RollBackFirewall { to, why }) => {
                if let Some(trial) = &mut self.firewall_trial {
                    trial.failed = Some(why.clone());
                }
                if to.is_some() {
                    self.applied.network.get_or_insert_default().firewall.clone_from(to);
                }
            }
            (Phase::After, Live::EndTrial { .. }) => self.firewall_trial = None,
            (Phase::After, Live::SetFirewall { to: None, .. } | Live::RollBackFirewall { to: None, .. }) => {
                if let Live::SetFirewall { trial, .. } = step {
                    self.firewall_trial.clone_from(trial);
                }
                if let Some(applied) = &mut self.applied.network {
                    applied.firewall = None;
                }
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            (Phase::Before, Live::SetTranslations { to, .. }) => {
                let network = self.applied.network.get_or_insert_default();
                network.translations.extend(to.iter().cloned());
            }
            (Phase::After, Live::SetTranslations { to, .. }) => {
                self.applied.network.get_or_insert_default().translations.clone_from(to);
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            (
                _,
                Live::SetRate { .. }
                | Live::SetFirewall { .. }
                | Live::RollBackFirewall { .. }
                | Live::EndTrial { .. },
            ) => {}
            (Phase::Before, Live::SetRoute { to, .. }) => {
                let routes = &mut self.applied.network.get_or_insert_default().routes;
                routes.retain(|route| !route.same_place(to));
                routes.insert(to.clone());
            }
            (Phase::After, Live::RemoveRoute { route }) => {
                if let Some(applied) = &mut self.applied.network {
                    applied.routes.retain(|is| !is.same_place(route));
                }
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            (Phase::Before, Live::AddRule { rule }) => {
                self.applied.network.get_or_insert_default().rules.insert(rule.clone());
            }
            (Phase::After, Live::RemoveRule { rule }) => {
                if let Some(applied) = &mut self.applied.network {
                    applied.rules.remove(rule);
                }
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            // Nothing wished for may still be something written, of an `inherit` that is gone.
            (Phase::Before, Live::SetFile { file, wish, .. }) if !wish.is_empty() => {
                self.applied.network.get_or_insert_default().files.insert(*file, wish.clone());
            }
            (Phase::After, Live::SetFile { file, wish, .. }) if wish.is_empty() => {
                if let Some(applied) = &mut self.applied.network {
                    applied.files.remove(file);
                }
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            (_, Live::SetFile { .. }) => {}
            (Phase::After, Live::Detach) => {
                self.applied.network.take_if(|applied| !applied.is_any());
            }
            (
                Phase::Before,
                Live::RemoveAddress { .. }
                | Live::ResetSysctl { .. }
                | Live::RemoveRoute { .. }
                | Live::RemoveRule { .. }
                | Live::RemoveInterface { .. }
                | Live::GiveBack { .. }
                | Live::Detach,
            )
            | (
                Phase::After,
                Live::Attach { .. }
                | Live::AddAddress { .. }
                | Live::HandOver { .. }
                | Live::SetSysctl { .. }
                | Live::SetRoute { .. }
                | Live::AddRule { .. },
            ) => {}
        }
    }

    /// What is set of a user is noted before, what is no longer set of it after.
    pub(super) fn apply_users(&mut self, step: &users::Live, phase: Phase) {
        use users::Live;
        let applied = &mut self.applied.users;
        match (phase, step) {
            (Phase::Before, Live::SetUser { name, from, made, to }) => {
                let user = from.as_ref().map_or_else(|| to.clone(), |from| to.with(from));
                applied.insert(name.clone(), users::Applied { made: *made, user });
            }
            (Phase::After, Live::SetUser { name, made, to, .. }) => {
                applied.insert(name.clone(), users::Applied { made: *made, user: to.clone() });
            }
            (Phase::After, Live::RemoveUser { name, .. }) => drop(applied.remove(name)),
            (Phase::Before, Live::RemoveUser { .. }) => {}
        }
    }
}

impl Entry {
    /// Whether the record answers for all that a step does to the kernel before that is noted: it only
    /// gives another value to what was set before, or takes something away. A record that misses such a
    /// step, because the controller was killed, tells what is ours all the same; nothing but the value is
    /// older, and the kernel's is read anyway.
    pub fn answers_for(&self, step: &Step) -> bool {
        match step {
            Step::Cgroup(step) => {
                let known = |knob| self.applied.cgroup.as_ref().is_some_and(|is| is.knobs.contains_key(knob));
                match step {
                    cgroup::Live::Set { knob, .. } | cgroup::Live::Squeeze { knob, .. } => known(knob),
                    cgroup::Live::Freeze | cgroup::Live::Thaw | cgroup::Live::Reset { .. } => true,
                }
            }
            Step::Beancounters(beancounters::Live::Set { setting, .. }) => {
                self.applied.beancounters.as_ref().is_some_and(|is| is.contains_key(setting))
            }
            Step::Namespaces(step) => match step {
                namespaces::Live::AddMount { .. } | namespaces::Live::ReplaceMount { .. } => false,
                namespaces::Live::RemoveMount { .. }
                | namespaces::Live::SetHostname { .. }
                | namespaces::Live::SetDomainname { .. } => true,
                namespaces::Live::SetTimezone { had, to } | namespaces::Live::SetLocale { had, to } => {
                    had.is_some() || to.is_none()
                }
            },
            Step::Devices(step) => match step {
                devices::Live::AddNode { .. } => false,
                devices::Live::RemoveNode { .. } | devices::Live::SetRules { .. } => true,
            },
            Step::Network(step) => match step {
                network::Live::Attach { .. }
                | network::Live::AddAddress { .. }
                | network::Live::SetInterface { .. }
                | network::Live::HandOver { .. }
                | network::Live::SetSysctl { .. }
                | network::Live::SetRoute { .. }
                | network::Live::AddRule { .. } => false,
                // Nor does a device that it doesn't know of go with the VE.
                network::Live::SetRate { to, .. } => to.is_none(),
                network::Live::SetTranslations { to, .. } => to.is_empty(),
                network::Live::SetFirewall { from, to, trial } => {
                    trial.is_none() && (from.is_some() || to.is_none())
                }
                network::Live::RollBackFirewall { .. } => false,
                network::Live::SetFile { had, wish, .. } => !had.is_empty() || wish.is_empty(),
                network::Live::RemoveAddress { .. }
                | network::Live::RemoveInterface { .. }
                | network::Live::GiveBack { .. }
                | network::Live::ResetSysctl { .. }
                | network::Live::RemoveRoute { .. }
                | network::Live::RemoveRule { .. }
                | network::Live::EndTrial { .. }
                | network::Live::Detach => true,
            },
            Step::Beancounters(beancounters::Live::Reset { .. }) => true,
            Step::Users(users::Live::SetUser { .. }) => false,
            Step::Users(users::Live::RemoveUser { .. }) => true,
            Step::Packages(_) => true,
            Step::Lifecycle(_) | Step::Disk(_) | Step::DiskLive(_) => false,
        }
    }
}
