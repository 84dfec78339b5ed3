//! The host goes down and comes up: its VEs are stopped in order, and may run again after the next boot.
//!
//! The boot in which that was ordered is on disk before the first VE stops, so that a controller that starts later in the
//! same boot leaves them stopped, and one that starts in another does not. No clock has to be right for that.

use std::collections::BTreeMap;

use vzd_state::ledger::By;
use vzd_state::subsystem::lifecycle::State;

use crate::control::ControlResult;
use crate::engine::{Engine, Subject, clock};
use crate::error::SysResult;
use crate::store::atomic;

impl Engine {
    /// Notes that VEs are being stopped for the host, in this boot.
    pub(super) fn note_host_stop(&self) -> SysResult<()> {
        let boot_id = &self.host.caps().boot_id;
        atomic::write(&self.host.settings.host_stop(), boot_id.as_bytes(), &self.host.writes).map(drop)
    }

    /// Those together that stop at the same time, the last to have started first. What nobody gives an order stops
    /// with the first.
    pub(super) fn in_order_of_a_shutdown(&self, subjects: Vec<Subject>) -> Vec<Vec<Subject>> {
        let mut batches: BTreeMap<i32, Vec<Subject>> = BTreeMap::new();
        let wishes = self.shared().wishes.clone();
        for subject in subjects {
            let want = match &subject {
                Subject::Name(name) => wishes.want.get(name),
                Subject::Quarantined(_) => None,
            };
            let order = want.map_or(i32::MIN, |want| want.lifecycle.boot_order);
            batches.entry(order).or_default().push(subject);
        }
        batches.into_values().collect()
    }

    /// Has one VE be down until the next boot: written to disk, if that is wanted and can be done.
    pub(super) fn order_down(&self, subject: &Subject, force: bool) -> ControlResult<()> {
        if self.shared().wishes.suspend_at_shutdown && !force {
            let Err(why) = self.order(subject, State::Suspended, By::Host, false) else { return Ok(()) };
            tracing::warn!(?subject, %why, "not suspended for the host's end: it is stopped");
        }
        self.order(subject, State::Stopped, By::Host, force)
    }

    /// If the host has booted since it stopped its VEs, lets them run again. Before the first pass.
    pub(super) fn after_boot(&self) -> SysResult<()> {
        let note = self.host.settings.host_stop();
        let Ok(stopped_in) = std::fs::read_to_string(&note) else { return Ok(()) };
        if stopped_in == self.host.caps().boot_id {
            return Ok(());
        }
        let now = clock::now();
        let mut shared = self.shared();
        let uids: Vec<_> = shared.ledger.entries().map(|entry| entry.uid.clone()).collect();
        for uid in uids {
            if let Some(entry) = shared.ledger.get_mut(&uid)
                && entry.host_has_booted(now)
            {
                self.records.save(entry)?;
            }
        }
        // Last: until then all of it can be done again.
        atomic::remove(&note, &self.host.writes).map(drop)
    }
}
