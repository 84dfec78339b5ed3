//! Telling a wire, unasked, who has an address from now on: an ARP announcement (RFC 5227) or an unsolicited neighbour
//! advertisement (RFC 4861, 7.2.6), as OpenVZ did with `arpsend -U`.
//!
//! A neighbour that has spoken with another owner of the address would go on sending to that one until it asks anew. Packets go
//! out past the packet filter, so that a VE whose traffic is held up is announced too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use super::wire::{ARP, ARP_REQUEST, ETH_P_ARP, NEIGHBOUR_ADVERTISEMENT, link_address, send, socket};
use super::{Netlink, read_sysctl};
use crate::error::{At, SysResult};

const ETH_P_IPV6: u16 = 0x86dd;
const BROADCAST: [u8; 6] = [0xff; 6];
/// Everybody on the wire, and the hardware address that this goes to.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// What addresses were announced with. To drop it waits until no processor can be using it, for 20 ms: to be done where nobody
/// waits.
#[derive(Debug)]
#[must_use]
pub struct Announced {
    _socket: OwnedFd,
}

impl Announced {
    /// Drops them while the caller goes on; for a process that may have threads.
    pub fn drop_apart(them: Vec<Announced>) {
        if !them.is_empty() {
            // Without a thread they are dropped here.
            let _ = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || drop(them));
        }
    }
}

/// Announces addresses on an interface of the calling thread's namespace. That this cannot be done is no failure of what they are
/// given to, since neighbours ask in the end.
pub fn announce(name: &str, addresses: &[IpAddr]) -> Option<Announced> {
    try_announce(name, addresses).unwrap_or_else(|e| {
        tracing::debug!(error = %e, "neighbours on {name} are not told of addresses");
        None
    })
}

fn try_announce(name: &str, addresses: &[IpAddr]) -> SysResult<Option<Announced>> {
    let Some(link) = Netlink::open()?.link_named(name)? else { return Ok(None) };
    // One that has no hardware address of the usual kind has no neighbours.
    let Ok(mac) = <[u8; 6]>::try_from(link.mac.as_slice()) else { return Ok(None) };
    // No protocol: nothing is received.
    let socket = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0, "a socket for announcements")?;
    let routes = addresses.iter().any(IpAddr::is_ipv6)
        && read_sysctl(&format!("net.ipv6.conf.{name}.forwarding")).is_ok_and(|is| is == "1");
    for address in addresses {
        say(&socket, link.index, mac, *address, routes)?;
    }
    Ok(Some(Announced { _socket: socket }))
}

fn say(socket: &OwnedFd, link: u32, mac: [u8; 6], address: IpAddr, routes: bool) -> SysResult<()> {
    let (packet, protocol, to) = match address {
        IpAddr::V4(v4) => (arp(mac, v4), ETH_P_ARP, BROADCAST),
        IpAddr::V6(v6) => (advertisement(mac, v6, routes), ETH_P_IPV6, ALL_NODES_MAC),
    };
    send(socket, &packet, &link_address(link, protocol, to)).at("announce", address)
}

/// A question that nobody answers: who asks has the address already.
fn arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    [&ARP[..], &ARP_REQUEST, &mac, &address.octets(), &[0; 6], &address.octets()].concat()
}

fn advertisement(mac: [u8; 6], address: Ipv6Addr, routes: bool) -> Vec<u8> {
    /// Who has noted somebody else is to forget that.
    const OVERRIDE: u8 = 0x20;
    /// The sender forwards: who uses it as a router is to go on.
    const ROUTER: u8 = 0x80;
    const ICMP6: u8 = 58;
    /// What came over a router is not believed.
    const HOPS: u8 = 255;
    let flags = if routes { OVERRIDE | ROUTER } else { OVERRIDE };
    let head = |sum: u16| [&[NEIGHBOUR_ADVERTISEMENT, 0][..], &sum.to_be_bytes(), &[flags, 0, 0, 0]].concat();
    // The target link-layer address, of 8 bytes.
    let rest = [&address.octets()[..], &[2, 1], &mac].concat();
    let ends = [address.octets(), ALL_NODES.octets()].concat();
    let sum = checksum(&[&ends[..], &[0, 0, 0, 32], &[0, 0, 0, ICMP6], &head(0), &rest].concat());
    [&[0x60, 0, 0, 0, 0, 32, ICMP6, HOPS][..], &ends, &head(sum), &rest].concat()
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_is_whole() {
        let packet = advertisement([2, 0, 0, 0, 0, 7], "fd00:2::101".parse().unwrap(), false);
        assert_eq!(packet.len(), 40 + 32);
        let (head, body) = packet.split_at(40);
        assert_eq!(body[4], 0x20, "override, and no router");
        // With its sum, all adds up to nothing.
        assert_eq!(checksum(&[&head[8..], &[0, 0, 0, 32, 0, 0, 0, 58], body].concat()), 0);
        assert_eq!(advertisement([2, 0, 0, 0, 0, 7], "fd00:2::101".parse().unwrap(), true)[44], 0xa0);
    }

    #[test]
    fn an_arp_announcement_names_one_address_twice() {
        let packet = arp([2, 0, 0, 0, 0, 7], Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(packet.len(), 28);
        assert_eq!(packet[14..18], packet[24..28]);
    }
}
