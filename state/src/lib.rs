//! What vzd knows about VEs and what to do about it: diff, plan, policy, verify.
//!
//! Pure: no IO, no clock, no environment, no randomness; what is needed of the world comes in as
//! arguments. The reconciler observes, calls `plan::plan_ve`, `policy::authorize`, executes, observes
//! again and calls `verify::verify`. Read `subsystem` first, then `plan`.

pub mod application;
pub mod backoff;
pub mod bare;
pub mod capability;
pub mod caps;
pub mod desired;
pub mod digest;
pub mod disruption;
pub mod event;
pub mod handover;
pub mod ids;
pub mod ledger;
pub mod lower;
pub mod names;
pub mod observed;
pub mod placement;
pub mod plan;
pub mod policy;
pub mod reading;
pub mod sim;
pub mod status;
pub mod subsystem;
pub mod transient;
pub mod undo;
pub mod units;
pub mod verify;
