//! The VE's root file system: made once from a template, and gone only with the VE.
//!
//! Data is never thrown away silently: another template for a VE that exists is refused (VZ0203)
//! unless its `deletionPolicy` is `Destroy`.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Changes, Cx, Mismatch, Subsystem};
use crate::disruption::{Change, Disruption, Feasible};
use crate::reading::Reading;

/// What is wanted of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The template it is made from: a name, or a `file:`, `dir:` or `oci:` source.
    pub template: String,
    /// Its own manifest doesn't name the template: a root that exists need not follow it.
    pub inherited: bool,
    /// The VE's `deletionPolicy` is `Destroy`, so making the root anew is allowed.
    pub may_destroy: bool,
}

/// What is seen of the root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// The root as it lies on the host; absent when it has not been made, or not been finished.
    pub root: Reading<Root>,
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
    },
    /// Throw the root away.
    DestroyRoot,
}

/// The subsystem.
#[derive(Debug)]
pub struct Disk;

impl Subsystem for Disk {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Infallible;
    type Cold = Cold;

    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Infallible, Cold> {
        let Desired { template, inherited, may_destroy } = want;
        let Observed { root } = have;
        let mut changes = Changes::default();
        let record = cx.entry.and_then(|entry| entry.disk.as_ref());
        let whole = record.filter(|record| record.ready);
        let (before, disruption) = match (root, whole) {
            (Reading::Unreadable(why), _) => {
                changes.cannot_read(FIELD, why);
                return changes;
            }
            (Reading::Is(_), Some(whole)) if *inherited || whole.template == *template => return changes,
            (Reading::Is(_), Some(whole)) => (Value::from(whole.template.as_str()), Disruption::Recreate),
            // What was cut short holds nothing of worth, and what nobody noted isn't ours to keep.
            (Reading::Is(_), None) | (Reading::Absent, _) => (Value::Null, Disruption::None),
        };
        let mut change = Change::new(FIELD, before, Value::from(template.as_str()), disruption)
            .unless(cx.caps.overlay_idmap.missing());
        if disruption == Disruption::Recreate && !may_destroy {
            change.feasible = Feasible::Infeasible(
                "another template means another disk; set `deletionPolicy: Destroy` to allow it".to_owned(),
            );
        }
        let feasible = change.feasible == Feasible::Yes;
        let index = changes.field(change);
        if feasible {
            if root.is().is_some() {
                changes.cold.push((Cold::DestroyRoot, vec![index]));
            }
            changes.cold.push((Cold::CreateRoot { template: template.clone() }, vec![index]));
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired { template, inherited, may_destroy: _ } = want;
        let Observed { root } = have;
        let record = cx.entry.and_then(|entry| entry.disk.as_ref());
        let is = match (root, record.filter(|record| record.ready)) {
            (Reading::Is(_), Some(whole)) if *inherited || whole.template == *template => return Vec::new(),
            (Reading::Is(_), whole) => Value::from(whole.map(|whole| whole.template.as_str())),
            (Reading::Absent, _) => Value::Null,
            (Reading::Unreadable(why), _) => Value::from(why.as_str()),
        };
        vec![Mismatch::new(FIELD, Value::from(template.as_str()), is, Disruption::Recreate)]
    }
}

const FIELD: &str = "spec.template";
