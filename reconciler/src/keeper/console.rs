//! A VE's console: its pty master, the last of its output, and who is attached.
//!
//! The master is always read. A client that does not keep up loses bytes; it never slows the VE down.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::kernel::{pty, seqpacket};

/// Output kept for the next client to attach, in bytes.
const RING: usize = 16 * 1024;
const CHUNK: usize = 8 * 1024;

/// One console.
#[derive(Debug)]
pub struct Console {
    master: OwnedFd,
    ring: VecDeque<u8>,
    clients: Vec<u64>,
}

/// What reading the master came to.
pub enum Drained {
    /// All there was; the bytes are for the attached clients.
    Bytes(Vec<u8>),
    /// No slave is open (a getty restarts, or the VE is gone).
    HungUp,
}

impl Console {
    /// Holds a master, which must not block.
    pub fn new(master: OwnedFd) -> Self {
        let _ = pty::resize(&master, 25, 80);
        Console { master, ring: VecDeque::new(), clients: Vec::new() }
    }

    /// The master, for polling.
    pub fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Clients, by connection.
    pub fn clients(&self) -> &[u64] {
        &self.clients
    }

    /// Attaches a client and returns what it should see first.
    pub fn attach(&mut self, client: u64) -> Vec<u8> {
        self.clients.push(client);
        self.ring.iter().copied().collect()
    }

    /// Forgets a client.
    pub fn detach(&mut self, client: u64) {
        self.clients.retain(|known| *known != client);
    }

    /// Reads what there is, at most a few chunks so that one VE cannot occupy the keeper.
    pub fn drain(&mut self) -> Drained {
        let mut bytes = Vec::new();
        for _ in 0..8 {
            let mut chunk = [0; CHUNK];
            match rustix::io::read(&self.master, &mut chunk) {
                Ok(0) | Err(rustix::io::Errno::IO) if bytes.is_empty() => return Drained::HungUp,
                Ok(0) | Err(_) => break,
                Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            }
        }
        self.ring.extend(&bytes);
        let surplus = self.ring.len().saturating_sub(RING);
        self.ring.drain(..surplus);
        Drained::Bytes(bytes)
    }

    /// Hands a client's packet to the VE; one that makes no sense is dropped.
    pub fn input(&self, packet: &[u8]) {
        match packet {
            [b'd', typed @ ..] => {
                let _ = rustix::io::write(&self.master, typed);
            }
            [b'r', a, b, c, d] => {
                let _ = pty::resize(&self.master, u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
            }
            _ => {}
        }
    }
}

/// Sends output to a client in packets; what does not fit its socket is dropped.
pub fn show(client: BorrowedFd<'_>, bytes: &[u8]) {
    for packet in bytes.chunks(CHUNK) {
        if seqpacket::send_bytes(client, packet, &[]).is_err() {
            return;
        }
    }
}
