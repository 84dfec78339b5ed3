//! Software of a VE's distribution: what is to be installed, what not, and what is brought up to date.
//!
//! The VE's own package manager does it, which may take minutes: a step only begins that, and what is seen tells whether it
//! is still at it or how it ended. A package that the manifest no longer names is not managed any more, and stays:
//! others may have come to need it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Changes, Cx, Mismatch, Subsystem, json};
use crate::disruption::{Change, Disruption, Feasible};
use crate::reading::Reading;
use crate::units::{Millis, Timestamp};

/// Packages are brought up to date so often.
pub const UPGRADE_EVERY: Millis = Millis(24 * 60 * 60 * 1000);

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Installed.
    pub present: BTreeSet<String>,
    /// Not installed.
    pub absent: BTreeSet<String>,
    /// Brought up to date now and then.
    pub upgrade: Option<Upgrade>,
}

/// Which packages are brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Upgrade {
    /// Those with security fixes.
    Security,
    /// All.
    All,
}

impl Upgrade {
    /// As the manifest says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::All => "all",
        }
    }
}

impl Desired {
    /// Whether anything is asked for.
    pub fn is_any(&self) -> bool {
        let Self { present, absent, upgrade } = self;
        !present.is_empty() || !absent.is_empty() || upgrade.is_some()
    }
}

/// What is seen; absent for a VE that doesn't run or is held still, and of none from which nothing is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// What its package manager says.
    pub seen: Reading<Seen>,
}

impl Observed {
    /// What would be seen of a VE that has none of the packages.
    pub(crate) fn nothing() -> Self {
        Self { seen: Reading::Is(Seen::default()) }
    }
}

/// What a VE's package manager says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seen {
    /// Of the packages that the manifest names, those that are installed.
    pub installed: BTreeSet<String>,
    /// When it was last brought up to date.
    pub upgraded: Option<Timestamp>,
    /// What it was last told to do, if that has not ended well.
    pub job: Option<Job>,
}

/// What a package manager was told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// What.
    pub work: Work,
    /// How far it is.
    pub state: JobState,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum JobState {
    /// It is at it.
    Running {
        /// Since then.
        since: Timestamp,
    },
    /// It ended badly.
    Failed {
        /// Why.
        why: String,
        /// It is not tried again before this.
        until: Timestamp,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// What to install.
    pub install: BTreeSet<String>,
    /// What to remove.
    pub remove: BTreeSet<String>,
    /// What to bring up to date.
    pub upgrade: Option<Upgrade>,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { install, remove, upgrade } = self;
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
        let mut parts = Vec::new();
        if !install.is_empty() {
            parts.push(format!("install {}", names(install)));
        }
        if !remove.is_empty() {
            parts.push(format!("remove {}", names(remove)));
        }
        match upgrade {
            Some(Upgrade::Security) => parts.push("upgrade what has security fixes".to_owned()),
            Some(Upgrade::All) => parts.push("upgrade packages".to_owned()),
            None => {}
        }
        f.write_str(&parts.join(", "))
    }
}

/// Steps for a running VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Live {
    /// Have its package manager begin.
    Begin(Work),
}

/// The subsystem.
#[derive(Debug)]
pub struct Packages;

impl Subsystem for Packages {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Live;
    type Cold = Infallible;

    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Live, Infallible> {
        let Desired { present, absent, upgrade } = want;
        let Observed { seen } = have;
        let mut changes = Changes::default();
        let seen = match seen {
            _ if !want.is_any() => return changes,
            Reading::Unreadable(why) => {
                changes.cannot_read("spec.packages", why);
                return changes;
            }
            Reading::Absent => return changes,
            Reading::Is(seen) => seen,
        };
        let Seen { installed, upgraded, job } = seen;
        let work = Work {
            install: present.difference(installed).cloned().collect(),
            remove: absent.intersection(installed).cloned().collect(),
            upgrade: upgrade.filter(|_| upgraded.is_none_or(|at| at + UPGRADE_EVERY <= cx.now)),
        };
        if upgrade.is_some() {
            changes.wake = upgraded.map(|at| at + UPGRADE_EVERY).filter(|at| *at > cx.now);
        }
        if work == Work::default() {
            return changes;
        }
        let feasible = match job {
            Some(Job { work, state: JobState::Running { since } }) => {
                Feasible::UnderWay(format!("{work}: under way since {since}"))
            }
            Some(Job { work: failed, state: JobState::Failed { why, until } })
                if *failed == work && *until > cx.now =>
            {
                changes.wake = Some(*until);
                Feasible::BackOff(format!("{work}: {why}; the next try is at {until}"))
            }
            Some(_) | None => Feasible::Yes,
        };
        let mut carried = Vec::new();
        let present_now: BTreeSet<_> = present.intersection(installed).collect();
        let sides = [
            ("spec.packages.present", !work.install.is_empty(), json(&present_now), json(present)),
            (
                "spec.packages.absent",
                !work.remove.is_empty(),
                json(&work.remove),
                json(&Vec::<String>::new()),
            ),
            (
                "spec.packages.upgrade",
                work.upgrade.is_some(),
                json(upgraded),
                json(&work.upgrade.map(Upgrade::word)),
            ),
        ];
        for (field, _, before, after) in sides.into_iter().filter(|(_, differs, ..)| *differs) {
            let change = Change::new(field, before, after, Disruption::Live);
            carried.push(changes.field(Change { feasible: feasible.clone(), ..change }));
        }
        if feasible == Feasible::Yes {
            changes.live.push((Live::Begin(work), carried));
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, _: &Cx<'_>) -> Vec<Mismatch> {
        // When something is brought up to date is a matter of time, not of state.
        let Desired { present, absent, upgrade: _ } = want;
        let Observed { seen } = have;
        let none = Seen::default();
        let installed = &seen.is().unwrap_or(&none).installed;
        let missing: BTreeSet<_> = present.difference(installed).collect();
        let surplus: BTreeSet<_> = absent.intersection(installed).collect();
        let wrong = [
            ("spec.packages.present", json(present), json(installed), !missing.is_empty()),
            ("spec.packages.absent", json(&Vec::<String>::new()), json(&surplus), !surplus.is_empty()),
        ];
        let wrong = wrong.into_iter().filter(|(.., is_wrong)| *is_wrong);
        wrong.map(|(field, want, have, _)| Mismatch::new(field, want, have, Disruption::Live)).collect()
    }
}
