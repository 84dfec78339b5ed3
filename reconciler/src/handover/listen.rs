//! The end that answers, by TLS: listens at an address, and has a `vzd receive` speak with each host that has shown who it is.
//!
//! Whoever has not is worth one small task for a few seconds, and there are only so many of those. What it says is read by
//! nothing but TLS. A door is a thread; closed, it lets conversations end that go on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use vzd_state::placement::HostName;

use crate::engine::clock;
use crate::handover::link::{Link, Message};
use crate::handover::there::words;
use crate::handover::wire;
use crate::pki::{Pki, tls};
use crate::settings::Settings;

/// Connections whose other end has not shown who it is; more wait in the socket's queue.
const STRANGERS: usize = 32;
/// Conversations at a time: each is a process.
const CONVERSATIONS: u32 = 16;
/// Certificates are shown within that.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failed accept (no descriptors left), for others to end.
const PAUSE: Duration = Duration::from_millis(200);

/// An address at which other hosts are answered, until this is dropped.
#[derive(Debug)]
pub struct Door {
    _stop: oneshot::Sender<()>,
}

/// Tells why a host is not one to speak with, if it is not.
type Refuses = dyn Fn(&HostName) -> Option<String> + Send + Sync;

/// What a door knows.
struct Keeper {
    settings: Settings,
    refuses: Box<Refuses>,
    strangers: Arc<Semaphore>,
    conversations: Arc<Semaphore>,
}

impl Door {
    /// Listens there.
    pub fn open(
        at: SocketAddr,
        settings: &Settings,
        refuses: impl Fn(&HostName) -> Option<String> + Send + Sync + 'static,
    ) -> io::Result<Door> {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keeper = Arc::new(Keeper {
            settings: settings.clone(),
            refuses: Box::new(refuses),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            conversations: Arc::new(Semaphore::new(CONVERSATIONS as usize)),
        });
        let (stop, stopped) = oneshot::channel();
        let body = move || {
            runtime.block_on(async {
                tokio::select! {
                    failed = keeper.answer(listener) => {
                        if let Err(error) = failed {
                            tracing::error!(%at, %error, "other hosts cannot be answered");
                        }
                    }
                    _ = stopped => {}
                }
                // Whoever speaks may end.
                drop(keeper.conversations.acquire_many(CONVERSATIONS).await);
            });
        };
        std::thread::Builder::new().name("listens".to_owned()).stack_size(512 << 10).spawn(body)?;
        Ok(Door { _stop: stop })
    }
}

impl Keeper {
    async fn answer(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let Ok(permit) = self.strangers.clone().acquire_owned().await else { return Ok(()) };
            match listener.accept().await {
                Ok((stream, from)) => {
                    let keeper = self.clone();
                    tokio::spawn(async move { keeper.meet(stream, from, permit).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// One connection, to its end.
    async fn meet(&self, stream: TcpStream, from: SocketAddr, stranger: OwnedSemaphorePermit) {
        // Read each time: so they may be renewed.
        let own = Pki::at(&self.settings.pki).own(clock::now());
        let config = match own.and_then(|own| tls::server(&own)) {
            Ok(config) => config,
            Err(trouble) => {
                return tracing::debug!(%from, error = trouble.what, "a connection is not answered");
            }
        };
        let _ = wire::prepare(&stream);
        let met = match timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(met)) => met,
            Ok(Err(error)) => {
                let why = tls::words(&error, &from.to_string());
                // Who has a certificate is worth a line; a scanner of ports is not.
                return match tls::error_in(&error) {
                    Some(rustls::Error::InvalidCertificate(_)) => {
                        tracing::warn!("a host was not let in: {why}")
                    }
                    _ => tracing::debug!("a connection was not let in: {why}"),
                };
            }
            Err(_) => return tracing::debug!(%from, "a connection has said nothing"),
        };
        drop(stranger);
        let peer = match tls::peer(met.get_ref().1.peer_certificates()) {
            Ok(peer) => peer,
            Err(trouble) => return decline(met, trouble.what).await,
        };
        if let Some(why) = (self.refuses)(&peer) {
            tracing::warn!(%from, %peer, "a host was not let in: {why}");
            return decline(met, why).await;
        }
        let Ok(Ok(_one)) = timeout(PATIENCE, self.conversations.clone().acquire_owned()).await else {
            return decline(met, format!("it speaks with {CONVERSATIONS} others")).await;
        };
        if let Err(error) = self.converse(met, &peer).await {
            tracing::debug!(%from, %peer, %error, "a conversation with another host ended early");
        }
    }

    async fn converse(&self, met: TlsStream<TcpStream>, peer: &HostName) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["receive", "--peer", peer.as_str()]).envs(self.settings.environment());
        command
            .stdin(OwnedFd::from(theirs.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // It holds the other end.
        drop(command);
        let called = peer.clone();
        std::thread::Builder::new().name("receives".to_owned()).stack_size(128 << 10).spawn(move || {
            let told = child.stderr.take().map(words).unwrap_or_default();
            let ended = child.wait();
            if !ended.is_ok_and(|ended| ended.success()) {
                tracing::warn!(peer = %called, "a conversation with another host failed: {}", told.join("; "));
            }
        })?;
        ours.set_nonblocking(true)?;
        let (mut from_child, mut to_child) = tokio::net::UnixStream::from_std(ours)?.into_split();
        let (from_peer, mut to_peer) = tokio::io::split(met);
        let heard = async {
            let carried = wire::carry(from_peer, &mut to_child).await;
            // Cut, it is an end as well, and what was to come is missing: the two sum all that passes.
            to_child.shutdown().await.and(carried)
        };
        wire::until(wire::carry(&mut from_child, &mut to_peer), heard).await
    }
}

/// Says that there is nothing to say.
async fn decline(mut met: TlsStream<TcpStream>, why: String) {
    let mut wire = Vec::new();
    let mut link = Link::new(io::empty(), &mut wire, "");
    let said = link.say(&Message::Declined { why });
    drop(link);
    let end = async {
        met.write_all(&wire).await?;
        met.shutdown().await?;
        // What it has said meanwhile is taken off its hands, or it would not hear the answer.
        let mut unheard = [0; 4096];
        while met.read(&mut unheard).await? > 0 {}
        io::Result::Ok(())
    };
    if said.is_ok() {
        let _ = timeout(PATIENCE, end).await;
    }
}
