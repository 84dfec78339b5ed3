//! The network of a namespace through rtnetlink: one blocking socket, many messages in one go.
//!
//! Messages are rtnetlink's; what carries them is ours, since its own carrier needs a runtime with threads
//! that a forked starter cannot have. A netlink socket stays in the namespace where it was made, so whoever
//! opens one in a thread that joined another namespace can hand it back and ask from anywhere.

mod announce;
mod bridged;
mod handed;
mod hold;
mod htb;
mod inside;
mod listening;
mod macvlan;
mod message;
mod names;
mod nat;
mod nft;
mod read;
mod routes;
mod rules;
mod shape;
mod sysctl;
mod tables;
mod tc;
mod venet;
mod vlan;
mod wire;

use std::collections::BTreeMap;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::error::{At, SysError, SysResult};

pub use announce::{Announced, announce};
pub use bridged::{Bridged, BridgedSeen, Bridges};
pub use handed::{HandOver, Handed};
pub use hold::{hold_up, let_through, made_inside};
pub use htb::Counts;
pub use inside::InsideSeen;
pub use listening::listening;
pub use macvlan::{Macvlan, try_macvlan};
pub use message::Request;
pub use names::{Came, connections, datagrams, datagrams_beside_others, interface_name, receive};
pub use nat::{Content, Nat};
pub use nft::{find_nft, load_table, read_table, try_table};
pub use read::{Link, Route, Traffic};
pub use rules::try_rules;
pub use shape::{Shape, ShapeSeen, try_shaping};
pub use sysctl::{default_sysctl, read_sysctl, write_sysctl};
pub use venet::{Ends, INSIDE, Venet, uplinks};
pub use vlan::try_vlans;
pub use wire::Ear;

/// What the kernel answers fits: it makes no message of a dump larger than this.
const BUFFER: usize = 64 * 1024;

/// The loopback device has this index in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// A conversation with the kernel about the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one in the namespace of the calling thread.
    pub fn open() -> SysResult<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Dumps are then of what is asked for only. Kernels before 4.20 give all, which is sorted out here.
            socket.set_netlink_get_strict_chk(true).or_else(|e| match e.raw_os_error() {
                Some(libc::ENOPROTOOPT) => Ok(()),
                _ => Err(e),
            })?;
            Ok::<_, std::io::Error>(socket)
        };
        Ok(Netlink { socket: open().at("open", "a netlink socket")?, sequence: 0, buffer: Vec::new() })
    }

    /// Has the kernel do all of it, in order and whatever fails, and returns how much of it changed something
    /// or the first failure.
    pub fn run(&mut self, requests: Vec<Request>) -> SysResult<usize> {
        if requests.is_empty() {
            return Ok(0);
        }
        let mut bytes = Vec::new();
        let mut waiting = BTreeMap::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            pack(&mut bytes, request.message.clone(), NLM_F_ACK | request.flags, self.sequence);
            waiting.insert(self.sequence, request);
        }
        let (mut changed, mut failure) = (0, None);
        self.send(&bytes)?;
        while !waiting.is_empty() {
            for message in self.receive()? {
                let NetlinkPayload::Error(error) = message.payload else { continue };
                let Some(request) = waiting.remove(&message.header.sequence_number) else { continue };
                match error.code.map_or(0, |code| -code.get()) {
                    0 => changed += 1,
                    errno if request.fine.contains(&errno) => {}
                    errno => failure = failure.or_else(|| Some(request.error(errno))),
                }
            }
        }
        failure.map_or(Ok(changed), Err)
    }

    /// One object; an error where it is not there.
    pub fn get(&mut self, what: &str, message: Message) -> SysResult<Message> {
        self.ask(what, message, NLM_F_ACK)?.pop().ok_or_else(|| SysError::new("look at", what, libc::ENOENT))
    }

    /// Every object of a kind, narrowed down by what the message says.
    pub fn dump(&mut self, what: &str, message: &Message) -> SysResult<Vec<Message>> {
        /// A dump in whose middle something changed is begun anew; a host where that never ends is broken.
        const TRIES: usize = 50;
        for _ in 0..TRIES {
            match self.ask(what, message.clone(), NLM_F_DUMP) {
                Err(e) if e.errno == libc::EINTR => {}
                other => return other,
            }
        }
        Err(SysError::new("list", what, libc::EINTR))
    }

    fn ask(&mut self, what: &str, message: Message, flags: u16) -> SysResult<Vec<Message>> {
        const DUMP_INTERRUPTED: u16 = 0x10;
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        pack(&mut bytes, message, flags, self.sequence);
        self.send(&bytes)?;
        let (mut answers, mut torn) = (Vec::new(), false);
        loop {
            for message in self.receive()? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                torn |= message.header.flags & DUMP_INTERRUPTED != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) => match error.code.map_or(0, |code| -code.get()) {
                        0 => return Ok(answers),
                        errno => return Err(SysError::new("look at", what, errno)),
                    },
                    NetlinkPayload::Done(_) if torn => return Err(SysError::new("list", what, libc::EINTR)),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> SysResult<()> {
        self.socket.send(bytes, 0).at("send to", "rtnetlink").map(drop)
    }

    fn receive(&mut self) -> SysResult<Vec<NetlinkMessage<Message>>> {
        self.buffer.clear();
        self.buffer.reserve(BUFFER);
        let got = loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.at("receive from", "rtnetlink")?,
            }
        };
        let (mut messages, mut at) = (Vec::new(), 0);
        while at < got {
            let message = NetlinkMessage::<Message>::deserialize(&self.buffer[at..got])
                .map_err(|e| SysError::refused("understand", "rtnetlink", e))?;
            let length = message.header.length as usize;
            if length == 0 {
                break;
            }
            at += length.next_multiple_of(4);
            messages.push(message);
        }
        Ok(messages)
    }
}

