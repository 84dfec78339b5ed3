//! Handing a VE over from one host to another: what each side has on record of it, and what that lets it do.
//!
//! Each side is in one of a few states ([`Here`]), on disk before it acts upon it; [`next`] is the whole protocol. The
//! source freezes the VE and sends it; it *cedes* it before it says so, and from then on only the target decides: by
//! noting that it has accepted, or by having no note of it (any more). So a crash, a lost message or a cut link leaves
//! nothing that cannot be told by asking again, and at no instant may both run it. The proof is in
//! `tests/handover.rs`, which walks through everything that can happen. Pure: who works at it and what it sends is not
//! known here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ledger::{Entry, Standing};
use crate::units::Timestamp;

/// What the ledger holds of a VE's way from one host to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Handover {
    /// Which one: the same on both sides, and never used again.
    pub id: String,
    /// The other host, as people call it.
    pub peer: String,
    /// How far it has come.
    pub stage: Stage,
    /// Since when.
    pub at: Timestamp,
}

/// How far a hand-over has come on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Source: it stands still and is being sent. It is the source's, and goes on there if nobody works at this any more.
    Frozen,
    /// Source: it is the target's to decide. It does not run here until that has said no.
    Ceded,
    /// Source: it runs at the target, and what is here is a copy that is older.
    Moved,
    /// Target: it is being received. It does not run here, and goes if nobody works at this any more.
    Receiving,
    /// Target: it is the target's, whose source has not said yet that it knows.
    Arrived,
    /// A clone of another VE here, the peer: it is being made. It does not run, and goes if nobody works at this any more.
    Copying,
    /// A clone that is whole but for its manifest. It may run; without a manifest it goes if nobody works at this any more.
    Copied,
}

/// What a VE is to one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Here {
    /// Nothing: there is none, or it is on its way out.
    Unknown,
    /// Its own, and in no hand-over.
    Ordinary,
    /// It is, or was, on its way.
    At(Stage),
}

/// What one side is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Told {
    /// Source: hold it still, it is to be sent.
    Freeze,
    /// Source: the target has all of it; leave the decision to that.
    Cede,
    /// Source: the target runs it.
    HasArrived,
    /// Source: the target does not have it, and never will by this hand-over.
    WasDeclined,
    /// Either: an operator vouches that the other host is lost, and will never run it.
    TakeBack,
    /// Target: make room for it.
    Receive,
    /// Target: the source has ceded it; take it.
    Accept,
    /// Target: it could not be received, or not be brought to run and never ran.
    Decline,
    /// Target: the source knows that it has arrived.
    Acknowledged,
    /// Either: who worked at the hand-over is gone.
    Abandoned,
}

/// Why something cannot be done to a VE in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.why())]
pub struct Refused {
    here: Here,
    told: Told,
}

impl Here {
    /// Whether its host may have it run.
    pub fn may_run(self) -> bool {
        matches!(self, Here::Ordinary | Here::At(Stage::Arrived | Stage::Copied))
    }

    /// Whether that is for the time being only, and somebody has to be at work.
    pub fn needs_someone(self) -> bool {
        matches!(self, Here::At(Stage::Frozen | Stage::Receiving | Stage::Copying | Stage::Copied))
    }
}

