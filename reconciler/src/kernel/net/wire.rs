//! Asking on a wire who has an address: an ARP request or a neighbour solicitation, and whoever answers.
//!
//! Nobody is waited for here: answers wait in the socket until somebody looks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::Netlink;
use super::read::Link;
use crate::error::{At, SysError, SysResult};

pub(super) const ETH_P_ARP: u16 = 0x0806;
/// Sent in front of every ARP packet about IPv4 over Ethernet, before the operation.
pub(super) const ARP: [u8; 6] = [0, 1, 8, 0, 6, 4];
pub(super) const ARP_REQUEST: [u8; 2] = [0, 1];
const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// An ear on an interface, for one family of addresses.
#[derive(Debug)]
pub struct Ear {
    socket: OwnedFd,
    link: u32,
    mac: [u8; 6],
    /// Whom ARP is asked for by; none where the interface has no address.
    from: Ipv4Addr,
    ipv4: bool,
}

impl Ear {
    /// Listens on an interface; none where that has no hardware addresses of the usual kind.
    pub fn open(host: &mut Netlink, link: &Link, ipv4: bool) -> SysResult<Option<Self>> {
        let Ok(mac) = <[u8; 6]>::try_from(link.mac.as_slice()) else { return Ok(None) };
        let socket = if ipv4 { arp_socket(link) } else { icmp6_socket(link) }?;
        let from = host.addresses(Some(link.index))?.into_iter().find_map(|(address, _)| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        let from = from.unwrap_or(Ipv4Addr::UNSPECIFIED);
        Ok(Some(Ear { socket, link: link.index, mac, from, ipv4 }))
    }

    /// Asks who has an address. A host that answers for others is to answer too, so that the question is an ordinary one
    /// in this host's own name, not the kind that asks for duplicates.
    pub fn ask(&self, address: IpAddr) -> SysResult<()> {
        match address {
            IpAddr::V4(v4) => {
                let asker = [&ARP[..], &ARP_REQUEST, &self.mac, &self.from.octets()].concat();
                let packet = [asker.as_slice(), &[0; 6], &v4.octets()].concat();
                let to = link_address(self.link, ETH_P_ARP, [0xff; 6]);
                send(&self.socket, &packet, &to).at("ask who has", address)
            }
            IpAddr::V6(v6) => {
                let head = [NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
                // The source link-layer address, of 8 bytes.
                let packet = [&head[..], &v6.octets(), &[1, 1], &self.mac].concat();
                let to = socket_address(solicited_node(v6), self.link);
                send(&self.socket, &packet, &to).at("ask who has", address)
            }
        }
    }

    /// The addresses that somebody else has said to have since the last look, with that one's hardware address.
    pub fn hear(&self) -> Vec<(IpAddr, [u8; 6])> {
        let mut heard = Vec::new();
        let mut packet = [0; 256];
        let nothing_now = rustix::net::RecvFlags::DONTWAIT;
        while let Ok((length, _)) = rustix::net::recv(&self.socket, &mut packet[..], nothing_now) {
            let said =
                if self.ipv4 { said_by_arp(&packet[..length]) } else { said_by_icmp6(&packet[..length]) };
            heard.extend(said.filter(|(_, mac)| *mac != self.mac));
        }
        heard
    }
}

/// Whose address it is that an ARP packet comes from. One that only asks for duplicates comes from none.
fn said_by_arp(packet: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let rest = packet.strip_prefix(&ARP)?;
    let mac = *rest.get(2..)?.first_chunk()?;
    let address = Ipv4Addr::from(*rest.get(8..)?.first_chunk::<4>()?);
    (!address.is_unspecified()).then_some((address.into(), mac))
}

/// The address that a neighbour advertisement is about, and whose it is.
fn said_by_icmp6(packet: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
    let address = Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?);
    let mut options = packet.get(24..)?;
    loop {
        if options.starts_with(&TARGET_LINK_LAYER_ADDRESS) {
            return Some((address.into(), *options.get(2..)?.first_chunk()?));
        }
        let length = usize::from(*options.get(1)?) * 8;
        options = options.get(length.max(8)..)?;
    }
}

/// Those who may have an address hear what is sent to this one.
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

pub(super) fn socket(family: i32, kind: i32, protocol: i32, what: &str) -> SysResult<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(SysError::new("open", what, std::io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn arp_socket(link: &Link) -> SysResult<OwnedFd> {
    let protocol = ETH_P_ARP.to_be();
    let socket = socket(libc::AF_PACKET, libc::SOCK_DGRAM, i32::from(protocol), "a socket for ARP")?;
    let at = link_address(link.index, ETH_P_ARP, [0; 6]);
    // SAFETY: the address is a whole structure of the length that is given.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const at).cast(), length(&at)) };
    if bound < 0 {
        return Err(SysError::new("listen on", &link.name, std::io::Error::last_os_error()));
    }
    Ok(socket)
}

fn icmp6_socket(link: &Link) -> SysResult<OwnedFd> {
    let what = "a socket for neighbour discovery";
    let socket = socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6, what)?;
    /// `ICMP6_FILTER` (linux/icmpv6.h): which types are kept off.
    const FILTER: i32 = 1;
    let mut filter = [u32::MAX; 8];
    filter[usize::from(NEIGHBOUR_ADVERTISEMENT) / 32] &= !(1 << (NEIGHBOUR_ADVERTISEMENT % 32));
    // Neighbour discovery that came over a router is none.
    let hops: i32 = 255;
    option(&socket, libc::IPPROTO_ICMPV6, FILTER, &filter).at("filter", what)?;
    option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, &hops).at("set the hop limit of", what)?;
    option(&socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &link.index).at("listen on", &link.name)?;
    Ok(socket)
}

fn option<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> std::io::Result<()> {
    // SAFETY: the value is read only, for the length that is given.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length(value))
    };
    if set < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// The length of what the kernel is given, which is small.
fn length<T>(of: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(of)).unwrap_or(0)
}

