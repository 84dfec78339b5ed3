//! Interfaces of a VE on top of an interface of the host: macvlans.
//!
//! Each is in the VE's namespace only and goes with it; the host keeps no end of it, so nothing there filters or limits
//! what it sends.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use rtnetlink::LinkMacVlan;
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::{InfoKind, MacVlanMode};
use serde::{Deserialize, Serialize};

use super::inside::{Inside, InsideSeen};
use super::message::Request;
use super::read::Link;
use super::{Netlink, keep_others};
use crate::error::{SysError, SysResult};
use crate::kernel::ns::{self, Namespace};

/// A macvlan, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Macvlan {
    /// Its name in the VE.
    pub name: String,
    /// The host's interface that it is on top of.
    pub parent: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its largest packet.
    pub mtu: u32,
    /// Its addresses with their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where its default routes lead.
    pub gateways: Vec<IpAddr>,
}

impl Macvlan {
    fn own(&self) -> Inside<'_> {
        let Self { name, parent: _, mac: _, mtu, addresses, gateways } = self;
        Inside { name, mtu: *mtu, addresses, gateways }
    }

    /// Makes it, from the host's namespace. It is in `netns`, and down.
    pub fn make(&self, host: &mut Netlink, netns: BorrowedFd<'_>) -> SysResult<()> {
        let refused =
            |why: String| SysError::refused("make", format_args!("interface {}", self.name), why.as_str());
        let parent = host.link_named(&self.parent)?;
        let parent = parent.ok_or_else(|| refused(format!("the host has no interface {}", self.parent)))?;
        if parent.bridge != 0 {
            return Err(refused(format!("{} is a port of a bridge: name that as `bridge`", self.parent)));
        }
        if parent.mtu < self.mtu {
            let Link { name, mtu, .. } = &parent;
            return Err(refused(format!(
                "{name}'s largest packet is {mtu}, and its own {}: give `mtu`",
                self.mtu
            )));
        }
        // Those on one parent reach each other as on a wire of their own.
        let link = LinkMacVlan::new(&self.name_until_set_up(), parent.index, MacVlanMode::Bridge)
            .address(self.mac.to_vec())
            .setns_by_fd(netns.as_raw_fd());
        let object = format!("interface {} on {}", self.name, self.parent);
        host.run(vec![Request::new("make", object, Message::NewLink(link.build())).make()]).map(drop)
    }

    /// Its name until it is set up. Before Linux 6.15 the name of a new link is looked for in the namespace of who asks,
    /// where the VE's may be taken by one of the host's.
    fn name_until_set_up(&self) -> String {
        let mac: String = self.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("mv{mac}")
    }

    /// Whether it is one that was made and never set up.
    pub fn is_half_made(&self, link: &Link) -> bool {
        link.name == self.name_until_set_up()
    }

    /// Its number in the VE's namespace; also if its owner has given it another name.
    pub fn find(&self, host: &mut Netlink, inside: &mut Netlink) -> SysResult<Option<u32>> {
        let Some(parent) = host.link_named(&self.parent)? else { return Ok(None) };
        let ours = |link: &Link| link.kind == Some(InfoKind::MacVlan) && link.peer == parent.index;
        if let Some(link) = inside.link_named(&self.name)?.filter(ours) {
            return Ok(Some(link.index));
        }
        let found = inside.links()?.into_iter().find(|link| ours(link) && link.mac == self.mac);
        Ok(found.map(|link| link.index))
    }

    /// Whether a link in the VE is one like this, on whatever parent.
    pub fn is_like(&self, link: &Link) -> bool {
        link.kind == Some(InfoKind::MacVlan) && link.mac == self.mac
    }

    /// How it is.
    pub fn see(&self, inside: &mut Netlink, index: u32) -> SysResult<InsideSeen> {
        inside.see_inside(index, &self.name)
    }

    /// Sets it up, from the VE's namespace. It can send when this is done.
    pub(super) fn set_up(&self, inside: &mut Netlink) -> SysResult<()> {
        /// That of a run before is there until the kernel has come to its namespace.
        const LONGEST: Duration = Duration::from_secs(10);
        /// Which of the two kernels say depends on their version.
        const TAKEN: [i32; 2] = [libc::EBUSY, libc::EADDRINUSE];
        let link = inside.link_named(&self.name_until_set_up())?;
        let link = link.ok_or_else(|| {
            SysError::refused("set up", format_args!("interface {}", self.name), "it is not there")
        })?;
        inside.run(vec![Request::rename(link.index, &self.name)])?;
        keep_others(&self.name)?;
        let since = Instant::now();
        loop {
            match inside.run(self.own().set_up(link.index)) {
                Err(e) if TAKEN.contains(&e.errno) && since.elapsed() < LONGEST => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(e) if TAKEN.contains(&e.errno) => {
                    let why = format!("another on {} has its hardware address", self.parent);
                    return Err(SysError::refused("set up", format_args!("interface {}", self.name), why));
                }
                other => break other.map(drop)?,
            }
        }
        inside.await_carrier(link.index)
    }

    /// Makes it and sets it up in a VE that runs.
    pub fn add(&self, host: &mut Netlink, netns: &Namespace) -> SysResult<()> {
        self.make(host, netns.as_fd())?;
        ns::on_thread_in(netns, || self.set_up(&mut Netlink::open()?))
    }

    /// Changes what is not as it is to be, and nothing else. `had`: addresses and gateways that were set before.
    pub fn change(
        &self,
        inside: &mut Netlink,
        seen: &InsideSeen,
        had: (&[(IpAddr, u8)], &[IpAddr]),
    ) -> SysResult<usize> {
        self.own().change(inside, seen, had)
    }
}

/// Whether this kernel has macvlans, asked in a way that changes nothing: one without a parent it refuses, and it says so
/// otherwise if it does not know the kind.
pub fn try_macvlan() -> SysResult<()> {
    let mut link = LinkMacVlan::new("vzd-probe", 0, MacVlanMode::Bridge).build();
    link.attributes.retain(|attribute| !matches!(attribute, super::LinkAttribute::Link(_)));
    let request = Request::new("make", "macvlans (modprobe macvlan)", Message::NewLink(link)).make();
    match Netlink::open()?.run(vec![request]) {
        Err(e) if e.errno == libc::EINVAL => Ok(()),
        other => other.map(drop),
    }
}
