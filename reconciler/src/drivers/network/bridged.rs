//! Interfaces on bridges, IO half.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vzd_schema::v1::{Address, Cidr, Mac};
use vzd_state::subsystem::network::{self, Interface, MTU, Seen};

use super::{mark, pair, rate};
use crate::drivers::{Effect, Ve};
use crate::error::SysResult;
use crate::kernel::net::{self, Bridged, Netlink, Request, remove_empty_bridges};
use crate::kernel::ns::{self, Namespace};

/// What bridges of this vzd are marked with.
fn bridge_mark(ve: Ve<'_>) -> String {
    format!("vzd:{}:bridge", ve.host.settings.cgroup_root)
}

/// An interface with all that its manifest leaves open.
pub(super) fn spec(ve: Ve<'_>, name: &str, is: &Interface) -> Bridged {
    let Interface { bridge, mac: _, host_name: _, addresses, gateways, mtu, mac_filter } = is;
    Bridged {
        name: name.to_owned(),
        host_name: is.host_name_of(ve.entry.ctid, &ve.entry.uid, name),
        alias: format!("{}:{name}", mark(ve)),
        bridge_alias: bridge_mark(ve),
        bridge: bridge.clone(),
        mac: is.mac_of(&ve.entry.uid, name).octets(),
        mtu: mtu.unwrap_or(MTU),
        addresses: addresses.iter().copied().map(pair).collect(),
        gateways: gateways.iter().map(|gateway| gateway.0).collect(),
        mac_filter: *mac_filter,
    }
}

/// The interfaces that a VE is started with.
pub fn specs(ve: Ve<'_>, want: &network::Desired) -> Vec<Bridged> {
    want.interfaces.iter().map(|(name, is)| spec(ve, name, is)).collect()
}

/// Interfaces that are wanted or were made, as they are.
pub(super) fn look(
    ve: Ve<'_>,
    host: &mut Netlink,
    inside: &mut Netlink,
) -> SysResult<BTreeMap<String, Seen>> {
    let mut known = BTreeMap::new();
    let applied = ve.entry.applied.network.iter().flat_map(|is| &is.interfaces);
    known.extend(ve.want.iter().flat_map(|want| &want.network.interfaces));
    known.extend(applied);
    let mut found = BTreeMap::new();
    for (name, is) in known {
        let bridged = spec(ve, name, is);
        let Some(ends) = bridged.find(host, inside)? else { continue };
        let (here, seen) = bridged.see(host, inside, ends)?;
        let mac = <[u8; 6]>::try_from(seen.inside.mac.as_slice()).ok();
        let cidr = |(address, prefix): (IpAddr, u8)| Cidr::new(address, prefix);
        let seen = Seen {
            bridge: seen.bridge,
            mac: mac.map(Mac::new),
            host_name: here.name,
            addresses: seen.addresses.into_iter().filter_map(cidr).collect(),
            gateways: seen.gateways.into_iter().map(Address).collect(),
            // What differs between the ends is as good as wrong.
            mtu: if here.mtu == seen.inside.mtu { here.mtu } else { here.mtu.min(seen.inside.mtu) },
            mac_filter: seen.filter.is_some(),
            up: seen.up,
        };
        found.insert(name.clone(), seen);
    }
    Ok(found)
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
        if here.name != wanted.host_name || seen.inside.mac != wanted.mac {
            ends = None;
        }
    }
    let Some(ends) = ends else {
        remove(ve, host, &wanted)?;
        let ends = wanted.make(host, netns.as_fd())?;
        rate::join(ve, host)?;
        ns::on_thread_in(netns, || net::keep_others(name))?;
        net::set_up_bridged(inside, &wanted, ends)?;
        wanted.connect(host, ends)?;
        return Ok(Effect::Changed);
    };
    let had = from.map(|from| spec(ve, name, from));
    let had = had.as_ref().map_or((&[][..], &[][..]), |had| (&had.addresses, &had.gateways));
    let changed = wanted.change(host, inside, ends, had)?;
    remove_empty_bridges(host, &bridge_mark(ve))?;
    Ok(if changed > 0 { Effect::Changed } else { Effect::AlreadySo })
}

/// Takes an interface away, and the bridge that only it used.
pub(super) fn remove(ve: Ve<'_>, host: &mut Netlink, bridged: &Bridged) -> SysResult<bool> {
    // It may have gone with the VE's namespace; its bridge has not.
    let link = bridged.host_end(host)?;
    let removed = host.run(link.iter().map(|link| Request::remove_link(link.index, &link.name)).collect())?;
    remove_empty_bridges(host, &bridge_mark(ve))?;
    Ok(removed > 0)
}
