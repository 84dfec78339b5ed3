//! Bringing a VE's processes into being, and reaching into a running VE.
//!
//! Everything here that joins or makes user, mount or pid namespaces runs in a single-threaded process:
//! a child that the keeper forked, or a command before it has threads. What a VE is given (mounts,
//! devices, capabilities) is said by [`spec`]; why it is given that is `vzd_state`'s decision.
//!
//! - [`start`] is the starter: it makes the namespaces and leaves a running init behind,
//! - [`tree`] builds the mount tree in a namespace that belongs to the host, [`dev`] its /dev, `network` its links meanwhile,
//! - [`beneath`] looks up paths of a VE's, and makes what is to be mounted on,
//! - [`init`] is what the VE's first process does before it becomes its init,
//! - [`enter`] joins a running VE and executes a program there,
//! - [`etc`] keeps vzd's lines in files of a VE's own, [`zone`] its time zone, [`locale`] its language,
//! - [`inject`] adds and removes mounts of a running VE,
//! - [`checkpoint`] writes a running VE to disk and resumes it,
//! - [`scripts`] runs the administrator's action scripts, [`printed`] keeps what programs print,
//! - [`accounts`] reads and changes its users,
//! - [`ask`] connects to its ports and asks its web server.

pub mod accounts;
pub mod ask;
pub mod beneath;
pub mod checkpoint;
pub mod dev;
pub mod enter;
pub mod etc;
pub mod init;
pub mod inject;
pub mod locale;
mod network;
pub mod printed;
pub mod quotas;
pub mod scripts;
pub mod spec;
pub mod start;
pub mod tree;
pub mod zone;
