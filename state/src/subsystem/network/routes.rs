//! Routes that a VE has beyond those that follow from its addresses and gateways.
//!
//! The kernel knows a route by its target, metric and table; by the same it is known here. Only routes with vzd's
//! protocol number count as seen: the owner's own are others, and stay.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::{self, Address, Cidr, RouteTarget};

use super::Live;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch, json};

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Where it leads; everywhere with a prefix of no length.
    pub to: Cidr,
    /// Its table.
    pub table: u32,
    /// The lower, the sooner used.
    pub metric: u32,
    /// The next router.
    pub via: Option<Address>,
    /// The interface; the kernel finds it by the next router if nobody says it.
    pub dev: Option<String>,
}

const FIELD: &str = "spec.network.routes";

/// The main table (`RT_TABLE_MAIN`).
const MAIN: u32 = 254;

impl Route {
    /// As the manifest says it, with what the kernel would fill in.
    pub fn lower(given: &v1::Route) -> Self {
        let v6 = given.via.is_some_and(|via| via.0.is_ipv6());
        let everywhere: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let to = match given.to {
            RouteTarget::Network(network) => network,
            RouteTarget::Default => Cidr::new(everywhere, 0).unwrap_or_else(|| Cidr::alone(everywhere)),
        };
        // IP6_RT_PRIO_USER: what the kernel makes of none.
        let usual = if to.address().is_ipv6() { 1024 } else { 0 };
        Self {
            to,
            table: given.table.unwrap_or(MAIN),
            metric: given.metric.filter(|metric| *metric > 0).unwrap_or(usual),
            via: given.via,
            dev: given.dev.as_ref().map(ToString::to_string),
        }
    }

    /// Whether another takes its place.
    pub fn same_place(&self, other: &Self) -> bool {
        (self.to, self.table, self.metric) == (other.to, other.table, other.metric)
    }

    /// Whether a route that is there is this one.
    fn is(&self, seen: &Self) -> bool {
        self.same_place(seen) && self.via == seen.via && (self.dev.is_none() || self.dev == seen.dev)
    }

    /// The path of the field that it comes from.
    pub(crate) fn path(&self) -> String {
        let Self { to, table, metric, via: _, dev: _ } = self;
        let mut place = match (to.prefix(), to.address().is_ipv4()) {
            (0, true) => "default".to_owned(),
            _ => to.to_string(),
        };
        if *table != MAIN {
            place += &format!(" table {table}");
        }
        if !matches!(metric, 0 | 1024) {
            place += &format!(" metric {metric}");
        }
        format!("{FIELD}[{place}]")
    }

    fn shown(&self) -> Value {
        let Self { to: _, table: _, metric: _, via, dev } = self;
        let via = via.iter().map(|via| format!("via {via}"));
        let words: Vec<String> = via.chain(dev.iter().map(|dev| format!("dev {dev}"))).collect();
        words.join(" ").into()
    }
}

impl fmt::Display for Route {
    /// As ip-route(8) says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, table, metric, via, dev } = self;
        if to.prefix() == 0 {
            f.write_str("default")?
        } else {
            write!(f, "{to}")?
        }
        via.iter().try_for_each(|via| write!(f, " via {via}"))?;
        dev.iter().try_for_each(|dev| write!(f, " dev {dev}"))?;
        write!(f, " metric {metric}")?;
        if *table == MAIN { Ok(()) } else { write!(f, " table {table}") }
    }
}

/// Steps that make the routes as wanted.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    wanted: &BTreeSet<Route>,
    seen: &Reading<BTreeSet<Route>>,
    cx: &Cx<'_>,
) {
    let seen = match seen {
        Reading::Unreadable(why) => return changes.cannot_read(FIELD, why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let none = BTreeSet::new();
    let applied = cx.entry.and_then(|entry| entry.applied.network.as_deref());
    let applied = applied.map_or(&none, |applied| &applied.routes);
    let at = |routes: &BTreeSet<Route>, route: &Route| routes.iter().find(|is| is.same_place(route)).cloned();
    for had in applied.iter().filter(|had| at(wanted, had).is_none()) {
        let mut indices = Vec::new();
        if let Some(is) = at(seen, had) {
            let change = Change::new(had.path(), is.shown(), Value::Null, Disruption::Live);
            indices.push(changes.field(change));
        }
        changes.live.push((Live::RemoveRoute { route: had.clone() }, indices));
    }
    for to in wanted.iter().filter(|want| !seen.iter().any(|seen| want.is(seen))) {
        let from = at(seen, to);
        let cause = if applied.contains(to) { Cause::Drift } else { Cause::Spec };
        let before = from.as_ref().map_or(Value::Null, Route::shown);
        let change = Change::new(to.path(), before, to.shown(), Disruption::Live).because(cause);
        let index = changes.field(change);
        changes.live.push((Live::SetRoute { from, to: to.clone() }, vec![index]));
    }
}

/// What of the routes is not as wanted.
pub(super) fn satisfied(wanted: &BTreeSet<Route>, seen: &Reading<BTreeSet<Route>>) -> Vec<Mismatch> {
    let is = |want: &&Route| seen.is().is_some_and(|seen| seen.iter().any(|seen| want.is(seen)));
    let wrong = wanted.iter().filter(|want| !is(want));
    wrong
        .map(|want| {
            let place = seen.is().and_then(|seen| seen.iter().find(|seen| seen.same_place(want)));
            Mismatch::new(want.path(), want.shown(), json(&place.map(Route::shown)), Disruption::Live)
        })
        .collect()
}
