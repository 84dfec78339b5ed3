//! Unix SOCK_SEQPACKET sockets that carry JSON messages and file descriptors.
//!
//! One message a packet, so a reader never sees half of one. Received descriptors are close-on-exec.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{At, SysError, SysResult};

/// The largest message; the kernel's default socket buffer holds one.
pub const MAX_MESSAGE: usize = 192 * 1024;
const MAX_FDS: usize = 4;

/// A connected pair.
pub fn pair() -> SysResult<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .at("make", "socket pair")
}

fn socket(flags: SocketFlags) -> SysResult<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .at("make", "unix socket")
}

/// Listens on `path`, replacing what is there; only the owner may connect.
pub fn listen(path: &Path) -> SysResult<OwnedFd> {
    let socket = socket(SocketFlags::empty())?;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(SysError::new("remove", path.display(), e));
        }
        _ => {}
    }
    let address = SocketAddrUnix::new(path).at("address", path.display())?;
    rustix::net::bind(&socket, &address).at("bind", path.display())?;
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o600)).at("chmod", path.display())?;
    rustix::net::listen(&socket, 128).at("listen on", path.display())?;
    Ok(socket)
}

/// Connects to `path`.
pub fn connect(path: &Path) -> SysResult<OwnedFd> {
    let socket = socket(SocketFlags::empty())?;
    let address = SocketAddrUnix::new(path).at("address", path.display())?;
    rustix::net::connect(&socket, &address).at("connect to", path.display())?;
    Ok(socket)
}

/// Accepts a connection, not blocking afterwards.
pub fn accept(listener: impl AsFd) -> SysResult<OwnedFd> {
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        .at("accept on", "keeper socket")
}

/// Sends bytes and descriptors as one packet.
pub fn send_bytes(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> SysResult<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(SysError::refused("send", "descriptors", "too many for one message"));
    }
    loop {
        let io = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(&socket, &io, &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).at("send on", "unix socket"),
        }
    }
}

/// Receives one packet into `buffer`: its length (0 when the peer closed) and its descriptors.
pub fn recv_bytes(socket: impl AsFd, buffer: &mut [u8]) -> SysResult<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut io = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&socket, &mut io, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.at("receive on", "unix socket")?.bytes,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((got, fds))
}

/// Sends a message as JSON.
pub fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> SysResult<()> {
    let bytes = serde_json::to_vec(message).map_err(|e| SysError::refused("encode", "message", e))?;
    if bytes.len() > MAX_MESSAGE {
        return Err(SysError::refused("send", "message", format!("{} bytes are too many", bytes.len())));
    }
    send_bytes(socket, &bytes, fds)
}

/// Receives one packet of whatever length: empty when the peer closed.
pub fn recv_packet(socket: impl AsFd) -> SysResult<(Vec<u8>, Vec<OwnedFd>)> {
    // Asked for its length first: a buffer for the largest would cost more than the message.
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC;
    let mut nothing: [u8; 0] = [];
    let length = loop {
        match rustix::net::recv(&socket, &mut nothing[..], peek) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.at("receive on", "unix socket")?.1,
        }
    };
    let mut buffer = vec![0; length.min(MAX_MESSAGE)];
    let (n, fds) = recv_bytes(socket, &mut buffer)?;
    buffer.truncate(n);
    Ok((buffer, fds))
}

/// Receives a message; `None` when the peer closed.
pub fn recv<T: DeserializeOwned>(socket: impl AsFd) -> SysResult<Option<(T, Vec<OwnedFd>)>> {
    let (bytes, fds) = recv_packet(socket)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = serde_json::from_slice(&bytes).map_err(|e| SysError::refused("decode", "message", e))?;
    Ok(Some((message, fds)))
}