fn family(family: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).unwrap_or(0)
}

/// Where packets of a protocol (`ETH_P_*`) go or come from.
pub(super) fn link_address(link: u32, protocol: u16, mac: [u8; 6]) -> libc::sockaddr_ll {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&mac);
    libc::sockaddr_ll {
        sll_family: family(libc::AF_PACKET),
        sll_protocol: protocol.to_be(),
        sll_ifindex: link.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    }
}

fn socket_address(to: Ipv6Addr, link: u32) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: family(libc::AF_INET6),
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: to.octets() },
        sin6_scope_id: link,
    }
}

pub(super) fn send<T>(socket: &OwnedFd, packet: &[u8], to: &T) -> std::io::Result<()> {
    // SAFETY: packet and address are read only, for the lengths that are given.
    let sent = unsafe {
        let (packet, bytes) = (packet.as_ptr().cast(), packet.len());
        libc::sendto(
            socket.as_raw_fd(),
            packet,
            bytes,
            libc::MSG_DONTWAIT,
            (&raw const *to).cast(),
            length(to),
        )
    };
    if sent < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

    #[test]
    fn who_says_to_have_an_address_is_heard() {
        let arp = |address: [u8; 4]| [&ARP[..], &[0, 2], &MAC, &address, &[0; 10]].concat();
        assert_eq!(said_by_arp(&arp([192, 0, 2, 7])), Some(("192.0.2.7".parse().unwrap(), MAC)));
        assert_eq!(said_by_arp(&arp([0; 4])), None, "a question about duplicates");
        let about: Ipv6Addr = "fd00:2::101".parse().unwrap();
        let head = [NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0];
        let advertisement = |options: &[u8]| [&head[..], &about.octets(), options].concat();
        let own = [&[2, 1][..], &MAC].concat();
        assert_eq!(said_by_icmp6(&advertisement(&own)), Some((about.into(), MAC)));
        let other = [&[14, 1, 0, 0, 0, 0, 0, 0][..], &own].concat();
        assert_eq!(said_by_icmp6(&advertisement(&other)), Some((about.into(), MAC)));
        for broken in [&[][..], &[2], &[2, 1, 0], &[14, 0, 0, 0]] {
            assert_eq!(said_by_icmp6(&advertisement(broken)), None);
        }
        for length in 0..20 {
            assert_eq!(said_by_arp(&arp([192, 0, 2, 7])[..length.min(17)]), None);
        }
        assert_eq!(solicited_node(about), "ff02::1:ff00:101".parse::<Ipv6Addr>().unwrap());
    }
}
