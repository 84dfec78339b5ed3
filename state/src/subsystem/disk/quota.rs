//! First-level quota: which limit is in force, and what there is to do when it is not.
//!
//! A soft limit may be exceeded for a time; then it is kept as if it were hard, until use has fallen below it.
//! The kernel's own soft limits are not used: not every backend has them, and their time is the file system's,
//! not the VE's. The ledger remembers since when a soft limit is exceeded.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Backend, Desired, Live};
use crate::disruption::{Cause, Change, Disruption, Feasible};
use crate::ledger::DiskRecord;
use crate::subsystem::{Changes, Cx, Mismatch};
use crate::units::{Millis, Timestamp};

/// Limits of bytes are kept in whole blocks.
pub const BLOCK: u64 = 4096;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Resource {
    /// Bytes.
    Space,
    /// Files, directories and all else that has an inode.
    Inodes,
}

impl Resource {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Space, Self::Inodes];

    /// The field that limits it.
    pub fn field(self) -> &'static str {
        match self {
            Self::Space => "spec.disk.diskspace",
            Self::Inodes => "spec.disk.diskinodes",
        }
    }

    /// An amount as a person reads it.
    pub fn shown(self, amount: Option<u64>) -> String {
        match (self, amount) {
            (_, None) => "unlimited".to_owned(),
            (Self::Space, Some(bytes)) => vzd_schema::v1::Size::from_bytes(bytes).to_string(),
            (Self::Inodes, Some(count)) => count.to_string(),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Space => "diskspace",
            Self::Inodes => "diskinodes",
        })
    }
}

/// A soft and a hard limit; none for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bounds {
    /// May be exceeded for a while.
    pub soft: Option<u64>,
    /// Is never exceeded.
    pub hard: Option<u64>,
}

impl Bounds {
    /// Whether there is any limit.
    pub fn limited(self) -> bool {
        self.soft.is_some() || self.hard.is_some()
    }

    /// The soft limit, where it says something that the hard one doesn't.
    fn softer(self) -> Option<u64> {
        self.soft.filter(|soft| self.hard.is_none_or(|hard| *soft < hard))
    }

    /// The limit to be in force.
    fn at(self, over: Option<Timestamp>, grace: Millis, now: Timestamp) -> Option<u64> {
        match (self.softer(), over) {
            // Without grace the soft limit is a hard one.
            (Some(soft), _) if grace == Millis(0) => Some(soft),
            (Some(soft), Some(since)) if since + grace <= now => Some(soft),
            _ => self.hard,
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |is| is.to_string());
        write!(f, "{}:{}", word(self.soft), word(self.hard))
    }
}

/// Since when soft limits are exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Over {
    /// That of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<Timestamp>,
    /// That of inodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes: Option<Timestamp>,
}

impl Over {
    /// That of a resource.
    pub fn of(self, resource: Resource) -> Option<Timestamp> {
        match resource {
            Resource::Space => self.space,
            Resource::Inodes => self.inodes,
        }
    }

    /// Sets that of a resource.
    pub fn set(&mut self, resource: Resource, since: Option<Timestamp>) {
        match resource {
            Resource::Space => self.space = since,
            Resource::Inodes => self.inodes = since,
        }
    }

    /// Whether none is exceeded.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What a VE uses and may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Bytes.
    pub space: Meter,
    /// Inodes; none where they are not counted.
    pub inodes: Option<Meter>,
}

impl Usage {
    /// That of a resource, if it is counted.
    pub fn of(&self, resource: Resource) -> Option<&Meter> {
        match resource {
            Resource::Space => Some(&self.space),
            Resource::Inodes => self.inodes.as_ref(),
        }
    }
}

/// Use and limit of one resource, as the kernel has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meter {
    /// What is used.
    pub used: u64,
    /// The limit in force; none for no limit.
    pub limit: Option<u64>,
    /// The most that the limit can be; none if that is not known beforehand.
    pub most: Option<u64>,
}

/// The limit that is to be in force now.
pub fn in_force(
    want: &Desired,
    record: Option<&DiskRecord>,
    resource: Resource,
    now: Timestamp,
) -> Option<u64> {
    let over = record.and_then(|record| record.over.of(resource));
    want.bounds(resource).at(over, want.grace, now)
}

/// When the grace of a soft limit that is exceeded runs out.
pub fn grace_ends(want: &Desired, record: Option<&DiskRecord>, resource: Resource) -> Option<Timestamp> {
    want.bounds(resource).softer()?;
    Some(record?.over.of(resource)? + want.grace)
}

/// Limits of a root that has none.
pub(super) fn refuse_without(changes: &mut Changes<Live, super::Cold>, want: &Desired, backend: Backend) {
    if backend != Backend::Directory {
        return;
    }
    for resource in Resource::ALL.into_iter().filter(|one| want.bounds(*one).limited()) {
        let after = want.bounds(resource).to_string().into();
        let change = Change::new(resource.field(), Value::Null, after, Disruption::Live);
        let why = "the VE was made without limits, in a directory of the host, where none can be set; a VE that is \
                   made with limits has them";
        changes.field(change.unless(Some(why)));
    }
}

