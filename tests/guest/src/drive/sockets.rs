//! Sockets, those that are accepted, and what waits in them.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::IntoRawFd;

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
