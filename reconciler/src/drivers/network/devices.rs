//! Interfaces of the host that a VE has for itself, IO half.
//!
//! While it has any, its network namespace is kept by the host (a pin), and what they were is on record beside that:
//! they do not end with the VE, whoever ends it, and any later vzd gives them back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vzd_state::subsystem::network::{self, Devices};

use crate::drivers::Ve;
use crate::error::{At, SysError, SysResult};
use crate::kernel::net::{HandOver, Handed, Link, Netlink};
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::pin::{pin, pinned, unpin};
use crate::store::{Writes, atomic};

/// By their names on the host.
type Record = BTreeMap<String, Handed>;

fn file(ve: Ve<'_>, ending: &str) -> PathBuf {
    ve.host.settings.run_dir.join("interfaces").join(format!("{}.{ending}", ve.entry.uid))
}

fn pin_of(ve: Ve<'_>) -> PathBuf {
    file(ve, "net")
}

fn recorded(ve: Ve<'_>) -> SysResult<Record> {
    let path = file(ve, "json");
    match std::fs::read(&path) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|e| SysError::refused("understand", path.display(), e))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Record::new()),
        Err(e) => Err(SysError::new("read", path.display(), e)),
    }
}

/// Has what is on record be this; without anything there is no pin either.
fn keep(ve: Ve<'_>, record: &Record) -> SysResult<()> {
    let path = file(ve, "json");
    if record.is_empty() {
        unpin(&pin_of(ve))?;
        return atomic::remove(&path, &Writes::default()).map(drop);
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).at("make", dir.display())?;
    }
    let text = serde_json::to_vec(record).unwrap_or_default();
    atomic::write(&path, &text, &Writes::default()).map(drop)
}

fn on_host(host: &mut Netlink, device: &str) -> SysResult<Link> {
    let missing = || {
        SysError::refused("hand over", format_args!("interface {device}"), "the host has none of that name")
    };
    host.link_named(device)?.ok_or_else(missing)
}

/// Puts on record what a VE that is about to start is to have, and tells the starter.
pub(super) fn before_start(
    ve: Ve<'_>,
    host: &mut Netlink,
    want: &network::Desired,
) -> SysResult<Option<HandOver>> {
    clear(ve)?;
    let mut interfaces = Vec::new();
    for (device, name) in &want.devices {
        let handed = Handed::from_link(&on_host(host, device)?)?;
        interfaces.push((device.clone(), name.clone(), handed));
    }
    keep(ve, &interfaces.iter().map(|(device, _, handed)| (device.clone(), handed.clone())).collect())?;
    Ok((!interfaces.is_empty()).then(|| HandOver { pin: pin_of(ve), interfaces }))
}

/// Those that are in a VE that runs, by their names on the host.
pub(super) fn look(ve: Ve<'_>, inside: &mut Netlink) -> SysResult<Devices> {
    Ok(look_whole(ve, inside)?.into_iter().map(|(device, link)| (device, link.name)).collect())
}

/// Those that are in a VE that runs, with their counts.
pub(super) fn look_whole(ve: Ve<'_>, inside: &mut Netlink) -> SysResult<Vec<(String, Link)>> {
    let known = ve.want.is_some_and(|want| !want.network.devices.is_empty())
        || ve.entry.applied.network.as_deref().is_some_and(|is| !is.devices.is_empty());
    let mut found = Vec::new();
    if known {
        for (device, handed) in recorded(ve)? {
            found.extend(handed.find(inside)?.map(|link| (device, link)));
        }
    }
    Ok(found)
}

/// Moves one into a VE that runs, or gives it the right name there.
pub(super) fn hand_over(
    ve: Ve<'_>,
    (host, inside): (&mut Netlink, &mut Netlink),
    netns: &Namespace,
    device: &str,
    to: &str,
) -> SysResult<bool> {
    let mut record = recorded(ve)?;
    if let Some(handed) = record.get(device)
        && let Some(link) = handed.find(inside)?
    {
        if link.name == to {
            return Ok(false);
        }
        handed.rename(inside, to)?;
        return Ok(true);
    }
    if inside.link_named(to)?.is_some() {
        let why = format!("the VE has another interface {to}");
        return Err(SysError::refused("hand over", format_args!("interface {device}"), why));
    }
    let handed = Handed::from_link(&on_host(host, device)?)?;
    record.insert(device.to_owned(), handed.clone());
    keep(ve, &record)?;
    pin(netns, &pin_of(ve))?;
    handed.move_in(host, netns, device, to)?;
    Ok(true)
}

/// Gives one back; one that is not in the VE any more is only forgotten.
pub(super) fn give_back(
    ve: Ve<'_>,
    (host, inside): (&mut Netlink, &mut Netlink),
    device: &str,
) -> SysResult<bool> {
    let mut record = recorded(ve)?;
    let Some(handed) = record.remove(device) else { return Ok(false) };
    let link = handed.find(inside)?;
    if let Some(link) = &link {
        handed.move_out(inside, host, link, device)?;
    }
    keep(ve, &record)?;
    Ok(link.is_some())
}

/// Gives all of them back, from the namespace that is kept of a VE that no longer runs.
pub(super) fn clear(ve: Ve<'_>) -> SysResult<()> {
    let record = recorded(ve)?;
    if let Some(netns) = pinned(&pin_of(ve), Kind::Net)? {
        let (mut host, mut inside) = (Netlink::open()?, ns::on_thread_in(&netns, Netlink::open)?);
        for (device, handed) in &record {
            if let Some(link) = handed.find(&mut inside)? {
                handed.move_out(&mut inside, &mut host, &link, device)?;
            }
        }
    } else if record.is_empty() {
        return Ok(());
    }
    keep(ve, &Record::new())
}
