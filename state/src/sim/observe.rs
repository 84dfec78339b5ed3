//! What is seen of a VE in the model kernel, as drivers would see it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Sim, SimRun, SimVe};
use crate::desired::Desired;
use crate::ids::VeUid;
use crate::observed::Observed;
use crate::reading::Reading;
use crate::subsystem::beancounters::{self, Setting};
use crate::subsystem::cgroup::{self, Group, Knob};
use crate::subsystem::devices::{self, rules_digest};
use crate::subsystem::disk::{self, Root};
use crate::subsystem::lifecycle::{self, Run};
use crate::subsystem::namespaces::{self, Mount, MountSeen, SourceSeen};
use crate::subsystem::{network, packages, users};

impl Sim {
    /// What is seen of a VE. Sources of mounts are compared with what is wanted or was last applied.
    pub fn observe(&self, uid: &VeUid, want: Option<&Desired>) -> Observed {
        let Some(SimVe { run, last_exit, root, checkpoint, accounts, software }) = self.ves.get(uid) else {
            return Observed::default();
        };
        let kept_by = root.as_ref().map(|(_, backend)| *backend);
        let root =
            root.as_ref().map_or(Reading::Absent, |_| Reading::Is(Root { path: format!("/ve/{uid}") }));
        let meter = |run: &SimRun, at: usize| {
            Some(disk::Meter { used: run.used[at], limit: run.limits?[at], most: None })
        };
        let counts_inodes = kept_by.is_some_and(|backend| backend.limits(disk::Resource::Inodes));
        let usage = run.as_ref().and_then(|run| {
            Some(disk::Usage { space: meter(run, 0)?, inodes: meter(run, 1).filter(|_| counts_inodes) })
        });
        let set =
            self.ledger.get(uid).and_then(|entry| entry.disk.as_ref()).is_some_and(|disk| disk.read_only);
        let asked = set || want.is_some_and(|want| want.disk.read_only);
        let read_only =
            run.as_ref().filter(|_| asked).map_or(Reading::Absent, |run| Reading::Is(run.read_only));
        let mount_options = run.as_ref().filter(|run| !run.cold.mount_options.is_empty());
        let mount_options =
            mount_options.map_or(Reading::Absent, |run| Reading::Is(run.cold.mount_options.clone()));
        let usage = usage.map_or(Reading::Absent, Reading::Is);
        let disk = disk::Observed { root, usage, read_only, mount_options };
        let checkpoint =
            checkpoint.as_ref().map(|run| lifecycle::Checkpoint { at: run.started_at, bytes: 4096 });
        let checkpoint = checkpoint.map_or(Reading::Absent, Reading::Is);
        let Some(run) = run else {
            let run = Reading::Is(Run::Stopped { last_exit: *last_exit });
            return Observed {
                lifecycle: lifecycle::Observed { run, checkpoint },
                disk,
                ..Observed::default()
            };
        };
        let SimRun {
            init_pid,
            started_at,
            cold: _,
            frozen,
            knobs: _,
            settings,
            memory: _,
            limits: _,
            used: _,
            read_only: _,
            hostname,
            domainname,
            timezone,
            locale,
            mounts,
            nodes,
            rules,
            venet,
            interfaces,
            handed,
            sysctls,
            rates,
            firewall,
            routes,
            routing_rules,
            files,
            translations,
        } = run;
        let running = Run::Running { init_pid: *init_pid, started_at: *started_at };
        Observed {
            lifecycle: lifecycle::Observed { run: Reading::Is(running), checkpoint },
            cgroup: self.observe_cgroup(*frozen, run),
            beancounters: beancounters::Observed {
                settings: Setting::ALL
                    .map(|one| {
                        let seen = settings.get(&one).cloned();
                        (one, Reading::Is(seen.unwrap_or_else(cgroup::Value::max)))
                    })
                    .into(),
            },
            disk,
            namespaces: namespaces::Observed {
                hostname: Reading::Is(hostname.clone()),
                domainname: Reading::Is(domainname.clone()),
                timezone: Reading::Is(namespaces::RegionSeen { is: timezone.clone(), unknown: false }),
                locale: Reading::Is(namespaces::RegionSeen { is: locale.clone(), unknown: false }),
                mounts: Reading::Is(self.observe_mounts(uid, want, mounts)),
            },
            devices: devices::Observed {
                nodes: Reading::Is(nodes.clone()),
                rules_digest: Reading::Is(rules_digest(rules)),
            },
            network: network::Observed {
                venet: Reading::Is(network::Venet {
                    taken: BTreeMap::new(),
                    there: venet.is_some(),
                    faults: BTreeSet::new(),
                    addresses: venet.iter().flatten().map(|address| (*address, BTreeSet::new())).collect(),
                }),
                interfaces: Reading::Is(self.observe_interfaces(uid, interfaces)),
                devices: Reading::Is(handed.clone()),
                sysctls: {
                    let wanted = want.iter().flat_map(|want| want.network.sysctls.keys());
                    let entry = self.ledger.get(uid).and_then(|entry| entry.applied.network.as_deref());
                    let known = wanted.chain(entry.iter().flat_map(|is| is.sysctls.keys()));
                    let value = |name: &String| sysctls.get(name).map_or("0", String::as_str).to_owned();
                    Reading::Is(known.map(|name| (name.clone(), value(name))).collect())
                },
                rates: {
                    let shaped = |rate: u64| network::Shaped { rate, past: BTreeSet::new() };
                    Reading::Is(rates.iter().map(|(way, rate)| (*way, shaped(*rate))).collect())
                },
                firewall: Reading::Is(network::FirewallSeen {
                    table: self.observe_table(uid, want, firewall.as_ref()),
                    problem: None,
                    reached: Some(true),
                }),
                routes: Reading::Is(routes.clone()),
                rules: Reading::Is(routing_rules.clone()),
                translations: Reading::Is(translations.clone()),
                files: Reading::Is(network::FilesSeen { lines: files.clone(), ..Default::default() }),
            },
            users: users::Observed { accounts: Reading::Is(accounts.clone()) },
            packages: packages::Observed {
                seen: if *frozen { Reading::Absent } else { Reading::Is(software.clone()) },
            },
        }
    }

