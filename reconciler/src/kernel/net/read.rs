//! What is read of the network: interfaces, addresses, routes, neighbours, as far as it matters here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use serde::{Deserialize, Serialize};

use super::Netlink;
use super::message::{family, whole};
use crate::error::SysResult;

/// What went over an interface one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets; several that travel as one count as one.
    pub packets: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// An interface as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up.
    pub up: bool,
    /// Whether packets get through it: it is up, and so is the other end.
    pub carrier: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// Whether neighbours are asked for on it.
    pub arp: bool,
    /// The number of the interface it belongs to: of a pair the other end's, in that one's namespace.
    pub peer: u32,
    /// The bridge it is a port of; 0 for none.
    pub bridge: u32,
    /// Its largest packet.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// What kind of device it is; none for real ones.
    pub kind: Option<InfoKind>,
    /// What it is marked with.
    pub alias: String,
    /// What it has received.
    pub received: Traffic,
    /// What it has sent.
    pub sent: Traffic,
}

impl Link {
    fn read(message: LinkMessage) -> Self {
        let LinkMessage { header, attributes, .. } = message;
        let mut link = Link {
            index: header.index,
            up: header.flags.contains(LinkFlags::Up),
            loopback: header.flags.contains(LinkFlags::Loopback),
            arp: !header.flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback),
            name: String::new(),
            carrier: false,
            peer: 0,
            bridge: 0,
            mtu: 0,
            mac: Vec::new(),
            kind: None,
            alias: String::new(),
            received: Traffic::default(),
            sent: Traffic::default(),
        };
        for attribute in attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::OperState(state) => link.carrier = state == State::Up,
                LinkAttribute::Link(peer) => link.peer = peer,
                LinkAttribute::Controller(bridge) => link.bridge = bridge,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::LinkInfo(all) => {
                    link.kind = all.into_iter().find_map(|one| match one {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                }
                LinkAttribute::Stats64(is) => {
                    let traffic = |bytes, packets, dropped| Traffic { bytes, packets, dropped };
                    link.received = traffic(is.rx_bytes, is.rx_packets, is.rx_dropped);
                    link.sent = traffic(is.tx_bytes, is.tx_packets, is.tx_dropped);
                }
                _ => {}
            }
        }
        link
    }
}

/// A route as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads: the address and how many of its bits count.
    pub to: (IpAddr, u8),
    /// Over which interface; 0 for none, or for several.
    pub link: u32,
    /// The next router.
    pub gateway: Option<IpAddr>,
    /// vzd made it.
    pub ours: bool,
}

/// What routes of vzd are marked with: a number that no other program uses (`V`).
pub(super) const PROTOCOL: u8 = 86;

impl Route {
    pub(super) fn to_address(address: IpAddr, link: u32) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(address),
            destination_prefix_length: whole(address),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Other(PROTOCOL),
            scope: if address.is_ipv4() { RouteScope::Link } else { RouteScope::Universe },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![RouteAttribute::Destination(address.into()), RouteAttribute::Oif(link)];
        message
    }

    fn read(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let any = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let ours = header.protocol == RouteProtocol::Other(PROTOCOL);
        let mut route = Route { to: (any, header.destination_prefix_length), link: 0, gateway: None, ours };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => route.to.0 = ip(to)?,
                RouteAttribute::Gateway(gateway) => route.gateway = ip(gateway),
                RouteAttribute::Oif(link) => route.link = *link,
                _ => {}
            }
        }
        let main = header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast;
        main.then_some(route)
    }
}

impl Netlink {
    /// The interface of this name, if there is one.
    pub fn link_named(&mut self, name: &str) -> SysResult<Option<Link>> {
        self.link(name, LinkUnspec::new_with_name(name).build())
    }

    /// The interface of this number, if there is one.
    pub fn link_numbered(&mut self, index: u32) -> SysResult<Option<Link>> {
        self.link(&index.to_string(), LinkUnspec::new_with_index(index).build())
    }

