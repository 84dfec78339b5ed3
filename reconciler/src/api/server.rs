//! Serves the API on a Unix socket, on one thread of its own. Questions block elsewhere (see `routes`).
//!
//! Limits hold against clients that are slow, many or gone: a header must come within seconds, a body
//! within half a minute, and only so many connections are open at a time.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use vzd_schema::Code;

use crate::api::peer;
use crate::api::refusal::Refusal;
use crate::api::routes::{AT_ONCE, Answering, router};
use crate::control::Control;

/// Connections at a time; more wait in the socket's queue.
const CONNECTIONS: usize = 256;
/// A request's header must be there within that.
const HEADER: Duration = Duration::from_secs(10);
/// After a failed accept (no descriptors left), for others to end.
const PAUSE: Duration = Duration::from_millis(200);
/// Kinds of questions, each with its own limit.
const KINDS: usize = 3;

/// A server; it ends when this is dropped. Answers that are being made are not waited for.
#[derive(Debug)]
pub struct Serving {
    _stop: oneshot::Sender<()>,
}

/// Serves on `listener` with what `control` answers.
pub fn serve(listener: UnixListener, control: Arc<dyn Control>) -> io::Result<Serving> {
    if let Some(path) = listener.local_addr()?.as_pathname() {
        peer::protect(path)?;
    }
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(AT_ONCE * KINDS + 8)
        .thread_name("api-answer")
        .thread_stack_size(1 << 20)
        .build()?;
    let (stop, stopped) = oneshot::channel();
    std::thread::Builder::new()
        .name("api".to_owned())
        .spawn(move || run(runtime, listener, control, stopped))?;
    Ok(Serving { _stop: stop })
}

fn run(runtime: Runtime, listener: UnixListener, control: Arc<dyn Control>, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async move {
        tokio::select! {
            result = accept(listener, router(Answering::new(control))) => {
                if let Err(error) = result {
                    tracing::error!(%error, "the API cannot be served");
                }
            }
            _ = stopped => {}
        }
    });
    runtime.shutdown_background();
}

async fn accept(listener: UnixListener, router: Router) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, router.clone(), permit))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One connection, to its end.
async fn converse(stream: UnixStream, router: Router, _permit: OwnedSemaphorePermit) {
    let allowed = match stream.peer_cred() {
        Ok(peer) => tokio::task::spawn_blocking(move || peer::may_ask(&peer)).await.unwrap_or(false),
        Err(_) => false,
    };
    let router = if allowed { router } else { Router::new().fallback(refuse) };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .keep_alive(allowed)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to the API ended early");
    }
}

async fn refuse() -> impl IntoResponse {
    Refusal::new(
        StatusCode::FORBIDDEN,
        Code::DaemonUnreachable,
        "only root and members of the group `vzd` may ask the controller",
    )
}
