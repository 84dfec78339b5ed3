//! The addresses of the API and what each does. Handlers only carry a question over to a thread where it
//! may block; how many do so at a time is limited by kind, so that neither long waits nor long work keep
//! a short question from its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use vzd_schema::Code;
use vzd_state::status::Document;

use crate::api::body::Strict;
use crate::api::query::Parameters;
use crate::api::refusal::Refusal;
use crate::api::{LONGEST_WAIT, MOST_BODY, metrics};
use crate::control::{
    ApplyOutcome, CloneRequest, Cloned, Control, ControlError, ControlResult, Entrance, Info, LoggedEvent,
    MountRequest, Outcomes, PlanRequest, PlanView, PowerRequest, Reinstall, Selector, Snapshot,
    SnapshotRequest, TransientRequest, VeCounters, VeNetwork, VeUsage, Why,
};
use crate::handover;

/// Questions of one kind that are answered at the same time.
pub const AT_ONCE: usize = 24;
/// A question that cannot even begin for that long is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every handler gets.
#[derive(Clone)]
pub struct Answering {
    control: Arc<dyn Control>,
    short: Arc<Semaphore>,
    work: Arc<Semaphore>,
    waits: Arc<Semaphore>,
}

impl Answering {
    /// Answers with this control.
    pub fn new(control: Arc<dyn Control>) -> Self {
        let [short, work, waits] = std::array::from_fn(|_| Arc::new(Semaphore::new(AT_ONCE)));
        Answering { control, short, work, waits }
    }

    async fn with<T: Send + 'static>(
        &self,
        kind: &Arc<Semaphore>,
        question: impl FnOnce(&dyn Control) -> ControlResult<T> + Send + 'static,
    ) -> Result<Json<T>, Refusal> {
        self.answer(kind, question).await.map(Json)
    }

    async fn answer<T: Send + 'static>(
        &self,
        kind: &Arc<Semaphore>,
        question: impl FnOnce(&dyn Control) -> ControlResult<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = tokio::time::timeout(PATIENCE, kind.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(unavailable("the controller is busy with others' questions"));
        };
        let control = self.control.clone();
        let answer = tokio::task::spawn_blocking(move || {
            // Held until it is answered, even if whoever asked went away.
            let _permit = permit;
            question(&*control)
        });
        match answer.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::DaemonUnreachable,
                "the controller failed over this question; its log tells more",
            )),
        }
    }
}

fn unavailable(message: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::DaemonUnreachable, message)
}

/// A request to wait for a condition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitRequest {
    /// Which VEs.
    pub select: Selector,
    /// Which condition.
    pub condition: String,
    /// Which status.
    pub status: String,
    /// At most so long; longer than half a minute is cut.
    pub timeout_ms: u64,
}

/// A request about one VE by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameRequest {
    /// Its name.
    pub name: String,
}

/// The address of hand-overs, which are root's.
pub const HANDOVER: &str = "/v1/handover";
/// The address of clones, whose manifests are written: root's.
pub const CLONE: &str = "/v1/clone";
/// The address of mounts on the host, which are root's.
pub const MOUNT: &str = "/v1/mount";

/// Every address.
pub fn router(answering: Answering) -> Router {
    Router::new()
        .route("/v1/ves", get(ves))
        .route("/v1/ves/{name}", get(ve))
        .route("/v1/plan", post(plan))
        .route("/v1/apply", post(apply))
        .route("/v1/drift", post(drift))
        .route("/v1/power", post(power))
        .route("/v1/transient", post(transient))
        .route("/v1/undelete", post(undelete))
        .route("/v1/reinstall", post(reinstall))
        .route(CLONE, post(clone))
        .route(MOUNT, post(mount))
        .route("/v1/snapshots", get(snapshots).post(snapshot))
        .route(HANDOVER, post(handover))
        .route("/v1/events", get(events))
        .route("/v1/why", get(why))
        .route("/v1/entrances", get(entrances))
        .route("/v1/counters", get(counters))
        .route("/v1/networks", get(networks))
        .route("/v1/usage", get(usage))
        .route("/v1/info", get(info))
        .route("/v1/wait", post(wait))
        .fallback(|| async {
            Refusal::new(StatusCode::NOT_FOUND, Code::Usage, "there is nothing at this address")
        })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Usage, "not with this method").into_response()
        })
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(answering)
}

/// The address of metrics, which is on a listener of its own.
pub fn metrics_router(answering: Answering) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(answering)
}

async fn metrics(State(ask): Ask, query: Parameters) -> Result<impl IntoResponse, Refusal> {
    query.end()?;
    let question = |control: &dyn Control| {
        let everything = Selector { all: true, ..Selector::default() };
        Ok(metrics::text(&control.info()?, &control.usage(&everything)?))
    };
    let text = ask.answer(&ask.short, question).await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}

type Answer<T> = Result<Json<T>, Refusal>;
type Ask = State<Answering>;

async fn ves(State(ask): Ask, mut query: Parameters) -> Answer<Vec<Document>> {
    let select = query.selector()?;
    let quarantined = query.value("quarantined")?.unwrap_or(false);
    query.end()?;
    ask.with(&ask.short, move |control| control.list(&select, quarantined)).await
}

