//! Interfaces on top of the host's, IO half.

use vzd_schema::v1::{Address, Mac};
use vzd_state::subsystem::network::{self, Interface, MTU, On, Rates, Seen};

use super::{bridged, cidrs, pair};
use crate::drivers::{Effect, Ve};
use crate::error::SysResult;
use crate::kernel::net::{InsideSeen, Macvlan, Netlink, Request};
use crate::kernel::ns::Namespace;

/// An interface with all that its manifest leaves open.
pub(super) fn spec(ve: Ve<'_>, name: &str, is: &Interface, parent: &str) -> Macvlan {
    let Interface { on: _, vlan: _, mac: _, host_name: _, addresses, gateways, mtu, mac_filter: _, rates: _ } =
        is;
    Macvlan {
        name: name.to_owned(),
        parent: parent.to_owned(),
        mac: is.mac_of(&ve.entry.uid, name).octets(),
        mtu: mtu.unwrap_or(MTU),
        addresses: addresses.iter().copied().map(pair).collect(),
        gateways: gateways.iter().map(|gateway| gateway.0).collect(),
    }
}

/// Those that a VE is started with.
pub fn specs(ve: Ve<'_>, want: &network::Desired) -> Vec<Macvlan> {
    let on_parents = want.interfaces.iter().filter_map(|(name, is)| Some((name, is, is.parent()?)));
    on_parents.map(|(name, is, parent)| spec(ve, name, is, parent)).collect()
}

/// An interface with its counts, if it is there.
pub(super) fn look_whole(
    macvlan: &Macvlan,
    host: &mut Netlink,
    inside: &mut Netlink,
) -> SysResult<Option<InsideSeen>> {
    let found = macvlan.find(host, inside)?;
    found.map(|index| macvlan.see(inside, index)).transpose()
}

/// An interface as it is, if it is there.
pub(super) fn look(macvlan: &Macvlan, host: &mut Netlink, inside: &mut Netlink) -> SysResult<Option<Seen>> {
    let Some(seen) = look_whole(macvlan, host, inside)? else { return Ok(None) };
    Ok(Some(Seen {
        on: Some(On::Parent(macvlan.parent.clone())),
        vlan: None,
        mac: <[u8; 6]>::try_from(seen.link.mac.as_slice()).ok().map(Mac::new),
        host_name: None,
        addresses: cidrs(seen.addresses),
        gateways: seen.gateways.into_iter().map(Address).collect(),
        mtu: seen.link.mtu,
        mac_filter: false,
        rates: Rates::new(),
        up: seen.link.up,
    }))
}

/// Makes an interface, or changes what of it is not as it is to be. `from` is on the same parent.
pub(super) fn set(
    ve: Ve<'_>,
    wanted: &Macvlan,
    (host, inside): (&mut Netlink, &mut Netlink),
    netns: &Namespace,
    from: Option<&Interface>,
    to: &Interface,
) -> SysResult<Effect> {
    if let Some(index) = wanted.find(host, inside)? {
        let seen = wanted.see(inside, index)?;
        if seen.link.mac == wanted.mac && !wanted.is_half_made(&seen.link) {
            let addresses: Vec<_> =
                from.iter().flat_map(|is| is.addresses.iter().copied().map(pair)).collect();
            let gateways: Vec<_> = from.iter().flat_map(|is| is.gateways.iter().map(|one| one.0)).collect();
            let changed = wanted.change(inside, &seen, (&addresses, &gateways))?;
            return Ok(if changed > 0 { Effect::Changed } else { Effect::AlreadySo });
        }
        // With another hardware address it is another; and half of one is none.
        inside.run(vec![Request::remove_link(index, &wanted.name)])?;
    }
    clear_way(wanted, inside)?;
    bridged::remove(ve, host, &bridged::spec(ve, &wanted.name, to))?;
    wanted.add(host, netns)?;
    Ok(Effect::Changed)
}

/// Takes away what is there of an interface that was on something else, if whoever put another in its place was killed.
pub(super) fn clear_way(wanted: &Macvlan, inside: &mut Netlink) -> SysResult<()> {
    let stray = inside.link_named(&wanted.name)?.filter(|link| wanted.is_like(link));
    inside.run(stray.iter().map(|link| Request::remove_link(link.index, &link.name)).collect()).map(drop)
}

/// Takes an interface away.
pub(super) fn remove(macvlan: &Macvlan, host: &mut Netlink, inside: &mut Netlink) -> SysResult<bool> {
    let found = macvlan.find(host, inside)?;
    let requests = found.iter().map(|index| Request::remove_link(*index, &macvlan.name)).collect();
    inside.run(requests).map(|removed| removed > 0)
}
