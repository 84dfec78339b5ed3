//! Interfaces of a VE on bridges and interfaces of the host: what is wanted of one, and what differs.
//!
//! What a manifest leaves open is made of the VE's identity, so that it is the same at each start.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vzd_schema::v1::{Address, Cidr, Mac};

use super::rate::{self, Direction, Rates};
use super::{Live, Network};
use crate::digest::sha256_hex;
use crate::disruption::{Cause, Change, Disruption};
use crate::ids::{Ctid, VeUid};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch, json};

/// What an interface is linked to on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum On {
    /// It is a port of this bridge.
    Bridge(String),
    /// It is a macvlan on top of this interface.
    Parent(String),
}

impl On {
    /// What that is called on the host.
    pub fn name(&self) -> &str {
        match self {
            Self::Bridge(name) | Self::Parent(name) => name,
        }
    }

    /// The bridge and the parent: one of them.
    fn both(on: Option<&Self>) -> (Option<&str>, Option<&str>) {
        match on {
            None => (None, None),
            Some(Self::Bridge(bridge)) => (Some(bridge), None),
            Some(Self::Parent(parent)) => (None, Some(parent)),
        }
    }
}

/// An interface beside `venet0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// What it is linked to.
    #[serde(flatten)]
    pub on: On,
    /// The VLAN of the bridge that it is in, if the manifest says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Its hardware address, if the manifest fixes it.
    pub mac: Option<Mac>,
    /// Its name on the host, if the manifest fixes it. A macvlan has none.
    pub host_name: Option<String>,
    /// Its addresses.
    pub addresses: BTreeSet<Cidr>,
    /// Where its default routes lead, one a family.
    pub gateways: BTreeSet<Address>,
    /// Its largest packet, if the manifest fixes it.
    pub mtu: Option<u32>,
    /// What the VE sends from another hardware address is dropped.
    pub mac_filter: bool,
    /// Limits of its own bandwidth. A macvlan has none.
    #[serde(default, skip_serializing_if = "Rates::is_empty")]
    pub rates: Rates,
}

/// The largest packet of an interface of which nobody says it.
pub const MTU: u32 = 1500;

impl Interface {
    /// Its hardware address in this VE: of the locally administered kind, unless one is fixed.
    pub fn mac_of(&self, uid: &VeUid, name: &str) -> Mac {
        self.mac.unwrap_or_else(|| {
            let digest = sha256_hex(format!("{uid}/{name}").as_bytes());
            let byte = |at: usize| u8::from_str_radix(&digest[at * 2..at * 2 + 2], 16).unwrap_or_default();
            Mac::new([byte(0) & 0xfc | 2, byte(1), byte(2), byte(3), byte(4), byte(5)])
        })
    }

    /// The bridge, if it is a port of one.
    pub fn bridge(&self) -> Option<&str> {
        On::both(Some(&self.on)).0
    }

    /// The interface that it is a macvlan on top of, if it is one.
    pub fn parent(&self) -> Option<&str> {
        On::both(Some(&self.on)).1
    }

    /// Its name on the host: `veth<ctid>.<n>` for an `eth<n>`, as OpenVZ had it, unless one is fixed.
    pub fn host_name_of(&self, ctid: Ctid, uid: &VeUid, name: &str) -> String {
        /// The kernel's limit.
        const LONGEST: usize = 15;
        if let Some(fixed) = &self.host_name {
            return fixed.clone();
        }
        let number = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        let usual = format!("veth{ctid}.{number}");
        let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        if numbered && usual.len() <= LONGEST {
            return usual;
        }
        format!("veth{}", &sha256_hex(format!("{uid}/{name}").as_bytes())[..LONGEST - 4])
    }
}

/// An interface that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// What it is linked to; a port of no bridge to nothing.
    pub on: Option<On>,
    /// The VLAN that it is in, where one is wanted or was set; none if it is in several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its name on the host, if it has an end there.
    pub host_name: Option<String>,
    /// Its addresses, the owner's own among them.
    pub addresses: BTreeSet<Cidr>,
    /// The gateways of its default routes.
    pub gateways: BTreeSet<Address>,
    /// Its largest packet.
    pub mtu: u32,
    /// What has another hardware address is dropped.
    pub mac_filter: bool,
    /// Limits of its own bandwidth.
    #[serde(default, skip_serializing_if = "Rates::is_empty")]
    pub rates: Rates,
    /// It is up, and so is its other end.
    pub up: bool,
}

