//! Interfaces of the host that are moved into a VE: which, and what they are called there.

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde_json::Value;

use super::Live;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch, json};

/// Names in the VE, by those on the host.
pub type Devices = BTreeMap<String, String>;

const FIELD: &str = "spec.network.devices";

fn path(device: &str) -> String {
    format!("{FIELD}[{device}]")
}

/// Steps that have the VE have what it is to have, under the right names.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    wanted: &Devices,
    seen: &Reading<Devices>,
    cx: &Cx<'_>,
) {
    let seen = match seen {
        Reading::Unreadable(why) => return changes.cannot_read(FIELD, why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let none = Devices::new();
    let applied = cx.entry.and_then(|entry| entry.applied.network.as_deref());
    let applied = applied.map_or(&none, |applied| &applied.devices);
    for (device, had) in applied.iter().filter(|(device, _)| !wanted.contains_key(*device)) {
        let name = seen.get(device).unwrap_or(had).clone();
        let change = Change::new(path(device), name.as_str().into(), Value::Null, Disruption::Live);
        let index = changes.field(change);
        changes.live.push((Live::GiveBack { device: device.clone(), name }, vec![index]));
    }
    for (device, to) in wanted.iter().filter(|(device, name)| seen.get(*device) != Some(*name)) {
        let from = seen.get(device).cloned();
        let cause = if applied.get(device) == Some(to) { Cause::Drift } else { Cause::Spec };
        let change = Change::new(path(device), json(&from), to.as_str().into(), Disruption::Live);
        let index = changes.field(change.because(cause));
        changes.live.push((Live::HandOver { device: device.clone(), from, to: to.clone() }, vec![index]));
    }
}

/// What of them is not as wanted.
pub(super) fn satisfied(wanted: &Devices, seen: &Reading<Devices>) -> Vec<Mismatch> {
    let is = |device: &String| seen.is().and_then(|seen| seen.get(device));
    let wrong = wanted.iter().filter(|(device, name)| is(device) != Some(*name));
    wrong
        .map(|(device, name)| Mismatch::new(path(device), json(name), json(&is(device)), Disruption::Live))
        .collect()
}
