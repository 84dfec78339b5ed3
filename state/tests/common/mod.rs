//! Wishes and histories for properties: small worlds, so that they often meet.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use vzd_state::capability::{Capabilities, Feature};
use vzd_state::desired::{Desired, Places, SourceRef};
use vzd_state::digest::SpecDigest;
use vzd_state::ids::VeUid;
use vzd_state::ledger::By;
use vzd_state::plan::Wish;
use vzd_state::policy::{Policy, authorize};
use vzd_state::sim::Sim;
use vzd_state::subsystem::beancounters::Setting;
use vzd_state::subsystem::cgroup::Knob;
use vzd_state::subsystem::devices::{Access, DeviceKind, Node, Rule};
use vzd_state::subsystem::lifecycle::{ColdSpec, DeletionPolicy, Exit, RestartPolicy, State, UpdatePolicy};
use vzd_state::subsystem::namespaces::{Mount, MountFlags};
use vzd_state::subsystem::{
    beancounters, cgroup, devices, disk, lifecycle, namespaces, network, packages, users,
};
use vzd_state::units::{Millis, Timestamp};

/// What is wanted of a VE, short when a test fails.
#[derive(Clone)]
pub struct Wishful(pub Desired);

impl std::fmt::Debug for Wishful {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.spec.to_string())
    }
}

pub fn host() -> Sim {
    let caps = Capabilities { disk_btrfs: Feature::Yes, ..Capabilities::full("boot-0") };
    Sim::new(caps, Timestamp(1_800_000_000_000))
}

pub fn mount(source: &str, read_only: bool) -> Mount {
    let flags = MountFlags { read_only, nosuid: true, noexec: false, nodev: true };
    Mount { source: source.to_owned(), flags, idmap: false, system: false }
}

pub fn node(minor: u32) -> Node {
    Node { kind: DeviceKind::Char, major: 10, minor, mode: 0o600, uid: 0, gid: 0 }
}

/// The same wish for another VE.
pub fn at(want: &Wishful, number: usize) -> (Desired, VeUid) {
    let name = format!("ve{number}").parse().unwrap();
    (Desired { name, ..want.0.clone() }, VeUid::from_bits(number as u128 + 100))
}

fn finish(mut want: Desired) -> Wishful {
    let Desired { lifecycle, cgroup, beancounters, disk, namespaces, devices, users, packages, .. } = &want;
    want.spec = std::sync::Arc::new(serde_json::json!([
        lifecycle,
        cgroup,
        beancounters,
        disk,
        namespaces,
        devices,
        users,
        packages
    ]));
    want.digest = SpecDigest::of(&want.spec);
    Wishful(want)
}

fn lifecycle() -> impl Strategy<Value = lifecycle::Desired> {
    let state = prop_oneof![
        6 => Just(State::Running), 1 => Just(State::Stopped), 1 => Just(State::Paused), 1 => Just(State::Absent),
        2 => Just(State::Suspended),
    ];
    let restart = select(vec![RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never]);
    let update = select(vec![UpdatePolicy::Live, UpdatePolicy::Restart]);
    let deletion = select(vec![DeletionPolicy::Quarantine, DeletionPolicy::Retain, DeletionPolicy::Destroy]);
    let init = select(vec!["/sbin/init", "/bin/init"]);
    (state, restart, update, deletion, init, any::<bool>(), any::<bool>()).prop_map(
        |(state, restart_policy, update_policy, deletion_policy, init, nesting, on_boot)| {
            lifecycle::Desired {
                state,
                restart_policy,
                update_policy,
                deletion_policy,
                on_boot,
                cold: ColdSpec { init: vec![init.to_owned()], nesting, ..ColdSpec::default() },
                ..lifecycle::Desired::default()
            }
        },
    )
}

fn mounts() -> impl Strategy<Value = BTreeMap<String, Mount>> {
    let targets = subsequence(vec!["/a", "/b", "/c"], 0..=3);
    (targets, select(vec!["/srv/x", "/srv/y"]), any::<bool>(), any::<bool>()).prop_map(
        |(targets, source, read_only, idmap)| {
            targets
                .into_iter()
                .map(|target| (target.to_owned(), Mount { idmap, ..mount(source, read_only) }))
                .collect()
        },
    )
}

