//! VLANs of a bridge's ports: a VE's port is in one of them, and packets leave it without a tag.

use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoData, InfoKind, LinkAttribute,
    LinkExtentMask, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::Netlink;
use super::message::Request;
use super::read::Link;
use crate::error::{SysError, SysResult};

/// Of what a port is a member: packets without a tag are of it both ways.
const OWN: BridgeVlanInfoFlags = BridgeVlanInfoFlags::Pvid.union(BridgeVlanInfoFlags::Untagged);

/// Whether this kernel's bridges know VLANs, asked in a way that changes nothing: where they do, it finds fault with the
/// number (`br_validate`); where they don't, with the name.
pub fn try_vlans() -> SysResult<()> {
    let bridge = LinkBridge::new("lo").append_info_data(InfoBridge::VlanDefaultPvid(4095)).build();
    let request = Request::new("make", "bridges (modprobe bridge)", Message::NewLink(bridge)).make();
    match Netlink::open()?.run(vec![request]) {
        Err(e) if e.errno == libc::EINVAL => Ok(()),
        Err(e) if e.errno != libc::EEXIST => Err(e),
        _ => Err(SysError::refused(
            "make",
            "VLANs of bridges",
            "the kernel has no CONFIG_BRIDGE_VLAN_FILTERING",
        )),
    }
}

/// A request about one VLAN of a port.
fn membership(port: u32, vid: u16, flags: BridgeVlanInfoFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    (message.header.interface_family, message.header.index) = (AddressFamily::Bridge, port);
    let info = AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
    message.attributes = vec![LinkAttribute::AfSpecBridge(vec![info])];
    message
}

/// Makes `port` a member of a VLAN and of no other; it is a member of these now.
pub(super) fn be_in(port: u32, name: &str, vlan: u16, now: impl IntoIterator<Item = u16>) -> Vec<Request> {
    let what = |vid: u16| format!("interface {name} and VLAN {vid}");
    let join = Message::SetLink(membership(port, vlan, OWN));
    let mut requests = vec![Request::new("join", what(vlan), join)];
    requests.extend(now.into_iter().filter(|vid| *vid != vlan).map(|vid| {
        let leave = Message::DelLink(membership(port, vid, BridgeVlanInfoFlags::empty()));
        Request::new("part", what(vid), leave).unless_gone()
    }));
    requests
}

/// Has a bridge look at VLANs.
pub(super) fn filter(bridge: u32, name: &str) -> Request {
    let link = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Bridge)
        .index(bridge)
        .set_info_data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)]))
        .build();
    Request::new("have look at VLANs", format!("bridge {name}"), Message::NewLink(link))
}

/// How a bridge looks at VLANs: whether at all, and of which a new port is a member.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Vlans {
    pub(super) filters: bool,
    pub(super) default: u16,
}

impl Netlink {
    pub(super) fn vlans_of(&mut self, bridge: &Link) -> SysResult<Vlans> {
        let message = LinkUnspec::new_with_index(bridge.index).build();
        let mut vlans = Vlans::default();
        let Message::NewLink(link) =
            self.get(&format!("bridge {}", bridge.name), Message::GetLink(message))?
        else {
            return Ok(vlans);
        };
        let info = link.attributes.iter().filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(info) => Some(info),
            _ => None,
        });
        for data in info.flatten() {
            let LinkInfo::Data(InfoData::Bridge(data)) = data else { continue };
            for one in data {
                match one {
                    InfoBridge::VlanFiltering(filters) => vlans.filters = *filters,
                    InfoBridge::VlanDefaultPvid(vid) => vlans.default = *vid,
                    _ => {}
                }
            }
        }
        Ok(vlans)
    }

    /// The VLANs that a port is a member of, each with whether packets without a tag are of it both ways.
    pub(super) fn memberships(&mut self, port: u32) -> SysResult<Vec<(u16, bool)>> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
        let all = self.dump("ports of bridges", &Message::GetLink(message))?;
        let of_it = all.into_iter().filter_map(|message| match message {
            Message::NewLink(link) if link.header.index == port => Some(link.attributes),
            _ => None,
        });
        let infos = of_it.flatten().filter_map(|attribute| match attribute {
            LinkAttribute::AfSpecBridge(infos) => Some(infos),
            _ => None,
        });
        let vlan = |info| match info {
            AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid }) => Some((vid, flags.contains(OWN))),
            _ => None,
        };
        Ok(infos.flatten().filter_map(vlan).collect())
    }

    /// The VLAN that a port of a bridge is in, if that looks at VLANs and the port is in one only.
    pub fn vlan_of(&mut self, port: &Link) -> SysResult<Option<u16>> {
        let bridge = if port.bridge == 0 { None } else { self.link_numbered(port.bridge)? };
        let Some(bridge) = bridge else { return Ok(None) };
        if !self.vlans_of(&bridge)?.filters {
            return Ok(None);
        }
        match self.memberships(port.index)?.as_slice() {
            [(vid, true)] => Ok(Some(*vid)),
            _ => Ok(None),
        }
    }
}
