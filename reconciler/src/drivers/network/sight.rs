//! The network of a running VE as it is, for people and programs that ask. Read only, and only when asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vzd_schema::v1::{Cidr, Mac};
use vzd_state::subsystem::network::{Direction, Route, Rule};

use super::{cidrs, devices, macvlan, netns, rate};
use crate::drivers::{Running, Ve};
use crate::error::SysResult;
use crate::kernel::net::{Counts, Netlink, Traffic};
use crate::kernel::ns;

/// The network of a VE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sight {
    /// Its links to the host.
    pub links: Vec<LinkSight>,
    /// Routes in it that are vzd's.
    pub routes: Vec<Route>,
    /// Rules in it that are vzd's.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Limits of its bandwidth.
    pub rates: Vec<RateSight>,
}

/// A link between a VE and its host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkSight {
    /// What it is called in the VE; absent where the VE's end is gone.
    pub name: Option<String>,
    /// What it is called on the host; absent where it has no end there.
    pub host_name: Option<String>,
    /// The bridge that it is a port of.
    pub bridge: Option<String>,
    /// The VLAN of the bridge that it is in, if the manifest says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The host's interface that it is on top of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What it is called on the host, of an interface that was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its hardware address in the VE.
    pub mac: Option<Mac>,
    /// Its largest packet.
    pub mtu: u32,
    /// Both ends are up.
    pub up: bool,
    /// Its addresses in the VE, those that the VE's root gave it too.
    pub addresses: Vec<Cidr>,
    /// What the VE has received over it.
    pub received: Traffic,
    /// What the VE has sent over it.
    pub sent: Traffic,
}

/// A limit of bandwidth and what it has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateSight {
    /// The interface that it is of, by its name in the VE; absent where it is of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Which way.
    pub direction: Direction,
    /// Bits a second.
    pub rate: u64,
    /// What went through.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Looks at all of it.
pub fn sight(ve: Ve<'_>, running: &Running) -> SysResult<Sight> {
    let mut host = Netlink::open()?;
    let mut inside = ns::on_thread_in(&netns(running)?, Netlink::open)?;
    let mut links = Vec::new();
    let interfaces = || ve.entry.applied.network.iter().flat_map(|is| &is.interfaces);
    let vlans = interfaces().any(|(_, is)| is.vlan.is_some());
    for here in rate::ends(ve, &mut host)? {
        let there = inside.link_numbered(here.peer)?.filter(|there| there.peer == here.index);
        let bridge = if here.bridge == 0 { None } else { host.link_numbered(here.bridge)? };
        let addresses = match &there {
            Some(there) => inside.addresses(Some(there.index))?,
            None => Vec::new(),
        };
        links.push(LinkSight {
            bridge: bridge.map(|bridge| bridge.name),
            vlan: if vlans { host.vlan_of(&here)? } else { None },
            parent: None,
            device: None,
            mac: there.as_ref().and_then(|there| Some(Mac::new(there.mac.as_slice().try_into().ok()?))),
            mtu: here.mtu,
            up: here.carrier && there.as_ref().is_some_and(|there| there.up),
            addresses: addresses.into_iter().filter_map(|(ip, prefix)| Cidr::new(ip, prefix)).collect(),
            // The host's end sends what the VE receives.
            received: here.sent,
            sent: here.received,
            name: there.map(|there| there.name),
            host_name: Some(here.name),
        });
    }
    for (name, is) in interfaces() {
        let Some(parent) = is.parent() else { continue };
        let Some(seen) = macvlan::look_whole(&macvlan::spec(ve, name, is, parent), &mut host, &mut inside)?
        else {
            continue;
        };
        links.push(LinkSight {
            name: Some(seen.link.name),
            host_name: None,
            bridge: None,
            vlan: None,
            parent: Some(parent.to_owned()),
            device: None,
            mac: seen.link.mac.as_slice().try_into().ok().map(Mac::new),
            mtu: seen.link.mtu,
            up: seen.link.carrier,
            addresses: cidrs(seen.addresses).into_iter().collect(),
            received: seen.link.received,
            sent: seen.link.sent,
        });
    }
    for (device, link) in devices::look_whole(ve, &mut inside)? {
        links.push(LinkSight {
            host_name: None,
            bridge: None,
            vlan: None,
            parent: None,
            device: Some(device),
            mac: link.mac.as_slice().try_into().ok().map(Mac::new),
            mtu: link.mtu,
            up: link.carrier,
            addresses: cidrs(inside.addresses(Some(link.index))?).into_iter().collect(),
            received: link.received,
            sent: link.sent,
            name: Some(link.name),
        });
    }
    links.sort_by(|a, b| (&a.bridge, &a.name).cmp(&(&b.bridge, &b.name)));
    let routes = inside.own_routes()?.into_iter().collect();
    let rules = inside.own_rules()?.into_iter().collect();
    let names = |link: &'_ LinkSight| Some((link.host_name.clone()?, link.name.clone()?));
    let names: BTreeMap<String, String> = links.iter().filter_map(names).collect();
    Ok(Sight { links, routes, rules, rates: rate::counts(ve, &mut host, &names)? })
}
