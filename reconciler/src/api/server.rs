//! Serves the API on a Unix socket, and metrics where they are asked for, on one thread of its own.
//! Questions block elsewhere (see `routes`).
//!
//! Limits hold against clients that are slow, many or gone: a header must come within seconds, a body
//! within half a minute, and only so many connections are open at a time.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::any;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use vzd_schema::Code;

use crate::api::peer::{self, Rank};
use crate::api::refusal::Refusal;
use crate::api::routes::{AT_ONCE, Answering, metrics_router, router};
use crate::api::routes::{CLONE, HANDOVER, MOUNT};
use crate::control::Control;

/// Connections at a time; more wait in the socket's queue.
const CONNECTIONS: usize = 256;
/// A request's header must be there within that.
const HEADER: Duration = Duration::from_secs(10);
/// After a failed accept (no descriptors left), for others to end.
const PAUSE: Duration = Duration::from_millis(200);
/// Kinds of questions, each with its own limit.
const KINDS: usize = 3;

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsAt {
    /// For whoever is on this host.
    Loopback(SocketAddr),
    /// For those who may ask the controller.
    Socket(PathBuf),
}

impl fmt::Display for MetricsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsAt::Loopback(address) => address.fmt(f),
            MetricsAt::Socket(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for MetricsAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(MetricsAt::Socket(PathBuf::from(text)));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(MetricsAt::Loopback(address)),
            Ok(address) => Err(format!("{} can be reached from outside of this host", address.ip())),
            Err(_) => Err("neither the path of a socket nor an address with a port".to_owned()),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// Only for those who may ask the controller.
    Unix(UnixListener),
    /// For whoever is on this host.
    Loopback(TcpListener),
}

impl Listener {
    /// Listens for questions about metrics. What is left of a controller that is gone is removed.
    pub fn for_metrics(at: &MetricsAt) -> io::Result<Self> {
        match at {
            MetricsAt::Loopback(address) => TcpListener::bind(address).map(Listener::Loopback),
            MetricsAt::Socket(path) => {
                use std::os::unix::fs::FileTypeExt;
                if std::fs::symlink_metadata(path).is_ok_and(|is| is.file_type().is_socket()) {
                    std::fs::remove_file(path)?;
                }
                UnixListener::bind(path).map(Listener::Unix)
            }
        }
    }

    fn prepare(&self) -> io::Result<()> {
        match self {
            Listener::Unix(listener) => {
                if let Some(path) = listener.local_addr()?.as_pathname() {
                    peer::protect(path)?;
                }
                listener.set_nonblocking(true)
            }
            Listener::Loopback(listener) => listener.set_nonblocking(true),
        }
    }
}

/// A server; it ends when this is dropped. Answers that are being made are not waited for.
#[derive(Debug)]
pub struct Serving {
    _stop: oneshot::Sender<()>,
}

/// Serves on `listener` with what `control` answers, and metrics on another.
pub fn serve(
    listener: UnixListener,
    metrics: Option<Listener>,
    control: Arc<dyn Control>,
) -> io::Result<Serving> {
    let listener = Listener::Unix(listener);
    listener.prepare()?;
    metrics.as_ref().map_or(Ok(()), Listener::prepare)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(AT_ONCE * KINDS + 8)
        .thread_name("api-answer")
        .thread_stack_size(1 << 20)
        .build()?;
    let (stop, stopped) = oneshot::channel();
    let answering = Answering::new(control);
    let mut served = vec![(listener, router(answering.clone()))];
    served.extend(metrics.map(|listener| (listener, metrics_router(answering))));
    std::thread::Builder::new().name("api".to_owned()).spawn(move || run(runtime, served, stopped))?;
    Ok(Serving { _stop: stop })
}

fn run(runtime: Runtime, served: Vec<(Listener, Router)>, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async move {
        for (listener, router) in served {
            tokio::spawn(async move {
                if let Err(error) = accept(listener, router).await {
                    tracing::error!(%error, "the API cannot be served");
                }
            });
        }
        // An error too says that whoever served is gone.
        drop(stopped.await);
    });
    runtime.shutdown_background();
}

async fn accept(listener: Listener, router: Router) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let begin = |router: &Router| (router.clone(), connections.clone().acquire_owned());
    match listener {
        Listener::Unix(listener) => {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            loop {
                let (router, permit) = begin(&router);
                let Ok(permit) = permit.await else { return Ok(()) };
                if let Some(stream) = accepted(listener.accept().await).await {
                    tokio::spawn(converse_with_peer(stream, router, permit));
                }
            }
        }
        Listener::Loopback(listener) => {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (router, permit) = begin(&router);
                let Ok(permit) = permit.await else { return Ok(()) };
                if let Some(stream) = accepted(listener.accept().await).await {
                    tokio::spawn(converse(stream, router, true, permit));
                }
            }
        }
    }
}

async fn accepted<S, A>(accepted: io::Result<(S, A)>) -> Option<S> {
    match accepted {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// One connection to a Unix socket, whose peer has to be one who may ask.
async fn converse_with_peer(stream: UnixStream, router: Router, permit: OwnedSemaphorePermit) {
    let rank = match stream.peer_cred() {
        Ok(peer) => tokio::task::spawn_blocking(move || peer::rank(&peer)).await.unwrap_or(Rank::Stranger),
        Err(_) => Rank::Stranger,
    };
    let router = match rank {
        Rank::Owner => router,
        // What comes from another host's ledger is believed: mounts, devices and all.
        Rank::Member => Router::new()
            .route(HANDOVER, any(|| refuse_member(Code::HandoverRefused, "only root may hand VEs over")))
            .route(
                CLONE,
                any(|| refuse_member(Code::CloneRefused, "only root may clone VEs: manifests are root's")),
            )
            .route(
                MOUNT,
                any(|| refuse_member(Code::MountRefused, "only root may mount anything on the host")),
            )
            .fallback_service(router),
        Rank::Stranger => Router::new().fallback(refuse),
    };
    converse(stream, router, rank != Rank::Stranger, permit).await;
}

/// One connection, to its end.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    keep_alive: bool,
    _permit: OwnedSemaphorePermit,
) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .keep_alive(keep_alive)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to the API ended early");
    }
}

async fn refuse_member(code: Code, why: &'static str) -> impl IntoResponse {
    Refusal::new(StatusCode::FORBIDDEN, code, why)
}

async fn refuse() -> impl IntoResponse {
    Refusal::new(
        StatusCode::FORBIDDEN,
        Code::DaemonUnreachable,
        "only root and members of the group `vzd` may ask the controller",
    )
}
