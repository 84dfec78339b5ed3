//! `venet0`: the routed link between a VE and its host, as OpenVZ had it.
//!
//! A pair of interfaces: `venet0` in the VE, `venet<ctid>` on the host. No bridge, no addresses shared: the host
//! routes each address to its VE and is every VE's next router, by an address of the link that is the same for
//! all. On the host's end neighbours are fixed and packets filtered by source ([`Sources`]), so that nothing
//! that a VE sends tells the host where anything is. What makes an interface vzd's is its alias.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::LinkFlags;
use serde::{Deserialize, Serialize};

use super::message::{Request, whole};
use super::read::{Link, Route};
use super::{Netlink, tc};
use crate::error::{SysError, SysResult};
use crate::kernel::bpf::Sources;

/// What the interface is called in the VE.
pub const INSIDE: &str = "venet0";

/// The host on this link: every VE's next router.
const NEXT_HOP: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))];

/// Of the default routes over this link: a gateway that the manifest names comes first.
const METRIC: u32 = 2048;

/// The link of one VE, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Venet {
    /// The VE's numeric id, of which names and hardware addresses are made.
    pub ctid: u32,
    /// What the host's end is marked with.
    pub alias: String,
    /// The VE's addresses, with the length of the prefix that the VE sees.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The host has IPv6.
    pub ipv6: bool,
}

/// An address with its prefix, and what of it is missing, in words.
pub type Seen = ((IpAddr, u8), BTreeSet<String>);

/// The numbers of both ends, each in its own namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The host's end.
    pub host: u32,
    /// The VE's end.
    pub inside: u32,
}

impl Venet {
    /// What the host's end is called.
    pub fn name(&self) -> String {
        format!("venet{}", self.ctid)
    }

    /// A hardware address of the locally administered kind, the same at each start.
    fn mac(&self, end: u8) -> [u8; 6] {
        let [a, b, c, d] = self.ctid.to_be_bytes();
        [end, b'v', a, b, c, d]
    }

    fn mac_inside(&self) -> [u8; 6] {
        self.mac(0x02)
    }

