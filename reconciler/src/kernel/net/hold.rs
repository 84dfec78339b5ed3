//! Holding up everything that a network namespace sends and receives, while its sockets are being kept or brought back:
//! an answer to a packet whose socket is not there would end its connection.
//!
//! A table of its own, for a thread or process that is in that namespace.

use crate::error::SysResult;
use crate::kernel::net::nft::{TABLE as VZD, nft};
use crate::kernel::net::tables::find_table;
use crate::kernel::net::{LOOPBACK_INDEX, Netlink};

/// Family and name of the table.
const TABLE: &str = "inet vzd-held";

/// The first thing in this namespace that is of the VE's own making: an interface that is not among `known`, or a table of
/// nftables that is not vzd's.
pub fn made_inside(known: &[String]) -> SysResult<Option<String>> {
    let links = Netlink::open()?.links()?;
    let own = links.into_iter().find(|link| link.index != LOOPBACK_INDEX && !known.contains(&link.name));
    if let Some(link) = own {
        return Ok(Some(format!("interface {}", link.name)));
    }
    let own = find_table(|table| ![VZD, TABLE].contains(&table))?;
    Ok(own.map(|table| format!("table {table}")))
}

/// Nothing passes from now on.
pub fn hold_up() -> SysResult<()> {
    let chain =
        |hook: &str| format!("chain {hook} {{ type filter hook {hook} priority -300; policy drop; }}");
    let text = format!("table {TABLE} {{\n{}\n{}\n}}\n", chain("prerouting"), chain("output"));
    nft(&["-f", "-"], &format!("table {TABLE}\ndelete table {TABLE}\n{text}")).map(drop)
}

/// Everything passes again.
pub fn let_through() -> SysResult<()> {
    nft(&["-f", "-"], &format!("table {TABLE}\ndelete table {TABLE}\n")).map(drop)
}
