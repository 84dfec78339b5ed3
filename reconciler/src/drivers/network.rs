//! The network, IO half: the routed link of a VE, its addresses, and what the host does for them.
//!
//! The VE's end of the link is in a namespace that its root rules: what is read there tells how the VE is, and
//! nothing about the host follows from it.

mod bridged;
mod devices;
mod files;
mod firewall;
mod live;
mod macvlan;
mod nat;
mod rate;
mod reach;
mod sight;
mod socket;
mod taken;
mod traffic;
mod uplinks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vzd_schema::v1::Cidr;
use vzd_state::reading::Reading;
use vzd_state::subsystem::network::{self, Interface, Observed, On, Seen};

use crate::drivers::{Running, Ve};
use crate::error::SysResult;
use crate::kernel::net::{self, HandOver, Netlink, Request, Venet};
use crate::kernel::ns::{self, Kind, Namespace};

pub use bridged::specs as bridged_specs;
pub use files::lines as files;
pub use firewall::Tables;
pub use live::apply_live;
pub use macvlan::specs as macvlan_specs;
pub use nat::Translator;
pub use rate::shapes;
pub use sight::{Sight, sight};
pub use socket::socket;
pub use traffic::{LinkUse, traffic};
pub use uplinks::Uplinks;

/// What the interfaces of this vzd are marked with, followed by the VE's uid.
fn mark(ve: Ve<'_>) -> String {
    format!("vzd:{}:{}", ve.host.settings.cgroup_root, ve.entry.uid)
}

fn pair(address: Cidr) -> (IpAddr, u8) {
    (address.address(), address.prefix())
}

fn cidrs(pairs: Vec<(IpAddr, u8)>) -> BTreeSet<Cidr> {
    pairs.into_iter().filter_map(|(address, prefix)| Cidr::new(address, prefix)).collect()
}

fn venet<'c>(ve: Ve<'_>, addresses: impl IntoIterator<Item = &'c Cidr>) -> Venet {
    Venet {
        ctid: ve.entry.ctid.get(),
        alias: mark(ve),
        addresses: addresses.into_iter().copied().map(pair).collect(),
        ipv6: std::path::Path::new("/proc/sys/net/ipv6").exists(),
    }
}

/// The link that a VE is started with, if it is to have one.
pub fn venet_spec(ve: Ve<'_>, want: &network::Desired) -> Option<Venet> {
    want.has_venet().then(|| venet(ve, &want.addresses))
}

/// What was last set of the addresses.
fn applied(ve: Ve<'_>) -> BTreeSet<Cidr> {
    ve.entry.applied.network.as_deref().map(|is| is.addresses.clone()).unwrap_or_default()
}

/// Has the host answer for the addresses of a VE that is about to start, and tells which of its interfaces go into it.
pub fn before_start(ve: Ve<'_>, want: &network::Desired) -> SysResult<Option<HandOver>> {
    if !want.is_any() {
        return Ok(None);
    }
    let mut host = Netlink::open()?;
    // What an earlier run left behind, if its end was not seen.
    remove_links(ve, &mut host, want)?;
    for address in &want.addresses {
        ve.host.uplinks.answer(&mut host, address.address())?;
    }
    nat::before_start(ve, want)?;
    devices::before_start(ve, &mut host, want)
}

/// Who is to be told of routed addresses, by interface of the host.
pub fn neighbours<'c>(
    ve: Ve<'_>,
    addresses: impl IntoIterator<Item = &'c Cidr>,
) -> SysResult<BTreeMap<String, Vec<IpAddr>>> {
    let mut addresses = addresses.into_iter().map(|one| one.address()).peekable();
    if addresses.peek().is_none() {
        return Ok(BTreeMap::new());
    }
    ve.host.uplinks.neighbours(&mut Netlink::open()?, addresses)
}

/// Takes away what a VE that no longer runs had of the host.
pub fn clear(ve: Ve<'_>) -> SysResult<()> {
    // Also after a start that failed, of which nothing is applied.
    devices::clear(ve)?;
    nat::clear(ve)?;
    if ve.entry.applied.network.is_none() {
        return Ok(());
    }
    let mut host = Netlink::open()?;
    remove_links(ve, &mut host, ve.entry.applied.network.as_deref().unwrap_or(&network::Desired::default()))?;
    for address in applied(ve) {
        ve.host.uplinks.withdraw(&mut host, address.address())?;
    }
    ve.host.uplinks.rest(&mut host)
}

fn remove_link(ve: Ve<'_>, host: &mut Netlink) -> SysResult<bool> {
    let venet = venet(ve, []);
    let Some(link) = host.link_named(&venet.name())?.filter(|link| venet.is_ours(link)) else {
        return Ok(false);
    };
    host.run(vec![Request::remove_link(link.index, &link.name)]).map(|removed| removed > 0)
}

/// Takes away all that is left of a VE's links on the host, and the bridges that only they used.
fn remove_links(ve: Ve<'_>, host: &mut Netlink, had: &network::Desired) -> SysResult<()> {
    rate::remove(ve, host)?;
    remove_link(ve, host)?;
    for bridged in bridged_specs(ve, had) {
        bridged::remove(ve, host, &bridged)?;
    }
    Ok(())
}

fn netns(running: &Running) -> SysResult<Namespace> {
    Namespace::of(running.pid, Kind::Net)
}