/// What a side is after it was told something. It is to be on disk before anything else is done about it.
///
/// Telling the same twice changes nothing. `Decline` of what has arrived is for one that never ran: the caller knows.
pub fn next(here: Here, told: Told) -> Result<Here, Refused> {
    use Here::{At, Ordinary, Unknown};
    use Stage::{Arrived, Ceded, Copied, Copying, Frozen, Moved, Receiving};
    Ok(match (here, told) {
        (Ordinary | At(Frozen), Told::Freeze) => At(Frozen),
        (At(Frozen | Ceded), Told::Cede) => At(Ceded),
        (At(Ceded | Moved), Told::HasArrived) => At(Moved),
        (Ordinary | At(Frozen | Ceded), Told::WasDeclined) => Ordinary,
        (At(Ceded | Moved | Arrived), Told::TakeBack) => Ordinary,
        (Unknown | At(Moved), Told::Receive) => At(Receiving),
        (At(Receiving | Arrived), Told::Accept) => At(Arrived),
        (Unknown | At(Receiving | Arrived), Told::Decline) => Unknown,
        (Ordinary | At(Arrived), Told::Acknowledged) => Ordinary,
        // What is copied is its own target; that it is known says its manifest.
        (At(Copying | Copied), Told::Accept) => At(Copied),
        (At(Copying | Copied), Told::Decline) => Unknown,
        (At(Copied), Told::Acknowledged) => Ordinary,
        (At(Frozen), Told::Abandoned) => Ordinary,
        (At(Receiving | Copying | Copied), Told::Abandoned) => Unknown,
        (_, Told::Abandoned) => here,
        _ => return Err(Refused { here, told }),
    })
}

impl Refused {
    fn why(self) -> &'static str {
        match (self.here, self.told) {
            (Here::Unknown, _) => "there is no such VE, or it is being removed",
            (Here::At(Stage::Frozen), _) => "it is being handed over to another host",
            (Here::At(Stage::Ceded), _) => {
                "it was given to another host, which has not said yet that it runs there"
            }
            (Here::At(Stage::Moved), _) => "it was handed over to another host",
            (Here::At(Stage::Receiving), _) => "it is being received from another host",
            (Here::At(Stage::Arrived), _) => {
                "the host that it came from is not known to have heard that it arrived: its controller is asked, or repeat \
                 `vzd migrate` there; if that host is lost for good, say `vzd migrate --take-back` here"
            }
            (Here::At(Stage::Copying | Stage::Copied), _) => "it is being made as a clone of another VE",
            (Here::Ordinary, Told::Receive) => "it is here already",
            (Here::Ordinary, _) => "it is not being handed over",
        }
    }
}

impl Handover {
    /// What is told of it, in words.
    pub fn told(&self) -> String {
        let Self { id: _, peer, stage, at } = self;
        match stage {
            Stage::Frozen => format!("it is being handed over to {peer}"),
            Stage::Ceded => format!(
                "it was given to {peer} at {at}, which has not said yet that it runs there: `vzd migrate` asks again"
            ),
            Stage::Moved => format!("it was handed over to {peer} at {at}"),
            Stage::Receiving => format!("it is being received from {peer}"),
            Stage::Arrived => format!("it has come from {peer}, which has not heard of it yet"),
            Stage::Copying => format!("it is being made as a clone of VE {peer}"),
            Stage::Copied => format!("it was made as a clone of VE {peer}, and has no manifest yet"),
        }
    }
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told())
    }
}

impl Entry {
    /// What the VE is to this host.
    pub fn here(&self) -> Here {
        match (self.standing, &self.handover) {
            (Standing::Destroying, _) => Here::Unknown,
            (_, Some(handover)) => Here::At(handover.stage),
            (_, None) => Here::Ordinary,
        }
    }

    /// Begins a hand-over on this side: `Freeze` at the source. At the target the record is made by it.
    pub fn set_out(&mut self, told: Told, id: &str, peer: &str, at: Timestamp) -> Result<(), Refused> {
        if let Here::At(stage) = next(self.here(), told)? {
            let (id, peer) = (id.to_owned(), peer.to_owned());
            self.handover = Some(Handover { id, peer, stage, at });
        }
        Ok(())
    }

    /// Tells this side something of a hand-over; the record says what it is then.
    pub fn tell(&mut self, told: Told, at: Timestamp) -> Result<(), Refused> {
        match next(self.here(), told)? {
            Here::Unknown => {
                self.handover = None;
                self.standing = Standing::Destroying;
            }
            Here::Ordinary => self.handover = None,
            Here::At(stage) => {
                if let Some(handover) = self.handover.as_mut().filter(|handover| handover.stage != stage) {
                    (handover.stage, handover.at) = (stage, at);
                }
            }
        }
        Ok(())
    }
}