async fn ve(State(ask): Ask, Path(name): Path<String>, query: Parameters) -> Answer<Document> {
    query.end()?;
    let question = move |control: &dyn Control| {
        let select = Selector { names: vec![name.clone()], ..Selector::default() };
        control.list(&select, false)?.pop().ok_or_else(|| ControlError {
            code: Code::NoSuchVe.to_string(),
            message: format!("there is no VE `{name}`"),
            help: None,
        })
    };
    ask.with(&ask.short, question).await
}

async fn plan(State(ask): Ask, Strict(request): Strict<PlanRequest>) -> Answer<PlanView> {
    ask.with(&ask.work, move |control| control.plan(&request)).await
}

async fn apply(State(ask): Ask, Strict(request): Strict<PlanRequest>) -> Answer<ApplyOutcome> {
    ask.with(&ask.work, move |control| control.apply(&request)).await
}

async fn drift(State(ask): Ask, Strict(select): Strict<Selector>) -> Answer<PlanView> {
    ask.with(&ask.work, move |control| control.drift(&select)).await
}

async fn power(State(ask): Ask, Strict(request): Strict<PowerRequest>) -> Answer<Outcomes> {
    ask.with(&ask.work, move |control| control.power(&request)).await
}

async fn transient(State(ask): Ask, Strict(request): Strict<TransientRequest>) -> Answer<()> {
    ask.with(&ask.work, move |control| control.transient(&request)).await
}

async fn undelete(State(ask): Ask, Strict(request): Strict<NameRequest>) -> Answer<()> {
    ask.with(&ask.work, move |control| control.undelete(&request.name)).await
}

async fn reinstall(State(ask): Ask, Strict(request): Strict<Reinstall>) -> Answer<()> {
    ask.with(&ask.work, move |control| control.reinstall(&request)).await
}

async fn clone(State(ask): Ask, Strict(request): Strict<CloneRequest>) -> Answer<Cloned> {
    ask.with(&ask.work, move |control| control.clone_ve(&request)).await
}

async fn mount(State(ask): Ask, Strict(request): Strict<MountRequest>) -> Answer<()> {
    ask.with(&ask.work, move |control| control.mount(&request)).await
}

async fn snapshots(State(ask): Ask, mut query: Parameters) -> Answer<Vec<Snapshot>> {
    let ve = query.required("ve")?;
    query.end()?;
    ask.with(&ask.short, move |control| control.snapshots(&ve)).await
}

async fn snapshot(State(ask): Ask, Strict(request): Strict<SnapshotRequest>) -> Answer<()> {
    ask.with(&ask.work, move |control| control.snapshot(&request)).await
}

async fn handover(State(ask): Ask, Strict(request): Strict<handover::Request>) -> Answer<handover::Answer> {
    ask.with(&ask.work, move |control| control.handover(&request)).await
}

async fn events(State(ask): Ask, mut query: Parameters) -> Answer<Vec<LoggedEvent>> {
    let mut wanted = query.events()?;
    query.end()?;
    wanted.wait_ms = wanted.wait_ms.min(longest_wait());
    let kind = if wanted.wait_ms > 0 { &ask.waits } else { &ask.short };
    ask.with(kind, move |control| control.events(&wanted)).await
}

async fn why(State(ask): Ask, mut query: Parameters) -> Answer<Why> {
    let (ve, field) = (query.required("ve")?, query.required("field")?);
    query.end()?;
    ask.with(&ask.short, move |control| control.why(&ve, &field)).await
}

async fn entrances(State(ask): Ask, mut query: Parameters) -> Answer<Vec<Entrance>> {
    let select = query.selector()?;
    query.end()?;
    ask.with(&ask.short, move |control| control.entrances(&select)).await
}

async fn counters(State(ask): Ask, mut query: Parameters) -> Answer<Vec<VeCounters>> {
    let select = query.selector()?;
    query.end()?;
    ask.with(&ask.short, move |control| control.counters(&select)).await
}

async fn networks(State(ask): Ask, mut query: Parameters) -> Answer<Vec<VeNetwork>> {
    let select = query.selector()?;
    query.end()?;
    ask.with(&ask.short, move |control| control.networks(&select)).await
}

async fn usage(State(ask): Ask, mut query: Parameters) -> Answer<Vec<VeUsage>> {
    let select = query.selector()?;
    query.end()?;
    ask.with(&ask.short, move |control| control.usage(&select)).await
}

async fn info(State(ask): Ask) -> Answer<Info> {
    ask.with(&ask.short, |control| control.info()).await
}

async fn wait(State(ask): Ask, Strict(request): Strict<WaitRequest>) -> Answer<bool> {
    let WaitRequest { select, condition, status, timeout_ms } = request;
    let timeout = timeout_ms.min(longest_wait());
    ask.with(&ask.waits, move |control| control.wait(&select, &condition, &status, timeout)).await
}

fn longest_wait() -> u64 {
    u64::try_from(LONGEST_WAIT.as_millis()).unwrap_or(u64::MAX)
}
