//! Where a field's value comes from, what the kernel has, and what holds a change of it.

use serde_json::{Value, json};
use vzd_state::desired::Desired;
use vzd_state::ledger::Entry;
use vzd_state::observed::Observed;

use crate::control::{ControlResult, Selector, Why};
use crate::engine::Engine;
use crate::engine::answer::error;
use crate::engine::view::Leave;
use crate::engine::wishes::Wanted;

impl Engine {
    /// Answers `vzd why`.
    pub(super) fn answer_why(&self, ve: &str, field: &str) -> ControlResult<Why> {
        let select = Selector { names: vec![ve.to_owned()], ..Selector::default() };
        let subject = self.select(&select)?.pop().ok_or_else(|| error("VZ0307", "no VE was named"))?;
        self.document(&subject);
        let view = self.view(&subject, Leave::default());
        let view = view.ok_or_else(|| error("VZ0307", format!("there is no VE {ve:?}")))?;
        if let Wanted::Unknown(why) = &view.wanted {
            return Err(error("VZ0404", why));
        }
        let want = view.want().ok_or_else(|| error("VZ0307", format!("VE {ve:?} has no manifest")))?;
        let whole = ["spec", "metadata"].iter().any(|top| field.split('.').next() == Some(top));
        let field = if whole { field.to_owned() } else { format!("spec.{field}") };
        let update = vzd_schema::update_class(&field);
        if update.is_none() && value_at(want, &field).is_null() {
            return Err(error("VZ0405", format!("there is no field {field:?}")));
        }
        let published = self.shared().published.get(&subject).cloned();
        let held = published.as_ref().and_then(|published| {
            published.plan.held.iter().find(|held| held.field == field).map(|held| held.why.clone())
        });
        let mut changes = published.iter().flat_map(|published| &published.plan.changes);
        let before = changes.find(|change| change.field == field).map(|change| change.before.clone());
        let observed = published.as_ref().and_then(|published| {
            let limits = self.limits(want, &published.observed, view.entry.as_ref());
            let limit = limits.get(field.trim_start_matches("spec.")).cloned();
            limit.or_else(|| observed_at(&published.observed, want, &field))
        });
        let transient = view.transient.get(&field).cloned();
        // What the image of the VE's root runs stands in the place of the format's own default.
        let image = view.entry.as_ref().and_then(Entry::application).filter(|_| field == "spec.init");
        Ok(Why {
            value: transient.as_ref().map_or_else(|| value_at(want, &field), |is| is.value.clone()),
            default: image
                .map(|image| image.command.join(" "))
                .or_else(|| vzd_schema::default_value(&field).map(str::to_owned)),
            source: want.source_of(&field).map(ToString::to_string),
            profile: want
                .is_inherited(&field)
                .then(|| want.spec["profile"].as_str().unwrap_or("host").to_owned()),
            update: update.map(|class| class.to_string()),
            observed: observed.or(before),
            held,
            transient,
            field,
        })
    }
}

/// The value of a field in the spec as resolved, or in the metadata.
fn value_at(want: &Desired, field: &str) -> Value {
    let pointer = |path: &str| path.replace(['.', '['], "/").replace(']', "");
    if let Some(path) = field.strip_prefix("spec") {
        return want.spec.pointer(&pointer(path)).cloned().unwrap_or_default();
    }
    let Desired { name, labels, annotations, .. } = want;
    let metadata = json!({ "metadata": { "name": name, "labels": labels, "annotations": annotations } });
    metadata.pointer(&format!("/{}", pointer(field))).cloned().unwrap_or_default()
}

/// What was read of a field, where a driver reads it.
fn observed_at(observed: &Observed, want: &Desired, field: &str) -> Option<Value> {
    let seen = serde_json::to_value(observed).ok()?;
    let pointer = match field {
        "spec.state" => "/lifecycle/run",
        "spec.hostname" => "/namespaces/hostname",
        "spec.domainname" => "/namespaces/domainname",
        "spec.timezone" => "/namespaces/timezone/is",
        "spec.locale" => "/namespaces/locale/is",
        "spec.disk.mountOptions" => "/disk/mountOptions",
        "spec.template" => "/disk/root",
        mounts if mounts.starts_with("spec.mounts") => "/namespaces/mounts",
        devices if devices.starts_with("spec.devices") => "/devices/nodes",
        _ => return None,
    };
    let reading = seen.pointer(pointer)?;
    let mut value = reading.get("is").unwrap_or(reading).clone();
    if let ("/namespaces/mounts", Some(mounts)) = (pointer, value.as_object_mut()) {
        // The views of lxcfs are the host's business.
        mounts.retain(|target, _| want.namespaces.mounts.contains_key(target));
    }
    Some(value)
}