    /// The VE's address on the link itself, made of its hardware address as usual.
    fn link_local(&self) -> IpAddr {
        let [a, b, c, d, e, f] = self.mac_inside();
        let tail = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&tail);
        IpAddr::V6(octets.into())
    }

    /// Whether an interface of the host is this link's end: made for this VE.
    pub fn is_ours(&self, link: &Link) -> bool {
        link.alias == self.alias
    }

    /// Makes the pair, with the host's end complete, from the host's namespace. The VE's end is in `netns`,
    /// and down.
    pub fn make(&self, net: &mut Netlink, netns: BorrowedFd<'_>) -> SysResult<Ends> {
        let name = self.name();
        net.run(vec![Request::make_pair((&name, self.mac(0x06)), (INSIDE, self.mac_inside()), netns)])?;
        let made = net.link_named(&name)?;
        let made = made
            .ok_or_else(|| SysError::refused("make", format_args!("interface {name}"), "it is not there"))?;
        let ends = Ends { host: made.index, inside: made.peer };
        let addresses: Vec<IpAddr> = self.addresses.iter().map(|(address, _)| *address).collect();
        let mut requests = vec![Request::alias(ends.host, &name, &self.alias)];
        let (program, _sources) = self.filter(&addresses)?;
        requests.extend(tc::look_at_incoming(ends.host, &name, &program));
        if self.ipv6 {
            requests.push(Request::no_own_address(ends.host, &name));
        }
        // Not of the link's scope: the host is not to choose it as its own address towards the VE.
        requests.push(Request::add_address(ends.host, (NEXT_HOP[0], 32), AddressScope::Host));
        requests.push(Request::link_flags(ends.host, &name, LinkFlags::Up, LinkFlags::empty()));
        if self.ipv6 {
            requests.push(Request::add_address(ends.host, (NEXT_HOP[1], 64), AddressScope::Link));
        }
        requests.extend(addresses.iter().flat_map(|address| self.towards(ends, *address)));
        net.run(requests)?;
        Ok(ends)
    }

    fn filter(&self, addresses: &[IpAddr]) -> SysResult<(std::os::fd::OwnedFd, Sources)> {
        let mut all = addresses.to_vec();
        all.push(self.link_local());
        Sources::new(self.mac_inside(), &all)
    }

    /// What leads to an address from the host.
    fn towards(&self, ends: Ends, address: IpAddr) -> [Request; 2] {
        [
            Request::add_route(address, ends.host),
            Request::set_neighbour(address, ends.host, self.mac_inside()),
        ]
    }

    /// Sets the VE's end up, from the VE's namespace.
    pub(super) fn inside(&self, ends: Ends) -> Vec<Request> {
        let mut requests = Vec::new();
        if self.ipv6 {
            requests.push(Request::no_own_address(ends.inside, INSIDE));
        }
        requests.push(Request::link_flags(ends.inside, INSIDE, LinkFlags::Up, LinkFlags::empty()));
        if self.ipv6 {
            requests.push(Request::add_address(ends.inside, (self.link_local(), 64), AddressScope::Link));
        }
        requests
    }

    /// Gives the VE's end an address, and the way out that goes with it, from the VE's namespace.
    pub(super) fn address_inside(ends: Ends, address: (IpAddr, u8)) -> [Request; 2] {
        let gateway = NEXT_HOP[usize::from(address.0.is_ipv6())];
        let route = Message::NewRoute(Request::default_route(gateway, ends.inside, METRIC));
        [
            Request::add_address(ends.inside, address, AddressScope::Universe),
            Request::new("add", "the default route", route).make().unless_there(),
        ]
    }

    /// What an address needs besides, by a thread that is in the VE's namespace: of several addresses of one
    /// network the others are to stay when the first goes.
    pub fn prepare_inside(address: (IpAddr, u8)) -> SysResult<()> {
        if address.0.is_ipv6() || address.1 == 32 { Ok(()) } else { super::keep_others(INSIDE) }
    }

    /// Both ends as they are: none where the pair, or the VE's end of it, is not there. `inside` asks in the
    /// VE's namespace, where nothing is believed but that this very interface leads to the host's.
    pub fn find(&self, host: &mut Netlink, inside: &mut Netlink) -> SysResult<Option<Ends>> {
        let Some(link) = host.link_named(&self.name())?.filter(|link| self.is_ours(link)) else {
            return Ok(None);
        };
        let there = inside.link_numbered(link.peer)?.filter(|there| there.peer == link.index);
        Ok(there.map(|there| Ends { host: link.index, inside: there.index }))
    }

    /// What of the link is not as it has to be, in words. Addresses are another matter.
    pub fn faults(
        &self,
        host: &mut Netlink,
        inside: &mut Netlink,
        ends: Ends,
    ) -> SysResult<BTreeSet<String>> {
        let mut faults = BTreeSet::new();
        let mut note = |good: bool, fault: &str| {
            if !good {
                faults.insert(fault.to_owned());
            }
        };
        let here = host.link_numbered(ends.host)?;
        note(here.is_some_and(|link| link.up), "the host's end is down");
        let there = inside.link_numbered(ends.inside)?;
        note(there.as_ref().is_some_and(|link| link.up), "the VE's end is down");
        note(there.is_some_and(|link| link.mac == self.mac_inside()), "it has another hardware address");
        let own = host.addresses(Some(ends.host))?;
        note(own.contains(&(NEXT_HOP[0], 32)), "the host does not answer as the next router");
        let sources = self.sources(host, ends)?;
        note(sources.is_some(), "packets are not filtered");
        if self.ipv6 {
            note(own.contains(&(NEXT_HOP[1], 64)), "the host does not answer as the next IPv6 router");
            let own = inside.addresses(Some(ends.inside))?;
            note(own.contains(&(self.link_local(), 64)), "the VE has no address of the link");
        }
        Ok(faults)
    }

    fn sources(&self, host: &mut Netlink, ends: Ends) -> SysResult<Option<Sources>> {
        host.incoming_program(ends.host)?.map_or(Ok(None), Sources::of)
    }

    /// How many packets of the VE were dropped because they were from none of its addresses.
    pub fn dropped(&self, host: &mut Netlink) -> SysResult<Option<u64>> {
        let Some(link) = host.link_named(&self.name())?.filter(|link| self.is_ours(link)) else {
            return Ok(None);
        };
        let ends = Ends { host: link.index, inside: link.peer };
        self.sources(host, ends)?.map(|sources| sources.dropped()).transpose()
    }

    /// Mends what [`Self::faults`] may find.
    pub fn mend(&self, host: &mut Netlink, inside: &mut Netlink, ends: Ends) -> SysResult<()> {
        let name = self.name();
        let mut requests = Vec::new();
        if self.sources(host, ends)?.is_none() {
            let addresses: Vec<IpAddr> = self.addresses.iter().map(|(address, _)| *address).collect();
            let (program, _sources) = self.filter(&addresses)?;
            requests.extend(tc::look_at_incoming(ends.host, &name, &program));
            host.run(std::mem::take(&mut requests))?;
        }
        requests.push(Request::add_address(ends.host, (NEXT_HOP[0], 32), AddressScope::Host));
        requests.push(Request::link_flags(ends.host, &name, LinkFlags::Up, LinkFlags::empty()));
        if self.ipv6 {
            requests.push(Request::add_address(ends.host, (NEXT_HOP[1], 64), AddressScope::Link));
        }
        host.run(requests)?;
        let mut requests = vec![Request::mac(ends.inside, INSIDE, self.mac_inside())];
        requests.extend(self.inside(ends));
        inside.run(requests).map(drop)
    }

    /// The addresses of which anything is there, each with what is missing, in words. The kernel knows the prefix
    /// of those that the VE has; of others it is taken from what is `known`.
    pub fn addresses(
        &self,
        host: &mut Netlink,
        inside: &mut Netlink,
        ends: Ends,
        known: &BTreeSet<(IpAddr, u8)>,
    ) -> SysResult<Vec<Seen>> {
        let own = inside.addresses(Some(ends.inside))?;
        let ways_out = inside.routes(Some(ends.inside))?;
        let routes = host.routes(Some(ends.host))?;
        let neighbours = host.neighbours(ends.host)?;
        let allowed = self.sources(host, ends)?.map_or(Ok(BTreeSet::new()), |sources| sources.allowed())?;
        let mut all: BTreeSet<(IpAddr, u8)> = own.into_iter().collect();
        all.remove(&(self.link_local(), 64));
        let inside_only: BTreeSet<IpAddr> = all.iter().map(|(address, _)| *address).collect();
        let led_to = routes.iter().filter(|route| route.ours).map(|route| route.to.0);
        let led_to = led_to.chain(allowed.iter().copied()).filter(|address| *address != self.link_local());
        let lost: BTreeSet<IpAddr> = led_to.filter(|address| !inside_only.contains(address)).collect();
        let prefix_of =
            |address: &IpAddr| known.iter().find(|(is, _)| is == address).map(|(_, prefix)| *prefix);
        all.extend(lost.iter().map(|address| (*address, prefix_of(address).unwrap_or(whole(*address)))));
        let judge = |(address, prefix): (IpAddr, u8)| {
            let gateway = NEXT_HOP[usize::from(address.is_ipv6())];
            let out = |route: &Route| route.to.1 == 0 && route.gateway == Some(gateway);
            let checks = [
                (!lost.contains(&address), "the VE does not have it"),
                (ways_out.iter().any(out), "the VE has no default route"),
                (routes.iter().any(|route| route.ours && route.to.0 == address), "the host has no route"),
                (
                    neighbours.iter().any(|(is, mac)| *is == address && *mac == self.mac_inside()),
                    "the host has no neighbour",
                ),
                (allowed.contains(&address), "its packets are dropped"),
            ];
            let missing = checks.into_iter().filter(|(good, _)| !good).map(|(_, fault)| fault.to_owned());
            ((address, prefix), missing.collect())
        };
        Ok(all.into_iter().map(judge).collect())
    }

    /// Gives a running VE an address, or what of it is missing, and leaves all others alone.
    pub fn add(
        &self,
        host: &mut Netlink,
        inside: &mut Netlink,
        ends: Ends,
        address: (IpAddr, u8),
    ) -> SysResult<usize> {
        let sources = self.sources(host, ends)?;
        let allowed = sources.as_ref().map_or(Ok(BTreeSet::new()), Sources::allowed)?;
        let mut changed = 0;
        if !allowed.contains(&address.0) {
            changed += 1;
            let full = |e: &SysError| matches!(e.errno, libc::E2BIG | libc::ENOSPC | libc::ENOMEM);
            match sources.map(|sources| sources.allow(address.0)) {
                Some(Ok(())) => {}
                Some(Err(e)) if !full(&e) => return Err(e),
                // A larger map with another program, put in place of the old in one step.
                Some(Err(_)) | None => {
                    let mut all: BTreeSet<IpAddr> = allowed;
                    all.insert(address.0);
                    all.remove(&self.link_local());
                    let (program, _sources) = self.filter(&all.into_iter().collect::<Vec<_>>())?;
                    host.run(tc::look_at_incoming(ends.host, &self.name(), &program).into())?;
                }
            }
        }
        changed += self.lead_to(host, ends, address.0)?;
        changed += inside.run(Self::address_inside(ends, address).into())?;
        Ok(changed)
    }

    /// The route and neighbour of an address. A route of somebody else's is not taken away.
    fn lead_to(&self, host: &mut Netlink, ends: Ends, address: IpAddr) -> SysResult<usize> {
        let mut changed = 0;
        let here = |route: &Route| route.ours && route.to.0 == address;
        if !host.routes(Some(ends.host))?.iter().any(here) {
            changed += match host.run(vec![Request::add_route(address, ends.host)]) {
                Err(e) if e.errno == libc::EEXIST => {
                    let to = (address, whole(address));
                    let others = host.routes(None)?;
                    if others.iter().any(|route| route.to == to && !route.ours) {
                        let why = "the host has a route to it that is not vzd's";
                        return Err(SysError::refused("route", address, why));
                    }
                    host.run(vec![Request::replace_route(address, ends.host)])?
                }
                other => other?,
            };
        }
        let mac = self.mac_inside();
        if !host.neighbours(ends.host)?.iter().any(|(is, at)| *is == address && *at == mac) {
            changed += host.run(vec![Request::set_neighbour(address, ends.host, mac)])?;
        }
        Ok(changed)
    }

    /// Takes an address from a running VE. `last`: it has no other of its family.
    pub fn remove(
        &self,
        host: &mut Netlink,
        inside: &mut Netlink,
        ends: Ends,
        address: (IpAddr, u8),
        last: bool,
    ) -> SysResult<usize> {
        let sources = self.sources(host, ends)?;
        let forbidden = sources.map_or(Ok(false), |sources| sources.forbid(address.0))?;
        let mut changed = usize::from(forbidden);
        changed += host.run(vec![
            Request::remove_route(address.0, ends.host),
            Request::remove_neighbour(address.0, ends.host),
        ])?;
        let mut requests = vec![Request::remove_address(ends.inside, address)];
        if last {
            let gateway = NEXT_HOP[usize::from(address.0.is_ipv6())];
            let route = Message::DelRoute(Request::default_route(gateway, ends.inside, METRIC));
            requests.push(Request::new("remove", "the default route", route).unless_gone());
        }
        changed += inside.run(requests)?;
        Ok(changed)
    }
}

