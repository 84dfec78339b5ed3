//! The VE's control group: whether it exists and whether it is frozen. Limits never need a restart.
//!
//! The group itself is made by a start and taken away by a stop; only freezing is decided here.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Changes, Cx, Mismatch, Subsystem};
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;

/// What is wanted of the control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Every process of the VE is held still.
    pub frozen: bool,
}

/// What is seen of the control group; absent when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The group as it is.
    pub group: Reading<Group>,
}

/// A control group that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its processes are held still.
    pub frozen: bool,
    /// There is a process in it.
    pub populated: bool,
}

/// Steps for a running VE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Live {
    /// Hold every process still.
    Freeze,
    /// Let them go on.
    Thaw,
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
        let Desired { frozen } = want;
        let Observed { group } = have;
        let mut changes = Changes::default();
        match group {
            Reading::Unreadable(why) => changes.cannot_read("spec.state", why),
            Reading::Is(Group { frozen: is_frozen, populated: _ }) if is_frozen != frozen => {
                let last_set = cx.entry.and_then(|entry| entry.applied.cgroup);
                let cause = if last_set == Some(*want) { Cause::Drift } else { Cause::Spec };
                let change = Change::new("spec.state", word(*is_frozen), word(*frozen), Disruption::Live)
                    .because(cause)
                    .unless(cx.caps.freezer.missing());
                let index = changes.field(change);
                let step = if *frozen { Live::Freeze } else { Live::Thaw };
                if cx.caps.freezer.missing().is_none() {
                    changes.live.push((step, vec![index]));
                }
            }
            Reading::Is(_) | Reading::Absent => {}
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, _: &Cx<'_>) -> Vec<Mismatch> {
        let Desired { frozen } = want;
        let Observed { group } = have;
        let is = match group {
            Reading::Is(group) if group.frozen == *frozen => return Vec::new(),
            Reading::Is(group) => word(group.frozen),
            Reading::Absent => Value::Null,
            Reading::Unreadable(why) => Value::from(why.as_str()),
        };
        vec![Mismatch::new("spec.state", word(*frozen), is, Disruption::Live)]
    }
}

fn word(frozen: bool) -> Value {
    Value::from(if frozen { "paused" } else { "running" })
}
