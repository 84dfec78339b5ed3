//! The VE's control group: whether it exists, whether it is frozen, and its limits, none of which ever
//! needs a restart.
//!
//! The group itself is made by a start and taken away by a stop. A limit that is lowered below what the
//! VE holds waits (`ResizePending`) while the kernel takes back what it can: none is ever set that would
//! have something killed.

mod knob;
mod limits;

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use vzd_schema::v1::Size;

pub use self::knob::{Knob, PERIOD, Value};
pub use self::limits::{Limits, Wanted};
use super::{Changes, Cx, Mismatch, Subsystem, json};
use crate::capability::{Capabilities, Controller, Version};
use crate::disruption::{Cause, Change, Disruption, Feasible};
use crate::ledger::Entry;
use crate::reading::Reading;
use crate::units::{Millis, Timestamp};

/// What is wanted of the control group.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Every process of the VE is held still.
    pub frozen: bool,
    /// Its limits.
    #[serde(default)]
    pub limits: Limits,
}

/// What was last set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Every process of the VE is held still.
    pub frozen: bool,
    /// Values that vzd answers for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub knobs: BTreeMap<Knob, Value>,
    /// The last try to take back what is above a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub squeezed: Option<Squeezed>,
}

/// A try to take back what is above a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Squeezed {
    /// The limit.
    pub to: u64,
    /// When.
    pub at: Timestamp,
}

/// What is seen of the control group; absent when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The group as it is.
    pub group: Reading<Group>,
}

/// A control group that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its processes are held still.
    pub frozen: bool,
    /// There is a process in it.
    pub populated: bool,
    /// Values: at least those that are wanted or that the ledger says were set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub knobs: BTreeMap<Knob, Reading<Value>>,
    /// What it holds of the limits that it cannot just be denied, in bytes. Use is no state: two looks
    /// that differ in it only are the same.
    #[serde(default, skip_serializing)]
    pub used: BTreeMap<Knob, u64>,
}

impl Observed {
    /// What would be seen of a VE that runs without any limit.
    pub(crate) fn nothing(caps: &Capabilities) -> Self {
        let knobs = Knob::ALL.map(|knob| (knob, Reading::Is(knob.default(caps)))).into();
        Self { group: Reading::Is(Group { knobs, ..Group::default() }) }
    }
}

/// Steps for a running VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Live {
    /// Hold every process still.
    Freeze,
    /// Let them go on.
    Thaw,
    /// Set a value.
    Set {
        /// Which.
        knob: Knob,
        /// The value before.
        from: Value,
        /// The value to set.
        to: Value,
    },
    /// Give a value back that nobody wants any more: the kernel's default.
    Reset {
        /// Which.
        knob: Knob,
        /// The value before.
        from: Value,
        /// The kernel's default.
        to: Value,
    },
    /// Take back memory above a limit that is to be set; the limit is set if that is enough.
    Squeeze {
        /// Which.
        knob: Knob,
        /// The limit.
        to: u64,
    },
}

/// A limit that had to wait is tried again after this.
pub const SQUEEZE_AGAIN: Millis = Millis::from_secs(5);

/// What the limits come to for a VE of the ledger, or for a new one.
pub fn wanted(limits: &Limits, caps: &Capabilities, entry: Option<&Entry>) -> Vec<Wanted> {
    limits.wanted(caps, entry.map_or(0, |entry| entry.ctid.get()))
}

/// The values that a start sets, as far as this host can.
pub fn wanted_knobs(limits: &Limits, caps: &Capabilities, ctid: u32) -> BTreeMap<Knob, Value> {
    let wanted = limits.wanted(caps, ctid).into_iter();
    wanted.filter_map(|wanted| Some((wanted.knob, wanted.value.ok()?))).collect()
}

/// The subsystem.
#[derive(Debug)]
pub struct Cgroup;