/// The interfaces on which the host has to answer for an address: those of the networks that it belongs to or,
/// if it belongs to none, those that lead to everywhere. `is_own`: interfaces of vzd, which are none of them.
pub fn uplinks(address: IpAddr, routes: &[Route], is_own: impl Fn(u32) -> bool) -> BTreeSet<u32> {
    let outside = |route: &&Route| {
        route.link != 0 && !route.ours && route.to.0.is_ipv4() == address.is_ipv4() && !is_own(route.link)
    };
    let on_link = routes
        .iter()
        .filter(outside)
        .filter(|route| route.gateway.is_none() && route.to.1 > 0 && contains(route.to, address));
    let found: BTreeSet<u32> = on_link.map(|route| route.link).collect();
    if !found.is_empty() {
        return found;
    }
    routes.iter().filter(outside).filter(|route| route.to.1 == 0).map(|route| route.link).collect()
}

fn contains((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str, prefix: u8, link: u32, gateway: Option<&str>) -> Route {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        Route { to: (to.parse().unwrap(), prefix), link, gateway, ours: false }
    }

    #[test]
    fn it_is_answered_where_the_address_belongs() {
        let routes = [
            route("0.0.0.0", 0, 2, Some("192.0.2.1")),
            route("192.0.2.0", 24, 2, None),
            route("10.1.0.0", 16, 3, None),
            route("10.2.0.0", 16, 2, Some("192.0.2.7")),
            route("10.9.0.0", 16, 9, None),
            route("::", 0, 4, Some("fe80::7")),
            route("fd00:1::", 64, 3, None),
        ];
        let on = |address: &str| uplinks(address.parse().unwrap(), &routes, |link| link == 9);
        assert_eq!(on("10.1.2.3"), BTreeSet::from([3]));
        assert_eq!(on("192.0.2.77"), BTreeSet::from([2]));
        assert_eq!(on("203.0.113.5"), BTreeSet::from([2]));
        assert_eq!(on("10.9.0.1"), BTreeSet::from([2]));
        assert_eq!(on("fd00:1::5"), BTreeSet::from([3]));
        assert_eq!(on("2001:db8::1"), BTreeSet::from([4]));
    }

    #[test]
    fn each_end_has_an_address_of_its_own() {
        let venet = |ctid| Venet { ctid, alias: String::new(), addresses: Vec::new(), ipv6: true };
        assert_eq!(venet(101).mac_inside(), [2, b'v', 0, 0, 0, 101]);
        assert_eq!(venet(101).link_local().to_string(), "fe80::76:ff:fe00:65");
        assert!(venet(2_147_483_644).name().len() <= 15);
    }
}
