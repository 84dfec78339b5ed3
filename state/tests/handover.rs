//! Everything that can happen in a hand-over: all orders of what both sides do, with either of them killed, the link cut
//! and messages lost at any moment.
//!
//! A side's state ([`Here`]) is on disk and outlives it; sessions (a command on each side, joined by a link) do not. A
//! source that has ceded may begin another session while the target is still busy with the last. What a session does to
//! its side is what the commands do: [`source_hears`] and [`target_hears`] are their rules.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use vzd_state::handover::{Here, Stage, Told, next};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    Begin,
    Begun,
    Whole,
    Prepared,
    Commit,
    Running,
    Declined,
    Closed,
}

/// A session of the target: the one before it, if there is one, holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Serving {
    /// On their way to it.
    inbox: Vec<Message>,
    /// On their way back.
    outbox: Vec<Message>,
    /// Both ends of the link are there.
    linked: bool,
    /// It has received everything.
    whole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    source: Here,
    source_runs: bool,
    /// Somebody is at work at the source; it speaks to the last session of the target.
    working: bool,
    target: Here,
    target_runs: bool,
    /// It has run at the target by this hand-over.
    has_run: bool,
    serving: Vec<Serving>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What happens by itself, sooner or later.
    Progress,
    /// What may happen, or not.
    Fault,
}

impl World {
    fn new(target: Here) -> World {
        World {
            source: Here::Ordinary,
            source_runs: true,
            working: false,
            target,
            target_runs: false,
            has_run: false,
            serving: Vec::new(),
        }
    }

    fn source_told(&mut self, told: Told) {
        self.source = next(self.source, told).unwrap();
    }

    fn target_told(&mut self, told: Told) {
        self.target = next(self.target, told).unwrap();
    }

    fn send(&mut self, message: Message) {
        if let Some(last) = self.serving.last_mut().filter(|last| last.linked) {
            last.inbox.push(message);
        }
    }

    /// A command at the source: hands it over, or asks again.
    fn begin(&mut self) {
        self.working = true;
        self.serving.push(Serving { linked: true, ..Serving::default() });
        let first = if self.source == Here::At(Stage::Ceded) { Message::Commit } else { Message::Begin };
        self.send(first);
    }

    fn source_hears(&mut self, message: Message) {
        match message {
            Message::Begun => {
                self.source_told(Told::Freeze);
                self.source_runs = false;
                self.send(Message::Whole);
            }
            Message::Prepared => {
                self.source_told(Told::Cede);
                self.send(Message::Commit);
            }
            Message::Running => {
                self.source_told(Told::HasArrived);
                self.send(Message::Closed);
                self.working = false;
            }
            Message::Declined => {
                self.source_told(Told::WasDeclined);
                self.working = false;
            }
            Message::Begin | Message::Whole | Message::Commit | Message::Closed => unreachable!(),
        }
    }

    /// What may come of a message at the target.
    fn target_hears(mut self, message: Message) -> Vec<(Kind, World)> {
        let answer = |world: &mut World, message| {
            if let Some(first) = world.serving.first_mut().filter(|first| first.linked) {
                first.outbox.push(message);
            }
        };
        match message {
            Message::Begin => {
                // It has the lock: whoever began to receive it before is gone.
                self.target_told(Told::Abandoned);
                self.target_told(Told::Receive);
                answer(&mut self, Message::Begun);
                vec![(Kind::Progress, self)]
            }
            Message::Whole => {
                let mut refused = self.clone();
                refused.target_told(Told::Decline);
                answer(&mut refused, Message::Declined);
                self.serving[0].whole = true;
                answer(&mut self, Message::Prepared);
                vec![(Kind::Progress, self), (Kind::Progress, refused)]
            }
            Message::Commit => {
                let is_whole = self.target == Here::At(Stage::Receiving) && self.serving[0].whole;
                if !is_whole && self.target != Here::At(Stage::Arrived) {
                    if self.target != Here::Ordinary {
                        self.target_told(Told::Decline);
                        answer(&mut self, Message::Declined);
                    }
                    return vec![(Kind::Progress, self)];
                }
                self.target_told(Told::Accept);
                let mut killed = self.clone();
                killed.serving.remove(0);
                let mut worlds = vec![(Kind::Fault, killed)];
                if !self.has_run {
                    let mut failed = self.clone();
                    failed.target_told(Told::Decline);
                    answer(&mut failed, Message::Declined);
                    worlds.push((Kind::Progress, failed));
                }
                (self.target_runs, self.has_run) = (true, true);
                answer(&mut self, Message::Running);
                worlds.push((Kind::Progress, self));
                worlds
            }
            Message::Closed => {
                self.target_told(Told::Acknowledged);
                vec![(Kind::Progress, self)]
            }
            Message::Begun | Message::Prepared | Message::Running | Message::Declined => unreachable!(),
        }
    }

