//! Device nodes in the VE's /dev and the rules that let it use them.
//!
//! The rules of a VE are one set that is replaced as a whole; its digest tells whether the set in the
//! kernel is the wanted one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Changes, Cx, Mismatch, Subsystem, json};
use crate::digest::{canonical, sha256_hex};
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;

/// What is wanted of devices, besides the safe nodes that every VE has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Nodes by their path in the VE.
    pub nodes: BTreeMap<String, Device>,
}

/// A device node with what the VE may do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Which device.
    pub node: Node,
    /// What the VE may do with the device.
    pub access: Access,
}

/// A device node as it lies in the VE's /dev.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Character or block.
    pub kind: DeviceKind,
    /// The driver.
    pub major: u32,
    /// The device of the driver.
    pub minor: u32,
    /// Permission bits, such as 0o660.
    pub mode: u32,
    /// Owner, as an id of the VE.
    pub uid: u32,
    /// Group, as an id of the VE.
    pub gid: u32,
}

/// The two kinds of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Open it for reading.
    pub read: bool,
    /// Open it for writing.
    pub write: bool,
    /// Make a node for it.
    pub mknod: bool,
}

impl Access {
    /// Read, write and make a node.
    pub const ALL: Self = Self { read: true, write: true, mknod: true };
}

/// As OpenVZ wrote it: some of the letters `rwm`.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')];
        letters.into_iter().filter(|(on, _)| *on).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

/// One thing that a VE may do with devices. What no rule allows is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Character or block.
    pub kind: DeviceKind,
    /// The driver; none for every driver.
    pub major: Option<u32>,
    /// The device of the driver; none for every device.
    pub minor: Option<u32>,
    /// What is allowed.
    pub access: Access,
}

/// The devices of every VE: null, zero, full, random, urandom, tty, ptmx, ptys; and making any node,
/// which is harmless since a node that no rule lets one open does not open.
pub const BASE_RULES: [Rule; 10] = [
    safe(1, Some(3)),
    safe(1, Some(5)),
    safe(1, Some(7)),
    safe(1, Some(8)),
    safe(1, Some(9)),
    safe(5, Some(0)),
    safe(5, Some(2)),
    safe(136, None),
    mknod_any(DeviceKind::Char),
    mknod_any(DeviceKind::Block),
];

const fn safe(major: u32, minor: Option<u32>) -> Rule {
    Rule { kind: DeviceKind::Char, major: Some(major), minor, access: Access::ALL }
}

const fn mknod_any(kind: DeviceKind) -> Rule {
    let access = Access { read: false, write: false, mknod: true };
    Rule { kind, major: None, minor: None, access }
}

/// A whole set of rules in canonical order, each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// The rules that a VE with these devices has.
    pub fn of(want: &Desired) -> Self {
        let Desired { nodes } = want;
        let wanted = nodes.values().map(|Device { node, access }| Rule {
            kind: node.kind,
            major: Some(node.major),
            minor: Some(node.minor),
            access: *access,
        });
        let mut rules: Vec<_> = BASE_RULES.into_iter().chain(wanted).collect();
        rules.sort_unstable();
        rules.dedup();
        Self(rules)
    }

    /// 11 lower-case hex digits that tell this set from any other. It fits the name of a BPF program
    /// (15 bytes) with a prefix of 4.
    pub fn digest(&self) -> String {
        let mut digest = sha256_hex(canonical(&json(self)).as_bytes());
        digest.truncate(11);
        digest
    }
}

/// What is seen of devices; all absent when the VE doesn't run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Nodes at paths that are wanted or that the ledger says were made.
    pub nodes: Reading<BTreeMap<String, Node>>,
    /// Digest of the rules in force; absent when none are attached.
    pub rules_digest: Reading<String>,
}

/// Steps for a running VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Live {
    /// Take a node away.
    RemoveNode {
        /// Path in the VE.
        path: String,
        /// The node as it was.
        had: Node,
    },
    /// Put a set of rules in force, atomically.
    SetRules {
        /// The devices that the rules in force were made from, if known.
        from: Option<Desired>,
        /// The devices that the new rules are made from.
        to: Desired,
    },
    /// Make a node, in place of another if there is one.
    AddNode {
        /// Path in the VE.
        path: String,
        /// The node that is there now, if there is.
        had: Option<Node>,
        /// The device whose node is made.
        device: Device,
    },
}

/// The subsystem.
#[derive(Debug)]
pub struct Devices;

