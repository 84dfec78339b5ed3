//! Values of fields that stand above the manifest's until the VE stops: what `vzctl set` changes without `--save`.
//!
//! The ledger keeps them with the run, so that they end with it. Laid over what the manifest wants, they give another
//! [`Desired`] for every pass over the running VE: it is planned, verified and looked at for drift like any other. The
//! spec and its digest stay the manifest's, since that is what is accepted. A manifest that comes to say something else
//! of a field has the last word: it was said later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vzd_schema::edit::steps;
use vzd_schema::{Diagnostic, Document, Set, UpdateClass, parse, update_class};

use crate::desired::Desired;
use crate::ledger::Entry;
use crate::lower::{FindDevice, LowerError, lower_over};
use crate::subsystem;
use crate::units::Timestamp;

/// A value that stands above the manifest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transient {
    /// The value, as a resolved spec has it; null if the field is unset by it.
    pub value: Value,
    /// What the manifest said when it was set; null if nothing.
    pub over: Value,
    /// When it was set.
    pub at: Timestamp,
}

/// Such values by field, `spec.memory.ram`.
pub type Transients = BTreeMap<String, Transient>;

/// Parts of a spec that are of a run, and leave nothing in a VE that outlasts it.
const OF_A_RUN: [&str; 10] =
    ["hostname", "domainname", "cpu", "memory", "io", "beancounters", "disk", "network", "devices", "mounts"];

/// Whether a field can have a value that ends with the run.
///
/// # Errors
///
/// It can't; why, in words.
pub fn allowed(field: &str) -> Result<(), String> {
    let mut path = field.split(['.', '[']);
    let part = path.next().filter(|top| *top == "spec").and_then(|_| path.next());
    match update_class(field) {
        None => Err(format!("there is no field `{field}`")),
        Some(UpdateClass::Live) if part.is_some_and(|part| OF_A_RUN.contains(&part)) => Ok(()),
        Some(UpdateClass::Live) => {
            Err(format!("`{field}` is not about a run: what ends with one says nothing"))
        }
        Some(_) => Err(format!("`{field}` takes effect at a start, and with that what is not saved ends")),
    }
}

/// The values that stand above this spec of a VE's manifest: those of fields of which it says what it said then.
pub fn in_force(entry: &Entry, spec: &Value) -> Transients {
    let all = entry.run.iter().flat_map(|run| &run.transient);
    let stands = |(field, is): &(&String, &Transient)| value_at(spec, field) == is.over;
    all.filter(stands).map(|(field, is)| (field.clone(), is.clone())).collect()
}

/// What a spec says of a field; null if nothing.
pub fn value_at(spec: &Value, field: &str) -> Value {
    let path = steps(field);
    let within = path.iter().skip(1).try_fold(spec, |at, step| at.get(step));
    within.cloned().unwrap_or_default()
}

/// A spec with other values. One that is null is there as null, which unsets what a profile says.
pub fn with<'a>(spec: &Value, values: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Value {
    let mut spec = spec.clone();
    for (field, value) in values {
        put(&mut spec, steps(field).get(1..).unwrap_or_default(), value);
    }
    spec
}

fn put(at: &mut Value, path: &[String], value: &Value) {
    let Some((step, rest)) = path.split_first() else {
        *at = value.clone();
        return;
    };
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    if let Some(map) = at.as_object_mut() {
        put(map.entry(step.clone()).or_insert(Value::Null), rest, value);
    }
}

/// A spec without what is null in it.
fn pruned(spec: Value) -> Value {
    match spec {
        Value::Object(map) => {
            map.into_iter().filter(|(_, is)| !is.is_null()).map(|(key, is)| (key, pruned(is))).collect()
        }
        other => other,
    }
}

/// The spec as it is in force.
pub fn spec_over(spec: &Value, transients: &Transients) -> Value {
    if transients.is_empty() {
        return spec.clone();
    }
    pruned(with(spec, transients.iter().map(|(field, is)| (field, &is.value))))
}

/// The spec as the manifest has it, of one as it is in force.
pub fn spec_under(spec: &Value, transients: &Transients) -> Value {
    pruned(with(spec, transients.iter().map(|(field, is)| (field, &is.over))))
}

/// What is wanted of a VE while these values stand above its manifest's.
///
/// # Errors
///
/// They cannot be carried out with the manifest as it is now.
pub fn lay(
    want: Desired,
    transients: &Transients,
    find_device: FindDevice<'_>,
) -> Result<Desired, Vec<LowerError>> {
    if transients.is_empty() {
        return Ok(want);
    }
    lower_over(&want, &spec_over(&want.spec, transients), find_device)
}

/// A VE's document with this spec, as if somebody had written it.
///
/// # Errors
///
/// What the format refuses.
pub fn document(name: &str, spec: &Value) -> Result<Document, Vec<Diagnostic>> {
    let text = json!({ "apiVersion": "vzd/v1", "kind": "VE", "metadata": { "name": name }, "spec": spec });
    let mut parsed = parse("(not saved)", text.to_string().as_bytes());
    let wrong: Vec<_> = parsed.diagnostics.into_iter().filter(Diagnostic::is_error).collect();
    if wrong.is_empty() { parsed.documents.pop().ok_or_else(Vec::new) } else { Err(wrong) }
}

/// The spec of a document as the format has it, checked with all others.
///
/// # Errors
///
/// What it cannot say together with them.
pub fn checked(own: &Document, others: &[&Document]) -> Result<Value, Vec<Diagnostic>> {
    let set = Set::new(others.iter().copied().chain([own]));
    let together = set.check().into_iter().filter(|is| is.is_error() && own.is_concerned_by(is));
    let wrong: Vec<_> = together.collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    set.resolve(own).map(|resolved| subsystem::json(&resolved.spec))
}
