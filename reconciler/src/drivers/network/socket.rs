//! Sockets in a VE's network, for what the host asks of it.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::netns;
use crate::drivers::Running;
use crate::error::{At, SysError, SysResult};
use crate::kernel::ns;

/// A TCP socket in the VE's network: sockets stay where they were made. The thread that makes it ends.
pub fn socket(running: &Running, family: AddressFamily) -> SysResult<OwnedFd> {
    let make = || {
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).at("make", "a TCP socket in a VE")
    };
    let socket = ns::on_thread_in(&netns(running)?, make)?;
    if running.is_alive() { Ok(socket) } else { Err(SysError::refused("enter", "VE", "it has just ended")) }
}
