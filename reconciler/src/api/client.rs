//! [`Control`] over the controller's socket. A question is one connection; the caller waits for the
//! answer. Starts no thread.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use vzd_schema::Code;
use vzd_state::status::Document;

use crate::api::query::{address, of_selector};
use crate::api::routes::{CLONE, HANDOVER, MOUNT, NameRequest, WaitRequest};
use crate::api::{LONGEST_WAIT, MOST_ANSWER};
use crate::control::{
    ApplyOutcome, CloneRequest, Cloned, Control, ControlError, ControlResult, Entrance, EventQuery, Info,
    LoggedEvent, MountRequest, Outcomes, PlanRequest, PlanView, PowerRequest, Reinstall, Selector, Snapshot,
    SnapshotRequest, TransientRequest, VeCounters, VeNetwork, VeUsage, Why,
};
use crate::handover;

/// More names than that are asked for in several questions: an address has limits.
const NAMES_AT_ONCE: usize = 200;

/// The controller behind a socket.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// A client of the controller that serves on this socket.
    pub fn new(socket: &Path) -> ControlResult<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unreachable(format!("cannot ask the controller: {error}")))?;
        Ok(Client { socket: socket.to_owned(), runtime })
    }

    fn get<T: DeserializeOwned>(&self, address: &str) -> ControlResult<T> {
        self.ask(Method::GET, address, Bytes::new())
    }

    fn post<T: DeserializeOwned>(&self, address: &str, body: &impl Serialize) -> ControlResult<T> {
        let body =
            serde_json::to_vec(body).map_err(|error| unreachable(format!("cannot write JSON: {error}")))?;
        self.ask(Method::POST, address, body.into())
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, address: &str, body: Bytes) -> ControlResult<T> {
        let (is_done, answer) =
            self.runtime.block_on(exchange(&self.socket, method, address, body)).map_err(|why| {
                unreachable(format!("no answer from the controller at {}: {why}", self.socket.display()))
            })?;
        let garbled = |error| unreachable(format!("the controller's answer makes no sense: {error}"));
        if is_done {
            return serde_json::from_slice(&answer).map_err(garbled);
        }
        Err(serde_json::from_slice(&answer).unwrap_or_else(garbled))
    }

    /// Asks about at most so many names at a time.
    fn in_parts<T>(
        &self,
        select: &Selector,
        part: impl Fn(&Selector) -> ControlResult<Vec<T>>,
    ) -> ControlResult<Vec<T>> {
        if select.names.len() <= NAMES_AT_ONCE {
            return part(select);
        }
        let mut all = Vec::new();
        for names in select.names.chunks(NAMES_AT_ONCE) {
            all.extend(part(&Selector { names: names.to_vec(), ..select.clone() })?);
        }
        Ok(all)
    }
}

fn unreachable(message: String) -> ControlError {
    ControlError { code: Code::DaemonUnreachable.to_string(), message, help: None }
}

/// One question: whether it was answered well, and the answer.
async fn exchange(
    socket: &Path,
    method: Method,
    address: &str,
    body: Bytes,
) -> Result<(bool, Bytes), Box<dyn std::error::Error>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(address)
        .header("host", "vzd")
        .header("content-type", "application/json")
        .header("connection", "close")
        .body(Full::new(body))?;
    let talk = async {
        let response = sender.send_request(request).await?;
        let is_done = response.status().is_success();
        let body = Limited::new(response.into_body(), MOST_ANSWER);
        let answer = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok::<_, Box<dyn std::error::Error>>((is_done, answer))
    };
    tokio::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        ended = connection => match ended {
            // The last bytes may still be on their way to us.
            Ok(()) => talk.await,
            Err(error) => Err(error.into()),
        },
    }
}

