//! The keeper: one small process per host that outlives the controller.
//!
//! It is the parent of every VE's init, so that an exit status is never lost; it holds the master of
//! every VE's console and always reads it, so that no VE ever blocks on its console; and, having one
//! thread, it is the process that may fork: it starts VEs and changes their mounts on the
//! controller's behalf. It reads no manifest, keeps no file and decides nothing. Losing it loses
//! consoles, never VEs: a new one adopts what the controller hands it.
//!
//! It ends by itself when it holds nothing and nobody is connected.

pub mod client;
mod console;
mod job;
pub mod protocol;
mod server;

pub use client::Keeper;
pub use server::serve;
