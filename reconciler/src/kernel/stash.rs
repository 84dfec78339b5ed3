//! Descriptors that another process keeps in a socket to itself, as CRIU does with namespaces that nobody is in yet.
//!
//! They are looked at where they are (unix(7), `SO_PEEK_OFF`), and stay. Whoever keeps them has to stand still meanwhile.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketType, sockopt};
use rustix::process::PidfdGetfdFlags;

use super::ns::{Kind, Namespace};
use super::pidfd::Pidfd;
use crate::error::{At, SysResult};

/// More than anybody keeps.
const MOST: i32 = 4096;

/// The mount namespaces that a process keeps so, in the order in which it has put them there.
pub fn mount_namespaces(pid: i32) -> SysResult<Vec<Namespace>> {
    let (process, mut found) = (Pidfd::open(pid)?, Vec::new());
    let dir = format!("/proc/{pid}/fd");
    for entry in std::fs::read_dir(&dir).at("list", &dir)? {
        let path = entry.at("list", &dir)?.path();
        let is_socket = std::fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let Some(number) = number.filter(|_| is_socket) else { continue };
        let socket = rustix::process::pidfd_getfd(&process, number, PidfdGetfdFlags::empty());
        let socket = socket.at("take a descriptor of", format_args!("pid {pid}"))?;
        if sockopt::socket_type(&socket) == Ok(SocketType::DGRAM) {
            let kept = (0..MOST).map_while(|at| peek(&socket, at));
            found.extend(kept.filter(is_mount_namespace).map(|fd| Namespace::from_fd(fd, Kind::Mount)));
        }
    }
    Ok(found)
}

/// The descriptor in that message of one byte each; none if there are no more, or the socket is for something else.
fn peek(socket: &OwnedFd, at: i32) -> Option<OwnedFd> {
    let size = libc::socklen_t::try_from(size_of::<i32>()).ok()?;
    // SAFETY: the descriptor is open, and the kernel reads an int from where one is.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const at).cast(),
            size,
        )
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags);
    if set != 0 || got.ok()?.bytes != 1 {
        return None;
    }
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut received) => received.next(),
        _ => None,
    })
}

fn is_mount_namespace(fd: &OwnedFd) -> bool {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    std::fs::read_link(link).is_ok_and(|to| to.to_string_lossy().starts_with("mnt:["))
}
