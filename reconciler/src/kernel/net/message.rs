//! Requests of rtnetlink that vzd makes, each with the words to tell its failure in, and what it reads.
//!
//! Nothing here decides what is wanted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::Netlink;
use crate::error::{SysError, SysResult};

/// Something that the kernel is to do.
#[derive(Debug)]
pub struct Request {
    pub(super) message: Message,
    pub(super) flags: u16,
    pub(super) fine: &'static [i32],
    op: &'static str,
    object: String,
}

/// It is there already, or it is gone already.
const THERE: &[i32] = &[libc::EEXIST];
const GONE: &[i32] = &[libc::ENOENT, libc::ESRCH, libc::ENODEV, libc::EADDRNOTAVAIL];

impl Request {
    pub(super) fn new(op: &'static str, object: impl Into<String>, message: Message) -> Self {
        Request { message, flags: 0, fine: &[], op, object: object.into() }
    }

    pub(super) fn make(self) -> Self {
        Request { flags: NLM_F_CREATE | NLM_F_EXCL, ..self }
    }

    pub(super) fn replace(self) -> Self {
        Request { flags: NLM_F_CREATE | NLM_F_REPLACE, ..self }
    }

    /// That it is so already is as good.
    pub fn unless_there(self) -> Self {
        Request { fine: THERE, ..self }
    }

    pub(super) fn unless_gone(self) -> Self {
        Request { fine: GONE, ..self }
    }

    pub(super) fn error(&self, errno: i32) -> SysError {
        SysError::new(self.op, &self.object, errno)
    }

    // -- links

