//! What a VE is in the model kernel.

use std::collections::{BTreeMap, BTreeSet};

use vzd_schema::v1::Cidr;

use crate::subsystem::beancounters::Setting;
use crate::subsystem::cgroup::{self, Knob};
use crate::subsystem::devices::{Node, Rule};
use crate::subsystem::lifecycle::{self, Exit};
use crate::subsystem::namespaces::Mount;
use crate::subsystem::{disk, network, packages, users};
use crate::units::Timestamp;

/// A VE in the model kernel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SimVe {
    /// Its run, if it runs.
    pub run: Option<SimRun>,
    /// How the last run ended, as far as the kernel tells.
    pub last_exit: Option<Exit>,
    /// The template of its root, if it has one, and what keeps it.
    pub root: Option<(String, disk::Backend)>,
    /// The run that its checkpoint is of, if there is one.
    pub checkpoint: Option<SimRun>,
    /// Users in its root.
    pub accounts: BTreeMap<String, users::Account>,
    /// Software in its root.
    pub software: packages::Seen,
}

/// A run in the model kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct SimRun {
    /// The host's pid of init.
    pub init_pid: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// What it was started with.
    pub cold: lifecycle::ColdSpec,
    /// It is held still.
    pub frozen: bool,
    /// Values of its control group that are not as in a new one.
    pub knobs: BTreeMap<Knob, cgroup::Value>,
    /// Limits in its namespaces that are not as in a new one.
    pub settings: BTreeMap<Setting, cgroup::Value>,
    /// Memory it uses, in bytes: what the kernel can take back, and what it can't.
    pub memory: (u64, u64),
    /// Limits of its root that are in force; none where its backend has none.
    pub limits: Option<[Option<u64>; 2]>,
    /// What it uses of those.
    pub used: [u64; 2],
    /// Its root is read-only.
    pub read_only: bool,
    /// The UTS node name.
    pub hostname: String,
    /// The UTS domain name.
    pub domainname: String,
    /// The time zone, if vzd has set one.
    pub timezone: Option<String>,
    /// The locale, if vzd has set one.
    pub locale: Option<String>,
    /// Mounts by target.
    pub mounts: BTreeMap<String, Mount>,
    /// Nodes by path.
    pub nodes: BTreeMap<String, Node>,
    /// Rules wanted of those in force.
    pub rules: BTreeSet<Rule>,
    /// Its routed link, if it has one: the addresses.
    pub venet: Option<BTreeSet<Cidr>>,
    /// Its interfaces on bridges.
    pub interfaces: BTreeMap<String, network::Interface>,
    /// Interfaces of the host that it has.
    pub handed: network::Devices,
    /// Settings of its network namespace that are not 0, as in a new one.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of its bandwidth.
    pub rates: network::Rates,
    /// Its packet filter.
    pub firewall: Option<String>,
    /// vzd's routes.
    pub routes: BTreeSet<network::Route>,
    /// vzd's rules of routing.
    pub routing_rules: BTreeSet<network::Rule>,
    /// vzd's lines in its files.
    pub files: network::Files,
    /// Addresses and ports that the host puts in the place of others.
    pub translations: network::Translations,
}
