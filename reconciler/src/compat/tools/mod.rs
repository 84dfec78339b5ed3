//! OpenVZ's tools about capacity and limits, one file each. What each computes is pure and tested; what is read of
//! the host is at the end of the file.

pub mod vzcalc;
pub mod vzcfgscale;
pub mod vzcfgvalidate;
pub mod vzcpucheck;
pub mod vzmemcheck;
pub mod vzmigrate;
pub mod vzpid;
pub mod vzquota;
pub mod vzsplit;
pub mod vzubc;

mod memory;
mod numbers;

use super::exit::{Refusal, Tool};
use super::settings;
use crate::cli::connect::connect;
use crate::cli::output::{harmless, note};
use crate::control::Control;
use crate::engine::Access;

/// Runs a tool to its exit code, and says on stderr why it is not 0.
fn finish(outcome: Tool) -> u8 {
    outcome.unwrap_or_else(|refusal| {
        if !refusal.message.is_empty() {
            refusal.message.lines().for_each(|line| note(&harmless(line)));
        }
        refusal.exit
    })
}

fn control() -> Tool<Box<dyn Control>> {
    connect(&settings(), Access::Read).map_err(|error| Refusal::of(1, &error))
}

/// Writes to stdout; a reader that went away is no error.
fn print(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
