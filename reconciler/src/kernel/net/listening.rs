//! The TCP ports on which programs of a network namespace listen.

use crate::error::{At, SysResult};

/// `TCP_LISTEN`, as the kernel prints it.
const LISTEN: &str = "0A";

/// Those of the calling thread's namespace, each once, in order.
pub fn listening() -> SysResult<Vec<u16>> {
    let mut ports = std::collections::BTreeSet::new();
    for file in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        match std::fs::read_to_string(file) {
            Ok(text) => ports.extend(text.lines().filter_map(port)),
            // A kernel without IPv6.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).at("read", file),
        }
    }
    Ok(ports.into_iter().collect())
}

/// Number, local address, remote address, state.
fn port(line: &str) -> Option<u16> {
    let mut words = line.split_whitespace();
    let local = words.nth(1)?;
    let state = words.nth(1)?;
    let (_, port) = local.rsplit_once(':')?;
    u16::from_str_radix(port, 16).ok().filter(|_| state == LISTEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_listens_counts() {
        assert_eq!(port("  sl  local_address rem_address   st tx_queue"), None);
        assert_eq!(port("   0: 00000000:0016 00000000:0000 0A 00000000:00000000"), Some(22));
        assert_eq!(port("   1: 0100007F:1F90 0100007F:D2F0 01 00000000:00000000"), None);
        let v6 = "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0";
        assert_eq!(port(v6), Some(80));
    }

    #[test]
    fn a_port_of_this_namespace_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listening().unwrap().contains(&listener.local_addr().unwrap().port()));
    }
}
