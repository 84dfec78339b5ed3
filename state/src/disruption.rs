//! One change of one field: what it was and will be, how disruptive, why, and whether it can be done.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::desired::SourceRef;

/// How much a running VE notices of a change, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Disruption {
    /// Nothing: the VE isn't touched.
    #[default]
    None,
    /// It is made while the VE runs.
    Live,
    /// Something is taken away from the running VE for a moment and given back.
    Reattach,
    /// The VE must stop and start again.
    Restart,
    /// The VE must be made anew; its data goes.
    Recreate,
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Live => "live",
            Self::Reattach => "reattach",
            Self::Restart => "restart",
            Self::Recreate => "recreate",
        })
    }
}

/// Why something is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The manifest, or an operator, says so.
    Spec,
    /// A profile that the manifest names says so.
    Profile,
    /// The host's default says so.
    Default,
    /// The world moved away from what was applied.
    Drift,
}

/// Whether a change can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Feasible {
    /// Now.
    Yes,
    /// Later, for this reason.
    Deferred(String),
    /// It is being done, as this says.
    UnderWay(String),
    /// After a while, since it went wrong for this reason.
    BackOff(String),
    /// Not on this host, or not without an allowance, for this reason.
    Infeasible(String),
}

/// One field of one VE that is to change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Path of the field in the manifest, such as `spec.hostname` or `spec.mounts[/data]`.
    pub field: String,
    /// What it is; null when there is nothing.
    pub before: Value,
    /// What it will be; null when it goes.
    pub after: Value,
    /// How disruptive the change is for a running VE.
    pub disruption: Disruption,
    /// Why it changes.
    pub cause: Cause,
    /// Whether it can be done.
    pub feasible: Feasible,
    /// Where the manifest says it, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRef>,
}

impl Change {
    /// A feasible change that the manifest asks for.
    pub fn new(field: impl Into<String>, before: Value, after: Value, disruption: Disruption) -> Self {
        Self {
            field: field.into(),
            before,
            after,
            disruption,
            cause: Cause::Spec,
            feasible: Feasible::Yes,
            source: None,
        }
    }

    /// The same change for another cause.
    pub fn because(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    /// The same change, impossible if `missing` says why.
    pub fn unless(self, missing: Option<&str>) -> Self {
        match missing {
            Some(why) => Self { feasible: Feasible::Infeasible(why.to_owned()), ..self },
            None => self,
        }
    }
}