    /// A pair of interfaces: one here, one in another namespace.
    pub(super) fn make_pair(
        (name, mac): (&str, [u8; 6]),
        (peer, peer_mac): (&str, [u8; 6]),
        netns: BorrowedFd<'_>,
    ) -> Self {
        let there = LinkMessageBuilder::<LinkUnspec>::default()
            .name(peer)
            .address(peer_mac.to_vec())
            .setns_by_fd(netns.as_raw_fd());
        let pair = LinkVeth::new(name, peer)
            .address(mac.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(there.build())));
        Self::new("make", format!("interface {name}"), Message::NewLink(pair.build())).make()
    }

    /// What a link is marked with as vzd's.
    pub(super) fn alias(index: u32, name: &str, alias: &str) -> Self {
        let link = LinkUnspec::new_with_index(index).alias(alias).build();
        Self::new("mark", format!("interface {name}"), Message::SetLink(link))
    }

    /// No link-local address that the kernel makes up.
    pub(super) fn no_own_address(index: u32, name: &str) -> Self {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
        let link = LinkUnspec::new_with_index(index).append_extra_attribute(spec).build();
        Self::new("set addresses of", format!("interface {name}"), Message::SetLink(link))
    }

    /// Another hardware address.
    pub(super) fn mac(index: u32, name: &str, mac: [u8; 6]) -> Self {
        let link = LinkUnspec::new_with_index(index).address(mac.to_vec()).build();
        Self::new("set the hardware address of", format!("interface {name}"), Message::SetLink(link))
    }

    pub(super) fn link_flags(index: u32, name: &str, set: LinkFlags, clear: LinkFlags) -> Self {
        let mut link = LinkMessage::default();
        (link.header.index, link.header.flags, link.header.change_mask) = (index, set, set | clear);
        Self::new("set up", format!("interface {name}"), Message::SetLink(link))
    }

    /// Takes a link away, and with it all that is on it.
    pub fn remove_link(index: u32, name: &str) -> Self {
        let link = LinkUnspec::new_with_index(index).build();
        Self::new("remove", format!("interface {name}"), Message::DelLink(link)).unless_gone()
    }

    // -- addresses

    /// An address that brings no route and is not asked for on the wire.
    fn address(index: u32, address: (IpAddr, u8), scope: AddressScope) -> AddressMessage {
        let mut message = AddressMessage::default();
        let header = &mut message.header;
        header.family = family(address.0);
        (header.prefix_len, header.index, header.scope) = (address.1, index, scope);
        let mut flags = AddressFlags::Noprefixroute;
        if address.0.is_ipv6() {
            flags |= AddressFlags::Nodad;
            header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes = vec![
            AddressAttribute::Local(address.0),
            AddressAttribute::Address(address.0),
            AddressAttribute::Flags(flags),
        ];
        message
    }

    pub(super) fn add_address(index: u32, address: (IpAddr, u8), scope: AddressScope) -> Self {
        let message = Message::NewAddress(Self::address(index, address, scope));
        Self::new("add", format!("address {}/{}", address.0, address.1), message).make().unless_there()
    }

    pub(super) fn remove_address(index: u32, address: (IpAddr, u8)) -> Self {
        let message = Message::DelAddress(Self::address(index, address, AddressScope::Universe));
        Self::new("remove", format!("address {}/{}", address.0, address.1), message).unless_gone()
    }

    // -- routes

    /// A route to one address over a link.
    pub(super) fn add_route(address: IpAddr, link: u32) -> Self {
        let message = Message::NewRoute(Route::to_address(address, link));
        Self::new("add", format!("route to {address}"), message).make()
    }

    /// The same, in the place of another.
    pub(super) fn replace_route(address: IpAddr, link: u32) -> Self {
        Self::add_route(address, link).replace()
    }

    pub(super) fn remove_route(address: IpAddr, link: u32) -> Self {
        let message = Message::DelRoute(Route::to_address(address, link));
        Self::new("remove", format!("route to {address}"), message).unless_gone()
    }

    /// The way to everywhere.
    pub(super) fn default_route(gateway: IpAddr, link: u32) -> RouteMessage {
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .output_interface(link)
            .protocol(RouteProtocol::Static)
            .onlink()
            .build();
        message.header.address_family = family(gateway);
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
        message
    }

    // -- neighbours

    fn neighbour(address: IpAddr, link: u32) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = link;
        message.attributes.push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(v4) => rtnetlink::packet_route::neighbour::NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => rtnetlink::packet_route::neighbour::NeighbourAddress::Inet6(v6),
        }));
        message
    }

    /// The hardware address behind an address, which nothing that is said on the link can change.
    pub(super) fn set_neighbour(address: IpAddr, link: u32, mac: [u8; 6]) -> Self {
        let mut message = Self::neighbour(address, link);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        Self::new("set", format!("neighbour {address}"), Message::NewNeighbour(message)).replace()
    }

    pub(super) fn remove_neighbour(address: IpAddr, link: u32) -> Self {
        let message = Message::DelNeighbour(Self::neighbour(address, link));
        Self::new("remove", format!("neighbour {address}"), message).unless_gone()
    }

    fn proxy(address: IpAddr, link: u32) -> NeighbourMessage {
        let mut message = Self::neighbour(address, link);
        message.header.flags = NeighbourFlags::Proxy;
        message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
        message
    }

    /// Answers on a link for an address that is behind another.
    pub fn add_proxy(address: IpAddr, link: u32) -> Self {
        let message = Message::NewNeighbour(Self::proxy(address, link));
        Self::new("answer for", format!("{address} on interface {link}"), message).replace()
    }

    /// Answers no more.
    pub fn remove_proxy(address: IpAddr, link: u32) -> Self {
        let message = Message::DelNeighbour(Self::proxy(address, link));
        Self::new("no longer answer for", format!("{address} on interface {link}"), message).unless_gone()
    }
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Whole addresses: 32 or 128 bits.
pub(super) fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
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
    /// Whether neighbours are asked for on it.
    pub arp: bool,
    /// The number of the interface it belongs to: of a pair the other end's, in that one's namespace.
    pub peer: u32,
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// What it is marked with.
    pub alias: String,
}

impl Link {
    fn read(message: LinkMessage) -> Self {
        let LinkMessage { header, attributes, .. } = message;
        let mut link = Link {
            index: header.index,
            up: header.flags.contains(LinkFlags::Up),
            arp: !header.flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback),
            name: String::new(),
            peer: 0,
            mac: Vec::new(),
            alias: String::new(),
        };
        for attribute in attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Link(peer) => link.peer = peer,
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
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
const PROTOCOL: u8 = 86;

impl Route {
    fn to_address(address: IpAddr, link: u32) -> RouteMessage {
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
        let address = |address: &RouteAddress| match address {
            RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
            RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
            _ => None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => route.to.0 = address(to)?,
                RouteAttribute::Gateway(gateway) => route.gateway = address(gateway),
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

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    use rtnetlink::packet_route::neighbour::NeighbourAddress;
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}
