//! What a VE sees of its own: host and domain name, time zone and language, mounts from the host, its range of ids.
//!
//! Mounts that nobody wanted and vzd never made are left alone: the VE's owner may mount things too.

mod mounts;
mod region;

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::region::{RegionSeen, unenforced};
use super::{Changes, Cx, Mismatch, Subsystem, json};
use crate::capability::Capabilities;
use crate::disruption::{Cause, Change, Disruption, Feasible};
use crate::ids::IdRange;
use crate::reading::Reading;

/// The views of /proc that lxcfs gives a VE instead of the host's.
pub const LXCFS_VIEWS: [&str; 7] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

/// What is wanted inside the VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The UTS node name.
    pub hostname: String,
    /// The UTS (NIS) domain name; empty for none.
    pub domainname: String,
    /// The time zone; none leaves it the VE's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The locale; none leaves it the VE's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Mounts from the host by their target in the VE. lxcfs views are added by `wanted_mounts`.
    pub mounts: BTreeMap<String, Mount>,
    /// The range of ids that the manifest fixes; none lets vzd choose.
    pub id_range: Option<IdRange>,
}

/// A mount from the host into the VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Path on the host.
    pub source: String,
    /// How it is mounted.
    pub flags: MountFlags,
    /// Files show with the VE's ids instead of the host's.
    pub idmap: bool,
    /// A view that vzd adds by itself (lxcfs), not one of the manifest's.
    pub system: bool,
}

/// Flags of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountFlags {
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-id bits have no effect.
    pub nosuid: bool,
    /// Nothing can be executed.
    pub noexec: bool,
    /// Device nodes do not open.
    pub nodev: bool,
}

/// What is seen inside the VE; all absent when it doesn't run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The UTS node name.
    pub hostname: Reading<String>,
    /// The UTS domain name; empty for none.
    pub domainname: Reading<String>,
    /// The time zone, if one is wanted or was set.
    #[serde(default)]
    pub timezone: Reading<RegionSeen>,
    /// The locale, if one is wanted or was set.
    #[serde(default)]
    pub locale: Reading<RegionSeen>,
    /// Mounts by target: at least those at targets that are wanted or that the ledger says were made.
    pub mounts: Reading<BTreeMap<String, MountSeen>>,
}

/// A mount that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountSeen {
    /// Whether it shows what is wanted at this target or, if nothing is wanted, what was last mounted there.
    pub source: SourceSeen,
    /// How it is mounted.
    pub flags: MountFlags,
    /// Files show with the VE's ids (`idmapped` in mountinfo).
    pub idmapped: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SourceSeen {
    /// The source (same device and inode).
    Same,
    /// Something else.
    Other,
    /// Something that no longer answers, such as an lxcfs that ended.
    Dead,
}

impl Observed {
    /// What would be seen of a VE that runs and has nothing: a new one is compared with that.
    pub(crate) fn nothing() -> Self {
        let none = || Reading::Is(String::new());
        let unset = || Reading::Is(RegionSeen::default());
        Self {
            hostname: none(),
            domainname: none(),
            timezone: unset(),
            locale: unset(),
            mounts: Reading::Is(BTreeMap::new()),
        }
    }
}

/// Steps for a running VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Live {
    /// Set the UTS node name.
    SetHostname {
        /// The name before.
        from: String,
        /// The name to set.
        to: String,
    },
    /// Set the UTS domain name.
    SetDomainname {
        /// The name before.
        from: String,
        /// The name to set.
        to: String,
    },
    /// Set the time zone, or bring back the VE's own.
    SetTimezone {
        /// The one that was set before.
        had: Option<String>,
        /// The one to set.
        to: Option<String>,
    },
    /// Set the locale, or take it out.
    SetLocale {
        /// The one that was set before.
        had: Option<String>,
        /// The one to set.
        to: Option<String>,
    },
    /// Take a mount away.
    RemoveMount {
        /// Path in the VE.
        target: String,
        /// What was mounted.
        had: Mount,
    },
    /// Take a mount away and put another in its place.
    ReplaceMount {
        /// Path in the VE.
        target: String,
        /// What vzd had mounted, if it had.
        had: Option<Mount>,
        /// What to mount.
        mount: Mount,
    },
    /// Mount something where nothing of the host is mounted.
    AddMount {
        /// Path in the VE.
        target: String,
        /// What to mount.
        mount: Mount,
    },
}