impl Control for Client {
    fn list(&self, select: &Selector, quarantined: bool) -> ControlResult<Vec<Document>> {
        let part = |select: &Selector| {
            let [names, labels, all] = of_selector(select);
            let quarantined = ("quarantined", quarantined.then(|| "true".to_owned()));
            self.get(&address("/v1/ves", &[names, labels, all, quarantined]))
        };
        self.in_parts(select, part)
    }

    fn plan(&self, request: &PlanRequest) -> ControlResult<PlanView> {
        self.post("/v1/plan", request)
    }

    fn apply(&self, request: &PlanRequest) -> ControlResult<ApplyOutcome> {
        self.post("/v1/apply", request)
    }

    fn drift(&self, select: &Selector) -> ControlResult<PlanView> {
        self.post("/v1/drift", select)
    }

    fn power(&self, request: &PowerRequest) -> ControlResult<Outcomes> {
        self.post("/v1/power", request)
    }

    fn transient(&self, request: &TransientRequest) -> ControlResult<()> {
        self.post("/v1/transient", request)
    }

    fn undelete(&self, name: &str) -> ControlResult<()> {
        self.post("/v1/undelete", &NameRequest { name: name.to_owned() })
    }

    fn reinstall(&self, request: &Reinstall) -> ControlResult<()> {
        self.post("/v1/reinstall", request)
    }

    fn clone_ve(&self, request: &CloneRequest) -> ControlResult<Cloned> {
        self.post(CLONE, request)
    }

    fn mount(&self, request: &MountRequest) -> ControlResult<()> {
        self.post(MOUNT, request)
    }

    fn snapshots(&self, ve: &str) -> ControlResult<Vec<Snapshot>> {
        self.get(&address("/v1/snapshots", &[("ve", Some(ve.to_owned()))]))
    }

    fn snapshot(&self, request: &SnapshotRequest) -> ControlResult<()> {
        self.post("/v1/snapshots", request)
    }

    fn handover(&self, request: &handover::Request) -> ControlResult<handover::Answer> {
        self.post(HANDOVER, request)
    }

    fn events(&self, query: &EventQuery) -> ControlResult<Vec<LoggedEvent>> {
        let number = |number: u64| Some(number.to_string());
        let wait = (query.wait_ms > 0).then_some(query.wait_ms).and_then(number);
        let parameters =
            [("ve", query.ve.clone()), ("after", query.after.and_then(number)), ("waitMs", wait)];
        self.get(&address("/v1/events", &parameters))
    }

    fn why(&self, ve: &str, field: &str) -> ControlResult<Why> {
        let parameters = [("ve", Some(ve.to_owned())), ("field", Some(field.to_owned()))];
        self.get(&address("/v1/why", &parameters))
    }

    fn entrances(&self, select: &Selector) -> ControlResult<Vec<Entrance>> {
        self.in_parts(select, |select| self.get(&address("/v1/entrances", &of_selector(select))))
    }

    fn counters(&self, select: &Selector) -> ControlResult<Vec<VeCounters>> {
        self.in_parts(select, |select| self.get(&address("/v1/counters", &of_selector(select))))
    }

    fn networks(&self, select: &Selector) -> ControlResult<Vec<VeNetwork>> {
        self.in_parts(select, |select| self.get(&address("/v1/networks", &of_selector(select))))
    }

    fn usage(&self, select: &Selector) -> ControlResult<Vec<VeUsage>> {
        self.in_parts(select, |select| self.get(&address("/v1/usage", &of_selector(select))))
    }

    fn info(&self) -> ControlResult<Info> {
        self.get("/v1/info")
    }

    fn wait(&self, select: &Selector, condition: &str, status: &str, timeout_ms: u64) -> ControlResult<bool> {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).min(LONGEST_WAIT);
            let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            let (condition, status) = (condition.to_owned(), status.to_owned());
            let request = WaitRequest { select: select.clone(), condition, status, timeout_ms };
            if self.post("/v1/wait", &request)? {
                return Ok(true);
            }
            if left < LONGEST_WAIT {
                return Ok(false);
            }
        }
    }
}
