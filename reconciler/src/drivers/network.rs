//! The network, IO half: the routed link of a VE, its addresses, and what the host does for them.
//!
//! The VE's end of the link is in a namespace that its root rules: what is read there tells how the VE is, and
//! nothing about the host follows from it.

mod bridged;
mod devices;
mod files;
mod firewall;
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
use vzd_state::subsystem::network::{self, Interface, Live, Observed, On, Part, Seen};

use crate::drivers::namespaces::root_of;
use crate::drivers::{Effect, Running, Ve};
use crate::error::SysResult;
use crate::kernel::net::{self, Announced, Ends, HandOver, Netlink, Request, Venet};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::runtime::etc;

pub use bridged::specs as bridged_specs;
pub use files::lines as files;
pub use firewall::Tables;
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

/// Makes an interface, or changes what of it is not as it is to be.
fn set_interface(
    ve: Ve<'_>,
    (host, inside): (&mut Netlink, &mut Netlink),
    netns: &Namespace,
    name: &str,
    from: Option<&Interface>,
    to: &Interface,
) -> SysResult<Effect> {
    let effect = match &to.on {
        On::Bridge(_) => bridged::set(ve, (host, inside), netns, name, from, to),
        On::Parent(parent) => {
            let wanted = macvlan::spec(ve, name, to, parent);
            macvlan::set(ve, &wanted, (host, inside), netns, from, to)
        }
    }?;
    let addresses: Vec<_> = to.addresses.iter().map(|one| one.address()).collect();
    if effect == Effect::Changed && !addresses.is_empty() {
        let announced = ns::on_thread_in(netns, || Ok(net::announce(name, &addresses)))?;
        Announced::drop_apart(announced.into_iter().collect());
    }
    Ok(effect)
}

