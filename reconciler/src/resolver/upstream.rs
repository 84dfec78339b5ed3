//! Questions that are about the rest of the world, and the name servers that answer them: those that the host's manifest
//! names, or else the host's own.
//!
//! Each question goes out from a port of its own and under a number of its own, and only what answers just that is
//! taken. Nothing is remembered: what is wrong in an answer is wrong once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use vzd_state::names::{RESOLVER, Rcode, Room, answers, fitted, refusal, with_id};
use vzd_state::subsystem::network::Inherited;

use super::lock;

const PORT: u16 = 53;
/// A server may take so long; then the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// As many servers as the C library asks.
const SERVERS: usize = 3;
/// The host's file is read again after so long.
const FRESH: Duration = Duration::from_secs(2);
/// No answer in a datagram is longer than whoever asked may take.
const LARGEST_REPLY: usize = 4096;

/// Where names are looked up.
#[derive(Debug)]
pub(super) struct Upstreams {
    resolv_conf: PathBuf,
    given: Mutex<Option<Inherited>>,
    read: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

impl Upstreams {
    pub(super) fn new(resolv_conf: PathBuf) -> Self {
        Upstreams { resolv_conf, given: Mutex::default(), read: Mutex::default() }
    }

    /// What the host's manifest says, if that is known.
    pub(super) fn given(&self) -> Option<Inherited> {
        lock(&self.given).clone()
    }

    /// Notes what it says, if that is known; tells whether that is news.
    pub(super) fn give(&self, given: Option<Inherited>) -> bool {
        let mut is = lock(&self.given);
        let is_news = given.is_some() && is.clone().unwrap_or_default() != given.clone().unwrap_or_default();
        *is = given;
        is_news
    }

    /// The servers, by a look that may be a moment old. Those on the host's loopback are among them.
    fn servers(&self) -> Vec<IpAddr> {
        // Not ourselves.
        let asked = |servers: &mut dyn Iterator<Item = IpAddr>| {
            servers.filter(|is| !RESOLVER.contains(is)).take(SERVERS).collect::<Vec<_>>()
        };
        if let Some(given) = self.given().and_then(|given| given.nameservers) {
            return asked(&mut given.iter().map(|address| address.0));
        }
        let mut read = lock(&self.read);
        match &*read {
            Some((at, servers)) if at.elapsed() < FRESH => servers.clone(),
            _ => {
                let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
                let mut given = text.lines().filter_map(|line| {
                    let mut words = line.split_whitespace();
                    (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
                });
                let servers = asked(&mut given);
                *read = Some((Instant::now(), servers.clone()));
                servers
            }
        }
    }

    /// Asks one server after the other, and returns what the VE is to be told.
    pub(super) async fn forward(&self, query: &[u8], room: Room) -> Option<Vec<u8>> {
        let servers = self.servers();
        // Then the VE asks those that it has besides.
        let mut rcode = Rcode::REFUSED;
        for server in servers {
            let reply = timeout(PATIENCE, ask(SocketAddr::new(server, PORT), query, room)).await;
            match reply {
                Ok(Ok(reply)) => return fitted(query, &reply, room),
                Ok(Err(_)) | Err(_) => rcode = Rcode::SERVFAIL,
            }
        }
        refusal(query, rcode)
    }
}

async fn ask(server: SocketAddr, query: &[u8], room: Room) -> io::Result<Vec<u8>> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let asked = with_id(query, u16::from_ne_bytes(id));
    match room {
        Room::Datagram => {
            let any =
                if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
            socket.connect(server).await?;
            socket.send(&asked).await?;
            let mut buffer = [0; LARGEST_REPLY];
            loop {
                let length = socket.recv(&mut buffer).await?;
                let reply = buffer.get(..length).unwrap_or_default();
                if answers(reply, &asked) {
                    return Ok(reply.to_vec());
                }
            }
        }
        Room::Stream => {
            let mut stream = TcpStream::connect(server).await?;
            write(&mut stream, &asked).await?;
            let reply = read(&mut stream, usize::from(u16::MAX)).await?;
            if answers(&reply, &asked) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
        }
    }
}

/// Reads a message from a stream of them.
pub(super) async fn read(stream: &mut TcpStream, most: usize) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message to a stream of them, all in one.
pub(super) async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}
