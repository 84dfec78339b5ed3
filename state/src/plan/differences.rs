//! How what is wanted of a VE differs from what there is, all subsystems together: as steps where a step can change
//! it, and as changes that are only told otherwise. What is done about them is `want`'s.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::draft::{Draft, Steps};
use super::power::Power;
use super::{PlannedStep, Step};
use crate::desired::Desired;
use crate::disruption::{Cause, Change, Disruption};
use crate::subsystem::{
    Subsystem, beancounters, cgroup, devices, disk, json, namespaces, network, packages, users,
};

pub(super) fn diff_disk(draft: &mut Draft<'_>, want: &Desired) -> (Vec<PlannedStep>, Steps<disk::Cold>) {
    let (live, cold) = draft.merge(disk::Disk::diff(&want.disk, &draft.have.disk, draft.cx));
    let live = live.into_iter().map(|(step, changes)| {
        let cause = draft.cause_of(&changes);
        let disruption = if changes.is_empty() { Disruption::None } else { Disruption::Live };
        PlannedStep { step: Step::DiskLive(step), changes, disruption, cause }
    });
    (live.collect(), cold)
}

/// What a running VE can be changed without a stop, in order.
pub(super) fn diff_live(draft: &mut Draft<'_>, want: &Desired) -> Vec<PlannedStep> {
    let (have, cx) = (draft.have, draft.cx);
    let frozen = draft.plan.target.power == Power::Paused;
    let group = cgroup::Desired { frozen, ..want.cgroup.clone() };
    let (cgroup, _) = draft.merge(cgroup::Cgroup::diff(&group, &have.cgroup, cx));
    let (namespaces, _) = draft.merge(namespaces::Namespaces::diff(&want.namespaces, &have.namespaces, cx));
    let (devices, _) = draft.merge(devices::Devices::diff(&want.devices, &have.devices, cx));
    let counters = beancounters::Beancounters::diff(&want.beancounters, &have.beancounters, cx);
    let (counters, _) = draft.merge(counters);
    let cgroup = cgroup.into_iter().map(|(step, changes)| (Step::Cgroup(step), changes));
    let counters = counters.into_iter().map(|(step, changes)| (Step::Beancounters(step), changes));
    let namespaces = namespaces.into_iter().map(|(step, changes)| (Step::Namespaces(step), changes));
    let devices = devices.into_iter().map(|(step, changes)| (Step::Devices(step), changes));
    let (network, _) = draft.merge(network::Network::diff(&want.network, &have.network, cx));
    let network = network.into_iter().map(|(step, changes)| (Step::Network(step), changes));
    let (users, _) = draft.merge(users::Users::diff(&want.users, &have.users, cx));
    let users = users.into_iter().map(|(step, changes)| (Step::Users(step), changes));
    let (packages, _) = draft.merge(packages::Packages::diff(&want.packages, &have.packages, cx));
    let packages = packages.into_iter().map(|(step, changes)| (Step::Packages(step), changes));
    let steps = cgroup
        .chain(counters)
        .chain(namespaces)
        .chain(devices)
        .chain(network)
        .chain(users)
        .chain(packages)
        .map(|(step, changes)| {
            let cause = draft.cause_of(&changes);
            PlannedStep { step, changes, disruption: Disruption::Live, cause }
        });
    let mut steps: Vec<_> = steps.collect();
    steps.sort_by_key(|planned| rank(&planned.step));
    steps
}

/// What a new VE will have that its kind has not by itself. A start gives it all of that.
pub(super) fn describe_new(draft: &mut Draft<'_>, want: &Desired) -> Vec<usize> {
    let known = draft.plan.changes.len();
    let cx = draft.cx;
    let nothing = namespaces::Observed::nothing();
    let mut changes = namespaces::Namespaces::diff(&want.namespaces, &nothing, cx);
    changes.fields.retain(|change| change.cause != Cause::Default);
    (changes.live, changes.cold) = (Vec::new(), Vec::new());
    draft.merge(changes);
    let group = cgroup::Desired { frozen: false, ..want.cgroup.clone() };
    let mut changes = cgroup::Cgroup::diff(&group, &cgroup::Observed::nothing(cx.caps), cx);
    (changes.live, changes.cold) = (Vec::new(), Vec::new());
    draft.merge(changes);
    let nothing = beancounters::Observed::nothing();
    let mut changes = beancounters::Beancounters::diff(&want.beancounters, &nothing, cx);
    (changes.live, changes.cold) = (Vec::new(), Vec::new());
    draft.merge(changes);
    let mut changes = devices::Devices::diff(&want.devices, &devices::Observed::nothing(), cx);
    (changes.live, changes.cold) = (Vec::new(), Vec::new());
    draft.merge(changes);
    let mut changes = network::Network::diff(&want.network, &network::Observed::nothing(), cx);
    (changes.live, changes.cold) = (Vec::new(), Vec::new());
    draft.merge(changes);
    let mut changes = users::Users::diff(&want.users, &users::Observed::nothing(), cx);
    (changes.live, changes.cold) = (Vec::new(), Vec::new());
    draft.merge(changes);
    let mut changes = packages::Packages::diff(&want.packages, &packages::Observed::nothing(), cx);
    (changes.live, changes.cold) = (Vec::new(), Vec::new());
    draft.merge(changes);
    (known..draft.plan.changes.len()).collect()
}

