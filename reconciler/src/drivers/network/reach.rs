//! Whether the host reaches a VE: what a packet filter on trial must not take away.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use vzd_state::subsystem::lifecycle::Ask;
use vzd_state::subsystem::network::Desired;

use super::netns;
use crate::drivers::{Running, Ve};
use crate::error::{At, SysResult};
use crate::kernel::{net, ns};
use crate::runtime::ask;

/// How long a VE may take to answer: what is lost is sent again after one second.
const WITHIN: Duration = Duration::from_secs(3);

/// Addresses and ports that are tried: the VE's root may listen on any number of them.
const MOST: usize = 16;

/// Whether a connection from the host to any of the VE's addresses comes about: to the port of its health probe or, if that
/// is not about a port, to any on which it listens.
pub(super) fn reaches(ve: Ve<'_>, running: &Running) -> SysResult<bool> {
    let asked = ve.want.and_then(|want| want.lifecycle.health.as_ref()).map(|probe| &probe.ask);
    let ports = match asked {
        Some(Ask::Tcp { port } | Ask::Http { port, .. }) => vec![*port],
        Some(Ask::Exec(_)) | None => ns::on_thread_in(&netns(running)?, net::listening)?,
    };
    let addresses: Vec<IpAddr> =
        ve.want.iter().flat_map(|want| Desired::own_addresses(&want.network)).collect();
    let all = ports.iter().flat_map(|port| addresses.iter().map(|address| SocketAddr::new(*address, *port)));
    let all: Vec<SocketAddr> = all.take(MOST).collect();
    let answers = |to: &SocketAddr| ask::connect(std::slice::from_ref(to), WITHIN, socket).is_ok();
    Ok(std::thread::scope(|scope| {
        let calls: Vec<_> = all.iter().map(|to| scope.spawn(move || answers(to))).collect();
        calls.into_iter().any(|call| call.join().unwrap_or(false))
    }))
}

/// A TCP socket of the host's.
fn socket(family: AddressFamily) -> SysResult<std::os::fd::OwnedFd> {
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).at("make", "a TCP socket")
}
