//! What to do about a VE whose manifest was removed, and how a VE is thrown away.

use super::draft::Draft;
use super::power::{Power, Reason, Target};
use super::{Action, Proposed, VePlan};
use crate::disruption::{Cause, Disruption};
use crate::handover::{Here, Stage};
use crate::ids::VeName;
use crate::ledger::Standing;
use crate::observed::Observed;
use crate::reading::Reading;
use crate::subsystem::Cx;
use crate::subsystem::lifecycle::{self, DeletionPolicy, StopReason};

/// Stops and keeps, leaves alone, or throws away, as the VE's deletion policy said when it was last read.
pub(super) fn plan(name: &VeName, have: &Observed, cx: &Cx<'_>) -> VePlan<Proposed> {
    let mut draft = Draft::new(name, have, cx);
    let Some(entry) = cx.entry else { return draft.plan };
    draft.plan.target = Target { power: Power::Absent, reason: Reason::Removed };
    let policy = match entry.here() {
        // It is not its end.
        Here::At(Stage::Moved) => DeletionPolicy::Quarantine,
        Here::At(_) | Here::Ordinary | Here::Unknown => entry.deletion_policy(),
    };
    match (entry.standing, policy) {
        (Standing::Retained, _) => {
            draft.plan.target.reason = Reason::Unmanaged;
        }
        (Standing::Quarantined { until, .. }, _) if until > cx.now => draft.wake(until),
        (Standing::Quarantined { .. } | Standing::Destroying, _)
        | (Standing::Active, DeletionPolicy::Destroy) => destroy(&mut draft, StopReason::Removed),
        (Standing::Active, DeletionPolicy::Retain) => {
            draft.plan.action = Action::Forget;
            draft.note(lifecycle::Step::Forget, Disruption::None, Vec::new());
        }
        (Standing::Active, DeletionPolicy::Quarantine) => {
            if bring_down(&mut draft, StopReason::Removed, Disruption::Restart) {
                draft.plan.action = Action::Delete;
                let policies = entry.applied.lifecycle.clone().unwrap_or_default();
                let until = cx.now + policies.quarantine_ttl;
                let state = draft.change_state(Cause::Spec);
                draft.note(lifecycle::Step::Quarantine { until }, Disruption::None, vec![state]);
            }
        }
    }
    draft.plan
}

/// Throws the VE away, stopping it first.
pub(super) fn destroy(draft: &mut Draft<'_>, reason: StopReason) {
    if bring_down(draft, reason, Disruption::Recreate) {
        draft.plan.action = Action::Delete;
        let state = draft.change_state(Cause::Spec);
        draft.note(lifecycle::Step::Destroy, Disruption::Recreate, vec![state]);
    }
}

/// Ends the VE's run if there is one. False if it cannot be told whether there is.
fn bring_down(draft: &mut Draft<'_>, reason: StopReason, disruption: Disruption) -> bool {
    if let Reading::Unreadable(why) = &draft.have.lifecycle.run {
        let what = "spec.state".to_owned();
        draft.plan.unreadable.push(crate::subsystem::Unreadable { what, why: why.clone() });
        return false;
    }
    draft.reap();
    if draft.have.running().is_some() {
        let state = draft.change_state(Cause::Spec);
        draft.stop(reason, disruption, vec![state]);
    }
    true
}