impl Subsystem for Devices {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Live;
    type Cold = Infallible;

    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Live, Infallible> {
        let Desired { nodes } = want;
        let Observed { nodes: nodes_are, rules_digest } = have;
        let mut changes = Changes::default();
        let none = Desired::default();
        let last_set = cx.entry.and_then(|entry| entry.applied.devices.as_ref());
        let applied = last_set.unwrap_or(&none);

        let rules_are_wanted = rules_digest.is().is_some_and(|is| *is == Rules::of(want).digest());
        let touched = match nodes_are {
            Reading::Unreadable(why) => {
                changes.cannot_read("spec.devices", why);
                Vec::new()
            }
            Reading::Absent => Vec::new(),
            Reading::Is(seen) => diff_nodes(&mut changes, nodes, seen, applied, rules_are_wanted, cx),
        };
        match rules_digest {
            Reading::Unreadable(why) => changes.cannot_read("spec.devices", why),
            Reading::Is(_) if !rules_are_wanted => {
                diff_rules(&mut changes, want, last_set, touched, cx);
            }
            Reading::Absent if nodes_are.is().is_some() && cx.caps.bpf_device.missing().is_none() => {
                diff_rules(&mut changes, want, last_set, touched, cx);
            }
            Reading::Is(_) | Reading::Absent => {}
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired { nodes } = want;
        let Observed { nodes: nodes_are, rules_digest } = have;
        let mut wrong = Vec::new();
        for (path, device) in nodes {
            let is = nodes_are.is().and_then(|seen| seen.get(path));
            if is != Some(&device.node) {
                wrong.push(Mismatch::new(field(path), json(&device.node), json(&is), Disruption::Live));
            }
        }
        let digest = Rules::of(want).digest();
        if cx.caps.bpf_device.missing().is_none() && rules_digest.is() != Some(&digest) {
            wrong.push(Mismatch::new("spec.devices", json(&digest), json(rules_digest), Disruption::Live));
        }
        wrong
    }
}

fn field(path: &str) -> String {
    format!("spec.devices[{path}]")
}

/// Plans nodes and returns the indices of the changes that the rules have a part in.
fn diff_nodes(
    changes: &mut Changes<Live, Infallible>,
    wanted: &BTreeMap<String, Device>,
    seen: &BTreeMap<String, Node>,
    applied: &Desired,
    rules_are_wanted: bool,
    cx: &Cx<'_>,
) -> Vec<usize> {
    let mut touched = Vec::new();
    for (path, had) in &applied.nodes {
        if let (false, Some(node)) = (wanted.contains_key(path), seen.get(path)) {
            let index = changes.field(Change::new(field(path), json(had), Value::Null, Disruption::Live));
            changes.live.push((Live::RemoveNode { path: path.clone(), had: *node }, vec![index]));
            touched.push(index);
        }
    }
    for (path, device) in wanted {
        let set = applied.nodes.get(path);
        let is = seen.get(path);
        let access_is_wanted = rules_are_wanted || set.is_none_or(|set| set.access == device.access);
        if is == Some(&device.node) && access_is_wanted {
            continue;
        }
        let cause = if set == Some(device) { Cause::Drift } else { Cause::Spec };
        let before = match (is, set) {
            (None, _) => Value::Null,
            (Some(_), Some(set)) if set != device => json(set),
            (Some(is), _) => json(is),
        };
        let missing = cx.caps.bpf_device.missing();
        let change =
            Change::new(field(path), before, json(device), Disruption::Live).because(cause).unless(missing);
        let index = changes.field(change);
        touched.push(index);
        if missing.is_none() && is != Some(&device.node) {
            let add = Live::AddNode { path: path.clone(), had: is.copied(), device: device.clone() };
            changes.live.push((add, vec![index]));
        }
    }
    touched
}

fn diff_rules(
    changes: &mut Changes<Live, Infallible>,
    want: &Desired,
    last_set: Option<&Desired>,
    mut touched: Vec<usize>,
    cx: &Cx<'_>,
) {
    let missing = cx.caps.bpf_device.missing();
    if touched.is_empty() {
        let drift = last_set == Some(want);
        let change = Change::new("spec.devices", Value::from("other rules"), json(want), Disruption::Live)
            .because(if drift { Cause::Drift } else { Cause::Spec })
            .unless(missing);
        touched.push(changes.field(change));
    }
    if missing.is_none() {
        changes.live.push((Live::SetRules { from: last_set.cloned(), to: want.clone() }, touched));
    }
}
