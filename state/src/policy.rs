//! What of a plan is allowed: restarts, loss of data, removal of many VEs at once.
//!
//! Only this makes an approved plan. What is not allowed is held, with the reason; what remains is a
//! plan in its own right, not the rest of one: a VE is never stopped for a start that isn't allowed.

use std::marker::PhantomData;

use crate::disruption::{Disruption, Feasible};
use crate::plan::{Action, Approved, Gentler, Held, HeldFor, Proposed, Reason, VePlan};
use crate::subsystem::lifecycle::UpdatePolicy;

/// What the operator or the host allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The most disruptive step that may be done.
    pub max_disruption: Disruption,
    /// Why VEs whose manifests are gone may not be removed, if they may not.
    pub no_removals: Option<String>,
}

impl Default for Policy {
    /// What the manifests allow, and nothing less.
    fn default() -> Self {
        Self { max_disruption: Disruption::Recreate, no_removals: None }
    }
}

/// Cuts a plan down to what is allowed.
pub fn authorize(plan: VePlan<Proposed>, policy: &Policy) -> VePlan<Approved> {
    let mut plan = plan;
    if let (Some(why), Reason::Removed) = (&policy.no_removals, plan.target.reason) {
        return refuse(plan, HeldFor::PruneGuard, why.clone());
    }
    if let Some(Gentler { update_policy, steps }) = plan.gentler.take() {
        let disruption = plan.disruption();
        // Leave to make the disk anew is in deletionPolicy; a restart of a running VE in updatePolicy.
        let by_manifest = update_policy == UpdatePolicy::Restart || plan.action == Action::Recreate;
        if !by_manifest || disruption > policy.max_disruption {
            hold_cold(&mut plan, !by_manifest);
            plan.steps = steps;
            plan.action = if plan.steps.is_empty() { Action::None } else { Action::Update };
        }
    }
    if plan.disruption() > policy.max_disruption {
        let why = format!("only {} changes are allowed now", policy.max_disruption);
        return refuse(plan, HeldFor::Policy, why);
    }
    approve(plan)
}

/// Why removals are refused if too many VEs would go at once: more than 3 and more than a fifth of
/// those known, unless the operator allowed that many. An empty directory never means "delete all".
pub fn prune_guard(removing: usize, known: usize, allowed: Option<usize>) -> Option<String> {
    let limit = (known / 5).max(3);
    if removing <= limit || allowed.is_some_and(|allowed| removing <= allowed) {
        return None;
    }
    Some(format!(
        "{removing} of {known} VEs would be removed, more than {limit}; allow it with --allow-prune={removing}"
    ))
}

/// Why removals are refused if the directory holds no manifest any more: whatever their number, it has to be
/// allowed.
pub fn empty_guard(removing: usize, allowed: Option<usize>) -> Option<String> {
    let why = format!(
        "no manifest is left: {removing} VEs would be removed; allow it with --allow-prune={removing}"
    );
    allowed.is_none_or(|allowed| removing > allowed).then_some(why)
}

fn hold_cold(plan: &mut VePlan<Proposed>, by_manifest: bool) {
    for change in &plan.changes {
        if change.disruption >= Disruption::Restart && change.feasible == Feasible::Yes {
            let (held_for, why) = if by_manifest {
                (HeldFor::RestartRequired, "it takes effect at the next start")
            } else {
                (HeldFor::Policy, "so disruptive a change is not allowed now")
            };
            plan.held.push(Held {
                field: change.field.clone(),
                disruption: change.disruption,
                held_for,
                why: why.to_owned(),
                source: change.source.clone(),
            });
        }
    }
}

fn refuse(mut plan: VePlan<Proposed>, held_for: HeldFor, why: String) -> VePlan<Approved> {
    plan.held.push(Held {
        field: "spec.state".to_owned(),
        disruption: plan.disruption(),
        held_for,
        why,
        source: plan.source.clone(),
    });
    plan.steps.clear();
    plan.action = Action::None;
    approve(plan)
}

fn approve(plan: VePlan<Proposed>) -> VePlan<Approved> {
    let VePlan {
        name,
        uid,
        source,
        action,
        changes,
        steps,
        held,
        unreadable,
        suspended,
        next_wake,
        target,
        order,
        gentler,
        stage: _,
    } = plan;
    VePlan {
        name,
        uid,
        source,
        action,
        changes,
        steps,
        held,
        unreadable,
        suspended,
        next_wake,
        target,
        order,
        gentler,
        stage: PhantomData,
    }
}
