//! What to do about a VE that is on its way to another host, or from there: nothing, but for having one that is to be
//! sent written to disk. Whatever its manifest says meanwhile, it does not run here.

use super::draft::Draft;
use super::power::{Power, Reason, Target};
use super::{HeldFor, Proposed, VePlan, Wish};
use crate::disruption::{Cause, Disruption};
use crate::handover::{Here, Stage};
use crate::ids::VeName;
use crate::ledger::Standing;
use crate::observed::Observed;
use crate::subsystem::lifecycle::{State, Step};
use crate::subsystem::{Cx, Unreadable};
use crate::units::Millis;

/// One whose hand-over nobody works at any more is looked at again after this.
const LOOK_AGAIN: Millis = Millis(1_000);

/// The plan for a VE that its hand-over keeps from running; none if that has no say.
pub(super) fn plan(name: &VeName, wish: Wish<'_>, have: &Observed, cx: &Cx<'_>) -> Option<VePlan<Proposed>> {
    let entry = cx.entry?;
    let Here::At(stage) = entry.here() else { return None };
    if entry.here().may_run() || entry.standing != Standing::Active {
        return None;
    }
    let want = match wish {
        Wish::Want(want) | Wish::Keep(want) => Some(want),
        Wish::Gone | Wish::Unmanaged | Wish::Unknown(_) => None,
    };
    // What is left of one that has gone is kept and thrown away like any other.
    let to_go = matches!(wish, Wish::Gone) || want.is_some_and(|want| want.lifecycle.state == State::Absent);
    if stage == Stage::Moved && to_go {
        return None;
    }
    let mut draft = Draft::new(name, have, cx);
    draft.want = want;
    draft.plan.target = Target { power: Power::Suspended, reason: Reason::HandedOver };
    if let Some(why) = have.lifecycle.run.unreadable() {
        draft.plan.unreadable.push(Unreadable { what: "spec.state".to_owned(), why: why.to_owned() });
    } else {
        draft.reap();
    }
    if stage == Stage::Frozen && have.running().is_some() {
        let state = draft.change_state(Cause::Spec);
        draft.thaw(&[state]);
        draft.note(Step::Suspend, Disruption::Live, vec![state]);
    }
    let (held_for, wake) = match stage {
        Stage::Moved => (HeldFor::Policy, None),
        Stage::Ceded => (HeldFor::UnderWay, None),
        Stage::Frozen | Stage::Receiving | Stage::Arrived | Stage::Copying | Stage::Copied => {
            (HeldFor::UnderWay, Some(cx.now + LOOK_AGAIN))
        }
    };
    if let Some(at) = wake {
        draft.wake(at);
    }
    let why = entry.handover.as_ref().map(ToString::to_string).unwrap_or_default();
    draft.hold("spec.state", Disruption::None, held_for, why);
    Some(draft.plan)
}
