//! Which host a VE is to be on: what a manifest with `spec.host` lets this host do about it, by what its ledger has of the
//! VE and by what the other hosts say.
//!
//! Hosts read one repository at different moments, so that for a while each of two may be named, or neither. What keeps
//! it from running twice: a VE that is somewhere goes elsewhere by a hand-over only, and one that is nowhere is made by a
//! host only after every other one has said that it neither has it nor is to have it, while this one's own wish was there
//! for all of them to hear. The proof is in `tests/placement.rs`, which walks through all orders in which it can come.
//! Pure: whom to ask, and how, is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
pub use vzd_schema::v1::HostName;

use crate::handover::{Here, Stage};
use crate::ids::VeName;
use crate::ledger::Entry;

/// What a host is asked about one VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    /// Which.
    pub name: VeName,
    /// Whoever asks is to have it, by its manifest.
    pub wants: bool,
}

/// What a host says of one VE.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Word {
    /// It has it: whole, or on its way here or from here.
    pub has: bool,
    /// It is to have it, by its manifest.
    pub wants: bool,
    /// How often a VE has arrived there from another host, whichever that was.
    pub arrivals: u64,
    /// The hand-overs by which VEs of that name have gone from it.
    pub gone: BTreeSet<String>,
}

/// What was heard of a host; if nothing was, why.
pub type Said = Result<Word, String>;

impl Word {
    /// What a host says whose ledger has these entries of that name, and whose manifest says that it is to have it or not.
    pub fn of<'e>(entries: impl IntoIterator<Item = &'e Entry>, wants: bool, arrivals: u64) -> Word {
        let mut word = Word { wants, arrivals, ..Word::default() };
        for entry in entries {
            match &entry.handover {
                Some(handover) if handover.stage == Stage::Moved => {
                    word.gone.insert(handover.id.clone());
                }
                _ => word.has |= !entry.is_quarantined(),
            }
        }
        word
    }
}

/// What the other hosts have said of a VE that this one asks about. It is thrown away when the wish changes: what is left
/// open then counts no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inquiry {
    /// In the last round that was finished.
    said: BTreeMap<HostName, Said>,
    /// How many had arrived at each host, where in that round nobody had it or was to have it.
    nowhere: Option<BTreeMap<HostName, u64>>,
    /// It is nowhere.
    clear: bool,
}

impl Inquiry {
    /// A round is finished: every host was asked after the last round had ended.
    ///
    /// One that is handed over meanwhile may hide from a round: it has gone from the one host before that was asked, and
    /// come to the other after. It cannot hide from two: where it hides from the second, it has come to a host, and gone
    /// again, since that was asked in the first.
    pub fn conclude(&mut self, said: BTreeMap<HostName, Said>) {
        let denied = |(host, said): (&HostName, &Said)| match said {
            Ok(Word { has: false, wants: false, arrivals, .. }) => Some((host.clone(), *arrivals)),
            Ok(_) | Err(_) => None,
        };
        let nowhere: Option<BTreeMap<_, _>> = said.iter().map(denied).collect();
        self.clear = nowhere.is_some() && nowhere == self.nowhere;
        (self.nowhere, self.said) = (nowhere, said);
    }

    /// Whether it is nowhere, as all of these have said.
    pub fn is_clear(&self, peers: &BTreeSet<HostName>) -> bool {
        self.clear && peers.iter().all(|peer| self.said.contains_key(peer))
    }

    /// Whether another round can tell more right now.
    pub fn is_open(&self) -> bool {
        self.nowhere.is_some() && !self.clear
    }

    /// Whether it is known that the host `from`, from which it came by that hand-over, has heard of its arrival: it says so, or
    /// has it no more. One that had not heard would have it still, as given away.
    pub fn knows_of(&self, id: &str, from: &str) -> bool {
        let of = |(host, said): (&HostName, &Said)| {
            said.as_ref().is_ok_and(|word| word.gone.contains(id) || !word.has && host.as_str() == from)
        };
        self.said.iter().any(of)
    }

    /// What it waits for: whoever has it first, since from there it comes.
    fn why(&self) -> Why {
        let heard = |so: fn(&Word) -> bool| {
            self.said.iter().find(|(_, said)| said.as_ref().is_ok_and(so)).map(|(host, _)| host.clone())
        };
        if let Some(host) = heard(|word| word.has) {
            return Why::Has(host);
        }
        let unheard = self.said.iter().find_map(|(host, said)| Some((host.clone(), said.clone().err()?)));
        if let Some((host, why)) = unheard {
            return Why::Unheard(host, why);
        }
        heard(|word| word.wants).map_or(Why::Asking, Why::Wants)
    }
}

/// Why a VE is not made here although its manifest names this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The others are being asked.
    Asking,
    /// That host has it.
    Has(HostName),
    /// That host is to have it, as its manifests say.
    Wants(HostName),
    /// That host was not heard, for this reason.
    Unheard(HostName, String),
}

