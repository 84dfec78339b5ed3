//! One step of a change to the network of a running VE. What is not named stays untouched.

use vzd_schema::v1::Cidr;
use vzd_state::subsystem::network::{Interface, Live, On, Part};

use super::{
    applied, bridged, devices, firewall, macvlan, nat, neighbours, netns, pair, rate, remove_link, venet,
};
use crate::drivers::namespaces::root_of;
use crate::drivers::{Effect, Running, Ve};
use crate::error::{SysError, SysResult};
use crate::kernel::net::{self, Announced, Ends, Netlink, Venet};
use crate::kernel::ns::{self, Namespace};
use crate::runtime::etc;

/// Carries a step out.
pub fn apply_live(ve: Ve<'_>, step: &Live, running: &Running) -> SysResult<Effect> {
    let netns = netns(running)?;
    let mut host = Netlink::open()?;
    let mut inside = ns::on_thread_in(&netns, Netlink::open)?;
    let ways = (&mut host, &mut inside);
    let changed = match step {
        Live::SetInterface { name, from, to } => set_interface(ve, ways, &netns, name, from.as_ref(), to)?,
        Live::RemoveInterface { name, had } => {
            let removed = remove_interface(ve, ways, name, had)?;
            rate::set(ve, &mut host, |is| drop(is.interfaces.remove(name)))?;
            removed
        }
        Live::HandOver { device, to, .. } => devices::hand_over(ve, ways, &netns, device, to)?,
        Live::GiveBack { device, .. } => devices::give_back(ve, ways, device)?,
        Live::SetSysctl { name, to, .. } => ns::on_thread_in(&netns, || net::write_sysctl(name, to))?,
        Live::ResetSysctl { name, .. } => {
            let value = net::default_sysctl(name)?;
            ns::on_thread_in(&netns, || net::write_sysctl(name, &value))?
        }
        Live::SetRate { direction, to, .. } => rate::set(ve, &mut host, |is| match to {
            Some(to) => drop(is.rates.insert(*direction, *to)),
            None => drop(is.rates.remove(direction)),
        })?,
        Live::SetTranslations { to, .. } => nat::set(ve, to)?,
        Live::EndTrial { .. } => false,
        Live::SetFirewall { to, .. } | Live::RollBackFirewall { to, .. } => {
            firewall::set(ve, running, to.as_deref())?
        }
        Live::SetRoute { from, to } => inside.set_route(from.as_ref(), to)?,
        Live::RemoveRoute { route } => inside.remove_route(route)?,
        Live::AddRule { rule } => inside.add_rule(rule)?,
        Live::RemoveRule { rule } => inside.remove_rule(rule)?,
        Live::SetFile { file, to, .. } => {
            etc::write(&root_of(running.pid)?, ve.entry.ids.start, file.path(), Part::First, to)?
        }
        Live::Attach { .. } => attach(ve, ways, &netns)?,
        Live::Detach => {
            let removed = remove_link(ve, &mut host)?;
            ve.host.uplinks.rest(&mut host)?;
            removed
        }
        Live::AddAddress { address, .. } => add_address(ve, ways, &netns, *address)?,
        Live::RemoveAddress { address } => remove_address(ve, ways, *address)?,
    };
    Ok(if changed { Effect::Changed } else { Effect::AlreadySo })
}

/// Makes an interface, or changes what of it is not as it is to be. On another parent it is another one.
fn set_interface(
    ve: Ve<'_>,
    (host, inside): (&mut Netlink, &mut Netlink),
    netns: &Namespace,
    name: &str,
    from: Option<&Interface>,
    to: &Interface,
) -> SysResult<bool> {
    let (gone, from) = from.map_or((None, None), |from| match from.parent() == to.parent() {
        true => (None, Some(from)),
        false => (Some(from), None),
    });
    if let Some(gone) = gone {
        remove_interface(ve, (host, inside), name, gone)?;
    }
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
    Ok(effect == Effect::Changed)
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

/// The VE's routed link, with all that was last set of it, and its ends if it is there.
fn link(ve: Ve<'_>, (host, inside): (&mut Netlink, &mut Netlink)) -> SysResult<(Venet, Option<Ends>)> {
    let venet = venet(ve, &applied(ve));
    let ends = venet.find(host, inside)?;
    Ok((venet, ends))
}

/// Makes the link, or mends it.
fn attach(ve: Ve<'_>, (host, inside): (&mut Netlink, &mut Netlink), netns: &Namespace) -> SysResult<bool> {
    let (venet, ends) = link(ve, (host, inside))?;
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
    let bare = Venet { addresses: Vec::new(), ..venet };
    let ends = bare.make(host, netns.as_fd())?;
    rate::set(ve, host, |_| {})?;
    net::set_up_inside(inside, &bare, ends)?;
    host.await_carrier(ends.host)?;
    Ok(true)
}

fn add_address(
    ve: Ve<'_>,
    (host, inside): (&mut Netlink, &mut Netlink),
    netns: &Namespace,
    address: Cidr,
) -> SysResult<bool> {
    let (venet, ends) = link(ve, (host, inside))?;
    let no_link = || SysError::refused("use", format_args!("interface {}", venet.name()), "it is not there");
    let ends = ends.ok_or_else(no_link)?;
    let mut changed = ve.host.uplinks.answer(host, address.address())?;
    ns::on_thread_in(netns, || Venet::prepare_inside(pair(address)))?;
    changed += venet.add(host, inside, ends, pair(address))?;
    if changed > 0 {
        let told = neighbours(ve, [&address])?;
        let announced = told.iter().filter_map(|(link, addresses)| net::announce(link, addresses));
        Announced::drop_apart(announced.collect());
    }
    Ok(changed > 0)
}

fn remove_address(
    ve: Ve<'_>,
    (host, inside): (&mut Netlink, &mut Netlink),
    address: Cidr,
) -> SysResult<bool> {
    let (venet, ends) = link(ve, (host, inside))?;
    let same = |other: &Cidr| other.address().is_ipv4() == address.address().is_ipv4();
    let last = applied(ve).into_iter().filter(same).all(|other| other == address);
    let mut changed = 0;
    if let Some(ends) = ends {
        changed += venet.remove(host, inside, ends, pair(address), last)?;
    }
    changed += ve.host.uplinks.withdraw(host, address.address())?;
    Ok(changed > 0)
}
