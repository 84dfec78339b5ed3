//! Sockets, those that are accepted, and what waits in them.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;

use super::{Take, check};
use crate::sys::Errno;

pub(super) fn made(domain: i32, kind: i32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::socket(domain, kind, 0) }).map(drop)
}

fn of(error: &std::io::Error) -> Errno {
    Errno::of(error)
}

fn listener() -> Result<TcpListener, Errno> {
    TcpListener::bind("127.0.0.1:0").map_err(|error| of(&error))
}

/// Connections to itself: each is one socket that is made and one that is accepted.
pub(super) fn accepted() -> Take {
    let listener = listener();
    Box::new(move |_| {
        let listener = listener.as_ref().map_err(|errno| *errno)?;
        let connect = || {
            let _made = TcpStream::connect(listener.local_addr()?)?.into_raw_fd();
            let _accepted = listener.accept()?.0.into_raw_fd();
            Ok(())
        };
        connect().map_err(|error| of(&error))
    })
}

/// Files that only a socket has, which only files in it have: two sockets, each sent through the other.
pub(super) fn in_flight() -> Take {
    Box::new(|_| {
        let mut ends = [0; 2];
        // SAFETY: there is room for two descriptors.
        check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, ends.as_mut_ptr()) })?;
        for (from, sent) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            send_file(from, sent)?;
        }
        for end in ends {
            // SAFETY: nobody else uses it.
            check(unsafe { libc::close(end) })?;
        }
        Ok(())
    })
}

/// Sends a descriptor.
fn send_file(to: i32, file: i32) -> Result<(), Errno> {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0_u64; 4];
    // SAFETY: all zeros is a valid message; what it points to lives through the call, and the control buffer has
    // room for one descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(file);
        check(i32::try_from(libc::sendmsg(to, &raw const message, 0)).unwrap_or(-1)).map(drop)
    }
}

/// KiB sent over TCP to a reader that does not read.
pub(super) fn tcp_bytes() -> Take {
    let pair = listener().and_then(|listener| {
        let connect = || {
            let near = TcpStream::connect(listener.local_addr()?)?;
            let far = listener.accept()?.0;
            near.set_nonblocking(true)?;
            Ok((near, far))
        };
        connect().map_err(|error| of(&error))
    });
    Box::new(move |_| {
        let (near, _far) = pair.as_ref().map_err(|errno| *errno)?;
        let sent = std::io::Write::write(&mut &*near, &[1; 1024]).map_err(|error| of(&error))?;
        if sent == 1024 { Ok(()) } else { Err(Errno(libc::EAGAIN)) }
    })
}

/// KiB sent over UDP to a socket that is not read.
pub(super) fn udp_bytes() -> Take {
    let pair = || {
        let far = UdpSocket::bind("127.0.0.1:0")?;
        let near = UdpSocket::bind("127.0.0.1:0")?;
        near.connect(far.local_addr()?)?;
        Ok((near, far))
    };
    let pair = pair().map_err(|error: std::io::Error| of(&error));
    Box::new(move |_| {
        let (near, _far) = pair.as_ref().map_err(|errno| *errno)?;
        near.send(&[1; 1024]).map(drop).map_err(|error| of(&error))
    })
}

/// KiB sent over a UNIX socket to one that is not read.
pub(super) fn unix_bytes() -> Take {
    let pair = UnixStream::pair().map_err(|error| of(&error));
    Box::new(move |_| {
        let (near, _far) = pair.as_ref().map_err(|errno| *errno)?;
        let sent = std::io::Write::write(&mut &*near, &[1; 1024]).map_err(|error| of(&error))?;
        if sent == 1024 { Ok(()) } else { Err(Errno(libc::EAGAIN)) }
    })
}