/// What a host is to do about a VE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// As its manifest says.
    Here,
    /// As its manifest says; the host that it came from is to be asked whether it has heard that it arrived.
    Come(HostName),
    /// Nothing: it is that host's.
    Elsewhere(HostName),
    /// Keep it as it is: it came from where this manifest says that it is to be, which is what was true before.
    Stays(HostName),
    /// Keep it as it is, until the host that it came from is known to have heard that it arrived.
    Arriving(HostName),
    /// Keep it as it is, and hand it over to that host.
    Goes(HostName),
    /// Keep it as it is: nobody has said how that host is reached.
    Unreachable(HostName),
    /// What is left of it is of no use: it went to another host.
    Went,
    /// Not make it, for now.
    Waits(Why),
}

/// What is known of a VE.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What this host is called, if anything.
    pub own: Option<&'a HostName>,
    /// The host that its manifest names.
    pub named: Option<&'a HostName>,
    /// Its manifest wants it to be gone for good.
    pub absent: bool,
    /// What it is to this host.
    pub here: Here,
    /// The host that it is on its way to, or from.
    pub peer: Option<&'a str>,
    /// The host that the manifest here named when it came from elsewhere: that was no news.
    pub stale: Option<&'a str>,
    /// The hosts that can be reached.
    pub peers: &'a BTreeSet<HostName>,
    /// What they have said.
    pub asked: Option<&'a Inquiry>,
}

/// What a host is to do about a VE.
pub fn place(is: &Situation<'_>) -> Place {
    let peer = is.peer.and_then(|called| is.peers.iter().find(|peer| peer.as_str() == called));
    let here = match peer {
        // What was given away and may not have arrived has to get there first, whatever is wanted now.
        Some(to) if is.here == Here::At(Stage::Ceded) => return Place::Goes(to.clone()),
        Some(from) if is.here == Here::At(Stage::Arrived) => Place::Come(from.clone()),
        Some(_) | None => Place::Here,
    };
    let Some(named) = is.named else { return here };
    let is_here = !matches!(is.here, Here::Unknown | Here::At(Stage::Moved));
    if is.own == Some(named) {
        let clear = is.asked.is_some_and(|asked| asked.is_clear(is.peers)) && is.here == Here::Unknown;
        let to_make = !is_here && !is.absent && !is.peers.is_empty();
        return match to_make && !clear {
            true => Place::Waits(is.asked.map_or(Why::Asking, Inquiry::why)),
            false => here,
        };
    }
    let named = named.clone();
    match is.here {
        Here::Unknown => Place::Elsewhere(named),
        Here::At(Stage::Moved) => Place::Went,
        Here::At(Stage::Frozen | Stage::Ceded | Stage::Receiving | Stage::Copying | Stage::Copied) => {
            Place::Here
        }
        Here::Ordinary | Here::At(Stage::Arrived) if is.absent => here,
        Here::Ordinary | Here::At(Stage::Arrived) if is.stale == Some(named.as_str()) => Place::Stays(named),
        Here::Ordinary | Here::At(Stage::Arrived) if !is.peers.contains(&named) => Place::Unreachable(named),
        Here::At(Stage::Arrived) => Place::Arriving(named),
        Here::Ordinary => Place::Goes(named),
    }
}

/// The host that a manifest names which is not to be believed until it changes, where a VE arrives from another host.
///
/// It is what was true before, or else what brought it here would not have. A manifest that is not there yet will say
/// for a while that the VE is to be where it came from.
pub fn stale<'a>(
    own: Option<&HostName>,
    named: Option<&'a HostName>,
    described: bool,
    from: &'a str,
) -> Option<&'a str> {
    match named {
        Some(named) => (own != Some(named)).then_some(named.as_str()),
        None => (!described).then_some(from),
    }
}

impl Place {
    /// Whether the others are to be asked about it.
    pub fn asks(&self) -> bool {
        matches!(self, Place::Come(_) | Place::Waits(_) | Place::Arriving(_))
    }

    /// Whether it is here and kept as it is.
    pub fn keeps(&self) -> bool {
        matches!(self, Place::Stays(_) | Place::Arriving(_) | Place::Goes(_) | Place::Unreachable(_))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Here => Ok(()),
            Place::Come(from) => {
                write!(f, "it is to be on this host; {from} is asked whether it has heard that it arrived")
            }
            Place::Elsewhere(host) => write!(f, "its manifest names host {host}: it is that host's"),
            Place::Stays(host) => write!(
                f,
                "it has come from another host, and the manifest here still names {host}, as before that: it stays until \
                 that line changes"
            ),
            Place::Arriving(host) => {
                write!(f, "it is {host}'s, once the host that it came from has heard that it arrived")
            }
            Place::Goes(host) => write!(f, "it is handed over to {host}"),
            Place::Unreachable(host) => write!(
                f,
                "its manifest names host {host}, which is not among the `peers` of this host: name it there, or correct the \
                 manifest; it stays until then"
            ),
            Place::Went => f.write_str("it went to another host"),
            Place::Waits(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Asking => f.write_str("the other hosts are asked whether they have it"),
            Why::Has(host) => {
                write!(f, "{host} has it, and hands it over as soon as the manifest there names this host")
            }
            Why::Wants(host) => {
                write!(f, "the manifest at {host} names that host: it is made here once that changes")
            }
            Why::Unheard(host, why) => write!(
                f,
                "{host} may have it and is not heard ({why}): bring it up, or take it out of the `peers` of this host"
            ),
        }
    }
}
