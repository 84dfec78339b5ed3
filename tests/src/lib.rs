//! The harness: everything that a test needs to run vzd for real, and to leave the machine as it was.
//!
//! A test says what it needs (`needs!(Root, Cgroups)`), takes a [`Sandbox`], writes manifests into it and runs `vzd`
//! one-shot or as a [`Daemon`]. It waits for states with [`eventually`], looks into VEs with the guest program, and
//! cleans up by dropping what it took, also when it panics.

mod at_work;
mod daemon;
mod distribution;
mod drive;
mod guest;
mod image;
mod must;
mod needs;
mod netlab;
mod peer;
mod probe;
mod procs;
mod reboot;
mod run;
mod sandbox;
mod stream;
mod sweep;
mod template;
mod ve;
mod wait;

pub use at_work::{Work, moves};
pub use daemon::Daemon;
pub use drive::Driven;
pub use image::{Image, Registry};
pub use must::Must;
pub use needs::{Need, Quota, are_met, is_met};
pub use netlab::{CLIENT, HOST, Namespace, NetLab, SECOND, assert_same, ping};
pub use peer::Peer;
pub use probe::kernel_version;
pub use procs::{Process, fds_of, mountinfo_of, namespace_of, status_field};
pub use reboot::{Boot, boot, reboot_the_host};
pub use run::{Ended, Guarded, vzd_binary};
pub use sandbox::{CRIU, Sandbox};
pub use stream::echo;
pub use ve::{Condition, VeStatus};
pub use wait::{LONG, eventually, holds_for, slow, within};
