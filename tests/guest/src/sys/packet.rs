//! Frames sent over an interface as they are, whatever they say.
#![expect(unsafe_code, reason = "no other way leads to a packet socket")]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Sends frames over the interface of this name.
pub(crate) fn send(interface: &str, frames: &[Vec<u8>]) -> Result<()> {
    // SAFETY: takes no pointers; the descriptor is checked below.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: made just now, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name is a string that ends with 0 and outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    // SAFETY: zeroes are a valid address; what matters is set next.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    to.sll_ifindex = index.cast_signed();
    for frame in frames {
        let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
        let to = std::ptr::from_ref(&to).cast();
        // SAFETY: frame and address outlive the call and are as long as is said.
        let sent =
            unsafe { libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, to, length) };
        if sent < 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}
