//! What VEs hold of each beancounter: counted when somebody asks and, for VEs with bounds that the kernel
//! does not watch, at each whole pass.
//!
//! The kernel's peaks and refusals are in the VE's control group and go on whoever runs. The most that
//! was seen of what is only counted is kept in the run directory, by the run that it is of: it outlives
//! the controller, and a new run of the VE starts anew. A run that is suspended and goes on, here or on another host, has
//! its counts in the ledger meanwhile.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use vzd_state::ids::VeName;
use vzd_state::ledger::{Count, Counts};
use vzd_state::subsystem::beancounters::{Counter, Enforcement, UNLIMITED, enforcement};

use crate::control::{CounterView, VeCounters};
use crate::drivers::{Ve, beancounters, lifecycle};
use crate::engine::view::{Leave, View};
use crate::engine::{Engine, Subject};
use crate::store::{Writes, atomic};

/// What is remembered of one run of a VE.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Peaks {
    /// The host's pid of the run's init, and when it was started in milliseconds since 1970.
    run: (u32, i64),
    /// The most that was seen.
    most: BTreeMap<Counter, u64>,
    /// Refusals that were told of.
    told: BTreeMap<Counter, u64>,
}

impl Engine {
    /// Counts what a VE holds; none if it does not run.
    pub(super) fn count(&self, view: &View) -> Option<VeCounters> {
        let entry = view.entry.as_ref()?;
        let ve = Ve { host: &self.host, entry, want: view.want() };
        let running = lifecycle::running(ve).ok()?;
        let counted = beancounters::count(ve, &running);
        if !running.is_alive() {
            return None;
        }
        let run = entry.run.as_ref().map_or(0, |run| run.started_at.0);
        let none = Counts::new();
        let before = entry.run.as_ref().map_or(&none, |run| &run.before);
        let peaks = self.remember(view, (running.pid.unsigned_abs(), run), &counted);
        let bounds = view.want().map(|want| want.beancounters.bounds.clone()).unwrap_or_default();
        let caps = self.host.caps();
        let view_of = |(name, _, unit): (Counter, &str, _)| {
            let seen = counted.get(&name);
            let before = before.get(&name).copied().unwrap_or_default();
            let kept = peaks.most.get(&name).copied();
            CounterView {
                name,
                unit,
                held: seen.map(|seen| seen.held),
                maxheld: seen.map(|seen| seen.maxheld.or(kept).unwrap_or(0).max(seen.held).max(before.most)),
                barrier: bounds.get(&name).map_or(UNLIMITED, |bound| bound.barrier),
                limit: bounds.get(&name).map_or(UNLIMITED, |bound| bound.limit),
                failcnt: before.failcnt + seen.map_or(0, |seen| seen.failcnt),
                enforcement: match (seen, enforcement(name, &caps)) {
                    (None, Enforcement::Accounted(why)) => {
                        Enforcement::Accounted(format!("{why}, and this one does not tell how much there is"))
                    }
                    (_, known) => known,
                },
            }
        };
        let counters = Counter::ALL.into_iter().map(view_of).collect();
        Some(VeCounters { name: view.name.to_string(), ctid: entry.ctid.get(), counters })
    }

    /// What is to be remembered of a VE that is about to be suspended: the kernel forgets it with its groups.
    pub(super) fn counts_of(&self, name: &VeName) -> Counts {
        let view = self.view(&Subject::Name(name.clone()), Leave::default());
        let counted = view.and_then(|view| self.count(&view));
        let counters = counted.into_iter().flat_map(|all| all.counters);
        let counts =
            counters.map(|is| (is.name, Count { most: is.maxheld.unwrap_or(0), failcnt: is.failcnt }));
        counts.filter(|(_, count)| *count != Count::default()).collect()
    }

    /// Merges what was counted into what is remembered of the run, and tells of new refusals.
    fn remember(
        &self,
        view: &View,
        run: (u32, i64),
        counted: &BTreeMap<Counter, beancounters::Counted>,
    ) -> Peaks {
        let Some(uid) = view.entry.as_ref().map(|entry| entry.uid.clone()) else { return Peaks::default() };
        let path = self.host.settings.peaks_dir().join(format!("{uid}.json"));
        // One at a time: a refusal is told once.
        let _guard = self.remembering.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.shared().peaks.get(&uid).cloned();
        let read = || serde_json::from_str::<Peaks>(&std::fs::read_to_string(&path).ok()?).ok();
        let known = known.or_else(read).filter(|peaks| peaks.run == run);
        let mut peaks = known.clone().unwrap_or(Peaks { run, ..Peaks::default() });
        let mut refused = Vec::new();
        for (counter, counted) in counted {
            let most = peaks.most.entry(*counter).or_default();
            *most = counted.held.max(*most);
            let told = peaks.told.entry(*counter).or_default();
            if counted.failcnt > *told {
                refused.push((*counter, *counted, counted.failcnt - *told));
                *told = counted.failcnt;
            }
        }
        if known.as_ref() == Some(&peaks) {
            return peaks;
        }
        // A command that only looks leaves no trace.
        if self.lock.is_some() {
            let written = std::fs::create_dir_all(self.host.settings.peaks_dir()).ok().and_then(|()| {
                let text = serde_json::to_vec(&peaks).ok()?;
                atomic::write(&path, &text, &Writes::default()).ok()
            });
            if written.is_none() {
                tracing::warn!(path = %path.display(), "the most that was seen of counters is not kept");
            }
            for (counter, counted, times) in refused {
                self.tell_refused(view, counter, counted, times);
            }
        }
        self.shared().peaks.insert(uid, peaks.clone());
        peaks
    }

    /// Counts for VEs that have a bound, so that what they held at most is known when somebody asks.
    pub(super) fn sample(&self) {
        for subject in self.subjects() {
            let Some(view) = self.view(&subject, Leave::default()) else { continue };
            let bounded = view
                .want()
                .is_some_and(|want| want.beancounters.bounds.values().any(|bound| bound.limit != UNLIMITED));
            let runs = view.entry.as_ref().is_some_and(|entry| entry.run.is_some());
            if runs
                && (bounded || !self.shows_when_asked())
                && let (Some(counted), Some(entry)) = (self.count(&view), &view.entry)
            {
                self.show_unasked(&entry.uid, &counted);
            }
        }
    }

    /// Forgets a VE that is gone.
    pub(super) fn forget_peaks(&self, uid: &vzd_state::ids::VeUid) {
        self.shared().peaks.remove(uid);
        let path = self.host.settings.peaks_dir().join(format!("{uid}.json"));
        // Run files of VEs that never had any are not there.
        drop(std::fs::remove_file(path));
        self.forget_shown(uid);
    }
}
