//! The root that a VE is to have and the one that it has: of another template, or kept by something else.

use serde_json::Value;

use super::{BACKEND, Backend, Cold, Desired, Live, Observed, Resource, TEMPLATE, USERS, quota};
use crate::disruption::{Change, Disruption, Feasible};
use crate::subsystem::{Changes, Cx};

pub(super) fn keeps_no_users(backend: Backend) -> String {
    format!("backend {backend} keeps no quotas of a VE's users: `project` does")
}

/// What was cut short holds nothing of worth, and what nobody noted isn't ours to keep: only a root that is whole is
/// asked for leave before it is thrown away.
pub(super) fn diff(changes: &mut Changes<Live, Cold>, want: &Desired, have: &Observed, cx: &Cx<'_>) {
    let record = cx.entry.and_then(|entry| entry.disk.as_ref());
    let whole = record.filter(|record| record.ready && have.root.is().is_some());
    let other_template = whole.is_none_or(|is| !want.inherited && is.template != want.template);
    let other_backend = whole.and_then(|is| want.backend.filter(|backend| *backend != is.backend));
    if let Some(is) = whole {
        quota::refuse_without(changes, want, is.backend);
        if want.users && !is.backend.keeps_users() {
            let change = Change::new(USERS, Value::Null, true.into(), Disruption::Restart);
            changes.field(change.unless(Some(&keeps_no_users(is.backend))));
        }
    }
    if !other_template && other_backend.is_none() {
        return;
    }
    // Another template alone is no reason to change what keeps the root.
    let chosen = match whole {
        Some(is) if want.backend.is_none() && is.backend.missing(cx.caps).is_none() => Ok(is.backend),
        _ => want.choose(cx.caps),
    };
    let disruption = if whole.is_some() { Disruption::Recreate } else { Disruption::None };
    let mut indices = Vec::new();
    if other_template {
        let before = whole.map_or(Value::Null, |is| is.template.as_str().into());
        let change = Change::new(TEMPLATE, before, want.template.as_str().into(), disruption);
        indices.push(changes.field(change.unless(cx.caps.overlay_idmap.missing())));
    }
    if let (Some(is), Some(backend)) = (whole, other_backend) {
        let change = Change::new(BACKEND, is.backend.name().into(), backend.name().into(), disruption);
        indices.push(changes.field(change));
    }
    if let Err((field, why)) = &chosen {
        let at = changes.fields.iter().position(|change| change.field == *field);
        let at = at.unwrap_or_else(|| {
            changes.field(Change::new(*field, Value::Null, shown(want, field), disruption))
        });
        changes.fields[at].feasible = Feasible::Infeasible(why.clone());
        indices.push(at);
    }
    if disruption == Disruption::Recreate && !want.may_destroy {
        for index in &indices {
            changes.fields[*index].feasible = Feasible::Infeasible(format!(
                "another {} means another disk; set `deletionPolicy: Destroy` to allow it",
                if changes.fields[*index].field == TEMPLATE { "template" } else { "backend" }
            ));
        }
    }
    let feasible = indices.iter().all(|index| changes.fields[*index].feasible == Feasible::Yes);
    if let (Ok(backend), true) = (chosen, feasible) {
        if have.root.is().is_some() {
            changes.cold.push((Cold::DestroyRoot, indices.clone()));
        }
        changes.cold.push((Cold::CreateRoot { template: want.template.clone(), backend }, indices));
    }
}

fn shown(want: &Desired, field: &str) -> Value {
    match Resource::ALL.into_iter().find(|one| one.field() == field) {
        None if field == USERS => want.users.into(),
        Some(resource) => want.bounds(resource).to_string().into(),
        None => want.backend.map(Backend::name).into(),
    }
}
