//! Interfaces of a VE on a bridge of the host, as OpenVZ's veth were.
//!
//! A pair: one end in the VE, the other a port of the bridge. A bridge that is not there is made, and goes with
//! its last port; one that somebody else made is only joined. What makes interfaces and bridges vzd's is their
//! alias.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rtnetlink::packet_route::link::LinkFlags;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::inside::{Inside, InsideSeen};
use super::message::Request;
use super::read::Link;
use super::vlan::{self, Vlans};
use super::{Ends, Netlink, tc};
use crate::error::{At, SysError, SysResult};
use crate::kernel::bpf;

/// The bridges of one vzd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bridges {
    /// What one is marked with that was made.
    pub mark: String,
    /// A file that those lock together who join one, and alone who takes away those without a port: none goes between
    /// somebody's look at it and his joining.
    pub lock: PathBuf,
}

impl Bridges {
    fn lock(&self, operation: FlockOperation) -> SysResult<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.lock, flags, Mode::RUSR | Mode::WUSR);
        let file = file.at("open", self.lock.display())?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(Errno::INTR) => {}
                done => return done.at("lock", self.lock.display()).map(|()| file),
            }
        }
    }

    /// Takes away those that have no port any more.
    pub fn remove_empty(&self, host: &mut Netlink) -> SysResult<()> {
        let _alone = self.lock(FlockOperation::LockExclusive)?;
        let links = host.links()?;
        let used: BTreeSet<u32> = links.iter().map(|link| link.bridge).collect();
        let empty = links.iter().filter(|link| link.alias == self.mark && !used.contains(&link.index));
        host.run(empty.map(|link| Request::remove_link(link.index, &link.name)).collect()).map(drop)
    }
}

/// An interface on a bridge, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bridged {
    /// Its name in the VE.
    pub name: String,
    /// Its name on the host.
    pub host_name: String,
    /// What the host's end is marked with.
    pub alias: String,
    /// Of which the bridge is one, if it is made for this.
    pub bridges: Bridges,
    /// The bridge.
    pub bridge: String,
    /// The VLAN of the bridge that it is in, if it is to be in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Its hardware address in the VE.
    pub mac: [u8; 6],
    /// Its largest packet.
    pub mtu: u32,
    /// Its addresses with their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where its default routes lead.
    pub gateways: Vec<IpAddr>,
    /// What has another hardware address is dropped.
    pub mac_filter: bool,
}

/// An interface on a bridge, as it is.
#[derive(Debug)]
pub struct BridgedSeen {
    /// The bridge's name.
    pub bridge: Option<String>,
    /// The VE's end.
    pub inside: InsideSeen,
    /// The VLAN that it is in, where one is wanted.
    pub vlan: Option<u16>,
    /// Both ends are up.
    pub up: bool,
    /// The hardware address that may send, if only one may.
    pub filter: Option<[u8; 6]>,
}

impl Bridged {
    /// Makes the pair, from the host's namespace. The VE's end is in `netns`, and down; the host's is up, so that
    /// whoever sets up the VE's can wait for its carrier there.
    pub fn make(&self, net: &mut Netlink, netns: BorrowedFd<'_>) -> SysResult<Ends> {
        // A bridge has the lowest hardware address of its ports unless it was given one: never a VE's.
        let host_mac = self.mac_beside([0xfe, 0xfa]);
        net.run(vec![Request::make_pair((&self.host_name, host_mac), (&self.name, self.mac), netns)])?;
        let made = net.link_named(&self.host_name)?;
        let made = made.ok_or_else(|| self.missing())?;
        let ends = Ends { host: made.index, inside: made.peer };
        let mut requests = vec![Request::alias(ends.host, &self.host_name, &self.alias)];
        let program = self.mac_filter.then(|| bpf::load_mac_filter(self.mac)).transpose()?;
        requests.extend(program.iter().flat_map(|it| tc::look_at_incoming(ends.host, &self.host_name, it)));
        requests.push(Request::mtu(ends.host, &self.host_name, self.mtu));
        if std::path::Path::new("/proc/sys/net/ipv6").exists() {
            requests.push(Request::no_own_address(ends.host, &self.host_name));
        }
        requests.push(Request::link_flags(ends.host, &self.host_name, LinkFlags::Up, LinkFlags::empty()));
        net.run(requests)?;
        Ok(ends)
    }

