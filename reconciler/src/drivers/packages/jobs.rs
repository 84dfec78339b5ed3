//! What VEs' package managers are asked and told, each in a thread of its own, and what came of it. Memory only: a
//! controller that comes up asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use vzd_state::backoff;
use vzd_state::ids::VeUid;
use vzd_state::subsystem::packages::{Job, JobState, Seen, Work};

use crate::engine::clock;
use crate::error::{At, SysResult};

/// Package managers at work at a time: they share the host's disk and network.
const AT_A_TIME: usize = 4;
/// What was seen is believed so long, unless something is done meanwhile.
const BELIEVED: Duration = Duration::from_secs(10 * 60);
/// One that gave no good answer is not asked again before this.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// So long a pass waits for an answer, which takes milliseconds. One that comes later is heard of.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who hears that something of a VE is to be looked at.
type Hear = Box<dyn Fn(&VeUid) + Send + Sync>;

/// What is known of all VEs' package managers.
#[derive(Clone, Default)]
pub struct Jobs(Arc<Inner>);

#[derive(Default)]
struct Inner {
    ves: Mutex<BTreeMap<VeUid, Known>>,
    /// Something has ended.
    ended: Condvar,
    hear: OnceLock<Hear>,
}

/// What is known of one.
#[derive(Default)]
struct Known {
    answer: Option<Answer>,
    asking: bool,
    /// Nobody waits for the answer any more.
    given_up: bool,
    job: Option<Job>,
    /// The job has a place among those at work, and does not wait for one.
    working: bool,
    failures: u32,
}

/// What a package manager was asked, and what it said.
struct Answer {
    at: Instant,
    question: Question,
    said: Result<Seen, String>,
}

/// What it is asked: in which run of the VE, and about which packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The host's pid of its init.
    pub pid: i32,
    /// The packages.
    pub names: BTreeSet<String>,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

impl Known {
    fn is_told(&self) -> bool {
        self.job.as_ref().is_some_and(|job| matches!(job.state, JobState::Running { .. }))
    }

    /// What was answered, if it is not too old. While it does something, nobody asks.
    fn recall(&self, question: &Question) -> Option<Result<Seen, String>> {
        let with_job = |seen: &Seen| Seen { job: self.job.clone(), ..seen.clone() };
        if self.is_told() {
            let last = self.answer.as_ref().and_then(|answer| answer.said.as_ref().ok());
            return Some(Ok(with_job(last.unwrap_or(&Seen::default()))));
        }
        let Answer { at, question: of, said } = self.answer.as_ref()?;
        let believed = if said.is_ok() { BELIEVED } else { LEFT_ALONE };
        (at.elapsed() < believed && of == question).then(|| said.as_ref().map(with_job).map_err(Clone::clone))
    }
}

impl Jobs {
    /// From now on, somebody hears of each VE that is to be looked at again.
    pub fn hear(&self, hear: impl Fn(&VeUid) + Send + Sync + 'static) {
        drop(self.0.hear.set(Box::new(hear)));
    }

    fn tell(&self, uid: &VeUid) {
        if let Some(hear) = self.0.hear.get() {
            hear(uid);
        }
    }

    /// Waits until something has ended of what was asked and told, and names all VEs of which something had not. Where
    /// somebody hears of it, there is nothing to wait for.
    pub fn wait(&self) -> Vec<VeUid> {
        let busy = |ves: &BTreeMap<VeUid, Known>| -> Vec<VeUid> {
            let busy = ves.iter().filter(|(_, known)| known.is_told() || known.asking);
            busy.map(|(uid, _)| uid.clone()).collect()
        };
        let mut ves = self.ves();
        let before = if self.is_followed() { Vec::new() } else { busy(&ves) };
        while !before.is_empty() && busy(&ves) == before {
            ves = self.0.ended.wait(ves).unwrap_or_else(PoisonError::into_inner);
        }
        before
    }

    /// Whether somebody hears of what has ended: a controller, that sees to VEs by itself.
    pub fn is_followed(&self) -> bool {
        self.0.hear.get().is_some()
    }

    /// Why what a VE's package manager was last told did not end well.
    pub fn failure(&self, uid: &VeUid) -> Option<String> {
        let ves = self.ves();
        match ves.get(uid)?.job.as_ref()? {
            Job { work, state: JobState::Failed { why, .. } } => Some(format!("{work}: {why}")),
            Job { state: JobState::Running { .. }, .. } => None,
        }
    }