/// Thaw, take away, narrow and widen the rules, add, freeze.
fn rank(step: &Step) -> u8 {
    match step {
        Step::Cgroup(cgroup::Live::Thaw) => 0,
        Step::Namespaces(namespaces::Live::RemoveMount { .. })
        | Step::Devices(devices::Live::RemoveNode { .. })
        | Step::Network(
            network::Live::RemoveAddress { .. }
            | network::Live::RemoveInterface { .. }
            | network::Live::GiveBack { .. }
            | network::Live::RemoveRoute { .. }
            | network::Live::Detach,
        ) => 1,
        Step::Devices(devices::Live::SetRules { .. }) => 2,
        Step::Cgroup(
            cgroup::Live::Set { .. } | cgroup::Live::Reset { .. } | cgroup::Live::Squeeze { .. },
        )
        | Step::Beancounters(_)
        | Step::Namespaces(_)
        | Step::Devices(_)
        | Step::Network(_)
        | Step::Users(_)
        | Step::Packages(_)
        | Step::Disk(_)
        | Step::DiskLive(_)
        | Step::Lifecycle(_) => 3,
        Step::Cgroup(cgroup::Live::Freeze) => 4,
    }
}

/// A VE keeps its ctid: rules, records and tools know it by that.
pub(super) fn diff_ctid(draft: &mut Draft<'_>, want: &Desired) {
    let Some((wanted, entry)) = want.ctid.zip(draft.cx.entry) else { return };
    if wanted != entry.ctid {
        let (was, is) = (entry.ctid.get().into(), wanted.get().into());
        let why = Some("a VE keeps its ctid; make a new VE");
        draft.change(Change::new("spec.ctid", was, is, Disruption::Recreate).unless(why));
    }
}

/// Labels and annotations concern nobody but the reader.
pub(super) fn diff_metadata(draft: &mut Draft<'_>, want: &Desired) {
    let entry = draft.cx.entry;
    let nothing = BTreeMap::new();
    let maps = [
        ("metadata.labels", entry.map_or(&nothing, |entry| &entry.labels), &want.labels),
        ("metadata.annotations", entry.map_or(&nothing, |entry| &entry.annotations), &want.annotations),
    ];
    for (field, was, is) in maps {
        if was != is {
            // None at all is as good as not said.
            let side = |map: &BTreeMap<_, _>| if map.is_empty() { Value::Null } else { json(map) };
            draft.change(Change::new(field, side(was), side(is), Disruption::Live));
        }
    }
    diff_ctid(draft, want);
}

/// Fields that differ from the accepted spec and that no subsystem looks at: the description and such
/// of a running VE, counters that are only counted, nearly everything of one that doesn't run.
pub(super) fn diff_the_rest(draft: &mut Draft<'_>, want: &Desired) {
    let accepted = draft.cx.entry.and_then(|entry| entry.spec.as_object());
    let (Some(was), Some(is)) = (accepted, want.spec.as_object()) else { return };
    let looked_at = |key: &str| match draft.have.running() {
        Some(_) => !matches!(key, "description" | "host" | "profile"),
        None => matches!(key, "state" | "template" | "ctid") || BY_FIELD.contains(&key),
    };
    let none = Value::Null;
    let rest = differing(was, is).filter(|key| !looked_at(key)).map(|key| (format!("spec.{key}"), key));
    let rest = rest.map(|(field, key)| (field, was.get(key).unwrap_or(&none), is.get(key).unwrap_or(&none)));
    let nothing = serde_json::Map::new();
    let by_field = BY_FIELD.iter().flat_map(|group| {
        let of =
            |spec: &'_ serde_json::Map<String, Value>| spec.get(*group).and_then(Value::as_object).cloned();
        let (was, is) =
            (of(was).unwrap_or_else(|| nothing.clone()), of(is).unwrap_or_else(|| nothing.clone()));
        let side =
            |spec: &serde_json::Map<String, Value>, key: &str| spec.get(key).cloned().unwrap_or_default();
        let keys: Vec<String> = differing(&was, &is).cloned().collect();
        let change = |key: String| (format!("spec.{group}.{key}"), side(&was, &key), side(&is, &key));
        keys.into_iter().map(change).collect::<Vec<_>>()
    });
    let rest = rest.map(|(field, was, is)| (field, was.clone(), is.clone()));
    // Of a running VE's network, what only says how the next change is made.
    let confirm = |spec: &'_ serde_json::Map<String, Value>| {
        let network = spec.get("network").filter(|_| draft.have.running().is_some());
        network.and_then(|network| network.pointer("/firewall/confirm")).cloned().unwrap_or_default()
    };
    let confirm = ("spec.network.firewall.confirm".to_owned(), confirm(was), confirm(is));
    let confirm = Some(confirm).filter(|(_, was, is)| was != is);
    for (field, was, is) in rest.chain(by_field).chain(confirm) {
        let within =
            |known: &str| known.strip_prefix(&field).is_some_and(|rest| rest.starts_with(['.', '[']));
        if !draft.plan.changes.iter().any(|change| change.field == field || within(&change.field)) {
            draft.change(Change::new(field, was, is, Disruption::Live));
        }
    }
}

/// Groups whose fields are told one by one: not all of them are seen in the kernel.
const BY_FIELD: [&str; 3] = ["beancounters", "disk", "packages"];

/// The keys whose values differ.
fn differing<'a>(
    was: &'a serde_json::Map<String, Value>,
    is: &'a serde_json::Map<String, Value>,
) -> impl Iterator<Item = &'a String> {
    let keys: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    keys.into_iter().filter(|key| was.get(*key) != is.get(*key))
}