    /// Makes the host's end a port of its bridge, once the VE's end is up: a port without a carrier would be
    /// opened when the kernel comes to it, and the first packets be lost.
    pub fn connect(&self, net: &mut Netlink, ends: Ends) -> SysResult<()> {
        net.await_carrier(ends.host)?;
        let _with_others = self.bridges.lock(FlockOperation::LockShared)?;
        let bridge = self.bridge(net)?;
        net.run(self.join(ends, bridge)).map(drop)
    }

    /// Makes the host's end a port of the bridge, in its VLAN.
    fn join(&self, ends: Ends, (bridge, vlans): (u32, Vlans)) -> Vec<Request> {
        let mut requests = vec![Request::join_bridge(ends.host, &self.host_name, bridge)];
        if let Some(vlan) = self.vlan {
            let default = Some(vlans.default).filter(|vid| *vid > 0);
            requests.extend(vlan::be_in(ends.host, &self.host_name, vlan, default));
        }
        requests
    }

    /// A hardware address like the VE's, but never the same, which may itself have any first byte: what a bridge
    /// sees as its own or a port's it does not deliver.
    fn mac_beside(&self, firsts: [u8; 2]) -> [u8; 6] {
        let mut mac = self.mac;
        mac[0] = if mac[0] == firsts[0] { firsts[1] } else { firsts[0] };
        mac
    }

    fn missing(&self) -> SysError {
        SysError::refused("make", format_args!("interface {}", self.host_name), "it is not there")
    }

    /// The number of the bridge, which is made if it is not there, and how it looks at VLANs if it has to. It stays for as long
    /// as the lock is held.
    fn bridge(&self, net: &mut Netlink) -> SysResult<(u32, Vlans)> {
        let mut found = net.link_named(&self.bridge)?;
        if found.is_none() {
            self.make_bridge(net)?;
            found = net.link_named(&self.bridge)?;
        }
        let gone =
            || SysError::refused("join", format_args!("bridge {}", self.bridge), "somebody removed it");
        let bridge = found.ok_or_else(gone)?;
        let ours = bridge.alias == self.bridges.mark;
        if ours && !bridge.up {
            net.run(vec![Request::link_flags(
                bridge.index,
                &self.bridge,
                LinkFlags::Up,
                LinkFlags::empty(),
            )])?;
        }
        if self.vlan.is_none() {
            return Ok((bridge.index, Vlans::default()));
        }
        let vlans = net.vlans_of(&bridge)?;
        if !vlans.filters && !ours {
            let why = "it does not look at VLANs, and is not vzd's: set its vlan_filtering to 1";
            return Err(SysError::refused("join", format_args!("bridge {}", self.bridge), why));
        }
        if !vlans.filters {
            net.run(vec![vlan::filter(bridge.index, &self.bridge)])?;
        }
        Ok((bridge.index, vlans))
    }