impl Subsystem for Cgroup {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Live;
    type Cold = Infallible;

    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Live, Infallible> {
        let Desired { frozen, limits } = want;
        let Observed { group } = have;
        let mut changes = Changes::default();
        match group {
            Reading::Unreadable(why) => changes.cannot_read("spec.state", why),
            Reading::Is(group) => {
                let Group { frozen: is_frozen, populated: _, knobs: _, used: _ } = group;
                if is_frozen != frozen {
                    diff_frozen(&mut changes, *frozen, *is_frozen, cx);
                }
                Diff::new(&mut changes, limits, group, cx).all();
            }
            Reading::Absent => {}
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired { frozen, limits } = want;
        let Observed { group } = have;
        let group = match group {
            Reading::Is(group) => group,
            Reading::Absent => return vec![wrong_state(*frozen, Json::Null)],
            Reading::Unreadable(why) => return vec![wrong_state(*frozen, Json::from(why.as_str()))],
        };
        let Group { frozen: is_frozen, populated: _, knobs, used: _ } = group;
        let mut wrong = Vec::new();
        if is_frozen != frozen {
            wrong.push(wrong_state(*frozen, word(*is_frozen)));
        }
        for Wanted { knob, field, asked: _, value, note: _ } in wanted(limits, cx.caps, cx.entry) {
            let (Ok(value), is) = (value, knobs.get(&knob)) else { continue };
            if is.and_then(Reading::is) != Some(&value) {
                wrong.push(Mismatch::new(field, json(&value), json(&is), Disruption::Live));
            }
        }
        wrong
    }
}

fn wrong_state(frozen: bool, is: Json) -> Mismatch {
    Mismatch::new("spec.state", word(frozen), is, Disruption::Live)
}

fn word(frozen: bool) -> Json {
    Json::from(if frozen { "paused" } else { "running" })
}

fn diff_frozen(changes: &mut Changes<Live, Infallible>, frozen: bool, is_frozen: bool, cx: &Cx<'_>) {
    let last_set = cx.entry.and_then(|entry| entry.applied.cgroup.as_ref());
    let cause = if last_set.is_some_and(|set| set.frozen == frozen) { Cause::Drift } else { Cause::Spec };
    let change = Change::new("spec.state", word(is_frozen), word(frozen), Disruption::Live)
        .because(cause)
        .unless(cx.caps.freezer.missing());
    let index = changes.field(change);
    let step = if frozen { Live::Freeze } else { Live::Thaw };
    if cx.caps.freezer.missing().is_none() {
        changes.live.push((step, vec![index]));
    }
}

/// Why a limit cannot be set now.
enum Waits {
    /// The VE holds more, which is taken back.
    Squeezed(String),
    /// Memory alone is not limited below it yet.
    ForMemory,
}

/// Limits that are not as wanted.
struct Diff<'a> {
    changes: &'a mut Changes<Live, Infallible>,
    wanted: Vec<Wanted>,
    group: &'a Group,
    applied: Option<&'a Applied>,
    cx: &'a Cx<'a>,
    /// The least that a limit of memory and swap together may be while a lower one of memory waits.
    memory_waits_at: u64,
    /// Why a lower limit of memory waits.
    memory_waits: Option<String>,
    /// A limit of memory and swap together goes, or comes to be none.
    total_goes: bool,
}

impl<'a> Diff<'a> {
    fn new(
        changes: &'a mut Changes<Live, Infallible>,
        limits: &Limits,
        group: &'a Group,
        cx: &'a Cx<'a>,
    ) -> Self {
        let applied = cx.entry.and_then(|entry| entry.applied.cgroup.as_ref());
        let wanted = wanted(limits, cx.caps, cx.entry);
        Self {
            changes,
            wanted,
            group,
            applied,
            cx,
            memory_waits_at: 0,
            memory_waits: None,
            total_goes: false,
        }
    }

