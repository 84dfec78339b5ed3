//! Interfaces on bridges, IO half.

use vzd_schema::v1::{Address, Mac};
use vzd_state::subsystem::network::{self, Interface, MTU, On, Seen};

use super::{cidrs, macvlan, mark, pair, rate};
use crate::drivers::{Effect, Ve};
use crate::error::SysResult;
use crate::kernel::net::{self, Bridged, BridgedSeen, Bridges, Netlink, Request};
use crate::kernel::ns::{self, Namespace};

/// The bridges of this vzd.
fn bridges(ve: Ve<'_>) -> Bridges {
    let settings = &ve.host.settings;
    Bridges {
        mark: format!("vzd:{}:bridge", settings.cgroup_root),
        lock: settings.run_dir.join("bridges.lock"),
    }
}

/// An interface with all that its manifest leaves open.
pub(super) fn spec(ve: Ve<'_>, name: &str, is: &Interface) -> Bridged {
    let Interface { on: _, vlan, mac: _, host_name: _, addresses, gateways, mtu, mac_filter, rates: _ } = is;
    Bridged {
        name: name.to_owned(),
        host_name: is.host_name_of(ve.entry.ctid, &ve.entry.uid, name),
        alias: format!("{}:{name}", mark(ve)),
        bridges: bridges(ve),
        bridge: is.bridge().unwrap_or_default().to_owned(),
        vlan: *vlan,
        mac: is.mac_of(&ve.entry.uid, name).octets(),
        mtu: mtu.unwrap_or(MTU),
        addresses: addresses.iter().copied().map(pair).collect(),
        gateways: gateways.iter().map(|gateway| gateway.0).collect(),
        mac_filter: *mac_filter,
    }
}

/// The interfaces on bridges that a VE is started with.
pub fn specs(ve: Ve<'_>, want: &network::Desired) -> Vec<Bridged> {
    let on_bridges = want.interfaces.iter().filter(|(_, is)| is.bridge().is_some());
    on_bridges.map(|(name, is)| spec(ve, name, is)).collect()
}

/// An interface as it is, if it is there.
pub(super) fn look(
    bridged: &Bridged,
    host: &mut Netlink,
    inside: &mut Netlink,
    limits: &rate::Seen,
) -> SysResult<Option<Seen>> {
    let Some(ends) = bridged.find(host, inside)? else { return Ok(None) };
    let (here, BridgedSeen { bridge, vlan, inside: there, up, filter }) = bridged.see(host, inside, ends)?;
    let mac = <[u8; 6]>::try_from(there.link.mac.as_slice()).ok();
    Ok(Some(Seen {
        on: bridge.map(On::Bridge),
        vlan,
        mac: mac.map(Mac::new),
        rates: rate::of_link(limits, &here.name),
        host_name: Some(here.name),
        addresses: cidrs(there.addresses),
        gateways: there.gateways.into_iter().map(Address).collect(),
        // What differs between the ends is as good as wrong.
        mtu: here.mtu.min(there.link.mtu),
        mac_filter: filter.is_some(),
        up,
    }))
}

/// Makes an interface, or changes what of it is not as it is to be.
pub(super) fn set(
    ve: Ve<'_>,
    (host, inside): (&mut Netlink, &mut Netlink),
    netns: &Namespace,
    name: &str,
    from: Option<&Interface>,
    to: &Interface,
) -> SysResult<Effect> {
    let wanted = spec(ve, name, to);
    let mut ends = wanted.find(host, inside)?;
    if let Some(there) = ends {
        let (here, seen) = wanted.see(host, inside, there)?;
        // A pair with another name or hardware address is another pair.
        if here.name != wanted.host_name || seen.inside.link.mac != wanted.mac {
            ends = None;
        }
    }
    let becomes = |is: &mut network::Desired| drop(is.interfaces.insert(name.to_owned(), to.clone()));
    let Some(ends) = ends else {
        remove(ve, host, &wanted)?;
        macvlan::clear_way(&macvlan::spec(ve, name, to, ""), inside)?;
        let ends = wanted.make(host, netns.as_fd())?;
        rate::set(ve, host, becomes)?;
        ns::on_thread_in(netns, || net::keep_others(name))?;
        net::set_up_bridged(inside, &wanted, ends)?;
        wanted.connect(host, ends)?;
        return Ok(Effect::Changed);
    };
    let had = from.map(|from| spec(ve, name, from));
    let changed = wanted.change(host, inside, ends, had.as_ref())?;
    let limited = rate::set(ve, host, becomes)?;
    bridges(ve).remove_empty(host)?;
    Ok(if changed > 0 || limited { Effect::Changed } else { Effect::AlreadySo })
}

/// Takes an interface away, and the bridge that only it used.
pub(super) fn remove(ve: Ve<'_>, host: &mut Netlink, bridged: &Bridged) -> SysResult<bool> {
    // It may have gone with the VE's namespace; its bridge has not.
    let link = bridged.host_end(host)?;
    let removed = host.run(link.iter().map(|link| Request::remove_link(link.index, &link.name)).collect())?;
    bridges(ve).remove_empty(host)?;
    Ok(removed > 0)
}