    /// Forgets a VE that is gone.
    pub fn forget(&self, uid: &VeUid) {
        self.ves().remove(uid);
    }

    fn ves(&self) -> MutexGuard<'_, BTreeMap<VeUid, Known>> {
        self.0.ves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a VE's package manager says: what it said lately, or what `ask` brings.
    pub fn seen(
        &self,
        uid: &VeUid,
        question: &Question,
        ask: impl FnOnce() -> Result<Seen, String> + Send + 'static,
    ) -> Result<Seen, String> {
        let mut ves = self.ves();
        let known = ves.entry(uid.clone()).or_default();
        if let Some(said) = known.recall(question) {
            return said;
        }
        known.given_up = false;
        if !known.asking {
            known.asking = true;
            drop(ves);
            if let Err(e) = self.spawn_question(uid, question.clone(), ask) {
                self.answered(uid, question.clone(), Err(e.to_string()));
            }
            ves = self.ves();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(known) = ves.get_mut(uid) else { return Err("the VE is gone".to_owned()) };
            if let Some(said) = known.recall(question) {
                return said;
            }
            if left.is_zero() || !known.asking {
                known.given_up = true;
                return Err("its package manager has not answered yet".to_owned());
            }
            (ves, _) = self.0.ended.wait_timeout(ves, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn spawn_question(
        &self,
        uid: &VeUid,
        question: Question,
        ask: impl FnOnce() -> Result<Seen, String> + Send + 'static,
    ) -> SysResult<()> {
        let (jobs, uid) = (self.clone(), uid.clone());
        spawn(move || jobs.answered(&uid, question, ask()))
    }

    fn answered(&self, uid: &VeUid, question: Question, said: Result<Seen, String>) {
        let mut ves = self.ves();
        let Some(known) = ves.get_mut(uid) else { return };
        known.answer = Some(Answer { at: Instant::now(), question, said });
        known.asking = false;
        let late = known.given_up;
        drop(ves);
        self.0.ended.notify_all();
        if late {
            self.tell(uid);
        }
    }

    /// Has something done, unless something is being done. Tells whether it begins.
    pub fn begin(
        &self,
        uid: &VeUid,
        work: &Work,
        perform: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> SysResult<bool> {
        let mut ves = self.ves();
        let known = ves.entry(uid.clone()).or_default();
        if known.is_told() {
            return Ok(false);
        }
        if known.job.as_ref().is_some_and(|job| job.work != *work) {
            known.failures = 0;
        }
        known.job = Some(Job { work: work.clone(), state: JobState::Running { since: clock::now() } });
        drop(ves);
        let (jobs, own, work) = (self.clone(), uid.clone(), work.clone());
        let told = work.clone();
        let begun = spawn(move || {
            jobs.take_place(&own);
            jobs.end(&own, work, perform());
        });
        if begun.is_err() {
            self.end(uid, told, Err("no thread could be started for it".to_owned()));
        }
        begun.map(|()| true)
    }

    /// Waits for a place among those at work.
    fn take_place(&self, uid: &VeUid) {
        let mut ves = self.ves();
        while ves.values().filter(|known| known.working).count() >= AT_A_TIME {
            ves = self.0.ended.wait(ves).unwrap_or_else(PoisonError::into_inner);
        }
        ves.entry(uid.clone()).or_default().working = true;
    }

    /// Notes how a job ended.
    fn end(&self, uid: &VeUid, work: Work, ended: Result<(), String>) {
        let mut ves = self.ves();
        let known = ves.entry(uid.clone()).or_default();
        known.working = false;
        known.answer = None;
        match ended {
            Ok(()) => (known.job, known.failures) = (None, 0),
            Err(why) => {
                known.failures += 1;
                let until = clock::now() + backoff::delay(known.failures, clock::jitter());
                known.job = Some(Job { work, state: JobState::Failed { why, until } });
            }
        }
        drop(ves);
        self.0.ended.notify_all();
        self.tell(uid);
    }
}

fn spawn(body: impl FnOnce() + Send + 'static) -> SysResult<()> {
    let thread = std::thread::Builder::new().name("packages".into()).stack_size(512 * 1024);
    thread.spawn(body).map(drop).at("start thread", "packages")
}