    fn all(mut self) {
        let mut wanted = std::mem::take(&mut self.wanted);
        let given_back: Vec<_> = self
            .applied
            .into_iter()
            .flat_map(|applied| applied.knobs.keys().copied())
            .filter(|knob| !wanted.iter().any(|is| is.knob == *knob))
            .collect();
        // Memory alone is never limited to more than memory and swap together.
        let total = self.total_grows(&wanted, &given_back);
        let unlimited = |is: &Wanted| is.knob == Knob::MemoryTotal && is.value == Ok(Value::max());
        self.total_goes = given_back.contains(&Knob::MemoryTotal) || wanted.iter().any(unlimited);
        let memory = wanted.iter().find(|is| is.knob == Knob::MemoryMax).and_then(|is| is.value.clone().ok());
        if let Some((to, from)) = memory.zip(self.seen(Knob::MemoryMax)) {
            self.memory_waits = match self.waits(Knob::MemoryMax, from, &to) {
                Some(Waits::Squeezed(why)) => Some(why),
                Some(Waits::ForMemory) | None => None,
            };
        }
        wanted.sort_by_key(|is| (total && is.knob != Knob::MemoryTotal, is.knob));
        let (first, then): (Vec<_>, Vec<_>) =
            given_back.into_iter().partition(|knob| *knob == Knob::MemoryTotal);
        first.into_iter().for_each(|knob| self.give_back(knob));
        wanted.into_iter().for_each(|wanted| self.set(wanted));
        then.into_iter().for_each(|knob| self.give_back(knob));
    }

