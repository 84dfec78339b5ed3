//! Mounts from the host: how those that are there differ from those that are wanted.

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde_json::Value;

use super::{Live, Mount, MountFlags, MountSeen, SourceSeen};
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx};

pub(super) fn field(target: &str) -> String {
    format!("spec.mounts[{target}]")
}

/// Steps that make them as wanted.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    wanted: BTreeMap<String, Mount>,
    have: &Reading<BTreeMap<String, MountSeen>>,
    cx: &Cx<'_>,
) {
    let seen = match have {
        Reading::Unreadable(why) => return changes.cannot_read("spec.mounts", why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let none = BTreeMap::new();
    let applied = cx.entry.and_then(|entry| entry.applied.namespaces.as_ref()).map_or(&none, |a| &a.mounts);
    for (target, had) in applied {
        if wanted.contains_key(target) || !seen.contains_key(target) {
            continue;
        }
        let change = Change::new(field(target), had.shown(), Value::Null, Disruption::Live);
        let index = changes.field(change);
        changes.live.push((Live::RemoveMount { target: target.clone(), had: had.clone() }, vec![index]));
    }
    for (target, mount) in wanted {
        let have = seen.get(&target);
        if have.is_some_and(|have| shows(&mount, have)) {
            continue;
        }
        let had = applied.get(&target);
        let cause = match had {
            Some(had) if *had == mount => Cause::Drift,
            _ if mount.system => Cause::Default,
            _ => Cause::Spec,
        };
        let before = match (have, had) {
            (None, _) => Value::Null,
            (Some(_), Some(had)) if *had != mount => had.shown(),
            (Some(seen), _) => seen.shown(),
        };
        let missing = if mount.idmap { cx.caps.idmapped_mounts.missing() } else { None };
        let change = Change::new(field(&target), before, mount.shown(), Disruption::Live)
            .because(cause)
            .unless(missing);
        let index = changes.field(change);
        if missing.is_some() {
            continue;
        }
        let step = match have {
            None => Live::AddMount { target, mount },
            Some(_) => Live::ReplaceMount { target, had: had.cloned(), mount },
        };
        changes.live.push((step, vec![index]));
    }
}

/// A mount as the manifest would write it: only what is not the default.
fn shown(source: &str, flags: MountFlags, idmap: bool) -> Value {
    let MountFlags { read_only, nosuid, noexec, nodev } = flags;
    let mut shown = serde_json::Map::from_iter([("source".to_owned(), Value::from(source))]);
    for (name, is, default) in [
        ("readOnly", read_only, false),
        ("nosuid", nosuid, true),
        ("noexec", noexec, false),
        ("nodev", nodev, true),
        ("idmap", idmap, false),
    ] {
        if is != default {
            shown.insert(name.to_owned(), Value::from(is));
        }
    }
    Value::Object(shown)
}

impl Mount {
    fn shown(&self) -> Value {
        let Self { source, flags, idmap, system: _ } = self;
        shown(source, *flags, *idmap)
    }
}

impl MountSeen {
    fn shown(&self) -> Value {
        let Self { source, flags, idmapped } = self;
        let source = match source {
            SourceSeen::Same => "the same",
            SourceSeen::Other => "something else",
            SourceSeen::Dead => "something dead",
        };
        shown(source, *flags, *idmapped)
    }
}

/// Whether what is seen is what is wanted. Flags of a system view are the kernel's business.
pub(super) fn shows(want: &Mount, have: &MountSeen) -> bool {
    let MountSeen { source, flags, idmapped } = have;
    *source == SourceSeen::Same && (want.system || *flags == want.flags && *idmapped == want.idmap)
}
