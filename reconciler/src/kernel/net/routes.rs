//! Routes of vzd's in a VE's namespace: those with its protocol number, in every table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use vzd_schema::v1::{Address, Cidr};
use vzd_state::subsystem::network::Route;

use super::Netlink;
use super::message::{Request, family};
use super::read::{PROTOCOL, ip};
use crate::error::{SysError, SysResult};

/// In the header for a table whose number only fits the attribute (`RT_TABLE_COMPAT`).
const COMPAT: u8 = 252;

/// A route as it is sent. `link`: the interface's number.
fn message(route: &Route, link: Option<u32>) -> RouteMessage {
    let Route { to, table, metric, via, dev: _ } = route;
    let direct = via.is_none() && to.address().is_ipv4();
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(to.address()),
        destination_prefix_length: to.prefix(),
        table: u8::try_from(*table).unwrap_or(COMPAT),
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: if direct { RouteScope::Link } else { RouteScope::Universe },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    if via.is_some() && link.is_some() {
        // Who names router and interface says that it is there: as the next router of `venet0` is.
        message.header.flags = RouteFlags::Onlink;
    }
    message.attributes = vec![RouteAttribute::Table(*table), RouteAttribute::Priority(*metric)];
    if to.prefix() > 0 {
        message.attributes.push(RouteAttribute::Destination(to.address().into()));
    }
    message.attributes.extend(via.map(|via| RouteAttribute::Gateway(via.0.into())));
    message.attributes.extend(link.map(RouteAttribute::Oif));
    message
}

/// A route of vzd's as it is read; none if it is another's.
fn read(message: &RouteMessage, names: &BTreeMap<u32, String>) -> Option<Route> {
    let RouteHeader { address_family, destination_prefix_length, table, protocol, .. } = message.header;
    if protocol != RouteProtocol::Other(PROTOCOL) {
        return None;
    }
    let any = match address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut to = any;
    let mut route =
        Route { to: Cidr::new(any, 0)?, table: u32::from(table), metric: 0, via: None, dev: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address)?,
            RouteAttribute::Gateway(gateway) => route.via = ip(gateway).map(Address),
            RouteAttribute::Oif(link) => route.dev = names.get(link).cloned(),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    route.to = Cidr::new(to, destination_prefix_length)?;
    Some(route)
}

impl Netlink {
    /// vzd's routes of this namespace, in all tables.
    pub fn own_routes(&mut self) -> SysResult<BTreeSet<Route>> {
        let names = self.links()?.into_iter().map(|link| (link.index, link.name)).collect();
        let mut found = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.protocol = RouteProtocol::Other(PROTOCOL);
            let all = match self.dump("routes", &Message::GetRoute(message)) {
                // A kernel without that family, or without any table of it yet.
                Err(e) if matches!(e.errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT) => continue,
                other => other?,
            };
            found.extend(all.iter().filter_map(|message| match message {
                Message::NewRoute(route) => read(route, &names),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// Adds a route, or puts it in the place of vzd's `from`. One of the VE's owner is not replaced.
    pub fn set_route(&mut self, from: Option<&Route>, to: &Route) -> SysResult<bool> {
        let link = match &to.dev {
            None => None,
            Some(dev) => {
                let link = self.link_named(dev)?.map(|link| link.index);
                let why = format!("the VE has no interface {dev}");
                Some(link.ok_or_else(|| SysError::refused("add", format!("route {to}"), why))?)
            }
        };
        let request = Request::new("add", format!("route {to}"), Message::NewRoute(message(to, link))).make();
        let request = if from.is_some() { request.replace() } else { request };
        match self.run(vec![request]) {
            Err(e) if e.errno == libc::EEXIST => {
                let why = "the VE has another route there that is not vzd's";
                Err(SysError::refused("add", format!("route {to}"), why))
            }
            other => other.map(|changed| changed > 0),
        }
    }

    /// Takes a route of vzd's away.
    pub fn remove_route(&mut self, route: &Route) -> SysResult<bool> {
        // Whatever router and interface it has by now: its place and its protocol say which it is.
        let place = Route { via: None, dev: None, ..route.clone() };
        let mut message = message(&place, None);
        message.header.scope = RouteScope::NoWhere;
        let request = Request::new("remove", format!("route {route}"), Message::DelRoute(message));
        self.run(vec![request.unless_gone()]).map(|changed| changed > 0)
    }
}
