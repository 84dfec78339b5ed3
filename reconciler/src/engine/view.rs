//! What is known and wanted of one VE, in one place: all that a plan is made from. Looks at manifests and the ledger, not at what
//! runs.

use std::sync::Arc;

use vzd_state::bare;
use vzd_state::desired::{Desired, SourceRef};
use vzd_state::handover::{Here, Stage};
use vzd_state::ids::VeName;
use vzd_state::ledger::Entry;
use vzd_state::lower::lower_entry;
use vzd_state::placement::Place;
use vzd_state::plan::Wish;
use vzd_state::policy::{empty_guard, prune_guard};
use vzd_state::transient::{self, Transients};

use crate::engine::placed::host_line;
use crate::engine::wishes::{Wanted, host_device};
use crate::engine::{Engine, Shared, Subject, clock};

/// What a pass may do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leave {
    /// Removals that the operator allowed.
    pub allow_prune: Option<usize>,
}

/// Everything a plan is made from.
pub(super) struct View {
    pub name: VeName,
    pub entry: Option<Entry>,
    pub wanted: Wanted,
    /// What the ledger's last good spec wants, where that is followed.
    kept: Option<Desired>,
    /// Why its manifest or what was set until it stops cannot be carried out.
    pub broken: Option<String>,
    /// Why it is not to be removed, though it has no manifest.
    pub no_removals: Option<String>,
    /// Values that stand above what its manifest says; they are in what is wanted.
    pub transient: Transients,
    /// What is to be done as to the host that its manifest says, and where it does.
    pub place: Option<Place>,
    pub named_at: Option<SourceRef>,
}

impl View {
    /// What is wanted, whoever says it.
    pub fn want(&self) -> Option<&Desired> {
        match &self.wanted {
            Wanted::Manifest(want) => Some(want),
            Wanted::Ledger(_) => self.kept.as_ref(),
            Wanted::Gone | Wanted::Unmanaged | Wanted::Unknown(_) => None,
        }
    }

    /// Puts values that end with the run above what the manifest says.
    fn lay_transient(&mut self) {
        let (Some(want), Some(entry)) = (self.want(), &self.entry) else { return };
        let transient = transient::in_force(entry, &want.spec);
        if transient.is_empty() {
            return;
        }
        match transient::lay(want.clone(), &transient, &host_device) {
            Ok(laid) => {
                match &mut self.wanted {
                    Wanted::Manifest(want) => *want = Arc::new(laid),
                    Wanted::Ledger(_) | Wanted::Gone | Wanted::Unmanaged | Wanted::Unknown(_) => {
                        self.kept = Some(laid);
                    }
                }
                self.transient = transient;
            }
            Err(wrong) => {
                let why = wrong.first().map_or_else(String::new, ToString::to_string);
                self.broken = Some(format!("what was set until it stops cannot be carried out now: {why}"));
            }
        }
    }

    /// Has it run without its own init, if that is noted.
    fn lay_bare(&mut self) {
        let Some(laid) =
            self.want().filter(|_| self.entry.as_ref().is_some_and(|entry| entry.bare)).map(bare::lay)
        else {
            return;
        };
        match &mut self.wanted {
            Wanted::Manifest(want) => *want = Arc::new(laid),
            Wanted::Ledger(_) | Wanted::Gone | Wanted::Unmanaged | Wanted::Unknown(_) => {
                self.kept = Some(laid);
            }
        }
    }

    pub(super) fn wish(&self) -> Wish<'_> {
        match (&self.wanted, &self.kept) {
            (Wanted::Manifest(want), _) => Wish::Want(want),
            (Wanted::Ledger(_), Some(kept)) => Wish::Keep(kept),
            (Wanted::Gone, _) => Wish::Gone,
            (Wanted::Unknown(why), _) => Wish::Unknown(why),
            (Wanted::Ledger(_), None) | (Wanted::Unmanaged, _) => Wish::Unmanaged,
        }
    }
}

impl Shared {
    /// Why VEs without a manifest may not be removed now.
    fn no_removals(&self, leave: Leave) -> Option<String> {
        let active = || self.ledger.entries().filter(|entry| !entry.is_quarantined());
        let emptied = leave.allow_prune.is_some();
        let wanted = |entry: &Entry| self.wishes.wanted(&entry.name, Some(entry), emptied);
        // What has moved to another host is no loss.
        let here = active().filter(|entry| entry.here() != Here::At(Stage::Moved));
        let gone = here.filter(|entry| matches!(wanted(entry), Wanted::Gone)).count();
        if self.wishes.is_emptied() {
            return empty_guard(gone, leave.allow_prune);
        }
        prune_guard(gone, active().count(), leave.allow_prune)
    }
}

impl Engine {
    /// What is known and wanted of a subject now.
    pub(super) fn view(&self, subject: &Subject, leave: Leave) -> Option<View> {
        let shared = self.shared();
        let entry = shared.entry(subject).cloned();
        let emptied = leave.allow_prune.is_some();
        let (name, wanted) = match subject {
            Subject::Name(name) => (name.clone(), shared.wishes.wanted(name, entry.as_ref(), emptied)),
            Subject::Quarantined(_) => (entry.as_ref()?.name.clone(), Wanted::Gone),
        };
        let (mut place, mut named_at) = (None, None);
        let mut wanted = wanted;
        if let Subject::Name(_) = subject {
            place = shared.place(&name, entry.as_ref()).filter(|_| !shared.wishes.is_emptied());
            if let Some(want) = shared.wishes.want.get(&name) {
                named_at = host_line(want);
                let is_left_alone = want.lifecycle.suspended(clock::now()).is_some();
                if is_left_alone && place.as_ref().is_some_and(Place::keeps) {
                    (place, wanted) = (None, Wanted::Manifest(want.clone()));
                }
            }
        }
        let wanted = match self.unreadable(&name).filter(|_| entry.is_none()) {
            Some(record) => Wanted::Unknown(record.to_string()),
            None => wanted,
        };
        let broken = shared.wishes.broken_because(&name).map(str::to_owned);
        let has_moved = entry.as_ref().is_some_and(|entry| entry.here() == Here::At(Stage::Moved));
        let no_removals = match wanted {
            Wanted::Gone if matches!(subject, Subject::Name(_)) && !has_moved => shared.no_removals(leave),
            _ => None,
        };
        drop(shared);
        let kept = match (&wanted, &entry) {
            (Wanted::Ledger(_), Some(entry)) => lower_entry(entry, &host_device).ok(),
            _ => None,
        };
        let broken = match &wanted {
            Wanted::Ledger(why) if !why.is_empty() => Some(why.clone()),
            _ => broken,
        };
        let transient = Transients::new();
        let mut view = View { name, entry, wanted, kept, broken, no_removals, transient, place, named_at };
        view.lay_transient();
        view.lay_bare();
        Some(view)
    }
}
