//! What waits in the UNIX sockets of a network namespace, as the kernel tells it by sock_diag. Read only.
//!
//! Layouts follow include/uapi/linux/unix_diag.h.

use std::os::fd::{FromRawFd, OwnedFd};

use crate::error::{At, SysError, SysResult};
use crate::kernel::ns::{Kind, Namespace, Visitor};

const SOCKETS: &str = "UNIX sockets";
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_MEMINFO: u32 = 0x20;
const UNIX_DIAG_MEMINFO: u16 = 5;
/// `SK_MEMINFO_WMEM_ALLOC`: bytes that were sent and that nobody has received, with the kernel's overhead.
const SENT: usize = 2;

/// Bytes that were sent over the UNIX sockets of the network namespace of a process, and that nobody has received. The
/// caller checks by pidfd, afterwards, that the pid still means the process it wants.
pub fn unix_bytes(pid: i32) -> SysResult<u64> {
    static VISITOR: Visitor = Visitor::new("sockdiag");
    VISITOR.visit(Namespace::of(pid, Kind::Net)?, || {
        let socket = socket()?;
        rustix::net::send(&socket, &request(), rustix::net::SendFlags::empty()).at("ask for", SOCKETS)?;
        let mut buffer = vec![0_u8; 32 * 1024];
        let mut sum = 0;
        loop {
            let flags = rustix::net::RecvFlags::empty();
            let (length, _) = rustix::net::recv(&socket, &mut buffer[..], flags).at("read", SOCKETS)?;
            match messages(&buffer[..length], &mut sum) {
                Ok(true) => return Ok(sum),
                Ok(false) => {}
                Err(errno) => return Err(SysError::new("read", SOCKETS, errno)),
            }
        }
    })
}

fn socket() -> SysResult<OwnedFd> {
    const NETLINK_SOCK_DIAG: i32 = 4;
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG) };
    if fd < 0 {
        return Err(SysError::new("open", "a sock_diag socket", std::io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `struct nlmsghdr` and `struct unix_diag_req`: all sockets, whatever their state.
fn request() -> Vec<u8> {
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).unwrap_or_default();
    let mut request = Vec::with_capacity(40);
    request.extend(40_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Sequence and port.
    request.extend([0; 8]);
    request.extend([libc::AF_UNIX.to_le_bytes()[0], 0, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(UDIAG_SHOW_MEMINFO.to_ne_bytes());
    request.extend([0; 8]);
    request
}

/// Adds up a part of the kernel's answer, and tells whether it is the last one.
fn messages(mut bytes: &[u8], sum: &mut u64) -> Result<bool, i32> {
    const HEADER: usize = 16;
    /// `struct unix_diag_msg`.
    const SOCKET: usize = 16;
    while let (Some(length), Some(kind)) = (word(bytes, 0), half(bytes, 4)) {
        let length = (length as usize).max(HEADER);
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => return Err(-word(bytes, HEADER).unwrap_or_default().cast_signed()),
            _ => {}
        }
        *sum += sent(bytes.get(HEADER + SOCKET..length).unwrap_or_default());
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// What the attributes of a socket say of its memory.
fn sent(mut attributes: &[u8]) -> u64 {
    const HEADER: usize = 4;
    while let (Some(length), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
        if kind == UNIX_DIAG_MEMINFO {
            return word(attributes, HEADER + SENT * 4).unwrap_or_default().into();
        }
        let length = usize::from(length).max(HEADER);
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    0
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(16 + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn what_was_sent_is_added_up_to_the_end_of_the_answer() {
        let attribute = |kind: u16, words: &[u32]| {
            let length = u16::try_from(4 + words.len() * 4).unwrap();
            let words = words.iter().flat_map(|word| word.to_ne_bytes());
            length.to_ne_bytes().into_iter().chain(kind.to_ne_bytes()).chain(words).collect::<Vec<u8>>()
        };
        let told = [attribute(6, &[1]), attribute(UNIX_DIAG_MEMINFO, &[1, 2, 300, 4])].concat();
        let socket = message(SOCK_DIAG_BY_FAMILY, &[vec![1; 16], told].concat());
        let silent = message(SOCK_DIAG_BY_FAMILY, &[1; 16]);
        let done = message(u16::try_from(libc::NLMSG_DONE).unwrap(), &[0; 4]);
        let mut sum = 0;
        assert_eq!(messages(&[socket.clone(), silent].concat(), &mut sum), Ok(false));
        assert_eq!(messages(&[socket, done].concat(), &mut sum), Ok(true));
        assert_eq!(sum, 600);
        let error = message(u16::try_from(libc::NLMSG_ERROR).unwrap(), &(-libc::ENOENT).to_ne_bytes());
        assert_eq!(messages(&error, &mut sum), Err(libc::ENOENT));
    }
}
