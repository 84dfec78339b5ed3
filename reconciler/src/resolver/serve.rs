//! The thread that answers: datagrams and connections, each from a VE over its own link or out of its own namespace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use vzd_state::names::{LARGEST_QUERY, RESOLVER, Rcode, Room, Verdict, judge, refusal};

use super::bounds::Slot;
use super::upstream::{read, write};
use super::{Resolver, count, lock};
use crate::error::SysResult;
use crate::kernel::net::{self, Came};

pub(super) const PORT: u16 = 53;
/// Whoever says nothing for so long is hung up on.
const IDLE: Duration = Duration::from_secs(5);
/// After a failure that may last (no descriptors left).
const PAUSE: Duration = Duration::from_millis(200);
/// What the controller has to do for VEs comes before what VEs ask: a flood of questions uses what is left over.
const NICE: i32 = 10;

/// What is listened at.
#[derive(Debug)]
pub(super) struct Sockets {
    datagrams: Vec<std::net::UdpSocket>,
    connections: Vec<std::net::TcpListener>,
}

impl Sockets {
    pub(super) fn open(ipv6: bool) -> SysResult<Self> {
        let mut sockets = Sockets { datagrams: Vec::new(), connections: Vec::new() };
        for address in RESOLVER.into_iter().filter(|address| ipv6 || address.is_ipv4()) {
            let address = SocketAddr::new(address, PORT);
            sockets.datagrams.push(net::datagrams(address)?);
            sockets.connections.push(net::connections(address)?);
        }
        Ok(sockets)
    }
}

/// Answers until it is told to stop.
pub(super) fn run(
    resolver: &Arc<Resolver>,
    runtime: &Runtime,
    sockets: Sockets,
    stopped: oneshot::Receiver<()>,
) {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
    runtime.block_on(async {
        for socket in sockets.datagrams {
            tokio::spawn(take_datagrams(resolver.clone(), socket, None));
        }
        for listener in sockets.connections {
            tokio::spawn(take_connections(resolver.clone(), listener));
        }
        // The other end is dropped.
        let _ = stopped.await;
    });
}

/// Answers what comes to a socket; `within`: the number of the VE to whose namespace that belongs.
pub(super) async fn take_datagrams(
    resolver: Arc<Resolver>,
    socket: std::net::UdpSocket,
    within: Option<u32>,
) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => Arc::new(socket),
        Err(error) => return tracing::error!(%error, "the resolver cannot run"),
    };
    let mut buffer = vec![0; LARGEST_QUERY];
    loop {
        // Lets others have their turn every so often.
        match socket.async_io(Interest::READABLE, || net::receive(&socket, &mut buffer)).await {
            Ok(came) => {
                if let Some(message) = buffer.get(..came.length)
                    && let Some(ctid) = within.or_else(|| asker(&resolver, came))
                {
                    hear(&resolver, &socket, message, (ctid, came.from));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a question of a VE is lost");
                sleep(PAUSE).await;
            }
        }
    }
}

/// The VE that has sent a datagram over its link.
fn asker(resolver: &Resolver, came: Came) -> Option<u32> {
    let ctid = lock(&resolver.names).asker(came.from.ip())?;
    (net::interface_name(came.over)? == format!("venet{ctid}")).then_some(ctid)
}

fn hear(resolver: &Arc<Resolver>, socket: &Arc<UdpSocket>, message: &[u8], (ctid, from): (u32, SocketAddr)) {
    if !lock(&resolver.bounds).may_ask(ctid, Instant::now()) {
        return count(&resolver.counts.refused);
    }
    // What does not fit into the socket's buffer is lost, as datagrams are.
    let say = move |socket: &UdpSocket, answer: &[u8]| drop(socket.try_send_to(answer, from));
    let verdict = judge(message, Room::Datagram, &lock(&resolver.names));
    match verdict {
        Verdict::Ignore => {}
        Verdict::Answer(answer) => {
            count(&resolver.counts.answered);
            say(socket, &answer);
        }
        Verdict::Forward => match Slot::take(&resolver.bounds, ctid) {
            Some(slot) => {
                count(&resolver.counts.forwarded);
                // Whoever waits for another server keeps no VE's namespace.
                let (resolver, socket, query) = (resolver.clone(), Arc::downgrade(socket), message.to_vec());
                tokio::spawn(async move {
                    let _for_as_long_as_it_takes = slot;
                    let answer = resolver.upstreams.forward(&query, Room::Datagram).await;
                    if let (Some(answer), Some(socket)) = (answer, socket.upgrade()) {
                        say(&socket, &answer);
                    }
                });
            }
            None => {
                count(&resolver.counts.refused);
                refusal(message, Rcode::SERVFAIL).iter().for_each(|answer| say(socket, answer));
            }
        },
    }
}

async fn take_connections(resolver: Arc<Resolver>, listener: std::net::TcpListener) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the resolver cannot run"),
    };
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        // Who has answered at an address of a VE's is that VE: all that is sent there goes over its link.
        let Some(ctid) = lock(&resolver.names).asker(from.ip()) else { continue };
        match Slot::take(&resolver.bounds, ctid) {
            Some(slot) => drop(tokio::spawn(converse(resolver.clone(), stream, ctid, slot))),
            None => count(&resolver.counts.refused),
        }
    }
}

async fn converse(resolver: Arc<Resolver>, mut stream: TcpStream, ctid: u32, _slot: Slot) {
    while let Ok(Ok(query)) = timeout(IDLE, read(&mut stream, LARGEST_QUERY)).await {
        if !lock(&resolver.bounds).may_ask(ctid, Instant::now()) {
            return count(&resolver.counts.refused);
        }
        let verdict = judge(&query, Room::Stream, &lock(&resolver.names));
        let answer = match verdict {
            Verdict::Ignore => return,
            Verdict::Answer(answer) => {
                count(&resolver.counts.answered);
                answer
            }
            Verdict::Forward => {
                count(&resolver.counts.forwarded);
                match resolver.upstreams.forward(&query, Room::Stream).await {
                    Some(answer) => answer,
                    None => return,
                }
            }
        };
        match timeout(IDLE, write(&mut stream, &answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
