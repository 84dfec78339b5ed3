//! Handing a VE over to another host: the commands' part. What each side has on record, and what that lets it do, is the
//! engine's (`engine/handover.rs`) by the rules of `vzd_state::handover`.
//!
//! - [`source`] sends a VE, [`target`] receives one: a conversation over [`link`], a pair of byte streams,
//! - [`course`] is how far one has come, and how fast it may go,
//! - [`fit`] tells what a VE needs of a host, and what a host lacks of it,
//! - [`problem`] is what stands in the way, in words and by its kind,
//! - [`session`] is held by who works at a hand-over: without it, what is half done is undone by the next pass.
//!
//! The files themselves are `drivers/disk/stream.rs`'s. Nothing here starts or stops a VE.

pub mod course;
pub mod fit;
pub mod link;
pub mod problem;
pub mod session;
pub mod source;
pub mod target;

use serde::{Deserialize, Serialize};
use vzd_state::handover::Told;
use vzd_state::ids::VeUid;
use vzd_state::ledger::Entry;

use crate::handover::problem::Problem;

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
}

/// What comes of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// What the ledger holds of the VE now; none if it does not hold it, or not any more.
    pub entry: Option<Box<Entry>>,
    /// What stands in the way, or has gone wrong.
    pub problems: Vec<Problem>,
}
