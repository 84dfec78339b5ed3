//! Refusals, told as they happen: which counter, what was held, what bounds it and who says so, and the
//! process, where the kernel tells it.
//!
//! The kernel says that a group may have refused something ([`Alarms`]); the VE is then counted, and what
//! has risen is an event. Counters whose refusals make no noise (sockets) are noticed at the next count.
//! One that repeats is one event with the latest numbers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use vzd_state::desired::Desired;
use vzd_state::event::{Event, EventType};
use vzd_state::subsystem::beancounters::{Counter, UNLIMITED};
use vzd_state::subsystem::lifecycle::Run;

use crate::drivers::beancounters::Counted;
use crate::engine::view::{Leave, View};
use crate::engine::{Engine, Subject, clock};
use crate::kernel::alarms::Alarms;
use crate::kernel::kmsg::{Log, Victim};

/// What came in one burst is counted once.
const SETTLE: Duration = Duration::from_millis(50);
/// A VE that goes on being refused is counted no oftener, and once more after that: the kernel counts a
/// kill a little after it says that memory is short.
const REST: Duration = Duration::from_secs(1);
/// Processes that were killed and whose VE was not counted since.
const MOST_VICTIMS: usize = 256;

/// What is listened to.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    alarms: OnceLock<Alarms>,
    /// The init of the run that is listened to, by ctid.
    runs: Mutex<BTreeMap<u32, u32>>,
    log: OnceLock<Log>,
    victims: Mutex<VecDeque<Victim>>,
}

/// Listens, in a thread of its own, for as long as the process lives.
pub(super) fn listen(engine: &Arc<Engine>) {
    match Log::open() {
        Ok(log) => drop(engine.refusals.log.set(log)),
        Err(e) => tracing::info!(error = %e, "processes that run out of memory are told of without a name"),
    }
    let engine = engine.clone();
    let started = Alarms::new().map_err(|e| e.to_string()).and_then(|alarms| {
        drop(engine.refusals.alarms.set(alarms));
        let thread = std::thread::Builder::new().name("refusals".into()).stack_size(512 * 1024);
        thread.spawn(move || engine.hear()).map_err(|e| e.to_string())
    });
    if let Err(error) = started {
        tracing::warn!(error, "refusals are noticed only when counters are looked at, every 20 s");
    }
}

impl Engine {
    /// Listens to the groups of a VE that was just looked at, if its run is a new one, and shows it what it
    /// holds.
    pub(super) fn follow(&self, subject: &Subject) {
        let alarms = self.refusals.alarms.get();
        let shared = self.shared();
        let Some(entry) = shared.entry(subject).cloned() else { return };
        let run = shared.published.get(subject).and_then(|is| is.observed.running().cloned());
        drop(shared);
        let ctid = entry.ctid.get();
        let mut runs = self.refusals.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Run::Running { init_pid, .. }) = run else {
            if let (Some(_), Some(alarms)) = (runs.remove(&ctid), alarms) {
                alarms.forget(ctid);
            }
            return;
        };
        if runs.insert(ctid, init_pid) == Some(init_pid) {
            return;
        }
        drop(runs);
        if let Err(e) = self.show(&entry) {
            tracing::warn!(ve = %entry.name, error = %e, "it is not shown its counters");
        }
        if let Some(Err(e)) = alarms.map(|alarms| alarms.listen(&self.host.cgroup(&entry))) {
            tracing::warn!(ve = %entry.name, error = %e, "its refusals are not heard of at once");
        }
    }

    /// Counts VEs whose groups make themselves heard.
    fn hear(&self) {
        let Some(alarms) = self.refusals.alarms.get() else { return };
        // When to count, and whether that is for the second time.
        let mut due: BTreeMap<u32, (Instant, bool)> = BTreeMap::new();
        loop {
            let next = due.values().map(|(at, _)| *at).min();
            let heard = match alarms.wait(next.map(|at| at.saturating_duration_since(Instant::now()))) {
                Ok(heard) => heard,
                Err(e) => {
                    tracing::warn!(error = %e, "refusals are noticed only when counters are looked at");
                    return;
                }
            };
            let now = Instant::now();
            for ctid in heard {
                // What comes while it rests is counted after that.
                due.entry(ctid).or_insert((now + SETTLE, false));
            }
            let ready: Vec<u32> =
                due.iter().filter(|(_, (at, _))| *at <= now).map(|(ctid, _)| *ctid).collect();
            for ctid in ready {
                self.count_of(ctid);
                match due.get_mut(&ctid) {
                    Some(again @ (_, false)) => *again = (now + REST, true),
                    _ => drop(due.remove(&ctid)),
                }
            }
        }
    }

    fn count_of(&self, ctid: u32) {
        let name = self.shared().ledger.entries().find(|e| e.ctid.get() == ctid).map(|e| e.name.clone());
        if let Some(view) = name.and_then(|name| self.view(&Subject::Name(name), Leave::default())) {
            self.count(&view);
        }
    }

    /// Tells that a counter's failcnt has risen by so many.
    pub(super) fn tell_refused(&self, view: &View, counter: Counter, counted: Counted, times: u64) {
        // Running out of memory raises both; it is told as what was short.
        if counter == Counter::Oomguarpages {
            return;
        }
        let killed = counter == Counter::Physpages;
        let process = if killed { self.victim(view).map(|is| (is.pid, is.name)) } else { None };
        let process = process.map_or_else(String::new, |(pid, name)| {
            // The name is the VE's own choice.
            let name: String = name.chars().filter(|c| !c.is_control()).collect();
            format!("; {} process {pid} ({name})", if killed { "killed" } else { "to" })
        });
        let bounds = view.want().map(|want| bounds(want, counter)).unwrap_or_default();
        let (reason, what) = match killed {
            true => ("OomKilled", "out of memory"),
            false => ("LimitReached", "was refused"),
        };
        let message = format!("{counter} {what}: {} held{bounds}{process}", counted.held);
        let event = Event::new(clock::now(), Some(view.name.clone()), EventType::Warning, reason, message);
        self.tell(event.about(&counter.to_string(), times));
    }

    /// The latest process of a VE that the kernel has killed.
    fn victim(&self, view: &View) -> Option<Victim> {
        let log = self.refusals.log.get()?;
        let ids = view.entry.as_ref()?.ids;
        let mut victims = self.refusals.victims.lock().unwrap_or_else(PoisonError::into_inner);
        victims.extend(log.victims());
        let surplus = victims.len().saturating_sub(MOST_VICTIMS);
        victims.drain(..surplus);
        let is_ours = |victim: &Victim| victim.uid.checked_sub(ids.start).is_some_and(|id| id < ids.count);
        let ours = victims.iter().rfind(|victim| is_ours(victim)).cloned();
        victims.retain(|victim| !is_ours(victim));
        ours
    }
}

/// `, barrier 240, limit 240 (web.yaml:12)`
fn bounds(want: &Desired, counter: Counter) -> String {
    let number = |number: u64| match number {
        UNLIMITED => "unlimited".to_owned(),
        number => number.to_string(),
    };
    let bound = want.beancounters.bounds.get(&counter);
    let bound = bound.map_or_else(String::new, |bound| {
        format!(", barrier {}, limit {}", number(bound.barrier), number(bound.limit))
    });
    let memory = match counter {
        Counter::Physpages => Some("spec.memory.ram"),
        Counter::Swappages => Some("spec.memory.swap"),
        _ => None,
    };
    let field = format!("spec.beancounters.{counter}");
    let said = want.source_of(&field).or_else(|| want.source_of(memory?));
    said.map_or(bound.clone(), |place| format!("{bound} ({place})"))
}
