//! Everything that can happen while a VE's host line changes: hosts that read the repository at any moment and in any
//! order, questions and answers in between, hand-overs that fail or whose end is not heard, hosts that cannot be reached
//! or begin anew.
//!
//! How one hand-over goes is `tests/handover.rs`'s; here it is what is left of that once both sides are told what to do:
//! received, accepted, declined, heard of. Faults come as often as they like.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use vzd_state::handover::{Here, Stage};
use vzd_state::placement::{HostName, Inquiry, Place, Said, Situation, Word, place, stale};

/// One of a, b, c.
type At = usize;
/// Which hand-over.
type Id = u8;

/// What a ledger has of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Record {
    Nothing,
    Ordinary,
    Receiving(At, Id),
    Arrived(At, Id),
    Ceded(At, Id),
    Moved(Id),
    /// The same, in quarantine.
    Kept(Id),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Host {
    /// The commit that it has read; 0 is none.
    read: usize,
    record: Record,
    stale: Option<At>,
    arrivals: Id,
    inquiry: Option<Told>,
    /// A round of questions, with what was heard of whom.
    round: Option<BTreeMap<At, Option<Denied>>>,
}

/// What [`Inquiry`] is made of, round by round: those in which all denied it, since any other leaves nothing behind.
type Told = Vec<BTreeMap<At, Denied>>;
/// A host neither has it nor is to have it, and tells how many have arrived there.
type Denied = Id;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct World {
    hosts: Vec<Host>,
    /// How often it was handed over.
    moves: Id,
    /// Questions that nobody waits for any more, from whom to whom.
    strays: BTreeSet<(At, At)>,
}

/// A line of each commit, and how many hosts read them.
struct Story {
    commits: Vec<Option<At>>,
    hosts: usize,
    names: Vec<HostName>,
    strays: bool,
    /// How often commands may hand it over, which is on the first host then, while no line names one.
    commanded: Id,
}

fn name(at: At) -> HostName {
    ["a", "b", "c"][at].parse().unwrap()
}

fn said(arrivals: Denied) -> Said {
    Ok(Word { arrivals: arrivals.into(), ..Word::default() })
}

fn inquiry(told: &Told) -> Inquiry {
    let mut inquiry = Inquiry::default();
    for round in told {
        inquiry.conclude(round.iter().map(|(at, arrivals)| (name(*at), said(*arrivals))).collect());
    }
    inquiry
}

impl Host {
    fn here(&self) -> Here {
        match self.record {
            Record::Nothing | Record::Kept(_) => Here::Unknown,
            Record::Ordinary => Here::Ordinary,
            Record::Receiving(..) => Here::At(Stage::Receiving),
            Record::Arrived(..) => Here::At(Stage::Arrived),
            Record::Ceded(..) => Here::At(Stage::Ceded),
            Record::Moved(_) => Here::At(Stage::Moved),
        }
    }

    fn runs(&self) -> bool {
        self.here().may_run()
    }
}

impl Story {
    fn new(hosts: usize, commits: &[&str], strays: bool) -> Story {
        let line = |word: &&str| "abc".find(word.chars().next()?);
        Story {
            commits: commits.iter().map(line).collect(),
            hosts,
            names: (0..hosts).map(name).collect(),
            strays,
            commanded: 0,
        }
    }

    fn line(&self, host: &Host) -> Option<At> {
        self.commits[..host.read].last().copied().flatten()
    }

    fn first(&self) -> World {
        let host =
            Host { read: 0, record: Record::Nothing, stale: None, arrivals: 0, inquiry: None, round: None };
        let mut hosts = vec![host; self.hosts];
        hosts[0].record = if self.commanded > 0 { Record::Ordinary } else { Record::Nothing };
        World { hosts, moves: 0, strays: BTreeSet::new() }
    }

    fn others(&self, at: At) -> impl Iterator<Item = At> {
        (0..self.hosts).filter(move |other| *other != at)
    }

    fn place(&self, world: &World, at: At) -> Place {
        let host = &world.hosts[at];
        let asked = host.inquiry.as_ref().map(inquiry);
        let peer = match host.record {
            Record::Ceded(other, _) | Record::Arrived(other, _) => Some(self.names[other].as_str()),
            _ => None,
        };
        place(&Situation {
            own: Some(&self.names[at]),
            named: self.line(host).map(|line| &self.names[line]),
            absent: false,
            here: host.here(),
            peer,
            stale: host.stale.map(|is| self.names[is].as_str()),
            peers: &self.others(at).map(name).collect(),
            asked: asked.as_ref(),
        })
    }

    fn word(&self, world: &World, at: At) -> (bool, bool, Vec<Id>) {
        let host = &world.hosts[at];
        let gone = if let Record::Moved(id) | Record::Kept(id) = host.record { vec![id] } else { Vec::new() };
        (!matches!(host.here(), Here::Unknown | Here::At(Stage::Moved)), self.line(host) == Some(at), gone)
    }

