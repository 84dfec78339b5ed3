//! Handing a VE over to another host: the commands' part. What each side has on record, and what that lets it do, is the
//! engine's (`engine/handover.rs`) by the rules of `vzd_state::handover`.
//!
//! - [`source`] sends a VE, [`target`] receives one: a conversation over [`link`], a pair of byte streams,
//! - [`batch`] has it compressed, where that is wanted,
//! - [`course`] is how far one has come, and how fast it may go; [`patient`] waits for the other end no longer than it says,
//! - [`fit`] tells what a VE needs of a host, and what a host lacks of it,
//! - [`problem`] is what stands in the way, in words and by its kind,
//! - [`there`] reaches the other host, [`ask`] asks it about VEs,
//! - [`dial`] and [`listen`] are the two ends of a way by TLS, over a [`wire`],
//! - [`session`] is held by who works at a hand-over: without it, what is half done is undone by the next pass.
//!
//! The files themselves are `drivers/disk/stream.rs`'s. Nothing here starts or stops a VE.

pub mod ask;
mod batch;
pub mod course;
pub mod dial;
pub mod fit;
pub mod link;
pub mod listen;
pub mod patient;
pub mod problem;
pub mod session;
pub mod source;
pub mod target;
pub mod there;
mod wire;

use serde::{Deserialize, Serialize};
use vzd_state::desired::SourceRef;
use vzd_state::handover::Told;
use vzd_state::ids::VeUid;
use vzd_state::ledger::Entry;
use vzd_state::placement::{HostName, Query, Word};

use crate::handover::problem::Problem;
use crate::handover::there::Way;

/// What an engine is asked about a hand-over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// Either: what the ledger holds of it. Changes nothing.
    Look {
        /// By name or ctid.
        ve: String,
    },
    /// Source: hold it still, for this hand-over.
    Freeze {
        /// The VE.
        uid: VeUid,
        /// The hand-over's id.
        id: String,
        /// The other host.
        peer: String,
    },
    /// Source: write memory of it ahead, a round of it.
    WriteAhead {
        /// The VE.
        uid: VeUid,
        /// The hand-over's id.
        id: String,
        /// Which, from 1 on.
        round: u32,
    },
    /// Source: nothing comes of it; what was written ahead is to be removed.
    ForgetAhead {
        /// The VE.
        uid: VeUid,
    },
    /// Target: whether it could be taken in. Changes nothing.
    Check {
        /// What the source's ledger holds of it.
        entry: Box<Entry>,
    },
    /// Target: make room for it.
    Receive {
        /// What the source's ledger holds of it.
        entry: Box<Entry>,
        /// The hand-over's id.
        id: String,
        /// The other host.
        peer: String,
    },
    /// Target: take it, and have it go on. Declined if it does not and never did.
    Accept {
        /// The VE.
        uid: VeUid,
        /// The hand-over's id.
        id: String,
        /// What the source's ledger held of it in the end; none when it is asked again.
        entry: Option<Box<Entry>>,
    },
    /// Either: something of an ongoing hand-over.
    Tell {
        /// The VE.
        uid: VeUid,
        /// The hand-over's id.
        id: String,
        /// What.
        told: Told,
    },
    /// Either: what is to be said of VEs to another host that asks about them.
    Ask {
        /// Who asks.
        from: HostName,
        /// About which.
        queries: Vec<Query>,
    },
}

/// What comes of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// What the ledger holds of the VE now; none if it does not hold it, or not any more.
    pub entry: Option<Box<Entry>>,
    /// What stands in the way, or has gone wrong.
    pub problems: Vec<Problem>,
    /// What its manifest says about the host that it is to be on, if it was looked at.
    pub declared: Option<Declared>,
    /// Whether memory was written ahead, if that was asked for.
    #[serde(default)]
    pub ahead: bool,
    /// What this host is called, and what it says of each VE, if it was asked.
    pub said: Option<(HostName, Vec<Word>)>,
}

/// That a manifest says which host a VE is to be on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Declared {
    /// Where it says so.
    pub source: Option<SourceRef>,
    /// What comes of it, in words.
    pub told: String,
    /// The host that it is to be handed over to now.
    pub to: Option<HostName>,
    /// How vzd there is reached.
    pub way: Option<Way>,
}