fn wanted_devices() -> impl Strategy<Value = devices::Desired> {
    let minors = subsequence(vec![200u32, 229], 0..=2);
    (minors, any::<bool>()).prop_map(|(minors, mknod)| {
        let access = Access { read: true, write: true, mknod };
        let rule = |minor| Rule { kind: DeviceKind::Char, major: Some(10), minor: Some(minor), access };
        devices::Desired {
            nodes: minors.iter().map(|minor| (format!("/dev/n{minor}"), node(*minor))).collect(),
            rules: minors.iter().map(|minor| rule(*minor)).collect::<BTreeSet<_>>(),
        }
    })
}

fn routes() -> impl Strategy<Value = BTreeSet<network::Route>> {
    let to = subsequence(vec!["10.7.0.0/16", "fd00:7::/64", "0.0.0.0/0"], 0..=3);
    (to, 0u32..2, any::<bool>()).prop_map(|(to, metric, dev)| {
        let route = |to: &str| network::Route {
            to: to.parse().unwrap(),
            table: 254,
            metric,
            via: None,
            dev: Some(if dev { "eth0" } else { "venet0" }.to_owned()),
        };
        to.into_iter().map(route).collect()
    })
}

fn rules() -> impl Strategy<Value = BTreeSet<network::Rule>> {
    let places = subsequence(vec![(7, false), (7, true), (9, false)], 0..=3);
    (places, 7u32..9, any::<bool>()).prop_map(|(places, table, iif)| {
        let rule = |(priority, v6)| network::Rule {
            v6,
            priority,
            from: None,
            to: None,
            iif: iif.then(|| "eth0".to_owned()),
            fwmark: None,
            table,
        };
        places.into_iter().map(rule).collect()
    })
}

fn files() -> impl Strategy<Value = network::Files> {
    let lines = proptest::collection::vec(select(vec!["nameserver 10.1.0.1", "search a b"]), 1..=2);
    let lines = lines.prop_map(|lines| lines.into_iter().map(str::to_owned).collect());
    let files = select(vec![network::File::ResolvConf, network::File::Hosts]);
    proptest::collection::btree_map(files, lines, 0..=2)
}

fn network() -> impl Strategy<Value = network::Desired> {
    let addresses = subsequence(vec!["10.1.0.5", "10.1.0.6/24", "fd00:1::5"], 0..=3);
    let ways = select(vec![network::Direction::In, network::Direction::Out]);
    let rates = proptest::collection::btree_map(ways, select(vec![8_000u64, 16_000]), 0..=2);
    let interface =
        (0u8..3, select(vec![None, Some(1400), Some(9000)]), any::<bool>(), 0u8..3, rates.clone());
    let interfaces = proptest::collection::btree_map(select(vec!["eth0", "eth1"]), interface, 0..=2);
    let sysctls =
        proptest::collection::btree_map(select(vec!["net.a", "net.b"]), select(vec!["1", "2"]), 0..=2);
    let firewall = select(vec![None, Some("a".to_owned()), Some("b".to_owned())]);
    let firewall = (firewall, select(vec![None, Some(vzd_state::units::Millis::from_secs(30))]));
    let devices = proptest::collection::btree_map(
        select(vec!["eno3".to_owned(), "eno4".to_owned()]),
        select(vec!["lan0".to_owned(), "lan1".to_owned()]),
        0..=2,
    );
    let masquerade = subsequence(vec!["10.1.0.5", "fd00:1::5"], 0..=2);
    let all =
        (addresses, interfaces, devices, sysctls, rates, firewall, (routes(), rules()), files(), masquerade);
    all.prop_map(
        |(
            addresses,
            interfaces,
            devices,
            sysctls,
            rates,
            (firewall, confirm),
            (routes, rules),
            files,
            masquerade,
        )| {
            network::Desired {
                rates: if addresses.is_empty() && interfaces.is_empty() {
                    network::Rates::new()
                } else {
                    rates
                },
                translations: masquerade
                    .into_iter()
                    .map(|address| network::Translation::Masquerade {
                        address: vzd_schema::v1::Address(address.parse().unwrap()),
                    })
                    .collect(),
                devices,
                firewall,
                confirm,
                routes,
                rules,
                files,
                sysctls: sysctls
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                addresses: addresses.into_iter().map(|address| address.parse().unwrap()).collect(),
                interfaces: interfaces
                    .into_iter()
                    .map(|(name, (link, mtu, mac_filter, addresses, rates))| {
                        let interface = network::Interface {
                            on: match link {
                                0 => network::On::Bridge("br0".to_owned()),
                                1 => network::On::Bridge("br1".to_owned()),
                                _ => network::On::Parent("eno1".to_owned()),
                            },
                            vlan: (link == 1).then_some(7),
                            mac: (link == 1).then(|| vzd_schema::v1::Mac::new([2, 0, 0, 0, 0, 1])),
                            host_name: None,
                            addresses: (0..addresses)
                                .map(|n| format!("10.7.0.{n}/24").parse().unwrap())
                                .collect(),
                            gateways: BTreeSet::new(),
                            mtu,
                            mac_filter,
                            rates,
                        };
                        (name.to_owned(), interface)
                    })
                    .collect(),
            }
        },
    )
}

