//! Addresses and ports that the host puts in the place of others for a VE, in packets on their way: masquerade, and ports
//! of the host that lead to the VE.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::{self, Address, Transport};

use super::Live;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Translation {
    /// What the VE sends from this address leaves the host under the host's own.
    Masquerade {
        /// The address.
        address: Address,
    },
    /// What comes to a port of the host goes to a port of the VE.
    Publish {
        /// At this address of the host; at each if none.
        at: Option<Address>,
        /// The protocol.
        protocol: Transport,
        /// The port on the host.
        port: u16,
        /// The VE's address.
        to: Address,
        /// The VE's port.
        to_port: u16,
    },
}

/// All of a VE's.
pub type Translations = BTreeSet<Translation>;

/// The word for a protocol, as manifests and nft(8) have it.
pub fn word(protocol: Transport) -> &'static str {
    match protocol {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

impl Translation {
    /// The field that it comes from.
    fn path(&self) -> String {
        match self {
            Self::Masquerade { .. } => "spec.network.masquerade".to_owned(),
            Self::Publish { at, protocol, port, .. } => path(*at, *protocol, *port),
        }
    }

    /// Whether the host can do only one of both.
    pub fn same_place(&self, other: &Self) -> bool {
        let place = |one: &Self| match one {
            Self::Masquerade { address } => (Some(*address), None),
            Self::Publish { at, protocol, port, to, to_port: _ } => {
                (*at, Some((*protocol, *port, to.0.is_ipv4())))
            }
        };
        place(self) == place(other)
    }
}

/// The field of a published port.
pub(crate) fn path(at: Option<Address>, protocol: Transport, port: u16) -> String {
    let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
    format!("spec.network.publish[{} {port}{at}]", word(protocol))
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masquerade { address } => write!(f, "{address}"),
            Self::Publish { to, to_port, .. } if to.0.is_ipv6() => write!(f, "[{to}]:{to_port}"),
            Self::Publish { to, to_port, .. } => write!(f, "{to}:{to_port}"),
        }
    }
}

/// What a manifest asks for.
pub(crate) fn lower(given: &v1::Network) -> Translations {
    let masquerade = given.masquerade.unwrap_or(false);
    let addresses = given.addresses.iter().map(|one| Address(one.address()));
    let mut all: Translations =
        addresses.clone().filter(|_| masquerade).map(|address| Translation::Masquerade { address }).collect();
    let first = |v4: bool| addresses.clone().find(|address| address.0.is_ipv4() == v4);
    for publish in &given.publish {
        let v1::Publish { host, ve, protocol, address: at } = publish;
        for to in [first(true), first(false)].into_iter().flatten() {
            if at.is_none_or(|at| at.0.is_ipv4() == to.0.is_ipv4()) {
                let (protocol, to_port) = (protocol.unwrap_or(Transport::Tcp), ve.unwrap_or(*host).get());
                all.insert(Translation::Publish { at: *at, protocol, port: host.get(), to, to_port });
            }
        }
    }
    all
}

/// Each field that either has, with what both have of it.
fn by_field<'a>(
    wanted: &'a Translations,
    seen: &'a Translations,
) -> impl Iterator<Item = (String, Value, Value)> + use<'a> {
    let mut fields: BTreeMap<String, [Vec<String>; 2]> = BTreeMap::new();
    for (which, all) in [seen, wanted].into_iter().enumerate() {
        for one in all {
            fields.entry(one.path()).or_default()[which].push(one.to_string());
        }
    }
    let shown = |all: Vec<String>| if all.is_empty() { Value::Null } else { all.join(", ").into() };
    fields
        .into_iter()
        .filter(|(_, [is, to])| is != to)
        .map(move |(field, [is, to])| (field, shown(is), shown(to)))
}

/// The step that makes them as wanted: the host does all of it at once.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    wanted: &Translations,
    seen: &Reading<Translations>,
    cx: &Cx<'_>,
) {
    let seen = match seen {
        Reading::Unreadable(why) => return changes.cannot_read("spec.network.publish", why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let none = Translations::new();
    let applied = cx.entry.and_then(|entry| entry.applied.network.as_deref());
    let applied = applied.map_or(&none, |applied| &applied.translations);
    let cause = if applied == wanted { Cause::Drift } else { Cause::Spec };
    // One that is gone by itself and that nobody wants any more is forgotten by the same step.
    if seen == wanted && (applied.is_subset(wanted) || applied == wanted) {
        return;
    }
    let missing = if wanted.is_empty() { None } else { cx.caps.firewall.missing() };
    let indices = by_field(wanted, seen)
        .map(|(field, is, to)| {
            let change = Change::new(field, is, to, Disruption::Live).because(cause).unless(missing);
            changes.field(change)
        })
        .collect();
    if missing.is_none() {
        let step = Live::SetTranslations { from: seen.clone(), to: wanted.clone() };
        changes.live.push((step, indices));
    }
}

/// What of them is not as wanted.
pub(super) fn satisfied(wanted: &Translations, seen: &Reading<Translations>) -> Vec<Mismatch> {
    let none = Translations::new();
    let seen = seen.is().unwrap_or(&none);
    by_field(wanted, seen).map(|(field, is, to)| Mismatch::new(field, to, is, Disruption::Live)).collect()
}
