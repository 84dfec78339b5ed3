//! Sockets on which VEs ask for names, and the address that they ask where they have IPv6 only.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, listen,
    recvmsg, setsockopt, socket, sockopt,
};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::message::{Request, family, whole};
use super::read::PROTOCOL;
use super::{LOOPBACK_INDEX, Netlink};
use crate::error::{At, SysResult};

/// The kernel's table of what is the host's own.
const LOCAL: u8 = 255;

/// A datagram as it came.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    /// How long it is; more than the buffer has, if it did not fit.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The number of the interface over which it came.
    pub over: u32,
}

fn bound(address: SocketAddr, kind: SockType, shared: bool) -> SysResult<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let make = || {
        let made = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        // The one is an address of the host with the first VE that has its like; to the other there is a route only.
        setsockopt(&made, sockopt::IpFreebind, &true)?;
        if shared {
            setsockopt(&made, sockopt::ReuseAddr, &true)?;
        }
        match (kind, address.is_ipv4()) {
            (SockType::Stream, _) => {}
            (_, true) => setsockopt(&made, sockopt::Ipv4PacketInfo, &true)?,
            (_, false) => setsockopt(&made, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        bind(made.as_raw_fd(), &SockaddrStorage::from(address))?;
        Ok::<_, Errno>(made)
    };
    let protocol = if kind == SockType::Stream { "TCP" } else { "UDP" };
    make().at("listen at", format_args!("{address} ({protocol})"))
}

/// A socket for datagrams to an address, which tells over which interface each came. It does not wait.
pub fn datagrams(address: SocketAddr) -> SysResult<UdpSocket> {
    bound(address, SockType::Datagram, false).map(UdpSocket::from)
}

/// The same in the calling thread's namespace, beside servers of whoever that belongs to that listen at every address and
/// can share it.
pub fn datagrams_beside_others(address: SocketAddr) -> SysResult<UdpSocket> {
    bound(address, SockType::Datagram, true).map(UdpSocket::from)
}

/// A socket for connections to an address. It does not wait.
pub fn connections(address: SocketAddr) -> SysResult<TcpListener> {
    // Connections of one before may still be on their way out.
    let made = bound(address, SockType::Stream, true)?;
    listen(&made, Backlog::new(64).unwrap_or(Backlog::MAXCONN)).at("listen at", address)?;
    Ok(TcpListener::from(made))
}

/// Takes a datagram; an error that is `WouldBlock` where there is none.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> std::io::Result<Came> {
    let mut parts = [std::io::IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let fd = socket.as_fd().as_raw_fd();
    let got = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_TRUNC)?;
    let over = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => u32::try_from(info.ipi_ifindex).ok(),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_ifindex),
        _ => None,
    });
    let from = got.address.as_ref().and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
        v4.or_else(|| from.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
    });
    let from = from.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0));
    Ok(Came { length: got.bytes, from, over: over.unwrap_or(0) })
}

/// What an interface of the host is called, by its number.
pub fn interface_name(number: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(number).ok()?;
    name.into_string().ok()
}

fn own(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(address),
        destination_prefix_length: whole(address),
        table: LOCAL,
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: RouteScope::Universe,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    message.attributes =
        vec![RouteAttribute::Destination(address.into()), RouteAttribute::Oif(LOOPBACK_INDEX)];
    message
}

impl Netlink {
    /// Has the host take packets to an address as its own.
    pub fn take_as_own(&mut self, address: IpAddr) -> SysResult<()> {
        let request = Request::new("take as own", address.to_string(), Message::NewRoute(own(address)));
        self.run(vec![request.make().unless_there()]).map(drop)
    }

    /// Takes that back.
    pub fn take_no_more(&mut self, address: IpAddr) -> SysResult<()> {
        let request = Request::new("give up", address.to_string(), Message::DelRoute(own(address)));
        self.run(vec![request.unless_gone()]).map(drop)
    }
}
