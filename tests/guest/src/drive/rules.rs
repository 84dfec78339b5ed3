//! Packet filter rules of nftables, spoken to the kernel directly: a test's root file system has no `nft`.

use super::Take;
use crate::sys::{Arg, Errno, call};

const NFTABLES: u16 = 10 << 8;
const NEWTABLE: u16 = NFTABLES;
const NEWCHAIN: u16 = NFTABLES | 3;
const NEWRULE: u16 = NFTABLES | 6;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFPROTO_INET: u8 = 1;
/// NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND, and NLM_F_ACK.
const CHANGE: u16 = 0x1 | 0x400 | 0x800;
const ACK: u16 = 0x4;

/// A message of its header, `struct nfgenmsg` and attributes that are texts.
fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[(u16, &str)]) -> Vec<u8> {
    let mut body = vec![family, 0];
    body.extend(resource.to_be_bytes());
    for (name, text) in attributes {
        let length = 4 + text.len() + 1;
        body.extend(u16::try_from(length).unwrap_or_default().to_ne_bytes());
        body.extend(name.to_ne_bytes());
        body.extend(text.bytes());
        body.resize(body.len() + length.next_multiple_of(4) - length + 1, 0);
    }
    let mut bytes = u32::try_from(16 + body.len()).unwrap_or_default().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// Does one change, and waits for the kernel's word.
fn change(socket: i32, kind: u16, attributes: &[(u16, &str)]) -> Result<(), Errno> {
    let mut batch = message(BATCH_BEGIN, 1, 0, 10, &[]);
    batch.extend(message(kind, CHANGE | ACK, NFPROTO_INET, 0, attributes));
    batch.extend(message(BATCH_END, 1, 0, 10, &[]));
    // SAFETY: the buffers live through the calls, which are told their sizes.
    unsafe {
        if libc::send(socket, batch.as_ptr().cast(), batch.len(), 0) < 0 {
            return Err(Errno::last());
        }
        let mut answer = [0_u8; 4096];
        if libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), 0) < 20 {
            return Err(Errno::last());
        }
        let errno = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if errno == 0 { Ok(()) } else { Err(Errno(-errno)) }
    }
}

/// Rules without an expression, in a chain that nothing jumps to.
pub(super) fn rules() -> Take {
    // NETLINK_NETFILTER
    let netlink = [Arg::Int(16), Arg::Int(3), Arg::Int(12)];
    let socket = call(libc::SYS_socket, netlink).and_then(|fd| {
        let fd = i32::try_from(fd).map_err(|_| Errno(libc::EBADF))?;
        change(fd, NEWTABLE, &[(1, "drive")])?;
        change(fd, NEWCHAIN, &[(1, "drive"), (3, "drive")])?;
        Ok(fd)
    });
    Box::new(move |_| {
        let socket = socket.as_ref().map_err(|errno| *errno)?;
        change(*socket, NEWRULE, &[(1, "drive"), (2, "drive")])
    })
}
