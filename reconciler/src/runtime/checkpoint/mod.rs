//! A VE's processes written to disk and brought back, by CRIU.
//!
//! What CRIU cannot know is done here: it is told which mounts are the host's, a VE's /dev is kept as a list (no user
//! namespace may make device nodes), and the network is not kept at all but made anew, as at a start. A checkpoint is a
//! directory ([`image`]); a VE can be resumed from it exactly while its list of contents is there.
//!
//! - [`dump`] writes one, in a child of the keeper; the VE runs on if that fails,
//! - [`ahead`] writes memory before that, in rounds, while the VE runs,
//! - [`files`] knows what there is in its directory, and what it may be called,
//! - [`contents`] is that list,
//! - [`received`] knows which of them have just come as they were sent,
//! - [`packed`] keeps memory compressed, and writes it out again,
//! - [`archive`] makes one file of it, and puts it back,
//! - [`obstacles`] tells beforehand what it would fail of,
//! - [`bound`] finds sockets that a clone could not have,
//! - [`restore`] is the starter of a VE that is resumed,
//! - [`groups`] makes the control groups again that it has made within its own,
//! - [`filters`] has calls that are answered for by a process of the host's be so again,
//! - [`ids`] makes a checkpoint another VE's, for a clone,
//! - [`swrk`] speaks to CRIU, in the encoding of [`wire`], and [`log`] reads its log for the cause of a failure.

pub mod ahead;
pub mod archive;
pub mod bound;
pub mod contents;
pub mod dump;
mod files;
mod filters;
mod groups;
mod ids;
pub mod image;
mod log;
mod nodes;
pub mod obstacles;
pub mod packed;
pub mod received;
pub mod restore;
mod sum;
pub mod swrk;
mod wire;
