//! Requests of rtnetlink that vzd makes, each with the words to tell its failure in.
//!
//! Nothing here decides what is wanted.

use std::net::{IpAddr, Ipv4Addr};
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
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::read::{PROTOCOL, Route};
use crate::error::SysError;

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

const NONE: &[i32] = &[libc::ENOENT, libc::ENODEV, libc::EINVAL];

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

    /// Where no filter was ever put the kernel says that the request is wrong.
    pub(super) fn unless_none(self) -> Self {
        Request { fine: NONE, ..self }
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

    /// A bridge with a hardware address that stays when ports come and go.
    pub(super) fn make_bridge(name: &str, mac: [u8; 6]) -> Self {
        let bridge = LinkBridge::new(name).address(mac.to_vec()).build();
        Self::new("make", format!("bridge {name}"), Message::NewLink(bridge)).make().unless_there()
    }

    /// Makes an interface a port of a bridge.
    pub(super) fn join_bridge(index: u32, name: &str, bridge: u32) -> Self {
        let link = LinkUnspec::new_with_index(index).controller(bridge).build();
        Self::new("add to its bridge", format!("interface {name}"), Message::SetLink(link))
    }

    /// The largest packet.
    pub(super) fn mtu(index: u32, name: &str, mtu: u32) -> Self {
        let link = LinkUnspec::new_with_index(index).mtu(mtu).build();
        Self::new("set the largest packet of", format!("interface {name}"), Message::SetLink(link))
    }

    /// Another name, of a link that is down.
    pub(super) fn rename(index: u32, to: &str) -> Self {
        let link = LinkUnspec::new_with_index(index).name(to.to_owned()).build();
        Self::new("name", format!("interface {to}"), Message::SetLink(link))
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

    /// An address with a route to its network. It is good at once: that no other VE has it is known, and a VE
    /// whose services bind to it does not wait.
    pub(super) fn add_plain_address(index: u32, address: (IpAddr, u8)) -> Self {
        let mut message = Self::address(index, address, AddressScope::Universe);
        message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Flags(_)));
        if let IpAddr::V4(v4) = address.0
            && address.1 < 31
        {
            let broadcast = Ipv4Addr::from_bits(v4.to_bits() | u32::MAX >> address.1);
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        let message = Message::NewAddress(message);
        Self::new("add", format!("address {}/{}", address.0, address.1), message).make().unless_there()
    }

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

    /// The way to everywhere; the lower the metric, the sooner used.
    pub(super) fn default_route(gateway: IpAddr, link: u32, metric: u32) -> RouteMessage {
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .output_interface(link)
            .protocol(RouteProtocol::Static)
            .priority(metric)
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
