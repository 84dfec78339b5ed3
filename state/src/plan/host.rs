//! The plans of all VEs together: in which order, and what they come to.
//!
//! Removals go first, so that what they free can be used. The rest is in layers: a VE comes after
//! those it depends on, and within a layer a higher `bootOrder` comes first. The VEs of one layer may
//! be worked on at the same time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Action, VePlan};
use crate::disruption::{Cause, Disruption};

/// The plan for a host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostPlan<S> {
    /// The plan of each VE, in order.
    pub plans: Vec<VePlan<S>>,
    /// Where each layer of `plans` ends.
    pub layers: Vec<usize>,
    /// Digest of what was observed when the plan was made.
    pub check_index: String,
}

/// What a plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// VEs that are made.
    pub add: usize,
    /// VEs that are changed.
    pub change: usize,
    /// VEs that go.
    pub remove: usize,
    /// Changes made to VEs as they are.
    pub live: usize,
    /// VEs that are restarted.
    pub restart: usize,
    /// VEs whose data goes.
    pub destroy: usize,
    /// Corrections of drift.
    pub corrections: usize,
    /// Changes that wait.
    pub held: usize,
}

impl Summary {
    /// How disruptive all of it is.
    pub fn disruption(&self) -> Disruption {
        if self.destroy > 0 {
            Disruption::Recreate
        } else if self.restart > 0 || self.remove > 0 {
            Disruption::Restart
        } else if self.add + self.change > 0 {
            Disruption::Live
        } else {
            Disruption::None
        }
    }
}

impl<S> HostPlan<S> {
    /// Puts plans in order.
    pub fn new(plans: impl IntoIterator<Item = VePlan<S>>, check_index: String) -> Self {
        let mut plans: Vec<_> = plans.into_iter().collect();
        let depth = depths(&plans);
        let layer =
            |plan: &VePlan<S>| (!plan.is_removal(), depth.get(plan.name.as_str()).copied().unwrap_or(0));
        plans.sort_by(|a, b| {
            let order = layer(a).cmp(&layer(b));
            order.then(b.order.boot_order.cmp(&a.order.boot_order)).then_with(|| a.name.cmp(&b.name))
        });
        let mut layers = Vec::new();
        for (i, plan) in plans.iter().enumerate() {
            if plans.get(i + 1).is_none_or(|next| layer(next) != layer(plan)) {
                layers.push(i + 1);
            }
        }
        Self { plans, layers, check_index }
    }

    /// What the plan comes to.
    pub fn summary(&self) -> Summary {
        let mut sum = Summary::default();
        for plan in &self.plans {
            let carried: BTreeSet<_> = plan.steps.iter().flat_map(|planned| &planned.changes).collect();
            let carried = || carried.iter().map(|index| &plan.changes[**index]);
            match plan.action {
                Action::None => {}
                Action::Create => sum.add += 1,
                Action::Update | Action::Restart | Action::Recreate | Action::Forget => {
                    sum.change += 1;
                    sum.live += carried().filter(|change| change.disruption <= Disruption::Live).count();
                }
                Action::Delete => sum.remove += 1,
            }
            sum.restart += usize::from(plan.action == Action::Restart);
            sum.destroy += usize::from(plan.disruption() == Disruption::Recreate);
            sum.corrections += carried().filter(|change| change.cause == Cause::Drift).count();
            sum.held += plan.held.len();
        }
        sum
    }
}

/// How many VEs have to go before each. VEs that wait for each other in a circle go together.
fn depths<S>(plans: &[VePlan<S>]) -> BTreeMap<String, usize> {
    let names: BTreeSet<_> = plans.iter().map(|plan| &plan.name).collect();
    let mut depth: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..plans.len() {
        let placed: Vec<_> = plans
            .iter()
            .filter(|plan| !depth.contains_key(plan.name.as_str()))
            .filter(|plan| {
                let mut needs = plan.order.depends_on.iter().filter(|name| names.contains(name));
                needs.all(|name| depth.contains_key(name.as_str()))
            })
            .map(|plan| plan.name.to_string())
            .collect();
        if placed.is_empty() {
            break;
        }
        depth.extend(placed.into_iter().map(|name| (name, round)));
    }
    let last = depth.values().max().map_or(0, |deepest| deepest + 1);
    for plan in plans {
        depth.entry(plan.name.to_string()).or_insert(last);
    }
    depth
}
