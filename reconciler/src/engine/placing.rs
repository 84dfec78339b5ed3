//! VEs that are to be on one host or another: asks the other hosts, answers them, has VEs handed over, and brings what was left
//! half done to its end. What comes of it is decided by `vzd_state::placement`.
//!
//! No pass waits for another host: passes only say what is due, and threads of the controller's do it: one that asks, about
//! all VEs at once, and one for each of a few hand-overs, which are `vzd migrate`'s own work. Without a controller
//! `vzd apply` asks, and hands nothing over.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use vzd_state::backoff;
use vzd_state::event::{Event, EventType};
use vzd_state::handover::{Stage, Told};
use vzd_state::ids::{VeName, VeUid};
use vzd_state::ledger::Entry;
use vzd_state::placement::{HostName, Inquiry, Place, Query, Said, Word};
use vzd_state::plan::{Proposed, VePlan};
use vzd_state::units::{Millis, Timestamp};

use crate::engine::run::spawn;
use crate::engine::view::View;
use crate::engine::{Engine, Shared, Subject, clock};
use crate::handover::ask;
use crate::handover::session::Session;
use crate::handover::there::words;

/// So many hand-overs at a time: each takes the disk and the wire.
const AT_A_TIME: usize = 2;
/// Hosts are asked again after this, and after twice as long each time, up to the last.
const FIRST: Millis = Millis(1_000);
const LAST: Millis = Millis(20_000);

/// What the other hosts have been asked about one VE.
#[derive(Debug, Default)]
pub(super) struct Asked {
    inquiry: Inquiry,
    /// The round that goes on.
    round: Option<u64>,
    /// How many there were.
    rounds: u32,
    /// The next one is not before this.
    due: Timestamp,
}

/// What is under way; the engine's part that knows of threads.
#[derive(Default)]
pub(super) struct Placing {
    work: Mutex<Work>,
    /// Wakes the controller's loop; there is none in a command.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Work {
    asking: bool,
    moves: BTreeMap<VeName, Move>,
}

/// A hand-over that goes on, or has failed.
#[derive(Default)]
struct Move {
    goes_on: bool,
    failures: u32,
    due: Timestamp,
    why: Option<String>,
}

impl Placing {
    /// Has a controller's loop hear of what there is to look at.
    pub fn hear(&self, wake: impl Fn() + Send + Sync + 'static) {
        drop(self.wake.set(Box::new(wake)));
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// What is to be done about a VE on which other hosts have a say; none if there is neither a VE nor a manifest.
    pub(super) fn place(&self, name: &VeName, entry: Option<&Entry>) -> Option<Place> {
        let want = self.wishes.want.get(name).map(Arc::as_ref);
        if want.is_none() && entry.is_none() {
            return None;
        }
        Some(self.wishes.place(want, entry, self.asked.get(name).map(|asked| &asked.inquiry)))
    }

    /// Whether a VE may be made now: that nobody else has it, and that this host's wish still stands. To be asked in the
    /// moment in which it is noted.
    pub(super) fn may_make(&self, name: &VeName) -> bool {
        self.place(name, None).is_none_or(|place| place == Place::Here)
    }

    /// Whom it is to ask, by which round, about what.
    fn begin_round(&mut self, number: u64, now: Timestamp, all: bool) -> Vec<Query> {
        let named = self.wishes.want.values().filter(|want| want.host.is_some()).map(|want| &want.name);
        let come = self.ledger.entries().filter(|entry| entry.handover.is_some()).map(|entry| &entry.name);
        let names: BTreeSet<VeName> = named.chain(come).cloned().collect();
        let mut queries = Vec::new();
        for name in names {
            let place = self.place(&name, self.ledger.by_name(&name));
            let Some(place) = place.filter(Place::asks) else { continue };
            let asked = self.asked.entry(name.clone()).or_default();
            if all || asked.due <= now {
                asked.round = Some(number);
                queries.push(Query { name, wants: matches!(place, Place::Waits(_)) });
            }
        }
        queries
    }
}

impl Engine {
    /// Makes the plan for a VE one that heeds other hosts.
    pub(super) fn heed_place(&self, view: &View, proposed: VePlan<Proposed>) -> VePlan<Proposed> {
        let Some(place) = &view.place else { return proposed };
        let source = view.named_at.clone();
        let mut why = place.to_string();
        let mut wake = None;
        if let Place::Goes(_) = place {
            let work = self.placing.work();
            match work.moves.get(&view.name) {
                Some(Move { goes_on: false, why: Some(failed), due, .. }) => {
                    wake = Some(*due);
                    why = format!("{why}; the last try failed: {failed}; the next one is at {due}");
                }
                Some(Move { goes_on: false, .. }) | None => {
                    wake = work.moves.get(&view.name).map(|is| is.due).or(Some(clock::now() + FIRST));
                }
                Some(Move { goes_on: true, .. }) => {}
            }
        } else if place.asks() {
            let now = clock::now();
            wake = match self.shared().asked.get(&view.name) {
                // Its end is told.
                Some(Asked { round: Some(_), .. }) => None,
                Some(Asked { due, .. }) => Some((*due).max(now + Millis(100))),
                None => Some(now + FIRST),
            };
        }
        proposed.placed(place, why, source, wake)
    }