/// The mounts that a running VE has to have: the manifest's and, where lxcfs runs, its views.
pub fn wanted_mounts(want: &Desired, caps: &Capabilities) -> BTreeMap<String, Mount> {
    let mut mounts = want.mounts.clone();
    if let Some(lxcfs) = &caps.lxcfs {
        for view in LXCFS_VIEWS {
            mounts.entry(view.to_owned()).or_insert_with(|| Mount {
                source: format!("{lxcfs}{view}"),
                flags: MountFlags { nosuid: true, nodev: true, noexec: true, read_only: false },
                idmap: false,
                system: true,
            });
        }
    }
    mounts
}

/// The subsystem.
#[derive(Debug)]
pub struct Namespaces;

impl Subsystem for Namespaces {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Live;
    type Cold = Infallible;

    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Live, Infallible> {
        let Desired { hostname, domainname, timezone: _, locale: _, mounts: _, id_range } = want;
        let Observed {
            hostname: hostname_is,
            domainname: domainname_is,
            timezone: _,
            locale: _,
            mounts: mounts_are,
        } = have;
        let mut changes = Changes::default();
        let applied = cx.entry.and_then(|entry| entry.applied.namespaces.as_ref());
        diff_name(
            &mut changes,
            "spec.hostname",
            hostname,
            hostname_is,
            applied.map(|a| &a.hostname),
            |from, to| Live::SetHostname { from, to },
        );
        diff_name(
            &mut changes,
            "spec.domainname",
            domainname,
            domainname_is,
            applied.map(|a| &a.domainname),
            |from, to| Live::SetDomainname { from, to },
        );
        region::diff(&mut changes, want, have, cx);
        mounts::diff(&mut changes, wanted_mounts(want, cx.caps), mounts_are, cx);
        diff_id_range(&mut changes, *id_range, cx);
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired { hostname, domainname, timezone: _, locale: _, mounts: _, id_range } = want;
        let Observed {
            hostname: hostname_is,
            domainname: domainname_is,
            timezone: _,
            locale: _,
            mounts: mounts_are,
        } = have;
        let mut wrong = Vec::new();
        for (field, want, have) in
            [("spec.hostname", hostname, hostname_is), ("spec.domainname", domainname, domainname_is)]
        {
            if have.is() != Some(want) {
                wrong.push(Mismatch::new(field, json(want), json(have), Disruption::Live));
            }
        }
        wrong.extend(region::unsatisfied(want, have));
        let seen = mounts_are.is();
        for (target, mount) in wanted_mounts(want, cx.caps) {
            let have = seen.and_then(|seen| seen.get(&target));
            if !have.is_some_and(|have| mounts::shows(&mount, have)) {
                wrong.push(Mismatch::new(
                    mounts::field(&target),
                    json(&mount),
                    json(&have),
                    Disruption::Live,
                ));
            }
        }
        let ids = cx.entry.map(|entry| entry.ids);
        if let (Some(fixed), Some(ids)) = (id_range, ids)
            && ids != *fixed
        {
            wrong.push(Mismatch::new(ID_RANGE, json(fixed), json(&ids), Disruption::Recreate));
        }
        wrong
    }
}

const ID_RANGE: &str = "spec.security.userNamespace";

fn diff_name(
    changes: &mut Changes<Live, Infallible>,
    field: &str,
    want: &str,
    have: &Reading<String>,
    last_set: Option<&String>,
    step: impl Fn(String, String) -> Live,
) {
    match have {
        Reading::Unreadable(why) => changes.cannot_read(field, why),
        Reading::Absent => {}
        Reading::Is(is) if is == want => {}
        Reading::Is(is) => {
            let cause = if last_set.is_some_and(|set| set == want) { Cause::Drift } else { Cause::Spec };
            let change = Change::new(field, text(is), text(want), Disruption::Live).because(cause);
            let index = changes.field(change);
            changes.live.push((step(is.clone(), want.to_owned()), vec![index]));
        }
    }
}

/// A name as JSON, null when there is none.
fn text(name: &str) -> Value {
    if name.is_empty() { Value::Null } else { Value::from(name) }
}

/// Ids are in every file of the disk: another range means another VE.
fn diff_id_range(changes: &mut Changes<Live, Infallible>, fixed: Option<IdRange>, cx: &Cx<'_>) {
    if let (Some(fixed), Some(entry)) = (fixed, cx.entry)
        && entry.ids != fixed
    {
        let mut change = Change::new(ID_RANGE, json(&entry.ids), json(&fixed), Disruption::Recreate);
        change.feasible = Feasible::Infeasible("a VE keeps its range of ids; make a new VE".to_owned());
        changes.field(change);
    }
}
