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
        let Desired { template, may_destroy } = want;
        let Observed { root } = have;
        let mut changes = Changes::default();
        let create = || Cold::CreateRoot { template: template.clone() };
        let made_from = made_from(cx);
        match root {
            Reading::Unreadable(why) => changes.cannot_read("spec.template", why),
            Reading::Absent => {
                let change = Change::new(
                    "spec.template",
                    Value::Null,
                    Value::from(template.as_str()),
                    Disruption::None,
                )
                .unless(cx.caps.overlay_idmap.missing());
                let index = changes.field(change);
                if cx.caps.overlay_idmap.missing().is_none() {
                    changes.cold.push((create(), vec![index]));
                }
            }
            Reading::Is(Root { path: _ }) if made_from.is_some_and(|from| from != template) => {
                let mut change = Change::new(
                    "spec.template",
                    made_from.map_or(Value::Null, Value::from),
                    Value::from(template.as_str()),
                    Disruption::Recreate,
                );
                if !may_destroy {
                    change.feasible = Feasible::Infeasible(
                        "another template means another disk; set deletionPolicy: Destroy to allow it (VZ0203)"
                            .to_owned(),
                    );
                }
                let index = changes.field(change);
                if *may_destroy {
                    changes.cold.push((Cold::DestroyRoot, vec![index]));
                    changes.cold.push((create(), vec![index]));
                }
            }
            Reading::Is(Root { path: _ }) => {}
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired { template, may_destroy: _ } = want;
        let Observed { root } = have;
        let is = match (root, made_from(cx)) {
            (Reading::Is(_), Some(from)) if from == template => return Vec::new(),
            (Reading::Is(_), from) => Value::from(from),
            (Reading::Absent, _) => Value::Null,
            (Reading::Unreadable(why), _) => Value::from(why.as_str()),
        };
        vec![Mismatch::new("spec.template", Value::from(template.as_str()), is, Disruption::Recreate)]
    }
}

/// The template that the ledger says the root was made from.
fn made_from<'a>(cx: &Cx<'a>) -> Option<&'a str> {
    cx.entry?.disk.as_ref().map(|disk| disk.template.as_str())
}
