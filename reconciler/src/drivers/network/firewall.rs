//! The packet filter of a VE, IO half.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use vzd_state::subsystem::network::{self, FirewallSeen, Table};

use super::{netns, reach};
use crate::drivers::{Running, Ve};
use crate::error::{SysError, SysResult};
use crate::kernel::net;
use crate::kernel::ns;

/// What texts come to once they are loaded, tried once each: nft writes every rule in a way of its own.
#[derive(Debug, Default)]
pub struct Tables(Mutex<HashMap<String, Result<Value, SysError>>>);

impl Tables {
    fn of(&self, text: &str) -> Result<Value, SysError> {
        /// Texts that are kept; with more they are tried again.
        const MOST: usize = 4096;
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(text) {
            return known.clone();
        }
        let tried = net::try_table(text);
        let mut known = lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(text.to_owned(), tried.clone());
        tried
    }
}

/// The table that is there, if one is wanted or was loaded.
pub(super) fn look(ve: Ve<'_>, running: &Running) -> SysResult<FirewallSeen> {
    let trial = ve.entry.firewall_trial.as_deref();
    let wanted = ve.want.and_then(|want| network::in_force(&want.network, trial));
    let had = ve.entry.applied.network.as_deref().and_then(|is| is.firewall.as_ref());
    let text = wanted.or(had);
    let Some(text) = text else { return Ok(FirewallSeen::default()) };
    if let Some(why) = ve.host.caps().firewall.missing() {
        return Ok(FirewallSeen { table: Table::None, problem: Some(why.to_owned()), reached: None });
    }
    let is = ns::on_thread_in(&netns(running)?, net::read_table)?;
    let expected = ve.host.tables.of(text);
    let table = match (&is, &expected) {
        (None, _) => Table::None,
        (Some(is), Ok(expected)) if is == expected => Table::Same,
        (Some(_), _) => Table::Other,
    };
    let reached = match trial.filter(|trial| trial.is_open()) {
        // What it was before is on record.
        Some(open) => open.reached,
        None => wanted != had && ve.want.is_some_and(|want| want.network.confirm.is_some()),
    };
    let reached = reached.then(|| reach::reaches(ve, running)).transpose()?;
    Ok(FirewallSeen { table, problem: expected.err().map(|e| e.to_string()), reached })
}

/// Loads the table, or takes it away.
pub(super) fn set(ve: Ve<'_>, running: &Running, to: Option<&str>) -> SysResult<bool> {
    let netns = netns(running)?;
    let is = ns::on_thread_in(&netns, net::read_table)?;
    let there = match to {
        None => is.is_none(),
        Some(text) => is == Some(ve.host.tables.of(text)?),
    };
    if there {
        return Ok(false);
    }
    ns::on_thread_in(&netns, || net::load_table(to))?;
    Ok(true)
}
