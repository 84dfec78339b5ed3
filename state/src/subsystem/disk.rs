//! The VE's root file system: made once from a template, gone only with the VE, and limited in bytes and
//! inodes from outside.
//!
//! Data is never thrown away silently: another template or backend for a VE that exists is refused
//! (VZ0203) unless its `deletionPolicy` is `Destroy`. How a limit is kept is the backend's matter; which
//! limit is in force at a time, and since when a soft one is exceeded, is decided here ([`quota`]), so that
//! grace works alike on all of them.

mod backend;
pub mod quota;
mod read_only;
mod root;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::MountOption;

pub use self::backend::Backend;
pub use self::quota::{Bounds, Meter, Over, Resource, Usage};
use super::lifecycle::ColdSpec;
use super::{Changes, Cx, Mismatch, Subsystem, json};
use crate::capability::Capabilities;
use crate::disruption::Disruption;
use crate::ledger::DiskRecord;
use crate::reading::Reading;
use crate::units::{Millis, Timestamp};

/// What is wanted of the root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The template it is made from: a name, or a `file:`, `dir:` or `oci:` source.
    pub template: String,
    /// Its own manifest doesn't name the template: a root that exists need not follow it.
    pub inherited: bool,
    /// The VE's `deletionPolicy` is `Destroy`, so making the root anew is allowed.
    pub may_destroy: bool,
    /// What keeps it; none leaves the choice to vzd.
    #[serde(default)]
    pub backend: Option<Backend>,
    /// Limits of bytes, in whole blocks.
    #[serde(default)]
    pub space: Bounds,
    /// Limits of inodes.
    #[serde(default)]
    pub inodes: Bounds,
    /// How long a soft limit may be exceeded.
    #[serde(default)]
    pub grace: Millis,
    /// Nothing of it can be written.
    #[serde(default)]
    pub read_only: bool,
    /// The VE's root sets quotas of its own users and groups.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub users: bool,
}

impl Desired {
    /// The limits of one resource.
    pub fn bounds(&self, resource: Resource) -> Bounds {
        match resource {
            Resource::Space => self.space,
            Resource::Inodes => self.inodes,
        }
    }

    /// What is to be limited and is not on a backend.
    fn unlimited_on(&self, backend: Backend) -> impl Iterator<Item = Resource> {
        let limited = Resource::ALL.into_iter().filter(|one| self.bounds(*one).limited());
        limited.filter(move |one| !backend.limits(*one))
    }

    /// What is to keep a root that is made now; or why it can't be made.
    pub fn choose(&self, caps: &Capabilities) -> Result<Backend, (&'static str, String)> {
        let limited = Resource::ALL.into_iter().find(|one| self.bounds(*one).limited());
        let needed = self.users.then_some(Backend::Project);
        match (self.backend.or(needed), limited) {
            (Some(backend), _) if self.users && !backend.keeps_users() => {
                Err((USERS, root::keeps_no_users(backend)))
            }
            (Some(backend), _) => match backend.missing(caps) {
                None => Ok(backend),
                Some(why) => Err((if self.backend.is_some() { BACKEND } else { USERS }, why.to_owned())),
            },
            (None, None) => Ok(Backend::Directory),
            (None, Some(resource)) => {
                let best = [Backend::Btrfs, Backend::Project, Backend::Image];
                let able = || best.into_iter().filter(|backend| backend.missing(caps).is_none());
                let keeps_all = |backend: &Backend| self.unlimited_on(*backend).next().is_none();
                able().find(keeps_all).or_else(|| able().next()).ok_or_else(|| {
                    let why =
                        best.map(|backend| format!("{backend}: {}", backend.missing(caps).unwrap_or("")));
                    (resource.field(), format!("nothing here keeps limits of disks ({})", why.join("; ")))
                })
            }
        }
    }
}