fn pack(bytes: &mut Vec<u8>, message: Message, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let at = bytes.len();
    bytes.resize(at + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[at..]);
}

/// Sets up the VE's end of its link, without addresses; in the VE's namespace. It can send when this is done.
pub fn set_up_inside(inside: &mut Netlink, venet: &Venet, ends: Ends) -> SysResult<()> {
    inside.run(venet.inside(ends))?;
    inside.await_carrier(ends.inside)
}

/// Has other addresses of a network stay when the first of them goes; by a thread in the interface's namespace.
pub fn keep_others(interface: &str) -> SysResult<()> {
    let file = format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries");
    match std::fs::write(&file, "1") {
        // Its owner has given it another name.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| SysError::new("write", &file, e).value(1)),
    }
}

/// Sets up the VE's end of an interface on a bridge; in the VE's namespace. It can send when this is done.
pub fn set_up_bridged(inside: &mut Netlink, bridged: &Bridged, ends: Ends) -> SysResult<()> {
    inside.run(bridged.own().set_up(ends.inside))?;
    inside.await_carrier(ends.inside)
}

/// Runs `body` in a thread in a network namespace of its own, which goes with it.
pub(super) fn in_new_namespace<T: Send>(body: impl FnOnce() -> SysResult<T> + Send) -> SysResult<T> {
    std::thread::scope(|scope| {
        let fresh = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).at("make", "a network namespace")?;
            body()
        });
        fresh.join().unwrap_or_else(|_| {
            Err(SysError::refused("work in", "a network namespace", "the thread panicked"))
        })
    })
}

/// Links of a VE that is being started, whose other ends are there.
#[derive(Debug, Default)]
pub struct Links<'a> {
    /// The routed one.
    pub venet: Option<(&'a Venet, Ends)>,
    /// Those on bridges.
    pub bridged: Vec<(&'a Bridged, Ends)>,
    /// Those on top of interfaces of the host.
    pub macvlans: &'a [Macvlan],
    /// Settings of its namespace.
    pub sysctls: &'a [(String, String)],
    /// Its packet filter.
    pub firewall: Option<&'a str>,
    /// Its routes.
    pub routes: &'a [vzd_state::subsystem::network::Route],
    /// Its rules of routing.
    pub rules: &'a [vzd_state::subsystem::network::Rule],
}

impl Links<'_> {
    /// Interfaces in the VE whose neighbours are told of their addresses.
    pub fn announced(&self) -> impl Iterator<Item = (&str, Vec<IpAddr>)> {
        let bridged = self.bridged.iter().map(|(is, _)| (is.name.as_str(), &is.addresses));
        let macvlans = self.macvlans.iter().map(|is| (is.name.as_str(), &is.addresses));
        let all = bridged.chain(macvlans).filter(|(_, addresses)| !addresses.is_empty());
        all.map(|(name, addresses)| (name, addresses.iter().map(|(address, _)| *address).collect()))
    }
}

/// Sets up the loopback device of this namespace, the VE's links, and its settings. The links can send when this is
/// done.
pub fn set_up(links: &Links<'_>) -> SysResult<()> {
    let mut net = Netlink::open()?;
    let mut requests = vec![Request::link_flags(LOOPBACK_INDEX, "lo", LinkFlags::Up, LinkFlags::empty())];
    if let Some((venet, ends)) = links.venet {
        requests.extend(venet.inside(ends));
        for address in &venet.addresses {
            Venet::prepare_inside(*address)?;
            requests.extend(Venet::address_inside(ends, *address));
        }
    }
    links.bridged.iter().try_for_each(|(bridged, _)| keep_others(&bridged.name))?;
    requests.extend(links.bridged.iter().flat_map(|(bridged, ends)| bridged.own().set_up(ends.inside)));
    if links.firewall.is_some() {
        // Before its interfaces are up.
        load_table(links.firewall)?;
    }
    net.run(requests)?;
    // What a link is to send is dropped until the kernel has come to its carrier: nothing inside runs before.
    let ends = links.venet.iter().map(|(_, ends)| ends).chain(links.bridged.iter().map(|(_, ends)| ends));
    for end in ends {
        net.await_carrier(end.inside)?;
    }
    links.macvlans.iter().try_for_each(|macvlan| macvlan.set_up(&mut net))?;
    for route in links.routes {
        // One over an interface that the VE makes itself comes when that is there.
        let _ = net.set_route(None, route);
    }
    links.rules.iter().try_for_each(|rule| net.add_rule(rule).map(drop))?;
    links.sysctls.iter().try_for_each(|(name, value)| write_sysctl(name, value).map(drop))
}