    /// Everything that can happen next.
    fn nexts(&self) -> Vec<(Kind, World)> {
        let mut all = Vec::new();
        let mut may = |kind, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            all.push((kind, world));
        };
        let source_is = |stage| self.source == Here::At(stage);
        // Nobody works at it.
        if !self.working {
            if self.source == Here::Ordinary && self.source_runs && self.serving.len() < 2 {
                may(Kind::Fault, &World::begin);
            }
            if source_is(Stage::Ceded) && self.serving.len() < 2 {
                may(Kind::Progress, &World::begin);
            }
            if source_is(Stage::Frozen) {
                may(Kind::Progress, &|world| world.source_told(Told::Abandoned));
            }
        }
        if self.source == Here::Ordinary && !self.source_runs {
            may(Kind::Progress, &|world| world.source_runs = true);
        }
        if self.serving.is_empty() {
            if self.target == Here::At(Stage::Receiving) {
                may(Kind::Progress, &|world| world.target_told(Told::Abandoned));
            }
            if self.target == Here::At(Stage::Arrived) && !self.target_runs {
                may(Kind::Progress, &|world| (world.target_runs, world.has_run) = (true, true));
            }
        }
        if self.working {
            let last = self.serving.last();
            match last.and_then(|last| last.outbox.first()) {
                Some(message) => may(Kind::Progress, &|world| {
                    world.serving.last_mut().unwrap().outbox.remove(0);
                    world.source_hears(*message);
                }),
                // The other end is gone.
                None if last.is_none_or(|last| !last.linked) => {
                    may(Kind::Progress, &|world| world.working = false);
                }
                None => {}
            }
            may(Kind::Fault, &|world| world.working = false);
        }
        if let Some(first) = self.serving.first() {
            let is_left = self.serving.len() > 1 || !self.working;
            match first.inbox.first() {
                Some(message) => {
                    let mut world = self.clone();
                    world.serving[0].inbox.remove(0);
                    all.extend(world.target_hears(*message));
                }
                // The other end is gone: so goes it, and declines what it has not accepted.
                None if is_left || !first.linked => {
                    let mut world = self.clone();
                    world.serving.remove(0);
                    all.push((Kind::Progress, world));
                }
                None => {}
            }
            for at in 0..self.serving.len() {
                let mut killed = self.clone();
                killed.serving.remove(at);
                // Whoever speaks to it learns that it is gone.
                if self.working && at + 1 == self.serving.len() {
                    killed.working = false;
                }
                all.push((Kind::Fault, killed));
                // What is on its way is lost, to one side or to both.
                for (to, from) in [(true, false), (false, true), (true, true)] {
                    let mut cut = self.clone();
                    cut.serving[at].linked = false;
                    if to {
                        cut.serving[at].inbox.clear();
                    }
                    if from {
                        cut.serving[at].outbox.clear();
                    }
                    all.push((Kind::Fault, cut));
                }
            }
        }
        all
    }

    /// It runs on one side, is that one's, and nothing is left of the way there.
    fn is_good(&self) -> bool {
        let stayed = self.source == Here::Ordinary && self.source_runs && !self.target_runs;
        let went = self.source == Here::At(Stage::Moved) && !self.source_runs && self.target_runs;
        let gone = matches!(self.target, Here::Unknown | Here::At(Stage::Moved));
        let there = matches!(self.target, Here::Ordinary | Here::At(Stage::Arrived));
        (stayed && gone) || (went && there)
    }

    fn check(&self) {
        assert!(!(self.source_runs && self.target_runs), "it runs twice: {self:?}");
        assert!(!self.source_runs || self.source.may_run(), "{self:?}");
        assert!(!self.target_runs || self.target.may_run(), "{self:?}");
        let owners = [self.source.may_run(), self.target.may_run()];
        assert_ne!(owners, [true, true], "it is both sides': {self:?}");
        // What is left of it lies on the side that can still decide to take it.
        let holds = |here| !matches!(here, Here::Unknown | Here::At(Stage::Moved));
        assert!(holds(self.source) || holds(self.target), "it is lost: {self:?}");
    }
}