fn some_packages() -> impl Strategy<Value = packages::Desired> {
    (subsequence(vec!["p1", "p2", "p3"], 0..=3), 0usize..4).prop_map(|(names, at)| {
        let (present, absent) = names.split_at(at.min(names.len()));
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        packages::Desired { present: set(present), absent: set(absent), upgrade: None }
    })
}

fn some_users() -> impl Strategy<Value = users::Desired> {
    let words = |of: Vec<&'static str>| {
        subsequence(of.clone(), 0..=of.len()).prop_map(|some| some.into_iter().map(str::to_owned).collect())
    };
    let user = (
        select(vec![None, Some("$y$1$a"), Some("$y$1$b")]),
        words(vec!["k1", "k2"]),
        words(vec!["adm", "ops"]),
    );
    let user = user.prop_map(|(password, keys, groups)| users::User {
        password: password.map(str::to_owned),
        keys,
        uid: None,
        groups,
    });
    let named = proptest::collection::btree_map(select(vec!["root", "alice"]), user, 0..=2);
    named.prop_map(|users| users::Desired {
        users: users.into_iter().map(|(name, user)| (name.to_owned(), user)).collect(),
    })
}

/// Limits, often none, that meet each other in every order.
fn limits() -> impl Strategy<Value = cgroup::Limits> {
    let size = || select(vec![None, None, Some("unlimited"), Some("64M"), Some("128M"), Some("1G")]);
    let units = select(vec![None, Some("500"), Some("500000")]);
    let cpus = select(vec![None, Some(1), Some(2)]);
    (units, cpus, size(), size(), select(vec![None, Some("50"), Some("unlimited")])).prop_map(
        |(cpuunits, cpus, ram, swap, numproc)| {
            // Version 1 has no limit of swap alone.
            let swap = swap.filter(|_| ram.is_some_and(|ram| ram != "unlimited"));
            let limits = serde_json::json!({
                "cpu": { "cpuunits": cpuunits, "cpus": cpus },
                "memory": { "ram": ram, "swap": swap },
                "numproc": numproc,
            });
            serde_json::from_value(limits).unwrap()
        },
    )
}

/// Limits of a disk, often none.
fn quotas() -> impl Strategy<Value = disk::Desired> {
    let pair = || {
        select(vec![(None, None), (Some(40960), Some(81920)), (Some(8192), Some(8192)), (Some(4096), None)])
            .prop_map(|(soft, hard)| disk::Bounds { soft, hard })
    };
    let backends = [disk::Backend::Image, disk::Backend::Project, disk::Backend::Btrfs];
    let backend = select([None, None].into_iter().chain(backends.map(Some)).collect::<Vec<_>>());
    let grace = select(vec![Millis(0), Millis(60_000)]);
    (pair(), pair(), backend, grace, any::<bool>()).prop_map(|(space, inodes, backend, grace, read_only)| {
        disk::Desired { space, inodes, backend, grace, read_only, ..Default::default() }
    })
}

fn counters() -> impl Strategy<Value = beancounters::Desired> {
    let one = || select(vec![None, Some(4u64), Some(16)]);
    (one(), one()).prop_map(|(pty, tcp)| beancounters::Desired {
        bounds: BTreeMap::new(),
        settings: [(Setting::Terminals, pty), (Setting::TcpSockets, tcp)]
            .into_iter()
            .filter_map(|(setting, number)| Some((setting, cgroup::Value::Number(number?))))
            .collect(),
    })
}

