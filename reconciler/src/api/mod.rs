//! The controller's API: HTTP with JSON over a Unix socket, for root and the group `vzd`.
//!
//! [`server`] answers with an engine's [`Control`](crate::control::Control), [`client`] is one over the
//! socket. Bodies and answers are the types of [`crate::control`]; `docs/guides/api.md` tells them to
//! users. Nothing here knows about VEs.

mod body;
pub mod client;
mod metrics;
mod peer;
mod query;
mod refusal;
mod routes;
pub mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// A request's body is at most that long.
const MOST_BODY: usize = 1 << 20;
/// An answer is at most that long: thousands of VEs.
const MOST_ANSWER: usize = 256 << 20;
/// One request waits for something to happen at most that long; clients ask again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The group whose members may ask.
pub const GROUP: &str = "vzd";