    /// Makes the bridge. It gets its name when it bears vzd's mark, since the kernel does not give both in one step: nobody
    /// ever sees it without. Of several starts that make it at once one is first; the others take that one.
    fn make_bridge(&self, net: &mut Netlink) -> SysResult<()> {
        // The same at each start of this VE: what a killed one has left is used.
        let unnamed: String = self.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let unnamed = format!("vzb{unnamed}");
        net.run(vec![Request::make_bridge(&unnamed, self.mac_beside([0x02, 0x06]))])?;
        let Some(made) = net.link_named(&unnamed)? else { return Ok(()) };
        net.run(vec![Request::alias(made.index, &unnamed, &self.bridges.mark)])?;
        match net.run(vec![Request::rename(made.index, &self.bridge)]) {
            // Another was first.
            Err(e) if e.errno == libc::EEXIST => {
                net.run(vec![Request::remove_link(made.index, &unnamed)]).map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Puts the host's end into its VLAN, or back into the bridge's usual one if `had` was vzd's doing.
    fn change_vlan(&self, host: &mut Netlink, here: &Link, had: Option<u16>) -> SysResult<Vec<Request>> {
        if self.vlan.or(had).is_none() {
            return Ok(Vec::new());
        }
        let is = host.vlan_of(here)?;
        let wanted = match (self.vlan, had) {
            (Some(vlan), _) if is != Some(vlan) => {
                self.bridge(host)?;
                vlan
            }
            (None, Some(had)) if is == Some(had) => match host.link_numbered(here.bridge)? {
                Some(bridge) => host.vlans_of(&bridge)?.default,
                None => return Ok(Vec::new()),
            },
            _ => return Ok(Vec::new()),
        };
        let now = host.memberships(here.index)?.into_iter().map(|(vid, _)| vid);
        Ok(vlan::be_in(here.index, &self.host_name, wanted, now))
    }

    /// The VE's end.
    pub(super) fn own(&self) -> Inside<'_> {
        Inside { name: &self.name, mtu: self.mtu, addresses: &self.addresses, gateways: &self.gateways }
    }

    /// Both ends, if they are there: the host's by this name or, to be told from a new one, by its mark.
    pub fn find(&self, host: &mut Netlink, inside: &mut Netlink) -> SysResult<Option<Ends>> {
        let Some(link) = self.host_end(host)? else { return Ok(None) };
        let there = inside.link_numbered(link.peer)?.filter(|there| there.peer == link.index);
        Ok(there.map(|there| Ends { host: link.index, inside: there.index }))
    }

    /// The host's end, whatever it is called.
    pub fn host_end(&self, host: &mut Netlink) -> SysResult<Option<Link>> {
        let ours = |link: &Link| link.alias == self.alias;
        if let Some(link) = host.link_named(&self.host_name)?.filter(ours) {
            return Ok(Some(link));
        }
        Ok(host.links()?.into_iter().find(ours))
    }

    /// How it is.
    pub fn see(
        &self,
        host: &mut Netlink,
        inside: &mut Netlink,
        ends: Ends,
    ) -> SysResult<(Link, BridgedSeen)> {
        let here = host.link_numbered(ends.host)?.ok_or_else(|| self.missing())?;
        let there = inside.see_inside(ends.inside, &self.name)?;
        let bridge = if here.bridge == 0 { None } else { host.link_numbered(here.bridge)? };
        let filter = host.incoming_program(ends.host)?.map_or(Ok(None), bpf::mac_filter)?;
        let vlan = if self.vlan.is_some() { host.vlan_of(&here)? } else { None };
        let seen = BridgedSeen {
            vlan,
            bridge: bridge.map(|bridge| bridge.name),
            up: here.up && there.link.up,
            inside: there,
            filter,
        };
        Ok((here, seen))
    }

    /// Changes what is not as it is to be, and nothing else. `had`: what was set before.
    pub fn change(
        &self,
        host: &mut Netlink,
        inside: &mut Netlink,
        ends: Ends,
        had: Option<&Self>,
    ) -> SysResult<usize> {
        let (here, seen) = self.see(host, inside, ends)?;
        let (mut requests, mut joining) = (Vec::new(), None);
        let flags = |set, clear| Request::link_flags(ends.host, &self.host_name, set, clear);
        if seen.bridge.as_ref() == Some(&self.bridge) {
            requests.extend(self.change_vlan(host, &here, had.and_then(|had| had.vlan))?);
        } else {
            joining = Some(self.bridges.lock(FlockOperation::LockShared)?);
            let bridge = self.bridge(host)?;
            // Nothing goes out by a port before it is in its VLAN.
            let quiet = self.vlan.is_some() && here.up;
            requests.extend(quiet.then(|| flags(LinkFlags::empty(), LinkFlags::Up)));
            requests.extend(self.join(ends, bridge));
            requests.extend(quiet.then(|| flags(LinkFlags::Up, LinkFlags::empty())));
        }
        let program = (self.mac_filter && seen.filter != Some(self.mac))
            .then(|| bpf::load_mac_filter(self.mac))
            .transpose()?;
        requests.extend(program.iter().flat_map(|it| tc::look_at_incoming(ends.host, &self.host_name, it)));
        if !self.mac_filter && seen.filter.is_some() {
            requests.push(tc::look_no_more(ends.host, &self.host_name));
        }
        if here.mtu != self.mtu {
            requests.push(Request::mtu(ends.host, &self.host_name, self.mtu));
        }
        if !here.up {
            requests.push(flags(LinkFlags::Up, LinkFlags::empty()));
        }
        let changed = host.run(requests)?;
        drop(joining);
        let had = had.map_or((&[][..], &[][..]), |had| (&had.addresses, &had.gateways));
        Ok(changed + self.own().change(inside, &seen.inside, had)?)
    }
}