    /// What is asked is believed to be wanted.
    fn answer(&self, world: &mut World, from: At, to: At, wants: bool) -> (bool, bool, Vec<Id>) {
        if wants && world.hosts[to].stale == Some(from) {
            world.hosts[to].stale = None;
        }
        self.word(world, to)
    }

    /// `wanted`: by whoever asks.
    fn forget(&self, world: &mut World, at: At, wanted: bool) {
        world.hosts[at].inquiry = None;
        if let Some(round) = world.hosts[at].round.take().filter(|_| self.strays && wanted) {
            world.strays.extend(round.iter().filter(|(_, heard)| heard.is_none()).map(|(to, _)| (at, *to)));
        }
    }

    /// Everything that can happen next; `true` for what happens by itself, sooner or later.
    fn nexts(&self, world: &World) -> Vec<(bool, World)> {
        let mut all = Vec::new();
        let mut may = |progress, change: &mut dyn FnMut(&mut World)| {
            let mut next = world.clone();
            change(&mut next);
            all.push((progress, next));
        };
        for at in 0..self.hosts {
            let host = &world.hosts[at];
            for read in host.read + 1..=self.commits.len() {
                may(true, &mut |next| {
                    let before = self.line(host);
                    next.hosts[at].read = read;
                    let now = self.line(&next.hosts[at]);
                    if now != before {
                        self.forget(next, at, before == Some(at));
                    }
                    if next.hosts[at].stale != now {
                        next.hosts[at].stale = None;
                    }
                });
            }
            let place = self.place(world, at);
            match &place {
                // By command.
                Place::Here if self.line(host).is_none() && host.record == Record::Ordinary => {
                    let id = world.moves + 1;
                    for to in self.others(at).filter(|_| id <= self.commanded) {
                        if matches!(world.hosts[to].here(), Here::Unknown | Here::At(Stage::Moved)) {
                            may(false, &mut |next| {
                                next.hosts[at].record = Record::Ceded(to, id);
                                next.hosts[to].record = Record::Receiving(at, id);
                            });
                        }
                    }
                }
                Place::Here if self.line(host) == Some(at) && host.here() == Here::Unknown => {
                    may(true, &mut |next| {
                        next.hosts[at].record = Record::Ordinary;
                        self.forget(next, at, true);
                    })
                }
                Place::Went => {
                    let Record::Moved(id) = host.record else { unreachable!() };
                    may(true, &mut |next| next.hosts[at].record = Record::Kept(id));
                }
                Place::Goes(to) => {
                    let to = self.names.iter().position(|name| name == to).unwrap();
                    let id = world.moves + 1;
                    let room = matches!(world.hosts[to].here(), Here::Unknown | Here::At(Stage::Moved));
                    if host.record == Record::Ordinary && room {
                        may(true, &mut |next| {
                            next.hosts[at].record = Record::Ceded(to, id);
                            next.hosts[to].record = Record::Receiving(at, id);
                        });
                    }
                }
                _ => {}
            }
            if let Record::Ceded(to, id) = host.record {
                if world.hosts[to].record == Record::Receiving(at, id) {
                    may(true, &mut |next| {
                        let line = self.line(&world.hosts[to]).map(|line| &self.names[line]);
                        let from = self.names[at].as_str();
                        let stale = stale(Some(&self.names[to]), line, world.hosts[to].read > 0, from);
                        next.hosts[to].stale =
                            stale.and_then(|is| self.names.iter().position(|name| name.as_str() == is));
                        next.hosts[to].record = Record::Arrived(at, id);
                        next.hosts[to].arrivals += 1;
                        next.moves = id;
                        self.forget(next, to, line == Some(&self.names[to]));
                    });
                    // It cannot go on there, or the link is cut before.
                    may(false, &mut |next| {
                        next.hosts[to].record = Record::Nothing;
                        next.hosts[at].record = Record::Ordinary;
                    });
                } else {
                    // The host asks again by itself.
                    let is_asked = place == Place::Goes(self.names[to].clone());
                    may(is_asked, &mut |next| next.hosts[at].record = Record::Moved(id));
                    may(is_asked, &mut |next| {
                        next.hosts[at].record = Record::Moved(id);
                        if next.hosts[to].record == Record::Arrived(at, id) {
                            next.hosts[to].record = Record::Ordinary;
                        }
                    });
                }
            }
            let wants = matches!(place, Place::Waits(_));
            match &host.round {
                None if place.asks() => may(true, &mut |next| {
                    next.hosts[at].round = Some(self.others(at).map(|to| (to, None)).collect());
                }),
                None => {}
                Some(round) => {
                    for (to, _) in round.iter().filter(|(_, heard)| heard.is_none()) {
                        may(true, &mut |next| {
                            let (has, wanted, gone) = self.answer(next, at, *to, wants);
                            let arrivals = next.hosts[*to].arrivals;
                            let own = &mut next.hosts[at];
                            if let Record::Arrived(from, id) = own.record
                                && (gone.contains(&id) || from == *to && !has)
                            {
                                own.record = Record::Ordinary;
                            }
                            match own.round.as_mut() {
                                Some(round) if !has && !wanted => drop(round.insert(*to, Some(arrivals))),
                                _ => self.forget(next, at, wants),
                            }
                        });
                        may(false, &mut |next| self.forget(next, at, wants));
                    }
                    let whole: Option<BTreeMap<At, Denied>> =
                        round.iter().map(|(to, heard)| Some((*to, (*heard)?))).collect();
                    if let Some(whole) = whole {
                        may(true, &mut |next| {
                            let own = &mut next.hosts[at];
                            own.round = None;
                            let told = own.inquiry.get_or_insert_default();
                            told.push(whole.clone());
                            // No more than the last two have a say.
                            let old = told.len().saturating_sub(2);
                            told.drain(..old);
                        });
                    }
                }
            }
            if host.inquiry.is_some() || host.round.is_some() {
                may(false, &mut |next| self.forget(next, at, wants));
            }
        }
        for (from, to) in &world.strays {
            may(false, &mut |next| {
                next.strays.remove(&(*from, *to));
                self.answer(next, *from, *to, true);
            });
            may(true, &mut |next| {
                next.strays.remove(&(*from, *to));
            });
        }
        all
    }