    /// Does what is due about a VE after a pass, in threads of the controller's.
    pub(super) fn pursue(self: &Arc<Self>, name: &VeName) {
        if self.placing.wake.get().is_none() {
            return;
        }
        let (place, is_left_alone, on_its_way) = {
            let shared = self.shared();
            let (want, entry) = (shared.wishes.want.get(name), shared.ledger.by_name(name));
            let on_its_way = entry.filter(|entry| entry.handover.is_some()).map(|entry| entry.uid.clone());
            let is_left_alone = want.is_some_and(|want| want.lifecycle.suspended(clock::now()).is_some());
            (shared.place(name, entry), is_left_alone, on_its_way)
        };
        match place {
            Some(Place::Goes(_) | Place::Come(_))
                if on_its_way.as_ref().is_some_and(|uid| self.is_worked_at(uid)) => {}
            Some(Place::Goes(to)) if !is_left_alone => self.send_off(name, &to),
            Some(place) if place.asks() => self.ask_soon(),
            _ => self.placing.work().moves.retain(|ve, is| ve != name || is.goes_on),
        }
    }

    /// Whether somebody is at work on its hand-over, such as a command.
    fn is_worked_at(&self, uid: &VeUid) -> bool {
        matches!(Session::try_begin(&self.host.settings, uid), Ok(None))
    }

    pub(super) fn wake_loop(&self, subjects: impl IntoIterator<Item = VeName>) {
        self.shared().nudged.extend(subjects.into_iter().map(Subject::Name));
        if let Some(wake) = self.placing.wake.get() {
            wake();
        }
    }

    /// Begins a hand-over, unless it goes on, or failed a moment ago.
    fn send_off(self: &Arc<Self>, name: &VeName, to: &HostName) {
        {
            let mut work = self.placing.work();
            let busy = work.moves.values().filter(|is| is.goes_on).count() >= AT_A_TIME;
            let is = work.moves.entry(name.clone()).or_default();
            if is.goes_on || is.due > clock::now() {
                return;
            }
            if busy {
                is.due = clock::now() + FIRST;
                return;
            }
            is.goes_on = true;
        }
        let (engine, ve, to) = (Arc::clone(self), name.clone(), to.clone());
        let spawned = spawn("hands over", move || {
            let outcome = engine.run_migrate(&ve);
            let (kind, reason, message) = match &outcome {
                Ok(()) => (EventType::Normal, "HandedOver", format!("it was handed over to {to}")),
                Err(why) => (
                    EventType::Warning,
                    "HandoverFailed",
                    format!("it could not be handed over to {to}: {why}"),
                ),
            };
            engine.tell(Event::new(clock::now(), Some(ve.clone()), kind, reason, message));
            engine.end_move(&ve, outcome.err());
        });
        if !spawned {
            self.end_move(name, Some("a thread cannot be started".to_owned()));
        }
    }

    fn end_move(&self, name: &VeName, failed: Option<String>) {
        let mut work = self.placing.work();
        match (work.moves.get_mut(name), failed) {
            (Some(is), Some(why)) => {
                is.failures += 1;
                let due = clock::now() + backoff::delay(is.failures, clock::jitter());
                (is.goes_on, is.due, is.why) = (false, due, Some(why));
            }
            (Some(_), None) => drop(work.moves.remove(name)),
            (None, _) => {}
        }
        // Whoever has waited for it to end.
        let waiting: Vec<_> =
            work.moves.iter().filter(|(_, is)| !is.goes_on).map(|(name, _)| name.clone()).collect();
        drop(work);
        self.wake_loop(waiting.into_iter().chain([name.clone()]));
    }