fn remove_interface(
    ve: Ve<'_>,
    (host, inside): (&mut Netlink, &mut Netlink),
    name: &str,
    had: &Interface,
) -> SysResult<bool> {
    match &had.on {
        On::Bridge(_) => bridged::remove(ve, host, &bridged::spec(ve, name, had)),
        On::Parent(parent) => macvlan::remove(&macvlan::spec(ve, name, had, parent), host, inside),
    }
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

/// Changes the network of a running VE; what is not named stays untouched.
pub fn apply_live(ve: Ve<'_>, step: &Live, running: &Running) -> SysResult<Effect> {
    let known = applied(ve);
    let venet = venet(ve, &known);
    let mut host = Netlink::open()?;
    let netns = netns(running)?;
    let mut inside = ns::on_thread_in(&netns, Netlink::open)?;
    match step {
        Live::SetInterface { name, from, to } => {
            let ways = (&mut host, &mut inside);
            if let Some(from) = from.as_ref().filter(|from| from.parent() != to.parent()) {
                remove_interface(ve, ways, name, from)?;
                let ways = (&mut host, &mut inside);
                return set_interface(ve, ways, &netns, name, None, to);
            }
            return set_interface(ve, ways, &netns, name, from.as_ref(), to);
        }
        Live::RemoveInterface { name, had } => {
            let removed = remove_interface(ve, (&mut host, &mut inside), name, had)?;
            rate::set(ve, &mut host, |is| drop(is.interfaces.remove(name)))?;
            return Ok(if removed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::HandOver { device, to, .. } => {
            let changed = devices::hand_over(ve, (&mut host, &mut inside), &netns, device, to)?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::GiveBack { device, .. } => {
            let changed = devices::give_back(ve, (&mut host, &mut inside), device)?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::SetSysctl { name, to, .. } => {
            let changed = ns::on_thread_in(&netns, || net::write_sysctl(name, to))?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::ResetSysctl { name, .. } => {
            let value = net::default_sysctl(name)?;
            let changed = ns::on_thread_in(&netns, || net::write_sysctl(name, &value))?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::SetRate { direction, to, .. } => {
            let changed = rate::set(ve, &mut host, |is| match to {
                Some(to) => drop(is.rates.insert(*direction, *to)),
                None => drop(is.rates.remove(direction)),
            })?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::SetTranslations { to, .. } => {
            let changed = nat::set(ve, to)?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::EndTrial { .. } => return Ok(Effect::AlreadySo),
        Live::SetFirewall { to, .. } | Live::RollBackFirewall { to, .. } => {
            let changed = firewall::set(ve, running, to.as_deref())?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::SetRoute { from, to } => {
            let changed = inside.set_route(from.as_ref(), to)?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::RemoveRoute { route } => {
            let changed = inside.remove_route(route)?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::AddRule { rule } => {
            let changed = inside.add_rule(rule)?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::RemoveRule { rule } => {
            let changed = inside.remove_rule(rule)?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::SetFile { file, to, .. } => {
            let root = root_of(running.pid)?;
            let changed = etc::write(&root, ve.entry.ids.start, file.path(), Part::First, to)?;
            return Ok(if changed { Effect::Changed } else { Effect::AlreadySo });
        }
        Live::Attach { .. } | Live::Detach | Live::AddAddress { .. } | Live::RemoveAddress { .. } => {}
    }
    let ends = venet.find(&mut host, &mut inside)?;
    let changed = match step {
        Live::SetInterface { .. }
        | Live::RemoveInterface { .. }
        | Live::HandOver { .. }
        | Live::GiveBack { .. }
        | Live::SetSysctl { .. }
        | Live::ResetSysctl { .. }
        | Live::SetRate { .. }
        | Live::SetFirewall { .. }
        | Live::RollBackFirewall { .. }
        | Live::EndTrial { .. }
        | Live::SetTranslations { .. }
        | Live::SetRoute { .. }
        | Live::RemoveRoute { .. }
        | Live::AddRule { .. }
        | Live::RemoveRule { .. }
        | Live::SetFile { .. } => false,
        Live::Attach { .. } => attach(ve, &venet, (&mut host, &mut inside), &netns, ends)?,
        Live::Detach => {
            let removed = remove_link(ve, &mut host)?;
            ve.host.uplinks.rest(&mut host)?;
            removed
        }
        Live::AddAddress { address, .. } => {
            let there = ends.ok_or_else(|| no_link(&venet))?;
            let mut changed = ve.host.uplinks.answer(&mut host, address.address())?;
            ns::on_thread_in(&netns, || Venet::prepare_inside(pair(*address)))?;
            changed += venet.add(&mut host, &mut inside, there, pair(*address))?;
            if changed > 0 {
                let told = neighbours(ve, [address])?;
                let announced = told.iter().filter_map(|(link, addresses)| net::announce(link, addresses));
                Announced::drop_apart(announced.collect());
            }
            changed > 0
        }
        Live::RemoveAddress { address } => {
            let same = |other: &&Cidr| other.address().is_ipv4() == address.address().is_ipv4();
            let last = known.iter().filter(same).all(|other| other == address);
            let mut changed = 0;
            if let Some(ends) = ends {
                changed += venet.remove(&mut host, &mut inside, ends, pair(*address), last)?;
            }
            changed += ve.host.uplinks.withdraw(&mut host, address.address())?;
            changed > 0
        }
    };
    Ok(if changed { Effect::Changed } else { Effect::AlreadySo })
}

fn no_link(venet: &Venet) -> crate::error::SysError {
    crate::error::SysError::refused("use", format_args!("interface {}", venet.name()), "it is not there")
}

/// Makes the link, or mends it.
fn attach(
    ve: Ve<'_>,
    venet: &Venet,
    (host, inside): (&mut Netlink, &mut Netlink),
    netns: &Namespace,
    ends: Option<Ends>,
) -> SysResult<bool> {
    if let Some(ends) = ends {
        let faulty = !venet.faults(host, inside, ends)?.is_empty();
        if faulty {
            venet.mend(host, inside, ends)?;
            host.await_carrier(ends.host)?;
            inside.await_carrier(ends.inside)?;
        }
        return Ok(faulty);
    }
    // Half of a link is none: its other half was taken elsewhere.
    remove_link(ve, host)?;
    let bare = Venet { addresses: Vec::new(), ..venet.clone() };
    let ends = bare.make(host, netns.as_fd())?;
    rate::set(ve, host, |_| {})?;
    net::set_up_inside(inside, &bare, ends)?;
    host.await_carrier(ends.host)?;
    Ok(true)
}