/// What is seen of the root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// The root as it lies on the host; absent when it has not been made, or not been finished.
    pub root: Reading<Root>,
    /// Use and limits, of a VE that runs; absent where the backend has none.
    pub usage: Reading<Usage>,
    /// Whether the root of a VE that runs is read-only; absent where that is neither wanted nor was set.
    pub read_only: Reading<bool>,
    /// How the root of a VE that runs is mounted; absent where its start was told nothing of it.
    pub mount_options: Reading<BTreeSet<MountOption>>,
}

/// A root that exists. Which template it was made from is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    /// Where it lies on the host.
    pub path: String,
}

/// Steps for a stopped VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cold {
    /// Make the root from a template.
    CreateRoot {
        /// The template.
        template: String,
        /// What keeps it.
        #[serde(default)]
        backend: Backend,
    },
    /// Throw the root away.
    DestroyRoot,
}

/// Steps for a running VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Live {
    /// Put a limit in force.
    SetLimit {
        /// Of what.
        resource: Resource,
        /// The limit before; none for no limit.
        from: Option<u64>,
        /// The limit to set.
        to: Option<u64>,
    },
    /// Note that a soft limit is exceeded.
    StartGrace {
        /// Of what.
        resource: Resource,
        /// Since when.
        since: Timestamp,
    },
    /// Note that a soft limit is kept again.
    EndGrace {
        /// Of what.
        resource: Resource,
    },
    /// Make the root read-only, or writable again.
    SetReadOnly {
        /// Which.
        to: bool,
    },
}

/// The subsystem.
#[derive(Debug)]
pub struct Disk;

/// What is limited in a manifest and can't be by what keeps the VE's root, each with why. A directory has no limits at
/// all, and refuses them.
pub fn unenforced(want: &Desired, on: Backend) -> impl Iterator<Item = String> {
    let missing = want.unlimited_on(on).filter(move |_| on != Backend::Directory);
    missing.map(move |resource| format!("{resource}: {on} does not count them"))
}

/// Backend, use and limits, as status shows them, and how many ids may have quotas in the present run.
pub fn report(want: &Desired, have: &Observed, record: &DiskRecord, run: Option<&ColdSpec>) -> Value {
    let mut shown = serde_json::Map::new();
    shown.insert("backend".into(), record.backend.name().into());
    if let Some(run) = run.filter(|run| run.quota_ids > 0 && record.backend.keeps_users()) {
        shown.insert("quotaugidlimit".into(), run.quota_ids.into());
    }
    if have.read_only.is() == Some(&true) {
        shown.insert("readOnly".into(), true.into());
    }
    if let Some(options) = have.mount_options.is() {
        shown.insert("mountOptions".into(), json(options));
    }
    if let Some(usage) = have.usage.is() {
        for resource in Resource::ALL {
            let Some(meter) = usage.of(resource) else { continue };
            let bounds = want.bounds(resource);
            let limits = serde_json::json!({
                "used": meter.used, "limit": meter.limit, "soft": bounds.soft, "hard": bounds.hard,
                "graceEnds": quota::grace_ends(want, Some(record), resource),
            });
            shown.insert(resource.to_string(), limits);
        }
    }
    shown.into()
}

