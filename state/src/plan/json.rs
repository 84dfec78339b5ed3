//! A plan as a program reads it: Terraform's shape where there is one. Stable and documented.

use serde_json::{Map, Value, json};

use super::{Action, Held, HostPlan, VePlan};
use crate::disruption::{Cause, Change, Disruption, Feasible};

/// Version of the format. The first number rises when readers of the old one would go wrong.
pub const FORMAT_VERSION: &str = "1.0";

impl<S> HostPlan<S> {
    /// The plan as JSON: what changes, why, how disruptive, and what was observed.
    pub fn to_json(&self) -> Value {
        let changing = self.plans.iter().filter(|plan| {
            plan.action != Action::None
                || !plan.changes.is_empty()
                || !plan.held.is_empty()
                || !plan.unreadable.is_empty()
                || plan.suspended.is_some()
        });
        json!({
            "format_version": FORMAT_VERSION,
            "resource_changes": changing.map(resource).collect::<Vec<_>>(),
            "summary": self.summary(),
            "check_index": self.check_index,
        })
    }
}

fn resource<S>(plan: &VePlan<S>) -> Value {
    let side = |value: fn(&Change) -> &Value| -> Map<String, Value> {
        plan.changes.iter().map(|change| (change.field.clone(), value(change).clone())).collect()
    };
    let actions: &[&str] = match plan.action {
        Action::None => &["no-op"],
        Action::Create => &["create"],
        Action::Update => &["update"],
        Action::Restart => &["stop", "start"],
        Action::Recreate => &["delete", "create"],
        Action::Delete => &["delete"],
        Action::Forget => &["forget"],
    };
    let impact = match plan.disruption() {
        Disruption::Recreate if plan.action == Action::Delete => json!("destroy"),
        disruption => json!(disruption),
    };
    let cause = plan.changes.iter().map(|change| change.cause).min().unwrap_or(Cause::Spec);
    let (feasible, _) = worst(plan.changes.iter().map(|change| &change.feasible));
    json!({
        "address": format!("ve.{}", plan.name),
        "change": {"actions": actions, "before": side(|c| &c.before), "after": side(|c| &c.after)},
        "impact": impact,
        "cause": cause,
        "feasible": feasible,
        "source": plan.source,
        "fields": plan.changes.iter().map(field).collect::<Vec<_>>(),
        "steps": plan.steps.iter().map(|planned| planned.step.to_string()).collect::<Vec<_>>(),
        "held": plan.held.iter().map(held).collect::<Vec<_>>(),
        "unreadable": plan.unreadable,
        "suspended": plan.suspended,
        "next_wake": plan.next_wake,
    })
}

fn held(held: &Held) -> Value {
    json!({
        "path": held.field,
        "impact": held.disruption,
        "held_for": held.held_for,
        "code": held.held_for.code().map(|code| code.to_string()),
        "why": held.why,
        "source": held.source,
    })
}

fn field(change: &Change) -> Value {
    let (feasible, why) = worst([&change.feasible].into_iter());
    json!({
        "path": change.field,
        "before": change.before,
        "after": change.after,
        "impact": change.disruption,
        "cause": change.cause,
        "feasible": feasible,
        "why": why,
        "source": change.source,
    })
}

/// The least feasible, as a word and a reason.
fn worst<'a>(all: impl Iterator<Item = &'a Feasible>) -> (&'static str, Option<&'a str>) {
    let rank = |is: &Feasible| match is {
        Feasible::Yes => 0,
        Feasible::Deferred(_) | Feasible::UnderWay(_) | Feasible::BackOff(_) => 1,
        Feasible::Infeasible(_) => 2,
    };
    match all.max_by_key(|is| rank(is)) {
        None | Some(Feasible::Yes) => ("yes", None),
        Some(Feasible::Deferred(why) | Feasible::UnderWay(why) | Feasible::BackOff(why)) => {
            ("deferred", Some(why))
        }
        Some(Feasible::Infeasible(why)) => ("infeasible", Some(why)),
    }
}
