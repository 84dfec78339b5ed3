//! What went over the links of a running VE: a few numbers, for `vzd top`'s and metrics' many VEs. Read only.

use serde::{Deserialize, Serialize};
use vzd_state::subsystem::network;

use super::{bridged, devices, macvlan, netns, venet};
use crate::drivers::{Running, Ve};
use crate::error::SysResult;
use crate::kernel::net::{INSIDE, Netlink, Traffic};
use crate::kernel::ns;

/// What went over a link, as the VE sees the directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkUse {
    /// What it is called in the VE, by its manifest.
    pub name: String,
    /// What the VE has received over it since it was made.
    pub received: Traffic,
    /// What the VE has sent over it since it was made.
    pub sent: Traffic,
}

/// Looks at each link that the VE was given. Where there is an end on the host, that is looked at.
pub fn traffic(ve: Ve<'_>, running: &Running) -> SysResult<Vec<LinkUse>> {
    let nothing = network::Desired::default();
    let is = ve.entry.applied.network.as_deref().unwrap_or(&nothing);
    let mut found = Vec::new();
    if !is.has_links() && is.devices.is_empty() {
        return Ok(found);
    }
    let mut host = Netlink::open()?;
    if is.has_venet() {
        let venet = venet(ve, []);
        let end = host.link_named(&venet.name())?.filter(|link| venet.is_ours(link));
        // What the host's end sends the VE receives.
        found.extend(end.map(|end| LinkUse { name: INSIDE.into(), received: end.sent, sent: end.received }));
    }
    let mut inside = None;
    for (name, one) in &is.interfaces {
        let seen = match one.parent() {
            None => {
                let end = bridged::spec(ve, name, one).host_end(&mut host)?;
                end.map(|end| (end.sent, end.received))
            }
            Some(parent) => {
                let inside = open_inside(&mut inside, running)?;
                let seen = macvlan::look_whole(&macvlan::spec(ve, name, one, parent), &mut host, inside)?;
                seen.map(|seen| (seen.link.received, seen.link.sent))
            }
        };
        found.extend(seen.map(|(received, sent)| LinkUse { name: name.clone(), received, sent }));
    }
    if !is.devices.is_empty() {
        for (_, link) in devices::look_whole(ve, open_inside(&mut inside, running)?)? {
            found.push(LinkUse { name: link.name, received: link.received, sent: link.sent });
        }
    }
    Ok(found)
}

/// A way into the VE's namespace, opened once and only if it is needed.
fn open_inside<'i>(inside: &'i mut Option<Netlink>, running: &Running) -> SysResult<&'i mut Netlink> {
    match inside {
        Some(open) => Ok(open),
        none => Ok(none.insert(ns::on_thread_in(&netns(running)?, Netlink::open)?)),
    }
}
