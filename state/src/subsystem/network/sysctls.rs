//! Settings of the kernel that belong to the VE's network namespace.
//!
//! One that is taken out of the manifest goes back to what a new namespace has; the driver knows how to find
//! that out.

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde_json::Value;

use super::Live;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch, json};

const FIELD: &str = "spec.network.sysctls";

fn path(name: &str) -> String {
    format!("{FIELD}[{name}]")
}

/// A value as it is compared: the kernel puts tabs between numbers.
pub fn canonical(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Steps that make the settings as wanted.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    wanted: &BTreeMap<String, String>,
    seen: &Reading<BTreeMap<String, String>>,
    cx: &Cx<'_>,
) {
    let seen = match seen {
        Reading::Unreadable(why) => return changes.cannot_read(FIELD, why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let none = BTreeMap::new();
    let applied = cx.entry.and_then(|entry| entry.applied.network.as_deref());
    let applied = applied.map_or(&none, |applied| &applied.sysctls);
    for (name, set) in applied.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        let from = seen.get(name).unwrap_or(set).clone();
        let change = Change::new(path(name), from.clone().into(), Value::Null, Disruption::Live);
        let index = changes.field(change);
        changes.live.push((Live::ResetSysctl { name: name.clone(), from }, vec![index]));
    }
    for (name, to) in wanted {
        let is = seen.get(name);
        if is == Some(to) {
            continue;
        }
        let cause = if applied.get(name) == Some(to) { Cause::Drift } else { Cause::Spec };
        let change = Change::new(path(name), json(&is), to.as_str().into(), Disruption::Live).because(cause);
        let index = changes.field(change);
        let step = Live::SetSysctl { name: name.clone(), from: is.cloned(), to: to.clone() };
        changes.live.push((step, vec![index]));
    }
}

/// What of the settings is not as wanted.
pub(super) fn satisfied(
    wanted: &BTreeMap<String, String>,
    seen: &Reading<BTreeMap<String, String>>,
) -> Vec<Mismatch> {
    let is = |name: &String| seen.is().and_then(|seen| seen.get(name));
    let wrong = wanted.iter().filter(|(name, value)| is(name) != Some(*value));
    wrong
        .map(|(name, value)| Mismatch::new(path(name), json(value), json(&is(name)), Disruption::Live))
        .collect()
}