    fn observe_cgroup(&self, frozen: bool, run: &SimRun) -> cgroup::Observed {
        let knobs = Knob::ALL.map(|knob| (knob, Reading::Is(run.knob(knob, &self.caps)))).into();
        let used = run.memory.0 + run.memory.1;
        let used = [Knob::MemoryMax, Knob::MemoryTotal].map(|knob| (knob, used)).into();
        cgroup::Observed { group: Reading::Is(Group { frozen, populated: true, knobs, used }) }
    }

    fn observe_table(&self, uid: &VeUid, want: Option<&Desired>, is: Option<&String>) -> network::Table {
        let entry = self.ledger.get(uid);
        let applied = entry.and_then(|entry| entry.applied.network.as_deref());
        let trial = entry.and_then(|entry| entry.firewall_trial.as_deref());
        let wanted = want.and_then(|want| network::in_force(&want.network, trial));
        match (is, wanted.or(applied.and_then(|is| is.firewall.as_ref()))) {
            (None, _) => network::Table::None,
            (is, expected) if is == expected => network::Table::Same,
            _ => network::Table::Other,
        }
    }

    fn observe_interfaces(
        &self,
        uid: &VeUid,
        interfaces: &BTreeMap<String, network::Interface>,
    ) -> BTreeMap<String, network::Seen> {
        let Some(entry) = self.ledger.get(uid) else { return BTreeMap::new() };
        let seen = |(name, is): (&String, &network::Interface)| {
            let seen = network::Seen {
                on: Some(is.on.clone()),
                vlan: is.vlan,
                mac: Some(is.mac_of(uid, name)),
                host_name: is.bridge().map(|_| is.host_name_of(entry.ctid, uid, name)),
                addresses: is.addresses.clone(),
                gateways: is.gateways.clone(),
                mtu: is.mtu.unwrap_or(network::MTU),
                mac_filter: is.mac_filter,
                rates: is.rates.clone(),
                up: true,
            };
            (name.clone(), seen)
        };
        interfaces.iter().map(seen).collect()
    }

    fn observe_mounts(
        &self,
        uid: &VeUid,
        want: Option<&Desired>,
        mounts: &BTreeMap<String, Mount>,
    ) -> BTreeMap<String, MountSeen> {
        let wanted =
            want.map(|want| namespaces::wanted_mounts(&want.namespaces, &self.caps)).unwrap_or_default();
        let applied = self.ledger.get(uid).and_then(|entry| entry.applied.namespaces.as_ref());
        let seen = |(target, mount): (&String, &Mount)| {
            let expected = wanted.get(target).or_else(|| applied?.mounts.get(target));
            let same = expected.is_some_and(|expected| expected.source == mount.source);
            let source = if same { SourceSeen::Same } else { SourceSeen::Other };
            (target.clone(), MountSeen { source, flags: mount.flags, idmapped: mount.idmap })
        };
        mounts.iter().map(seen).collect()
    }
}