/// Every world that can come about, and what can happen in it.
fn explore(from: World) -> BTreeMap<World, Vec<(Kind, World)>> {
    let mut known = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(world) = queue.pop_front() {
        if known.contains_key(&world) {
            continue;
        }
        world.check();
        let nexts = world.nexts();
        queue.extend(nexts.iter().map(|(_, next)| next.clone()));
        known.insert(world, nexts);
    }
    known
}

/// Whatever happens by itself from here comes to an end, and a good one.
fn settles<'a>(
    world: &'a World,
    all: &'a BTreeMap<World, Vec<(Kind, World)>>,
    settled: &mut BTreeSet<&'a World>,
    path: &mut Vec<&'a World>,
) {
    if settled.contains(world) {
        return;
    }
    assert!(!path.contains(&world), "it goes on for ever: {path:#?}");
    path.push(world);
    let progress: Vec<_> = all[world].iter().filter(|(kind, _)| *kind == Kind::Progress).collect();
    assert!(!progress.is_empty() || world.is_good(), "it ends badly: {world:#?}");
    for (_, next) in progress {
        settles(next, all, settled, path);
    }
    path.pop();
    settled.insert(world);
}

#[test]
fn never_two_and_never_none_whatever_happens() {
    // The second is a VE that comes back to where it once was.
    for target in [Here::Unknown, Here::At(Stage::Moved)] {
        let all = explore(World::new(target));
        let mut settled = BTreeSet::new();
        for world in all.keys() {
            settles(world, &all, &mut settled, &mut Vec::new());
        }
        let moved = |world: &&World| world.source == Here::At(Stage::Moved) && world.target == Here::Ordinary;
        assert!(all.keys().any(|world| moved(&world)), "it never gets there");
        assert!(all.len() > 300, "only {} worlds", all.len());
    }
}

#[test]
fn a_side_that_is_told_twice_stays_as_it_is() {
    let stages = [Stage::Frozen, Stage::Ceded, Stage::Moved, Stage::Receiving, Stage::Arrived];
    let all = || [Here::Unknown, Here::Ordinary].into_iter().chain(stages.map(Here::At));
    let told = [
        Told::Freeze,
        Told::Cede,
        Told::HasArrived,
        Told::WasDeclined,
        Told::Accept,
        Told::Decline,
        Told::Acknowledged,
        Told::Abandoned,
    ];
    for (here, told) in all().flat_map(|here| told.map(|told| (here, told))) {
        if let Ok(after) = next(here, told) {
            assert_eq!(next(after, told), Ok(after), "{here:?} {told:?}");
        }
    }
    // Taken once, it does not go back by itself.
    assert!(next(Here::At(Stage::Moved), Told::WasDeclined).is_err());
    assert!(next(Here::Ordinary, Told::Receive).is_err());
    assert!(next(Here::At(Stage::Arrived), Told::Freeze).is_err());
}

#[test]
fn a_clone_is_whole_by_its_manifest_or_goes() {
    let (copying, copied) = (Here::At(Stage::Copying), Here::At(Stage::Copied));
    assert!(!copying.may_run() && copied.may_run() && copying.needs_someone() && copied.needs_someone());
    assert_eq!(next(copying, Told::Accept), Ok(copied));
    // Only what is whole is known by a manifest.
    assert!(next(copying, Told::Acknowledged).is_err());
    assert_eq!(next(copied, Told::Acknowledged), Ok(Here::Ordinary));
    for stage in [copying, copied] {
        assert_eq!(next(stage, Told::Abandoned), Ok(Here::Unknown));
        assert_eq!(next(stage, Told::Decline), Ok(Here::Unknown));
        // No other host has a say.
        for told in [Told::Freeze, Told::Cede, Told::HasArrived, Told::TakeBack, Told::Receive] {
            assert!(next(stage, told).is_err(), "{stage:?} {told:?}");
        }
    }
}
