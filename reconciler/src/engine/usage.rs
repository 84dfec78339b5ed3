//! What VEs use and how they fare, for `vzd top` and metrics: read when somebody asks.

use vzd_state::ledger::Entry;
use vzd_state::subsystem::lifecycle::Run;

use crate::control::{VeState, VeUsage};
use crate::drivers::network::LinkUse;
use crate::drivers::{Ve, lifecycle, network};
use crate::engine::view::{Leave, View};
use crate::engine::{Engine, Subject, clock};
use crate::kernel::cgroup::Usage;
use vzd_state::status::ConditionType;

impl Engine {
    /// What a VE uses now; what it does is as of the last look.
    pub(super) fn use_of(&self, subject: &Subject) -> Option<VeUsage> {
        if !self.shared().published.contains_key(subject) {
            self.look(subject);
        }
        let view = self.view(subject, Leave::default())?;
        let (run, frozen, ready, passes, errors) = {
            let shared = self.shared();
            let published = shared.published.get(subject)?;
            let group = published.observed.cgroup.group.is();
            let frozen = group.is_some_and(|group| group.frozen);
            let ready = published.is(ConditionType::Ready);
            let run = published.observed.lifecycle.run.is().cloned();
            (run, frozen, ready, published.passes, published.errors)
        };
        let suspended = view.entry.as_ref().is_some_and(|entry| entry.suspension.is_some());
        let mut state = match run {
            Some(Run::Running { .. }) if frozen => VeState::Paused,
            Some(Run::Running { .. }) => VeState::Running,
            Some(Run::Stopped { .. }) if suspended => VeState::Suspended,
            Some(Run::Stopped { .. }) => VeState::Stopped,
            None => VeState::Unknown,
        };
        let entry = view.entry.as_ref();
        let mut counters = Vec::new();
        if matches!(state, VeState::Running | VeState::Paused) {
            match self.count(&view) {
                Some(counted) => counters = counted.counters,
                // It ended since.
                None => state = VeState::Stopped,
            }
        }
        let runs = !counters.is_empty();
        let group = entry.map(|entry| self.host.cgroup(entry)).filter(|_| runs);
        let started_at = match run {
            Some(Run::Running { started_at, .. }) => Some(started_at),
            _ => None,
        };
        Some(VeUsage {
            name: view.name.to_string(),
            ctid: entry.map(|entry| entry.ctid.get()),
            state,
            ready,
            started_at: started_at.filter(|_| runs),
            at: clock::now(),
            usage: group.map(|group| group.usage()).unwrap_or_else(Usage::default),
            links: view
                .entry
                .as_ref()
                .filter(|_| runs)
                .map(|entry| self.links_of(&view, entry))
                .unwrap_or_default(),
            counters,
            passes,
            errors,
            restarts: entry.map_or(0, |entry| entry.restarts),
        })
    }

    /// What went over the links of a VE that runs. One that cannot be read is told by its conditions.
    fn links_of(&self, view: &View, entry: &Entry) -> Vec<LinkUse> {
        let ve = Ve { host: &self.host, entry, want: view.want() };
        let links = lifecycle::running(ve).ok().and_then(|running| network::traffic(ve, &running).ok());
        links.unwrap_or_default()
    }
}
