//! Plans that are overruled from beyond the VE: by the ledger, which has no room for it, or by the host that it is to be on.

use super::{Action, Held, HeldFor, Proposed, VePlan};
use crate::desired::{Desired, SourceRef};
use crate::disruption::Disruption;
use crate::ledger::LedgerError;
use crate::placement::Place;
use crate::units::Timestamp;

impl VePlan<Proposed> {
    /// The plan for a VE that the ledger refuses to take in.
    pub fn refused(self, want: &Desired, error: &LedgerError) -> Self {
        let held = Held {
            field: error.field().to_owned(),
            disruption: Disruption::Live,
            held_for: HeldFor::NoIds,
            why: error.to_string(),
            source: want.source_of(error.field()).cloned(),
        };
        Self {
            action: Action::None,
            changes: Vec::new(),
            steps: Vec::new(),
            held: vec![held],
            gentler: None,
            ..self
        }
    }

    /// The plan for a VE about which another host has a say: one that is not here is not made, and one that is is told where
    /// it goes. `why` says more than the place itself; it is looked at again at `wake`.
    pub fn placed(
        mut self,
        place: &Place,
        why: String,
        source: Option<SourceRef>,
        wake: Option<Timestamp>,
    ) -> Self {
        if matches!(place, Place::Waits(_)) && self.action == Action::Create {
            self.action = Action::None;
            self.changes.clear();
            self.steps.clear();
            self.gentler = None;
        }
        let held_for = match place {
            Place::Unreachable(_) => Some(HeldFor::HostUnknown),
            Place::Waits(_) | Place::Stays(_) | Place::Arriving(_) | Place::Goes(_) => {
                Some(HeldFor::OtherHost)
            }
            Place::Come(_) => None,
            Place::Here | Place::Elsewhere(_) | Place::Went => return self,
        };
        let field = "spec.host".to_owned();
        let held = |held_for| Held { field, disruption: Disruption::None, held_for, why, source };
        self.held.extend(held_for.map(held));
        self.next_wake = self.next_wake.into_iter().chain(wake).min();
        self
    }
}
