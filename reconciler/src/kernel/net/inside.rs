//! The VE's end of an interface: its largest packet, addresses and ways out, whatever it is linked to on the host.
//!
//! It is in a namespace that the VE's root rules. What vzd did not set there is left alone.

use std::net::IpAddr;

use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::LinkFlags;

use super::Netlink;
use super::message::Request;
use super::read::Link;
use crate::error::{SysError, SysResult};

/// A VE's end, as it is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inside<'a> {
    /// Its name in the VE.
    pub(super) name: &'a str,
    /// Its largest packet.
    pub(super) mtu: u32,
    /// Its addresses with their prefixes.
    pub(super) addresses: &'a [(IpAddr, u8)],
    /// Where its default routes lead.
    pub(super) gateways: &'a [IpAddr],
}

/// A VE's end, as it is.
#[derive(Debug)]
pub struct InsideSeen {
    /// The end itself.
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The gateways of its default routes.
    pub gateways: Vec<IpAddr>,
}

/// Of default routes by a gateway of the manifest: before those of `venet0` (2048).
const METRIC: u32 = 512;

impl Inside<'_> {
    /// Sets it up, with its addresses and routes, from the VE's namespace.
    pub(super) fn set_up(&self, index: u32) -> Vec<Request> {
        let mut requests = vec![
            Request::mtu(index, self.name, self.mtu),
            Request::link_flags(index, self.name, LinkFlags::Up, LinkFlags::empty()),
        ];
        requests.extend(self.addresses.iter().map(|one| Request::add_plain_address(index, *one)));
        requests.extend(self.gateways.iter().map(|gateway| {
            let route = Message::NewRoute(Request::default_route(*gateway, index, METRIC));
            Request::new("add", format!("route by {gateway}"), route).make().unless_there()
        }));
        requests
    }

    /// Changes what is not as it is to be, and nothing else. `had`: addresses and gateways that were set before.
    pub(super) fn change(
        &self,
        inside: &mut Netlink,
        seen: &InsideSeen,
        (had, ways): (&[(IpAddr, u8)], &[IpAddr]),
    ) -> SysResult<usize> {
        let index = seen.link.index;
        let mut requests = Vec::new();
        let gone = had.iter().filter(|one| !self.addresses.contains(one) && seen.addresses.contains(one));
        requests.extend(gone.map(|one| Request::remove_address(index, *one)));
        let gone = ways.iter().filter(|one| !self.gateways.contains(one) && seen.gateways.contains(one));
        requests.extend(gone.map(|gateway| {
            let route = Message::DelRoute(Request::default_route(*gateway, index, METRIC));
            Request::new("remove", format!("route by {gateway}"), route).unless_gone()
        }));
        let whole = seen.link.mtu == self.mtu
            && seen.link.up
            && self.addresses.iter().all(|one| seen.addresses.contains(one))
            && self.gateways.iter().all(|one| seen.gateways.contains(one));
        let certain = requests.len();
        if !whole {
            requests.extend(self.set_up(index));
        }
        let done = inside.run(requests)?;
        // Setting up what is up counts as nothing.
        Ok(if whole { done.min(certain) } else { done })
    }
}

impl Netlink {
    /// The end of this number, in the VE's namespace.
    pub(super) fn see_inside(&mut self, index: u32, name: &str) -> SysResult<InsideSeen> {
        let link = self.link_numbered(index)?;
        let link = link.ok_or_else(|| {
            SysError::refused("look at", format_args!("interface {name}"), "it is not there")
        })?;
        let ways_out = self.routes(Some(index))?.into_iter().filter(|route| route.to.1 == 0);
        Ok(InsideSeen {
            link,
            addresses: self.addresses(Some(index))?,
            gateways: ways_out.filter_map(|route| route.gateway).collect(),
        })
    }
}