pub(super) fn diff(changes: &mut Changes<Live, super::Cold>, want: &Desired, usage: &Usage, cx: &Cx<'_>) {
    for (resource, meter) in Resource::ALL.into_iter().filter_map(|one| Some((one, usage.of(one)?))) {
        diff_grace(changes, want, meter, resource, cx);
        diff_limit(changes, want, meter, resource, cx);
    }
}

/// Notes that a soft limit is exceeded, or no longer.
fn diff_grace(
    changes: &mut Changes<Live, super::Cold>,
    want: &Desired,
    meter: &Meter,
    resource: Resource,
    cx: &Cx<'_>,
) {
    let record = cx.entry.and_then(|entry| entry.disk.as_ref());
    let since = record.and_then(|record| record.over.of(resource));
    let over = want.bounds(resource).softer().is_some_and(|soft| meter.used > soft);
    match (since, over) {
        (None, true) => changes.live.push((Live::StartGrace { resource, since: cx.now }, Vec::new())),
        (Some(_), false) => changes.live.push((Live::EndGrace { resource }, Vec::new())),
        (Some(since), true) if since + want.grace > cx.now => {
            let ends = since + want.grace;
            changes.wake = Some(changes.wake.map_or(ends, |wake| wake.min(ends)));
        }
        (Some(_), true) | (None, false) => {}
    }
}

/// Puts the limit in force, as far as that goes, and says what stands in the way of the rest.
fn diff_limit(
    changes: &mut Changes<Live, super::Cold>,
    want: &Desired,
    meter: &Meter,
    resource: Resource,
    cx: &Cx<'_>,
) {
    let record = cx.entry.and_then(|entry| entry.disk.as_ref());
    let wanted = in_force(want, record, resource, cx.now);
    let to = reachable(wanted, meter);
    let field = resource.field();
    let shown = |limit| Value::from(resource.shown(limit));
    if to != meter.limit && !is_stuck(record, resource, to, meter) {
        let same_spec = cx.entry.is_some_and(|entry| entry.applied.disk.as_ref() == Some(want));
        let by_grace = wanted != want.bounds(resource).hard || want.bounds(resource).softer() == meter.limit;
        let cause = if same_spec && !by_grace { Cause::Drift } else { Cause::Spec };
        let change = Change::new(field, shown(meter.limit), shown(to), Disruption::Live).because(cause);
        let index = changes.field(change);
        changes.live.push((Live::SetLimit { resource, from: meter.limit, to }, vec![index]));
        return;
    }
    let (before, why) = match wanted {
        Some(wanted) if to.is_some_and(|to| to < wanted) => {
            let why = format!("its disk was made for at most {}; a new VE can have more", resource.shown(to));
            (meter.limit, why)
        }
        Some(wanted) if meter.used > wanted && Some(wanted) == want.bounds(resource).hard => {
            let (used, wanted) = (resource.shown(Some(meter.used)), resource.shown(Some(wanted)));
            let why =
                format!("{used} used, more than {wanted}: nothing more can be written until there is less");
            (Some(meter.used), why)
        }
        _ => return,
    };
    let mut change = Change::new(field, shown(before), shown(wanted), Disruption::Live);
    change.feasible = Feasible::Deferred(why);
    changes.field(change);
}

/// The limit that can be had of the one that is wanted.
fn reachable(wanted: Option<u64>, meter: &Meter) -> Option<u64> {
    match (wanted, meter.most) {
        (Some(wanted), Some(most)) => Some(wanted.min(most)),
        (wanted, _) => wanted,
    }
}

/// A limit of inodes in an image can come down to what is used, and further only as use does.
fn is_stuck(record: Option<&DiskRecord>, resource: Resource, to: Option<u64>, meter: &Meter) -> bool {
    let steps = resource == Resource::Inodes && record.is_some_and(|is| is.backend == Backend::Image);
    steps && matches!((to, meter.limit), (Some(to), Some(is)) if to < is && meter.used >= is)
}

/// What is not in force that could be.
pub(super) fn unsatisfied(want: &Desired, usage: &Usage, cx: &Cx<'_>) -> Vec<Mismatch> {
    let record = cx.entry.and_then(|entry| entry.disk.as_ref());
    let wrong = |resource: Resource| {
        let meter = usage.of(resource)?;
        let to = reachable(in_force(want, record, resource, cx.now), meter);
        let shown = |limit| Value::from(resource.shown(limit));
        (to != meter.limit && !is_stuck(record, resource, to, meter))
            .then(|| Mismatch::new(resource.field(), shown(to), shown(meter.limit), Disruption::Live))
    };
    Resource::ALL.into_iter().filter_map(wrong).collect()
}