    fn link(&mut self, shown: &str, message: LinkMessage) -> SysResult<Option<Link>> {
        match self.get(&format!("interface {shown}"), Message::GetLink(message)) {
            Ok(Message::NewLink(link)) => Ok(Some(Link::read(link))),
            Ok(_) => Ok(None),
            Err(e) if e.is_absent() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Waits until a link that was set up carries packets. The kernel's own work for that is put off (linkwatch),
    /// and until it is done the link drops what it is to send. Since Linux 6.8 a look at the link has it done.
    pub fn await_carrier(&mut self, index: u32) -> SysResult<()> {
        /// Whose other end is down never carries anything: that is for others to find.
        const LONGEST: Duration = Duration::from_secs(2);
        let since = Instant::now();
        while self.link_numbered(index)?.is_some_and(|link| link.up && !link.carrier)
            && since.elapsed() < LONGEST
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Every interface.
    pub fn links(&mut self) -> SysResult<Vec<Link>> {
        let all = self.dump("interfaces", &Message::GetLink(LinkMessage::default()))?;
        let read = |message| if let Message::NewLink(link) = message { Some(Link::read(link)) } else { None };
        Ok(all.into_iter().filter_map(read).collect())
    }

    /// The addresses of an interface, or of all of them.
    pub fn addresses(&mut self, link: Option<u32>) -> SysResult<Vec<(IpAddr, u8)>> {
        let mut message = AddressMessage::default();
        message.header.index = link.unwrap_or(0);
        let all = self.dump("addresses", &Message::GetAddress(message))?;
        let read = |message: Message| {
            let Message::NewAddress(message) = message else { return None };
            let of_it = link.is_none_or(|link| message.header.index == link);
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let address = local.or(message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            }))?;
            of_it.then_some((address, message.header.prefix_len))
        };
        Ok(all.into_iter().filter_map(read).collect())
    }

    /// Routes of the main table, v4 and v6; those over one interface, or all of them.
    pub fn routes(&mut self, link: Option<u32>) -> SysResult<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            message.attributes.extend(link.map(RouteAttribute::Oif));
            let all = match self.dump("routes", &Message::GetRoute(message)) {
                // A kernel without that family, or without any table of it yet.
                Err(e) if matches!(e.errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT) => continue,
                other => other?,
            };
            routes.extend(all.iter().filter_map(|message| match message {
                Message::NewRoute(route) => Route::read(route),
                _ => None,
            }));
        }
        routes.retain(|route| link.is_none_or(|link| route.link == link));
        Ok(routes)
    }

    /// Fixed neighbours on an interface.
    pub fn neighbours(&mut self, link: u32) -> SysResult<Vec<(IpAddr, Vec<u8>)>> {
        let mut message = NeighbourMessage::default();
        message.attributes.push(NeighbourAttribute::IfIndex(link));
        let all = self.dump("neighbours", &Message::GetNeighbour(message))?;
        let read = |message: Message| {
            let Message::NewNeighbour(message) = message else { return None };
            let fixed = message.header.ifindex == link && message.header.state == NeighbourState::Permanent;
            let mac = message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => Some(mac.clone()),
                _ => None,
            });
            fixed.then_some((destination(&message)?, mac?))
        };
        Ok(all.into_iter().filter_map(read).collect())
    }

    /// Addresses that are answered for, each with the interface on which and whether that is vzd's doing.
    pub fn proxies(&mut self) -> SysResult<Vec<(IpAddr, u32, bool)>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            (message.header.family, message.header.flags) = (family, NeighbourFlags::Proxy);
            let all = match self.dump("proxy neighbours", &Message::GetNeighbour(message)) {
                Err(e) if matches!(e.errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => continue,
                other => other?,
            };
            found.extend(all.iter().filter_map(|message| match message {
                Message::NewNeighbour(message) if message.header.flags.contains(NeighbourFlags::Proxy) => {
                    let mark = NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
                    Some((destination(message)?, message.header.ifindex, message.attributes.contains(&mark)))
                }
                _ => None,
            }));
        }
        Ok(found)
    }
}

pub(super) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}