    /// `vzd migrate` reads the same ledger and manifests, and finds out by them where it goes.
    fn run_migrate(&self, name: &VeName) -> Result<(), String> {
        let own = std::env::current_exe().map_err(|e| format!("vzd cannot find itself: {e}"))?;
        let mut command = Command::new(own);
        command.args(["migrate", name.as_str()]).envs(self.host.settings.environment());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("vzd cannot be started: {e}"))?;
        let told = child.stderr.take().map(words).unwrap_or_default();
        let status = child.wait().map_err(|e| e.to_string())?;
        let reasons = told.iter().map(|line| line.trim()).filter(|line| !line.starts_with("help: "));
        let reasons: Vec<_> =
            reasons.map(|line| line.split_once("]: ").map_or(line, |(_, why)| why)).collect();
        match status.success() {
            true => Ok(()),
            false if reasons.is_empty() => Err(status.to_string()),
            false => Err(reasons.join("; ")),
        }
    }

    /// Has the other hosts asked, unless they are being asked.
    fn ask_soon(self: &Arc<Self>) {
        if std::mem::replace(&mut self.placing.work().asking, true) {
            return;
        }
        let engine = Arc::clone(self);
        let spawned = spawn("asks", move || {
            while engine.ask_round(false) {}
            engine.placing.work().asking = false;
            // What came up after the last look is asked about by the next pass.
            engine.wake_loop([]);
        });
        if !spawned {
            self.placing.work().asking = false;
        }
    }

    /// Asks the other hosts about all that they have to be asked about, until that is known. For a command.
    pub(super) fn ask_now(&self) {
        if self.placing.wake.get().is_none() && self.ask_round(true) {
            self.ask_round(true);
        }
    }

    /// Asks the other hosts once about what is due. Tells whether to do so again at once.
    fn ask_round(&self, all: bool) -> bool {
        let (queries, hosts, number) = {
            let mut shared = self.shared();
            shared.round += 1;
            let number = shared.round;
            (shared.begin_round(number, clock::now(), all), shared.wishes.hosts.clone(), number)
        };
        let Some(own) = hosts.own.clone().filter(|_| !queries.is_empty()) else { return false };
        let said: Vec<(HostName, Result<Vec<Word>, String>)> = std::thread::scope(|scope| {
            let asking: Vec<_> = hosts
                .peers
                .iter()
                .map(|peer| {
                    let (way, queries, own) = (hosts.way(peer), &queries, &own);
                    let settings = &self.host.settings;
                    (peer, scope.spawn(move || ask::ask(settings, own, (peer, &way), queries)))
                })
                .collect();
            let unheard = |_| Err("asking it failed".to_owned());
            asking
                .into_iter()
                .map(|(peer, asked)| (peer.clone(), asked.join().unwrap_or_else(unheard)))
                .collect()
        });
        self.conclude(&queries, &said, number)
    }

    fn conclude(
        &self,
        queries: &[Query],
        said: &[(HostName, Result<Vec<Word>, String>)],
        number: u64,
    ) -> bool {
        let now = clock::now();
        let mut again = false;
        let mut arrived: Vec<(VeUid, String)> = Vec::new();
        let mut shared = self.shared();
        let Shared { asked, ledger, .. } = &mut *shared;
        for (at, query) in queries.iter().enumerate() {
            let of = |words: &Result<Vec<Word>, String>| -> Said {
                words
                    .clone()
                    .and_then(|words| words.get(at).cloned().ok_or_else(|| "it says nothing".to_owned()))
            };
            // If its wish has changed meanwhile, what was heard counts for nothing.
            let Some(asked) = asked.get_mut(&query.name).filter(|asked| asked.round == Some(number)) else {
                continue;
            };
            asked.inquiry.conclude(said.iter().map(|(peer, words)| (peer.clone(), of(words))).collect());
            asked.round = None;
            asked.rounds += 1;
            let longer = FIRST.0.saturating_mul(1 << asked.rounds.saturating_sub(1).min(10));
            asked.due = if asked.inquiry.is_open() { now } else { now + Millis(longer.min(LAST.0)) };
            again |= asked.inquiry.is_open();
            let handover =
                ledger.by_name(&query.name).and_then(|entry| Some((entry, entry.handover.as_ref()?)));
            if let Some((entry, handover)) = handover.filter(|(_, is)| is.stage == Stage::Arrived)
                && asked.inquiry.knows_of(&handover.id, &handover.peer)
            {
                arrived.push((entry.uid.clone(), handover.id.clone()));
            }
        }
        drop(shared);
        for (uid, id) in arrived {
            if let Err(e) = self.told(&uid, &id, Told::Acknowledged) {
                tracing::warn!(%uid, error = %e, "that it has arrived cannot be noted");
            }
        }
        self.wake_loop(queries.iter().map(|query| query.name.clone()));
        again
    }
}

/// Names whose answers count for nothing any more.
pub(super) fn forget(asked: &mut BTreeMap<VeName, Asked>, changed: &BTreeSet<VeName>) {
    asked.retain(|name, _| !changed.contains(name));
}
