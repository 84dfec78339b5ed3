//! Device nodes in the VE's /dev and the rules that let it use them.
//!
//! The rules of a VE are one set that is replaced as a whole; its digest tells whether the set in the
//! kernel is the wanted one.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Changes, Cx, Mismatch, Subsystem, json};
use crate::digest::sha256_hex;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;

/// What is wanted of devices, besides the safe ones that every VE has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Nodes by their path in the VE.
    pub nodes: BTreeMap<String, Node>,
    /// What the VE may do with which device.
    pub rules: BTreeSet<Rule>,
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

/// As `ls` and `mknod` show it: `c 10:200 0666 0:0`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, major, minor, mode, uid, gid } = self;
        write!(f, "{kind} {major}:{minor} {mode:04o} {uid}:{gid}")
    }
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

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Char => "c",
            Self::Block => "b",
        })
    }
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

/// As the devices controller of version 1 writes it: `c 10:200 rwm`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{} {}:{} {}", self.kind, number(self.major), number(self.minor), self.access)
    }
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

/// Every rule that a VE has, in canonical order: the base and what is wanted.
pub fn all_rules(wanted: &BTreeSet<Rule>) -> BTreeSet<Rule> {
    BASE_RULES.iter().chain(wanted).copied().collect()
}

/// 11 lower-case hex digits that tell the whole set of rules from any other. They fit the name of a
/// BPF program (15 bytes) with a prefix of 4.
pub fn rules_digest(wanted: &BTreeSet<Rule>) -> String {
    let text: Vec<_> = all_rules(wanted).iter().map(Rule::to_string).collect();
    let mut digest = sha256_hex(text.join("\n").as_bytes());
    digest.truncate(11);
    digest
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

impl Observed {
    /// What would be seen of a VE that runs and has no device but the safe ones.
    pub(crate) fn nothing() -> Self {
        let rules_digest = Reading::Is(rules_digest(&BTreeSet::new()));
        Self { nodes: Reading::Is(BTreeMap::new()), rules_digest }
    }
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
    /// Put a set of rules in force, atomically: `all_rules` of what is wanted.
    SetRules {
        /// The rules wanted before, if vzd had set any.
        from: Option<BTreeSet<Rule>>,
        /// The rules wanted now.
        to: BTreeSet<Rule>,
    },
    /// Make a node, in place of another if there is one.
    AddNode {
        /// Path in the VE.
        path: String,
        /// The node that is there now, if there is.
        had: Option<Node>,
        /// The node to make.
        node: Node,
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
        let Desired { nodes, rules } = want;
        let Observed { nodes: nodes_are, rules_digest: digest_is } = have;
        let applied = cx.entry.and_then(|entry| entry.applied.devices.as_ref());
        let mut changes = Changes::default();
        let mut nodes_to_add = Vec::new();
        match nodes_are {
            Reading::Unreadable(why) => changes.cannot_read("spec.devices", why),
            Reading::Absent => {}
            Reading::Is(seen) => {
                let none = BTreeMap::new();
                let applied = applied.map_or(&none, |is| &is.nodes);
                diff_gone_nodes(&mut changes, nodes, seen, applied);
                nodes_to_add = diff_nodes(&mut changes, nodes, seen, applied, cx);
            }
        }
        match digest_is {
            Reading::Unreadable(why) => changes.cannot_read(RULES, why),
            Reading::Is(is) if *is == rules_digest(rules) => {}
            Reading::Absent if nodes_are.is().is_none() => {}
            Reading::Is(_) | Reading::Absent => {
                diff_rules(&mut changes, rules, applied.map(|is| &is.rules), cx);
            }
        }
        changes.live.append(&mut nodes_to_add);
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired { nodes, rules } = want;
        let Observed { nodes: nodes_are, rules_digest: digest_is } = have;
        let mut wrong = Vec::new();
        for (path, node) in nodes {
            let is = nodes_are.is().and_then(|seen| seen.get(path));
            if is != Some(node) {
                wrong.push(Mismatch::new(field(path), json(node), json(&is), Disruption::Live));
            }
        }
        let digest = rules_digest(rules);
        let enforceable = cx.caps.bpf_device.missing().is_none();
        if (enforceable || !rules.is_empty()) && digest_is.is() != Some(&digest) {
            wrong.push(Mismatch::new(RULES, json(&digest), json(digest_is), Disruption::Live));
        }
        wrong
    }
}

const RULES: &str = "spec.devices.rules";

fn shown(node: Option<&Node>) -> Value {
    node.map(Node::to_string).into()
}

fn field(path: &str) -> String {
    format!("spec.devices[{path}]")
}

/// A node goes only if vzd had made it.
fn diff_gone_nodes(
    changes: &mut Changes<Live, Infallible>,
    wanted: &BTreeMap<String, Node>,
    seen: &BTreeMap<String, Node>,
    applied: &BTreeMap<String, Node>,
) {
    for path in applied.keys().filter(|path| !wanted.contains_key(*path)) {
        if let Some(node) = seen.get(path) {
            let change = Change::new(field(path), shown(Some(node)), Value::Null, Disruption::Live);
            let index = changes.field(change);
            changes.live.push((Live::RemoveNode { path: path.clone(), had: *node }, vec![index]));
        }
    }
}

/// Notes the nodes that are missing or wrong and returns the steps that make them, which come after
/// the rules.
fn diff_nodes(
    changes: &mut Changes<Live, Infallible>,
    wanted: &BTreeMap<String, Node>,
    seen: &BTreeMap<String, Node>,
    applied: &BTreeMap<String, Node>,
    cx: &Cx<'_>,
) -> Vec<(Live, Vec<usize>)> {
    let missing = cx.caps.bpf_device.missing();
    let mut steps = Vec::new();
    for (path, node) in wanted {
        let is = seen.get(path);
        if is == Some(node) {
            continue;
        }
        let cause = if applied.get(path) == Some(node) { Cause::Drift } else { Cause::Spec };
        let change = Change::new(field(path), shown(is), shown(Some(node)), Disruption::Live)
            .because(cause)
            .unless(missing);
        let index = changes.field(change);
        if missing.is_none() {
            steps.push((Live::AddNode { path: path.clone(), had: is.copied(), node: *node }, vec![index]));
        }
    }
    steps
}

/// The rules in force are not the wanted ones. A host that cannot enforce rules is no reason to refuse
/// a VE that asks for no device.
fn diff_rules(
    changes: &mut Changes<Live, Infallible>,
    wanted: &BTreeSet<Rule>,
    applied: Option<&BTreeSet<Rule>>,
    cx: &Cx<'_>,
) {
    let missing = cx.caps.bpf_device.missing();
    if missing.is_some() && wanted.is_empty() {
        return;
    }
    let cause = if applied == Some(wanted) { Cause::Drift } else { Cause::Spec };
    let words =
        |rules: &BTreeSet<Rule>| Value::from_iter(rules.iter().map(|rule| Value::from(rule.to_string())));
    let before = match applied {
        Some(applied) if applied != wanted => words(applied),
        Some(_) => Value::from("other rules"),
        None => Value::Null,
    };
    let change = Change::new(RULES, before, words(wanted), Disruption::Live).because(cause).unless(missing);
    let index = changes.field(change);
    if missing.is_none() {
        changes.live.push((Live::SetRules { from: applied.cloned(), to: wanted.clone() }, vec![index]));
    }
}