/// Any wish for the VE `ve`.
pub fn wishful() -> impl Strategy<Value = Wishful> {
    let names = (select(vec!["one", "two"]), select(vec!["", "lan"]));
    let template = select(vec!["debian-12", "debian-13"]);
    let inside = (wanted_devices(), network(), some_users(), some_packages());
    (lifecycle(), (limits(), counters(), quotas()), names, mounts(), inside, template).prop_map(
        |(
            lifecycle,
            (limits, beancounters, quotas),
            (hostname, domainname),
            mounts,
            (devices, network, users, packages),
            template,
        )| {
            finish(Desired {
                name: "ve".parse().unwrap(),
                ctid: None,
                source: SourceRef::default(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                host: None,
                description: None,
                spec: std::sync::Arc::default(),
                digest: SpecDigest::default(),
                fields: Places::default(),
                cgroup: cgroup::Desired { frozen: lifecycle.state == State::Paused, limits },
                beancounters,
                disk: disk::Desired {
                    template: template.to_owned(),
                    inherited: false,
                    may_destroy: lifecycle.deletion_policy == DeletionPolicy::Destroy,
                    ..quotas
                },
                lifecycle,
                namespaces: namespaces::Desired {
                    hostname: hostname.to_owned(),
                    domainname: domainname.to_owned(),
                    timezone: Some(hostname.to_owned()).filter(|_| domainname.is_empty()),
                    locale: Some(domainname.to_owned()).filter(|name| !name.is_empty()),
                    mounts,
                    id_range: None,
                },
                devices,
                network,
                users,
                packages,
            })
        },
    )
}

/// Something that happens to the VE or its host.
#[derive(Debug, Clone)]
enum Happening {
    /// Its manifest says this; so many steps of the plan are done.
    Manifest(Box<Wishful>, usize),
    /// Its manifest is gone; so many steps of the plan are done.
    Gone(usize),
    Ends(Exit),
    HostReboots,
    Renamed,
    Unmounted,
    Remounted,
    NodeGone,
    RulesLoosened,
    LinkGone,
    AddressGone,
    InterfaceGone,
    UserGone,
    PasswordChanged,
    PackageGone,
    Frozen,
    MemoryTaken(u64),
    DiskUsed(u64, u64),
    LimitSetByHand(Knob),
    Operator(State),
    TimePasses(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let exit = select(vec![Exit::Halted, Exit::Rebooted, Exit::Exited(1), Exit::Killed(9), Exit::Unknown]);
    prop_oneof![
        6 => (wishful(), 0usize..12).prop_map(|(want, steps)| Happening::Manifest(Box::new(want), steps)),
        1 => (0usize..6).prop_map(Happening::Gone),
        2 => exit.prop_map(Happening::Ends),
        1 => Just(Happening::HostReboots),
        1 => Just(Happening::Renamed),
        1 => Just(Happening::Unmounted),
        1 => Just(Happening::Remounted),
        1 => Just(Happening::NodeGone),
        1 => Just(Happening::RulesLoosened),
        1 => Just(Happening::LinkGone),
        1 => Just(Happening::AddressGone),
        1 => Just(Happening::InterfaceGone),
        1 => Just(Happening::UserGone),
        1 => Just(Happening::PasswordChanged),
        1 => Just(Happening::PackageGone),
        1 => Just(Happening::Frozen),
        2 => (0u64..200).prop_map(Happening::MemoryTaken),
        2 => (0u64..90_000, 0u64..90_000).prop_map(|(space, inodes)| Happening::DiskUsed(space, inodes)),
        1 => select(vec![Knob::CpuWeight, Knob::Tasks, Knob::IoOps]).prop_map(Happening::LimitSetByHand),
        1 => select(vec![State::Running, State::Stopped, State::Paused, State::Suspended])
            .prop_map(Happening::Operator),
        1 => (0u64..100_000).prop_map(Happening::TimePasses),
    ]
}

/// A host on which a VE has lived through something, and the last wish for it.
pub fn histories() -> impl Strategy<Value = (Sim, Wishful)> {
    let history = (wishful(), proptest::collection::vec(happening(), 0..8), any::<bool>());
    history.prop_map(|(first, happenings, hybrid)| {
        let mut sim = host();
        if hybrid {
            sim.caps = sim.caps.hybrid();
        }
        let mut last = first;
        for (i, happening) in happenings.into_iter().enumerate() {
            happen(&mut sim, &mut last, happening, i);
        }
        (sim, last)
    })
}

fn happen(sim: &mut Sim, last: &mut Wishful, happening: Happening, number: usize) {
    let uid = VeUid::from_bits(7);
    match happening {
        Happening::Manifest(want, steps) => {
            let plan = sim.plan(&uid, &want.0.name, Wish::Want(&want.0));
            for planned in authorize(plan, &Policy::default()).steps.iter().take(steps) {
                sim.step(&uid, &planned.step, Some(&want.0)).unwrap();
            }
            *last = *want;
        }
        Happening::Gone(steps) => {
            let plan = sim.plan(&uid, &last.0.name, Wish::Gone);
            for planned in authorize(plan, &Policy::default()).steps.iter().take(steps) {
                sim.step(&uid, &planned.step, None).unwrap();
            }
        }
        Happening::Ends(exit) => sim.end(&uid, exit),
        Happening::HostReboots => sim.reboot(&format!("boot-{}", number + 1)),
        Happening::Operator(state) => {
            let now = sim.now;
            if let Some(entry) = sim.ledger.get_mut(&uid) {
                entry.override_state(state, By::Operator, now);
            }
        }
        Happening::PackageGone => drop(sim.ve(&uid).software.installed.pop_first()),
        Happening::UserGone => drop(sim.ve(&uid).accounts.pop_first()),
        Happening::PasswordChanged => {
            if let Some(mut first) = sim.ve(&uid).accounts.first_entry() {
                first.get_mut().password = users::digest("$y$by$hand");
            }
        }
        Happening::TimePasses(seconds) => sim.wait(Millis::from_secs(seconds)),
        Happening::Renamed
        | Happening::Unmounted
        | Happening::Remounted
        | Happening::NodeGone
        | Happening::RulesLoosened
        | Happening::LinkGone
        | Happening::AddressGone
        | Happening::InterfaceGone
        | Happening::MemoryTaken(_)
        | Happening::DiskUsed(..)
        | Happening::LimitSetByHand(_)
        | Happening::Frozen => {
            let Some(run) = sim.ve(&uid).run.as_mut() else { return };
            match happening {
                Happening::Renamed => run.hostname = "renamed".to_owned(),
                Happening::Unmounted => drop(run.mounts.pop_first()),
                Happening::Remounted => {
                    if let Some(mut first) = run.mounts.first_entry() {
                        first.get_mut().source = "/elsewhere".to_owned();
                    }
                }
                Happening::MemoryTaken(mb) => {
                    let most = |knob| run.knobs.get(&knob).map_or(u64::MAX, cgroup::Value::limit);
                    // Above memory.high the kernel takes back at once what it can.
                    let most = [Knob::MemoryHigh, Knob::MemoryMax, Knob::MemoryTotal].map(most);
                    run.memory.0 = most.into_iter().fold(mb << 20, u64::min);
                }
                Happening::DiskUsed(space, inodes) => run.used = [space, inodes],
                Happening::LimitSetByHand(knob) => drop(run.knobs.insert(knob, cgroup::Value::Number(7))),
                Happening::NodeGone => drop(run.nodes.pop_first()),
                Happening::LinkGone => run.venet = None,
                Happening::InterfaceGone => drop(run.interfaces.pop_first()),
                Happening::AddressGone => drop(run.venet.as_mut().map(BTreeSet::pop_first)),
                Happening::RulesLoosened => {
                    let access = Access::ALL;
                    run.rules.insert(Rule { kind: DeviceKind::Block, major: None, minor: None, access });
                }
                _ => run.frozen = !run.frozen,
            }
        }
    }
}

/// Lowers the VE `ve` of some manifests.
pub fn manifest(text: &str) -> Desired {
    let parsed = vzd_schema::parse("ve.yaml", text.as_bytes());
    assert!(parsed.diagnostics.is_empty(), "{text}\n{:?}", parsed.diagnostics);
    let set = vzd_schema::Set::new(&parsed.documents);
    let document = parsed.documents.iter().find(|document| document.ve().is_some()).unwrap();
    let find_device = |path: &str| (path == "/dev/ttyS0").then_some((DeviceKind::Char, 4, 64));
    vzd_state::lower::lower(document, &set.resolve(document).unwrap(), &find_device).unwrap()
}

/// The VE `ve` with this spec, in YAML's flow style.
pub fn spec(spec: &str) -> Desired {
    manifest(&format!("apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: ve}}\nspec: {{{spec}}}\n"))
}

/// Does all that is planned for a wish, at once.
pub fn apply(sim: &mut Sim, uid: &VeUid, want: &Desired) {
    for planned in authorize(sim.plan(uid, &want.name, Wish::Want(want)), &Policy::default()).steps {
        sim.step(uid, &planned.step, Some(want)).unwrap();
    }
}