impl Subsystem for Disk {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Live;
    type Cold = Cold;

    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Live, Cold> {
        let Desired {
            template: _,
            inherited: _,
            may_destroy: _,
            backend: _,
            space: _,
            inodes: _,
            grace: _,
            read_only,
            users: _,
        } = want;
        let Observed { root, usage, read_only: read_only_is, mount_options } = have;
        let mut changes = Changes::default();
        match root {
            Reading::Unreadable(why) => changes.cannot_read(TEMPLATE, why),
            Reading::Is(_) | Reading::Absent => root::diff(&mut changes, want, have, cx),
        }
        match usage {
            Reading::Unreadable(why) => changes.cannot_read("spec.disk", why),
            Reading::Absent => {}
            Reading::Is(usage) => quota::diff(&mut changes, want, usage, cx),
        }
        read_only::diff(&mut changes, *read_only, read_only_is, cx);
        if let Reading::Unreadable(why) = mount_options {
            changes.cannot_read(MOUNT_OPTIONS, why);
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired {
            template,
            inherited,
            may_destroy: _,
            backend,
            space: _,
            inodes: _,
            grace: _,
            read_only,
            users,
        } = want;
        let Observed { root, usage, read_only: read_only_is, mount_options } = have;
        let record = cx.entry.and_then(|entry| entry.disk.as_ref());
        let whole = record.filter(|record| record.ready);
        let mut wrong = usage.is().map(|usage| quota::unsatisfied(want, usage, cx)).unwrap_or_default();
        wrong.extend(read_only::unsatisfied(*read_only, read_only_is));
        let started_with = cx.entry.and_then(|entry| Some(&entry.run.as_ref()?.cold.mount_options));
        if let (Some(with), Some(is)) = (started_with, mount_options.is())
            && !with.is_subset(is)
        {
            wrong.push(Mismatch::new(MOUNT_OPTIONS, json(with), json(is), Disruption::Restart));
        }
        let is = match (root, whole) {
            (Reading::Is(_), Some(whole)) => {
                if let Some(backend) = backend.filter(|backend| *backend != whole.backend) {
                    let (want, is) = (backend.name().into(), whole.backend.name().into());
                    wrong.push(Mismatch::new(BACKEND, want, is, Disruption::Recreate));
                }
                if *users && !whole.backend.keeps_users() {
                    wrong.push(Mismatch::new(USERS, true.into(), false.into(), Disruption::Recreate));
                }
                if *inherited || whole.template == *template {
                    return wrong;
                }
                Value::from(whole.template.as_str())
            }
            (Reading::Is(_), None) | (Reading::Absent, _) => Value::Null,
            (Reading::Unreadable(why), _) => Value::from(why.as_str()),
        };
        wrong.push(Mismatch::new(TEMPLATE, Value::from(template.as_str()), is, Disruption::Recreate));
        wrong
    }
}

const TEMPLATE: &str = "spec.template";
const BACKEND: &str = "spec.disk.backend";
/// How the root is mounted.
pub const MOUNT_OPTIONS: &str = "spec.disk.mountOptions";
/// Quotas of a VE's own users.
pub const USERS: &str = "spec.disk.quotaugidlimit";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Feature;

    const SOME: Bounds = Bounds { soft: None, hard: Some(4096) };

    fn host(project: bool, btrfs: bool) -> Capabilities {
        let feature = |is: bool| if is { Feature::Yes } else { Feature::No("none here".to_owned()) };
        Capabilities {
            disk_project: feature(project),
            disk_image: feature(false),
            disk_btrfs: feature(btrfs),
            ..Capabilities::full("boot")
        }
    }

    #[test]
    fn the_host_s_own_btrfs_is_chosen_for_what_it_counts() {
        let bytes = Desired { space: SOME, ..Desired::default() };
        let both = Desired { inodes: SOME, ..bytes.clone() };
        let chosen = |want: &Desired, project, btrfs| want.choose(&host(project, btrfs)).ok();
        assert_eq!(chosen(&Desired::default(), true, true), Some(Backend::Directory));
        assert_eq!(chosen(&bytes, true, true), Some(Backend::Btrfs));
        assert_eq!(chosen(&both, true, true), Some(Backend::Project));
        assert_eq!(chosen(&both, false, true), Some(Backend::Btrfs));
        assert_eq!(chosen(&bytes, true, false), Some(Backend::Project));
        assert_eq!(chosen(&bytes, false, false), None);
    }

    #[test]
    fn what_is_not_counted_is_told() {
        let want = Desired { space: SOME, inodes: SOME, ..Desired::default() };
        let told = |on| unenforced(&want, on).collect::<Vec<_>>();
        assert_eq!(told(Backend::Btrfs), ["diskinodes: btrfs does not count them"]);
        assert!(told(Backend::Image).is_empty() && told(Backend::Directory).is_empty());
    }
}