fn path(name: &str) -> String {
    format!("spec.network.interfaces[{name}]")
}

/// A field of an interface that is not as wanted.
struct Difference {
    field: String,
    have: Value,
    want: Value,
    disruption: Disruption,
}

/// What of an interface is not as wanted. `had`: what vzd had set; the owner's own addresses are left alone.
fn differences(
    name: &str,
    want: &Interface,
    seen: &Seen,
    had: Option<&Interface>,
    cx: &Cx<'_>,
) -> Vec<Difference> {
    let Interface { on, vlan, mac: _, host_name: _, addresses, gateways, mtu, mac_filter, rates } = want;
    let Seen {
        on: on_is,
        vlan: vlan_is,
        mac: mac_is,
        host_name: host_name_is,
        addresses: addresses_are,
        gateways: gateways_are,
        mtu: mtu_is,
        mac_filter: mac_filter_is,
        rates: rates_are,
        up,
    } = seen;
    let mut found = Vec::new();
    let mut note = |field: &str, differs: bool, have: Value, want: Value, disruption: Disruption| {
        if differs {
            found.push(Difference { field: format!("{}.{field}", path(name)), have, want, disruption });
        }
    };
    if let Some(entry) = cx.entry {
        let mac = want.mac_of(&entry.uid, name);
        note("mac", *mac_is != Some(mac), json(mac_is), json(&mac), Disruption::Reattach);
        if let Some(host_name_is) = host_name_is {
            let host_name = want.host_name_of(entry.ctid, &entry.uid, name);
            let differs = *host_name_is != host_name && want.bridge().is_some();
            note("hostName", differs, json(host_name_is), json(&host_name), Disruption::Reattach);
        }
    }
    let ((bridge, parent), (bridge_is, parent_is)) = (On::both(Some(on)), On::both(on_is.as_ref()));
    note("bridge", bridge_is != bridge, json(&bridge_is), json(&bridge), Disruption::Live);
    note("parent", parent_is != parent, json(&parent_is), json(&parent), Disruption::Reattach);
    // Without a wish it is the bridge's to say; only what vzd had set is taken back.
    let differs = match (vlan, had.and_then(|had| had.vlan)) {
        (Some(_), _) => vlan_is != vlan,
        (None, was) => was.is_some() && *vlan_is == was,
    };
    note("vlan", differs, json(vlan_is), json(vlan), Disruption::Live);
    let was_set = |had: &Interface| had.mtu.is_some();
    let wanted_mtu = mtu.or(had.is_some_and(was_set).then_some(MTU));
    let differs = wanted_mtu.is_some_and(|mtu| mtu != *mtu_is);
    note("mtu", differs, json(mtu_is), json(&wanted_mtu), Disruption::Live);
    note("macFilter", mac_filter_is != mac_filter, json(mac_filter_is), json(mac_filter), Disruption::Live);
    let of_ours = |address: &&Cidr| {
        addresses.contains(*address) || had.is_some_and(|had| had.addresses.contains(*address))
    };
    let ours: BTreeSet<Cidr> = addresses_are.iter().filter(of_ours).copied().collect();
    note("addresses", ours != *addresses, json(&ours), json(addresses), Disruption::Live);
    let of_ours = |gateway: &&Address| {
        gateways.contains(*gateway) || had.is_some_and(|had| had.gateways.contains(*gateway))
    };
    let ours: BTreeSet<Address> = gateways_are.iter().filter(of_ours).copied().collect();
    note("gateway", ours != *gateways, json(&ours), json(gateways), Disruption::Live);
    for direction in Direction::ALL {
        let (is, rate) = (rates_are.get(&direction), rates.get(&direction));
        let field = format!("rate.{}", direction.name());
        note(&field, is != rate, rate::shown(is.copied()), rate::shown(rate.copied()), Disruption::Live);
    }
    note("name", !up, "down".into(), "up".into(), Disruption::Live);
    found
}

