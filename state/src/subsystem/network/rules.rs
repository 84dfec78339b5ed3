//! Rules of a VE that say which packets are looked up in which routing table.
//!
//! The kernel may have several rules at one place, so that a rule is known by all that it says: another one comes
//! before the old one goes, and no packet finds neither. Only rules with vzd's protocol number count as seen: the owner's
//! own are others, and stay.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::{self, Cidr, Mark};

use super::Live;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch, json};

/// A rule, of one family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// It is about IPv6.
    pub v6: bool,
    /// The lower, the sooner asked.
    pub priority: u32,
    /// From which network; from any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Cidr>,
    /// To which network; to any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Cidr>,
    /// Over which interface they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// What they are marked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<Mark>,
    /// The table that they are looked up in.
    pub table: u32,
}

const FIELD: &str = "spec.network.rules";

impl Rule {
    /// As the manifest says it: one rule a family.
    pub(crate) fn lower(given: &v1::RoutingRule) -> impl Iterator<Item = Self> {
        let v1::RoutingRule { priority, table, from, to, iif, fwmark } = given;
        // The kernel has no word for a network that is everything.
        let narrow = |one: &Option<Cidr>| one.filter(|one| one.prefix() > 0);
        given.families().into_iter().map(move |v6| Self {
            v6,
            priority: *priority,
            from: narrow(from),
            to: narrow(to),
            iif: iif.as_ref().map(ToString::to_string),
            fwmark: *fwmark,
            table: *table,
        })
    }

    /// Whether a manifest may have only one of both.
    fn same_place(&self, other: &Self) -> bool {
        (self.v6, self.priority) == (other.v6, other.priority)
    }

    /// The path of the field that it comes from.
    pub(crate) fn path(&self) -> String {
        format!("{FIELD}[{}{}]", self.priority, if self.v6 { " IPv6" } else { "" })
    }

    fn shown(&self) -> Value {
        Words(self).to_string().into()
    }
}

/// What a rule says, without its place.
struct Words<'r>(&'r Rule);

impl fmt::Display for Words<'_> {
    /// As ip-rule(8) says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { v6: _, priority: _, from, to, iif, fwmark, table } = self.0;
        match from {
            Some(from) => write!(f, "from {from}")?,
            None => f.write_str("from all")?,
        }
        to.iter().try_for_each(|to| write!(f, " to {to}"))?;
        iif.iter().try_for_each(|iif| write!(f, " iif {iif}"))?;
        fwmark.iter().try_for_each(|fwmark| write!(f, " fwmark {fwmark}"))?;
        write!(f, " table {table}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { v6, priority, .. } = self;
        write!(f, "{priority}{}: {}", if *v6 { " IPv6" } else { "" }, Words(self))
    }
}

/// Steps that make the rules as wanted.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    wanted: &BTreeSet<Rule>,
    seen: &Reading<BTreeSet<Rule>>,
    cx: &Cx<'_>,
) {
    let seen = match seen {
        Reading::Unreadable(why) => return changes.cannot_read(FIELD, why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let none = BTreeSet::new();
    let applied = cx.entry.and_then(|entry| entry.applied.network.as_deref());
    let applied = applied.map_or(&none, |applied| &applied.rules);
    let missing = cx.caps.routing_rules.missing();
    let old = || applied.difference(wanted);
    let mut replaced = BTreeMap::new();
    for rule in wanted.difference(seen) {
        let before = old().find(|old| old.same_place(rule) && seen.contains(*old));
        let cause = if applied.contains(rule) { Cause::Drift } else { Cause::Spec };
        let shown = before.map_or(Value::Null, Rule::shown);
        let change = Change::new(rule.path(), shown, rule.shown(), Disruption::Live).because(cause);
        let index = changes.field(change.unless(missing));
        if missing.is_none() {
            changes.live.push((Live::AddRule { rule: rule.clone() }, vec![index]));
        }
        replaced.extend(before.map(|before| (before, index)));
    }
    for rule in old() {
        let index = match replaced.get(rule) {
            Some(index) => Some(*index),
            None if seen.contains(rule) => {
                let change = Change::new(rule.path(), rule.shown(), Value::Null, Disruption::Live);
                Some(changes.field(change))
            }
            None => None,
        };
        changes.live.push((Live::RemoveRule { rule: rule.clone() }, index.into_iter().collect()));
    }
}

/// What of the rules is not as wanted.
pub(super) fn satisfied(wanted: &BTreeSet<Rule>, seen: &Reading<BTreeSet<Rule>>) -> Vec<Mismatch> {
    let none = BTreeSet::new();
    let seen = seen.is().unwrap_or(&none);
    wanted
        .difference(seen)
        .map(|rule| {
            let place = seen.iter().find(|seen| seen.same_place(rule)).map(Rule::shown);
            Mismatch::new(rule.path(), rule.shown(), json(&place), Disruption::Live)
        })
        .collect()
}
