//! Sockets that only go on where their address is: those that listen at one of the VE's own, or send from it. As the kernel lists
//! them; connections are not among them, since a clone has none.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::{At, SysResult};

/// The state of a TCP socket that listens.
const LISTENS: &str = "0A";

/// The addresses at which something in the VE with this init has sockets, but for those that every VE has.
pub fn bound(init: i32) -> SysResult<BTreeSet<SocketAddr>> {
    let mut found = BTreeSet::new();
    for (table, state) in [("tcp", Some(LISTENS)), ("tcp6", Some(LISTENS)), ("udp", None), ("udp6", None)] {
        let path = format!("/proc/{init}/net/{table}");
        match std::fs::read_to_string(&path) {
            // Without IPv6 there is no such table.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            text => found.extend(own(&text.at("read", &path)?, state)),
        }
    }
    Ok(found)
}

/// Those of a table, whose first line tells what is in it.
fn own(table: &str, state: Option<&str>) -> impl Iterator<Item = SocketAddr> {
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, is) = (words.next()?, words.nth(1)?);
        let at = address(local)?;
        let is_everywhere = at.ip().is_unspecified() || at.ip().is_loopback() || at.ip().is_multicast();
        (state.is_none_or(|state| state == is) && !is_everywhere).then_some(at)
    })
}

/// Words of 32 bits as the processor has them, in hexadecimal digits, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_an_address_of_its_own() {
        let v4 = "  sl  local_address rem_address   st tx_queue\n\
                  0: 00000000:0016 00000000:0000 0A 00000000:00000000\n\
                  1: 0100007F:0050 00000000:0000 0A 00000000:00000000\n\
                  2: 070200C0:0050 00000000:0000 0A 00000000:00000000\n\
                  3: 070200C0:0051 080200C0:1234 01 00000000:00000000\n";
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(own(v4, Some(LISTENS)).collect::<Vec<_>>(), [at("192.0.2.7:80")]);
        assert_eq!(own(v4, None).count(), 2);
        let v6 = "  sl  local_address\n\
                  0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 07\n\
                  1: B80D0120000000000000000001000000:0035 00000000000000000000000000000000:0000 07\n\
                  2: 0000000000000000FFFF00000100007F:0035 00000000000000000000000000000000:0000 07\n";
        assert_eq!(own(v6, None).collect::<Vec<_>>(), [at("[2001:db8::1]:53")]);
    }
}