/// Steps that make the interfaces as wanted.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    wanted: &BTreeMap<String, Interface>,
    seen: &Reading<BTreeMap<String, Seen>>,
    cx: &Cx<'_>,
) {
    let seen = match seen {
        Reading::Unreadable(why) => return changes.cannot_read("spec.network.interfaces", why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let none = BTreeMap::new();
    let applied = cx.entry.and_then(|entry| entry.applied.network.as_deref());
    let applied = applied.map_or(&none, |applied| &applied.interfaces);
    for (name, had) in applied {
        if !wanted.contains_key(name) && seen.contains_key(name) {
            let index = changes.field(Change::new(path(name), json(had), Value::Null, Disruption::Live));
            let step = Live::RemoveInterface { name: name.clone(), had: had.clone() };
            changes.live.push((step, vec![index]));
        }
    }
    for (name, want) in wanted {
        let needed = if want.parent().is_some() { &cx.caps.macvlan } else { &cx.caps.venet };
        let limited = (!want.rates.is_empty()).then(|| cx.caps.shaping.missing()).flatten();
        let limited = limited.or(want.vlan.and_then(|_| cx.caps.bridge_vlans.missing()));
        let missing = needed.missing().or(limited);
        let had = applied.get(name);
        let cause = if had == Some(want) { Cause::Drift } else { Cause::Spec };
        let Some(is) = seen.get(name) else {
            let change = Change::new(path(name), Value::Null, json(want), Disruption::Live);
            let index = changes.field(change.because(cause).unless(missing));
            if missing.is_none() {
                let step = Live::SetInterface { name: name.clone(), from: None, to: want.clone() };
                changes.live.push((step, vec![index]));
            }
            continue;
        };
        let different = differences(name, want, is, had, cx);
        if different.is_empty() {
            continue;
        }
        let change =
            |d: Difference| Change::new(d.field, d.have, d.want, d.disruption).because(cause).unless(limited);
        let indices = different.into_iter().map(|d| changes.field(change(d))).collect();
        if limited.is_some() {
            continue;
        }
        let from = Some(had.unwrap_or(want).clone());
        changes.live.push((Live::SetInterface { name: name.clone(), from, to: want.clone() }, indices));
    }
}

/// What of the interfaces is not as wanted.
pub(super) fn satisfied(
    wanted: &BTreeMap<String, Interface>,
    seen: &Reading<BTreeMap<String, Seen>>,
    cx: &Cx<'_>,
) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    for (name, want) in wanted {
        let Some(is) = seen.is().and_then(|seen| seen.get(name)) else {
            wrong.push(Mismatch::new(path(name), json(want), Value::Null, Disruption::Live));
            continue;
        };
        let different = differences(name, want, is, None, cx);
        wrong.extend(different.into_iter().map(|d| Mismatch::new(d.field, d.want, d.have, d.disruption)));
    }
    wrong
}

impl Network {
    /// What is left of an interface's addresses when another wish takes the place of one: the owner's own stay.
    pub(crate) fn after(now: &Interface, from: &Interface, to: &Interface) -> Interface {
        let own = now.addresses.difference(&from.addresses).copied();
        Interface { addresses: to.addresses.iter().copied().chain(own).collect(), ..to.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_hardware_addresses_are_of_the_ve() {
        let interface = Interface {
            on: On::Bridge("br0".to_owned()),
            vlan: None,
            mac: None,
            host_name: None,
            addresses: BTreeSet::new(),
            gateways: BTreeSet::new(),
            mtu: None,
            mac_filter: true,
            rates: Rates::new(),
        };
        let (uid, other) = (VeUid::from_bits(1), VeUid::from_bits(2));
        let mac = interface.mac_of(&uid, "eth0");
        assert_eq!(mac.octets()[0] & 3, 2, "locally administered, of one interface");
        assert_eq!(mac, interface.mac_of(&uid, "eth0"));
        assert_ne!(mac, interface.mac_of(&uid, "eth1"));
        assert_ne!(mac, interface.mac_of(&other, "eth0"));
        let json = serde_json::to_value(&interface).unwrap();
        assert_eq!(json["bridge"], "br0", "records of before have it there");
        assert_eq!(serde_json::from_value::<Interface>(json).unwrap(), interface);
        let ctid = |number: u32| Ctid::try_from(number).unwrap();
        assert_eq!(interface.host_name_of(ctid(101), &uid, "eth1"), "veth101.1");
        for (number, name) in [(2_147_483_644, "eth0"), (101, "lan"), (101, "eth0a")] {
            let long = interface.host_name_of(ctid(number), &uid, name);
            assert!(long.len() == 15 && long.starts_with("veth"), "{long}");
        }
    }
}