    fn seen(&self, knob: Knob) -> Option<&'a Value> {
        self.group.knobs.get(&knob).and_then(Reading::is)
    }

    fn total_grows(&self, wanted: &[Wanted], given_back: &[Knob]) -> bool {
        let to = wanted.iter().find(|is| is.knob == Knob::MemoryTotal).and_then(|is| is.value.clone().ok());
        let from = self.seen(Knob::MemoryTotal);
        given_back.contains(&Knob::MemoryTotal)
            || to.zip(from).is_some_and(|(to, from)| to.limit() >= from.limit())
    }

    /// A value that vzd set and that nobody wants any more goes back to what a new group has.
    fn give_back(&mut self, knob: Knob) {
        let to = knob.default(self.cx.caps);
        let Some(from) = self.seen(knob).filter(|from| **from != to) else { return };
        let change = Change::new(knob.field(), self.shown(knob, from).into(), Json::Null, Disruption::Live);
        if knob == Knob::MemoryMax
            && !self.total_goes
            && self.seen(Knob::MemoryTotal).is_some_and(Value::is_limit)
        {
            let why = "this kernel limits swap only together with RAM; take `memory.swap` out too";
            self.changes.field(change.unless(Some(why)));
            return;
        }
        let index = self.changes.field(change);
        self.changes.live.push((Live::Reset { knob, from: from.clone(), to }, vec![index]));
    }

    fn set(&mut self, wanted: Wanted) {
        let Wanted { knob, field, asked, value, note } = wanted;
        let seen = match self.group.knobs.get(&knob) {
            Some(Reading::Unreadable(why)) => return self.changes.cannot_read(field, why),
            Some(Reading::Is(seen)) => Some(seen),
            Some(Reading::Absent) | None => None,
        };
        if value.as_ref().ok() == seen && seen.is_some() {
            return;
        }
        let last_set = self.applied.and_then(|applied| applied.knobs.get(&knob));
        let cause =
            if last_set.is_some() && last_set == value.as_ref().ok() { Cause::Drift } else { Cause::Spec };
        let before_it = |knob| self.seen(knob).is_none_or(|seen| *seen == knob.default(self.cx.caps));
        let unset = if knob == Knob::MemoryHigh { before_it(Knob::MemoryMax) } else { before_it(knob) };
        let before = seen.filter(|_| !unset).map(|seen| self.shown(knob, seen)).into();
        let after = match note {
            Some(note) => format!("{asked} ({note})"),
            None => asked,
        };
        let change = Change::new(field, before, Json::from(after), Disruption::Live).because(cause);
        let (Ok(to), Some(from)) = (&value, seen) else {
            let why = value.err().unwrap_or_else(|| format!("the control group has no {knob}"));
            self.changes.field(change.unless(Some(&why)));
            return;
        };
        if let (Knob::MemoryHigh, Some(why)) = (knob, &self.memory_waits) {
            // It is the same field: that it has to wait is to be told, though this is set now.
            let index = self.changes.field(Change { feasible: Feasible::Deferred(why.clone()), ..change });
            self.changes.live.push((Live::Set { knob, from: from.clone(), to: to.clone() }, vec![index]));
            return;
        }
        match self.waits(knob, from, to) {
            Some(Waits::Squeezed(why)) => return self.squeeze(knob, to.limit(), change, why),
            Some(Waits::ForMemory) => {
                let feasible = Feasible::Deferred("it waits for spec.memory.ram".to_owned());
                self.changes.field(Change { feasible, ..change });
                return;
            }
            None => {}
        }
        let index = self.changes.field(change);
        self.changes.live.push((Live::Set { knob, from: from.clone(), to: to.clone() }, vec![index]));
    }

    /// Why a limit cannot be set now: the VE holds more.
    fn waits(&mut self, knob: Knob, from: &Value, to: &Value) -> Option<Waits> {
        if !knob.holds() || to.limit() >= from.limit() {
            return None;
        }
        if knob == Knob::MemoryTotal && to.limit() < self.memory_waits_at {
            return Some(Waits::ForMemory);
        }
        let used = self.group.used.get(&knob).copied().unwrap_or(0);
        if used > to.limit() {
            if knob == Knob::MemoryMax {
                self.memory_waits_at = from.limit();
            }
            let used = approximate(used);
            let why = format!("{used} is in use; what can be is taken back, and it is tried again");
            return Some(Waits::Squeezed(why));
        }
        None
    }

    /// On version 2 memory.high, set before, has the kernel take back; version 1 does it when asked.
    fn squeeze(&mut self, knob: Knob, to: u64, change: Change, why: String) {
        let change = Change { feasible: Feasible::Deferred(why), ..change };
        let index = self.changes.field(change);
        let last = self.applied.and_then(|applied| applied.squeezed);
        let again = last.filter(|last| last.to == to).map(|last| last.at + SQUEEZE_AGAIN);
        let version = self.cx.caps.controllers.get(&Controller::Memory);
        if version == Some(&Version::V1) && again.is_none_or(|again| again <= self.cx.now) {
            self.changes.live.push((Live::Squeeze { knob, to }, vec![index]));
        }
        let wake = again.filter(|again| *again > self.cx.now).unwrap_or(self.cx.now + SQUEEZE_AGAIN);
        self.changes.wake = Some(self.changes.wake.map_or(wake, |known| known.min(wake)));
    }

    /// A value as the manifest would write it: of memory and swap together the swap, of memory.high the
    /// limit that it belongs to.
    fn shown(&self, knob: Knob, value: &Value) -> String {
        let memory = self.seen(Knob::MemoryMax);
        match (knob, value, memory) {
            (Knob::MemoryHigh, _, Some(memory)) => Knob::MemoryMax.shown(memory, self.cx.caps),
            (Knob::MemoryTotal, Value::Number(total), Some(Value::Number(memory))) => {
                Size::from_bytes(total.saturating_sub(*memory)).to_string()
            }
            _ => knob.shown(value, self.cx.caps),
        }
    }
}

/// A number of bytes for a sentence: `301M`.
fn approximate(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{}K", bytes.div_ceil(1 << 10)),
        _ => format!("{}M", bytes.div_ceil(1 << 20)),
    }
}

/// The limits of a running VE beside what the kernel has, by field, for status.
pub fn report(
    limits: &Limits,
    have: &Observed,
    caps: &Capabilities,
    entry: Option<&Entry>,
) -> BTreeMap<String, Json> {
    let mut report = BTreeMap::new();
    let Some(group) = have.group.is() else { return report };
    for Wanted { knob, field, asked, value, note } in wanted(limits, caps, entry) {
        let seen = group.knobs.get(&knob);
        let field = field.strip_prefix("spec.").unwrap_or(field).to_owned();
        let of = report.entry(field).or_insert_with(|| serde_json::json!({ "asked": asked, "kernel": {} }));
        if let Some(seen) = seen.and_then(Reading::is) {
            of["kernel"][json(&knob).as_str().unwrap_or_default()] = json(seen);
        }
        if let Some(why) = value.err() {
            of["missing"] = Json::from(why);
        }
        if let Some(note) = note {
            of["note"] = Json::from(note);
        }
    }
    report
}
