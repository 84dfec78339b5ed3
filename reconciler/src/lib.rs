//! The vzd controller and command line: everything that touches the kernel, files or the network.
//!
//! Read ARCHITECTURE.md first. `engine` is the loop; `drivers` are the IO halves of the subsystems;
//! `runtime` brings VEs into being; `kernel` is the only place with `unsafe`; `keeper` holds what must
//! outlive the controller; `compat` is OpenVZ's command line over it all.

pub mod api;
pub mod cli;
pub mod compat;
pub mod control;
mod ctid_conf;
pub mod drivers;
pub mod engine;
pub mod error;
pub mod handover;
pub mod host;
pub mod keeper;
#[expect(unsafe_code, reason = "raw system calls live here and nowhere else, each with its SAFETY note")]
pub mod kernel;
pub mod pki;
mod probe;
pub mod resolver;
pub mod runtime;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod template;
mod user_beancounters;
pub mod watch;
