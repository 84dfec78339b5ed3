//! Bandwidth of a VE as a whole, IO half.

use std::collections::BTreeMap;

use vzd_state::subsystem::network::{self, Direction, Shaped};

use super::mark;
use super::sight::RateSight;
use crate::drivers::Ve;
use crate::error::SysResult;
use crate::kernel::net::{Link, Netlink, Shape};

fn shape(ve: Ve<'_>, direction: Direction, rate: u64) -> Shape {
    // No interface has an empty name: this is none.
    let alias = format!("{}::{}", mark(ve), direction.name());
    Shape { ctid: ve.entry.ctid.get(), alias, direction, rate }
}

/// The limits that a VE is started with.
pub fn shapes(ve: Ve<'_>, want: &network::Desired) -> Vec<Shape> {
    want.rates.iter().map(|(direction, rate)| shape(ve, *direction, *rate)).collect()
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

/// Limits that are wanted or were set, as they are.
pub(super) fn look(ve: Ve<'_>, host: &mut Netlink) -> SysResult<BTreeMap<Direction, Shaped>> {
    let wanted = ve.want.iter().flat_map(|want| want.network.rates.keys());
    let known = wanted.chain(ve.entry.applied.network.iter().flat_map(|is| is.rates.keys()));
    let mut seen = BTreeMap::new();
    let mut links = None;
    for direction in known {
        let links = match &mut links {
            Some(links) => links,
            none => none.insert(ends(ve, host)?),
        };
        if let Some((rate, past)) = shape(ve, *direction, 0).see(host, links)? {
            seen.insert(*direction, Shaped { rate, past: past.into_iter().collect() });
        }
    }
    Ok(seen)
}

/// The limits that there are, and what they have done.
pub(super) fn counts(ve: Ve<'_>, host: &mut Netlink) -> SysResult<Vec<RateSight>> {
    let mut found = Vec::new();
    for direction in Direction::ALL {
        let Some(device) = shape(ve, direction, 0).device(host)? else { continue };
        let bucket = host.bucket(device.index)?;
        found.extend(bucket.map(|(rate, counts)| RateSight { direction, rate, counts }));
    }
    Ok(found)
}

/// Sets a limit, or takes it away.
pub(super) fn set(ve: Ve<'_>, host: &mut Netlink, direction: Direction, to: Option<u64>) -> SysResult<bool> {
    let links = ends(ve, host)?;
    let changed = match to {
        Some(rate) => shape(ve, direction, rate).set(host, &links)?,
        None => shape(ve, direction, 0).remove(host, &links)?,
    };
    Ok(changed > 0)
}

/// Has a link that was just made keep to the limits that the VE has.
pub(super) fn join(ve: Ve<'_>, host: &mut Netlink) -> SysResult<()> {
    let Some(applied) = &ve.entry.applied.network else { return Ok(()) };
    applied.rates.iter().try_for_each(|(direction, rate)| set(ve, host, *direction, Some(*rate)).map(drop))
}

/// Takes all of it away.
pub(super) fn remove(ve: Ve<'_>, host: &mut Netlink) -> SysResult<()> {
    Direction::ALL.into_iter().try_for_each(|direction| shape(ve, direction, 0).remove(host, &[]).map(drop))
}