    fn check(&self, world: &World) {
        let run = world.hosts.iter().filter(|host| host.runs()).count();
        assert!(run <= 1, "it runs twice: {world:#?}");
        let lives = |host: &Host| host.runs() || matches!(host.record, Record::Ceded(..));
        let was = world.hosts.iter().any(|host| host.record != Record::Nothing);
        assert!(!was || world.hosts.iter().any(lives), "it is lost: {world:#?}");
        assert!(usize::from(world.moves) <= 2 * self.commits.len() + 2, "it goes to and fro: {world:#?}");
    }

    /// All have read the last commit, and it runs where that says and nowhere else; if it says nothing, anywhere, to be handed on.
    fn is_good(&self, world: &World) -> bool {
        let runs = |at: At| world.hosts[at].runs();
        let is_where_it_should = match self.commits.last().copied().flatten() {
            Some(last) => (0..self.hosts).all(|at| runs(at) == (at == last)),
            None => (0..self.hosts).any(|at| runs(at) && world.hosts[at].record == Record::Ordinary),
        };
        is_where_it_should && world.hosts.iter().all(|host| host.read == self.commits.len())
    }

    /// Walks through every world that can come about; from each of them a good one is reached without a fault.
    fn walk(&self) -> usize {
        let (mut known, mut worlds, mut backwards) = (HashMap::new(), Vec::new(), Vec::<Vec<u32>>::new());
        let mut queue = VecDeque::from([0_u32]);
        known.insert(self.first(), 0_u32);
        worlds.push(self.first());
        backwards.push(Vec::new());
        while let Some(index) = queue.pop_front() {
            let world = worlds[usize::try_from(index).unwrap()].clone();
            self.check(&world);
            for (progress, next) in self.nexts(&world) {
                let to = *known.entry(next).or_insert_with_key(|next| {
                    let new = u32::try_from(worlds.len()).unwrap();
                    worlds.push(next.clone());
                    backwards.push(Vec::new());
                    queue.push_back(new);
                    new
                });
                if progress {
                    backwards[usize::try_from(to).unwrap()].push(index);
                }
            }
        }
        let good = (0..worlds.len()).filter(|index| self.is_good(&worlds[*index]));
        let mut queue: VecDeque<usize> = good.collect();
        let mut reached = vec![false; worlds.len()];
        queue.iter().for_each(|index| reached[*index] = true);
        while let Some(index) = queue.pop_front() {
            for from in backwards[index].iter().map(|from| usize::try_from(*from).unwrap()) {
                if !std::mem::replace(&mut reached[from], true) {
                    queue.push_back(from);
                }
            }
        }
        let stuck = reached.iter().position(|reached| !reached);
        assert!(stuck.is_none(), "it never gets where it should: {:#?}", stuck.map(|index| &worlds[index]));
        worlds.len()
    }
}

#[test]
fn two_hosts_read_a_line_that_changes_at_any_moment() {
    for (commits, strays) in
        [(&["b"][..], true), (&["a", "b"], true), (&["a", "b", "a"], true), (&["a", "b", "a", "b"], false)]
    {
        let worlds = Story::new(2, commits, strays).walk();
        assert!(worlds > 30, "{commits:?}: only {worlds} worlds");
    }
}

#[test]
fn what_commands_leave_half_done_the_hosts_bring_to_its_end() {
    // No line names a host; then one does.
    for (hosts, commits) in [(2, &["-"][..]), (2, &["-", "b"]), (2, &["-", "a"]), (3, &["-"])] {
        let worlds = Story { commanded: 2, ..Story::new(hosts, commits, false) }.walk();
        assert!(worlds > 30, "{commits:?}: only {worlds} worlds");
    }
}

#[test]
fn three_hosts_do_so_too() {
    for commits in [&["a", "b"][..], &["c", "a", "b"], &["a", "b", "a"]] {
        let worlds = Story::new(3, commits, false).walk();
        assert!(worlds > 30, "{commits:?}: only {worlds} worlds");
    }
}