/// Reads the link and the addresses. A VE that has none and never had costs nothing.
pub fn observe(ve: Ve<'_>, running: &Running) -> Observed {
    let wanted = ve.want.is_some_and(|want| want.network.is_any());
    if !wanted && ve.entry.applied.network.is_none() {
        return Observed::nothing();
    }
    let ways =
        Netlink::open().and_then(|host| Ok((host, ns::on_thread_in(&netns(running)?, Netlink::open)?)));
    match ways {
        Ok((mut host, mut inside)) => {
            let limits = rate::look(ve, &mut host);
            Observed {
                venet: read(look(ve, &mut host, &mut inside)),
                interfaces: read(
                    limits.clone().and_then(|limits| interfaces(ve, &mut host, &mut inside, &limits)),
                ),
                devices: read(devices::look(ve, &mut inside)),
                sysctls: read(sysctls(ve, running)),
                routes: read(routes(ve, &mut inside)),
                rules: read(rules(ve, &mut inside)),
                firewall: read(firewall::look(ve, running)),
                rates: read(limits.map(|limits| rate::of_all(&limits))),
                translations: read(nat::look(ve)),
                files: read(files::look(ve, running)),
            }
        }
        Err(e) => Observed {
            venet: Reading::Unreadable(e.to_string()),
            interfaces: Reading::Unreadable(e.to_string()),
            devices: Reading::Unreadable(e.to_string()),
            sysctls: Reading::Unreadable(e.to_string()),
            routes: Reading::Unreadable(e.to_string()),
            rules: Reading::Unreadable(e.to_string()),
            firewall: Reading::Unreadable(e.to_string()),
            rates: Reading::Unreadable(e.to_string()),
            translations: Reading::Unreadable(e.to_string()),
            files: Reading::Unreadable(e.to_string()),
        },
    }
}

/// Interfaces that are wanted or were made, as they are.
fn interfaces(
    ve: Ve<'_>,
    host: &mut Netlink,
    inside: &mut Netlink,
    limits: &rate::Seen,
) -> SysResult<BTreeMap<String, Seen>> {
    let mut known: BTreeMap<&String, &Interface> = BTreeMap::new();
    known.extend(ve.want.iter().flat_map(|want| &want.network.interfaces));
    known.extend(ve.entry.applied.network.iter().flat_map(|is| &is.interfaces));
    let mut found = BTreeMap::new();
    for (name, is) in known {
        let seen = match &is.on {
            On::Bridge(_) => bridged::look(&bridged::spec(ve, name, is), host, inside, limits)?,
            On::Parent(parent) => macvlan::look(&macvlan::spec(ve, name, is, parent), host, inside)?,
        };
        found.extend(seen.map(|seen| (name.clone(), seen)));
    }
    Ok(found)
}

/// vzd's routes in the VE, if any are wanted or were made.
fn routes(ve: Ve<'_>, inside: &mut Netlink) -> SysResult<BTreeSet<network::Route>> {
    let known = ve.want.is_some_and(|want| !want.network.routes.is_empty())
        || ve.entry.applied.network.as_deref().is_some_and(|is| !is.routes.is_empty());
    if known { inside.own_routes() } else { Ok(BTreeSet::new()) }
}

/// vzd's rules in the VE, if any are wanted or were made.
fn rules(ve: Ve<'_>, inside: &mut Netlink) -> SysResult<BTreeSet<network::Rule>> {
    let known = ve.want.is_some_and(|want| !want.network.rules.is_empty())
        || ve.entry.applied.network.as_deref().is_some_and(|is| !is.rules.is_empty());
    if known { inside.own_rules() } else { Ok(BTreeSet::new()) }
}

/// Settings that are wanted or were set; those that the kernel does not have are left out.
fn sysctls(ve: Ve<'_>, running: &Running) -> SysResult<BTreeMap<String, String>> {
    let applied = ve.entry.applied.network.iter().flat_map(|is| is.sysctls.keys());
    let known: BTreeSet<&String> =
        applied.chain(ve.want.iter().flat_map(|want| want.network.sysctls.keys())).collect();
    if known.is_empty() {
        return Ok(BTreeMap::new());
    }
    ns::on_thread_in(&netns(running)?, || {
        let mut found = BTreeMap::new();
        for name in known {
            match net::read_sysctl(name) {
                Ok(value) => drop(found.insert(name.clone(), value)),
                Err(e) if e.is_absent() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    })
}

fn read<T>(looked: SysResult<T>) -> Reading<T> {
    match looked {
        Ok(seen) => Reading::Is(seen),
        Err(e) => Reading::Unreadable(e.to_string()),
    }
}

fn look(ve: Ve<'_>, host: &mut Netlink, inside: &mut Netlink) -> SysResult<network::Venet> {
    let mut known = applied(ve);
    let venet = venet(ve, &known);
    let mut seen = network::Venet::default();
    let answered = |host: &mut Netlink, address| ve.host.uplinks.answered(host, address);
    if let Some(ends) = venet.find(host, inside)? {
        for address in &known {
            let taken = ve.host.uplinks.taken(host, address.address());
            seen.taken.extend(taken.map(|taken| (address.address(), taken)));
        }
        known.extend(ve.want.iter().flat_map(|want| &want.network.addresses));
        let pairs = known.iter().copied().map(pair).collect();
        seen.there = true;
        seen.faults = venet.faults(host, inside, ends)?;
        for ((address, prefix), mut missing) in venet.addresses(host, inside, ends, &pairs)? {
            if !answered(host, address)? {
                missing.insert("the host does not answer for it".to_owned());
            }
            seen.addresses.extend(Cidr::new(address, prefix).map(|address| (address, missing)));
        }
    }
    Ok(seen)
}
