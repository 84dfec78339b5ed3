//! Addresses and ports that the host puts in the place of others for a VE, in packets on their way: masquerade, and ports
//! of the host that lead to the VE.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::{self, Address, Ports, Transport};

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
    /// What of the host it takes: a port, if it is not about an address.
    fn place(&self) -> Option<(Option<Address>, Transport, u16)> {
        match self {
            Self::Masquerade { .. } => None,
            Self::Publish { at, protocol, port, .. } => Some((*at, *protocol, *port)),
        }
    }

    /// The field that it comes from, with those that follow it up to `last`.
    fn path(&self, last: &Self) -> String {
        let until = last.place().map(|(.., port)| port);
        match self.place() {
            None => "spec.network.masquerade".to_owned(),
            Some((at, protocol, port)) => {
                let ports = Ports::new(port, until.unwrap_or(port));
                path(at, protocol, &ports.map_or_else(|| port.to_string(), |ports| ports.to_string()))
            }
        }
    }

    /// Where it leads, with those that follow it up to `last`.
    fn shown(&self, last: &Self) -> String {
        match last {
            Self::Publish { to_port, .. } if last != self => format!("{self}-{to_port}"),
            _ => self.to_string(),
        }
    }

    /// Whether it leads on from another: the next port of the host to the next port of the VE.
    fn follows(&self, before: &Self) -> bool {
        match (before, self) {
            (
                Self::Publish { at, protocol, port, to, to_port },
                Self::Publish {
                    at: at_is,
                    protocol: protocol_is,
                    port: port_is,
                    to: to_is,
                    to_port: to_port_is,
                },
            ) => {
                (at, protocol, to) == (at_is, protocol_is, to_is)
                    && port.checked_add(1) == Some(*port_is)
                    && to_port.checked_add(1) == Some(*to_port_is)
            }
            _ => false,
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

/// The field of a published port, or of a range of them.
pub(crate) fn path(at: Option<Address>, protocol: Transport, ports: &str) -> String {
    let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
    format!("spec.network.publish[{} {ports}{at}]", word(protocol))
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
                let protocol = protocol.unwrap_or(Transport::Tcp);
                let ports = host.each().zip(ve.unwrap_or(*host).each());
                all.extend(ports.map(|(port, to_port)| Translation::Publish {
                    at: *at,
                    protocol,
                    port,
                    to,
                    to_port,
                }));
            }
        }
    }
    all
}

/// What is there and what is to be at one place of the host.
type Both<'a> = [Vec<&'a Translation>; 2];

/// Whether these are of the ports after those before, and lead to the ports after theirs.
fn follow(before: &Both<'_>, next: &Both<'_>) -> bool {
    let follow = |before: &Vec<&Translation>, next: &Vec<&Translation>| {
        before.len() == next.len() && before.iter().zip(next).all(|(before, next)| next.follows(before))
    };
    before.iter().zip(next).all(|(before, next)| follow(before, next))
}

/// Each field of which both have something else, with what they have. Ports one after the other are told as a range.
fn by_field(wanted: &Translations, seen: &Translations) -> Vec<(String, Value, Value)> {
    let mut places: BTreeMap<_, Both<'_>> = BTreeMap::new();
    for (which, all) in [seen, wanted].into_iter().enumerate() {
        for one in all {
            places.entry(one.place()).or_default()[which].push(one);
        }
    }
    let mut ranges: Vec<(Both<'_>, Both<'_>)> = Vec::new();
    for both in places.into_values().filter(|[is, to]| is != to) {
        match ranges.last_mut() {
            Some((_, last)) if follow(last, &both) => *last = both,
            _ => ranges.push((both.clone(), both)),
        }
    }
    let shown = |first: &[&Translation], last: &[&Translation]| {
        let all: Vec<String> = first.iter().zip(last).map(|(first, last)| first.shown(last)).collect();
        if all.is_empty() { Value::Null } else { all.join(", ").into() }
    };
    let field = |([is, to], [last_is, last_to]): &(Both<'_>, Both<'_>)| {
        let (first, last) = is.iter().zip(last_is).chain(to.iter().zip(last_to)).next()?;
        Some((first.path(last), shown(is, last_is), shown(to, last_to)))
    };
    ranges.iter().filter_map(field).collect()
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
        .into_iter()
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
    by_field(wanted, seen)
        .into_iter()
        .map(|(field, is, to)| Mismatch::new(field, to, is, Disruption::Live))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(publish: serde_json::Value) -> Translations {
        let network = serde_json::json!({ "addresses": ["10.1.0.5", "fd00:1::5"], "publish": publish });
        lower(&serde_json::from_value(network).unwrap())
    }

    fn told(wanted: &Translations, seen: &Translations) -> Vec<String> {
        let told = by_field(wanted, seen).into_iter();
        told.map(|(field, is, to)| format!("{} {is} {to}", field.trim_start_matches("spec.network.")))
            .collect()
    }

    #[test]
    fn a_range_leads_each_port_to_its_own_and_is_told_as_a_range() {
        let range = lowered(serde_json::json!([{ "host": "8000-8002", "ve": "80-82" }]));
        assert_eq!(range.len(), 6);
        let none = Translations::new();
        let whole = "\"10.1.0.5:80-82, [fd00:1::5]:80-82\"";
        assert_eq!(told(&range, &none), [format!("publish[tcp 8000-8002] null {whole}")]);
        assert_eq!(told(&none, &range), [format!("publish[tcp 8000-8002] {whole} null")]);
        // One of them is gone.
        let seen = range.iter().filter(|one| one.place().unwrap().2 != 8001).cloned().collect();
        assert_eq!(told(&range, &seen), ["publish[tcp 8001] null \"10.1.0.5:81, [fd00:1::5]:81\""]);
        // Ports beside each other that lead elsewhere are no range.
        let two = lowered(serde_json::json!([{ "host": 1, "ve": 7 }, { "host": 2, "ve": 9 }]));
        assert_eq!(told(&two, &none).len(), 2);
    }
}
