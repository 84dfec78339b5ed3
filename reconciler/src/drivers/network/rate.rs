//! Bandwidth of a VE, as a whole and of its interfaces, IO half.

use std::collections::BTreeMap;

use vzd_state::subsystem::network::{self, Direction, Rates, Shaped};

use super::mark;
use super::sight::RateSight;
use crate::drivers::Ve;
use crate::error::SysResult;
use crate::kernel::net::{Link, Netlink, Shape, ShapeSeen};

fn shape(ve: Ve<'_>, is: &network::Desired, direction: Direction) -> Shape {
    let links = is.interfaces.iter().filter(|(_, one)| one.bridge().is_some()).filter_map(|(name, one)| {
        let rate = one.rates.get(&direction)?;
        Some((one.host_name_of(ve.entry.ctid, &ve.entry.uid, name), *rate))
    });
    Shape {
        ctid: ve.entry.ctid.get(),
        // No interface has an empty name: this is none.
        alias: format!("{}::{}", mark(ve), direction.name()),
        direction,
        rate: is.rates.get(&direction).copied(),
        links: links.collect(),
    }
}

/// The limits that a VE is started with.
pub fn shapes(ve: Ve<'_>, want: &network::Desired) -> Vec<Shape> {
    let both = Direction::ALL.map(|direction| shape(ve, want, direction));
    both.into_iter().filter(|shape| shape.rate.is_some() || !shape.links.is_empty()).collect()
}

/// The host's ends of a VE's links.
pub(super) fn ends(ve: Ve<'_>, host: &mut Netlink) -> SysResult<Vec<Link>> {
    let mark = mark(ve);
    let is = |link: &Link| match link.alias.strip_prefix(&mark) {
        Some("") => true,
        Some(rest) => rest.starts_with(':') && !rest.starts_with("::"),
        None => false,
    };
    Ok(host.links()?.into_iter().filter(is).collect())
}

/// Limits as they are, each way.
pub(super) type Seen = BTreeMap<Direction, ShapeSeen>;

/// Limits as they are; none of a VE for which none are wanted or were set.
pub(super) fn look(ve: Ve<'_>, host: &mut Netlink) -> SysResult<Seen> {
    let is_limited = |is: &network::Desired| is.has_rates();
    let wanted = ve.want.is_some_and(|want| is_limited(&want.network));
    if wanted || ve.entry.applied.network.as_deref().is_some_and(is_limited) {
        look_whole(ve, host)
    } else {
        Ok(Seen::new())
    }
}

/// Limits as they are, whatever is wanted.
fn look_whole(ve: Ve<'_>, host: &mut Netlink) -> SysResult<Seen> {
    let (links, mut seen) = (ends(ve, host)?, Seen::new());
    for direction in Direction::ALL {
        let limits = shape(ve, &network::Desired::default(), direction).see(host, &links)?;
        seen.extend(limits.map(|limits| (direction, limits)));
    }
    Ok(seen)
}

/// The limits of the VE as a whole.
pub(super) fn of_all(seen: &Seen) -> BTreeMap<Direction, Shaped> {
    let shaped = |(direction, seen): (&Direction, &ShapeSeen)| {
        Some((*direction, Shaped { rate: seen.rate?, past: seen.past.iter().cloned().collect() }))
    };
    seen.iter().filter_map(shaped).collect()
}

/// The limits of an interface, by its name on the host.
pub(super) fn of_link(seen: &Seen, link: &str) -> Rates {
    seen.iter().filter_map(|(direction, seen)| Some((*direction, *seen.links.get(link)?))).collect()
}

/// The limits that there are, and what they have done. `links`: names in the VE by those on the host.
pub(super) fn counts(
    ve: Ve<'_>,
    host: &mut Netlink,
    links: &BTreeMap<String, String>,
) -> SysResult<Vec<RateSight>> {
    let mut found = Vec::new();
    for (direction, seen) in look_whole(ve, host)? {
        let whole = seen.rate.map(|rate| RateSight { link: None, direction, rate, counts: seen.counts });
        found.extend(whole);
        for (link, rate) in &seen.links {
            let link_counts = seen.counts_of.get(link).copied().unwrap_or_default();
            let name = links.get(link).unwrap_or(link).clone();
            found.push(RateSight { link: Some(name), direction, rate: *rate, counts: link_counts });
        }
    }
    Ok(found)
}

/// Has the limits be those of what the VE has, but for a change.
pub(super) fn set(
    ve: Ve<'_>,
    host: &mut Netlink,
    change: impl FnOnce(&mut network::Desired),
) -> SysResult<bool> {
    let mut is = ve.entry.applied.network.clone().unwrap_or_default();
    let had = is.has_rates();
    change(&mut is);
    if !had && !is.has_rates() {
        return Ok(false);
    }
    let (links, mut changed) = (ends(ve, host)?, 0);
    for direction in Direction::ALL {
        let shape = shape(ve, &is, direction);
        changed += match shape.rate.is_some() || !shape.links.is_empty() {
            true => shape.set(host, &links)?,
            false => shape.remove(host, &links)?,
        };
    }
    Ok(changed > 0)
}

/// Takes all of it away.
pub(super) fn remove(ve: Ve<'_>, host: &mut Netlink) -> SysResult<()> {
    let nothing = network::Desired::default();
    let remove = |direction| shape(ve, &nothing, direction).remove(host, &[]).map(drop);
    Direction::ALL.into_iter().try_for_each(remove)
}
