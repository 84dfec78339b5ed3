//! The format as a JSON Schema (draft 2020-12), for editors and other tools.
//!
//! Generated from the types alone, so that it cannot say anything else than the parser does. Beyond
//! the standard words it carries, per field, `x-vzd-update` (what a change of it does to a running VE)
//! and `x-vzd-carried-out: false` where this version refuses the field.

use crate::fields;
use crate::v1::{Host, Kind, Profile, Ve, carried};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of a document of any kind.
pub fn json_schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let kinds = [
        generator.subschema_for::<Ve>(),
        generator.subschema_for::<Profile>(),
        generator.subschema_for::<Host>(),
    ];
    let definitions = generator.take_definitions(true);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A document of a vzd manifest, version vzd/v1",
        "oneOf": kinds,
        "$defs": Map::from_iter(definitions),
    });
    drop_classless(&mut schema);
    for kind in Kind::ALL {
        for refused in carried::refused_fields(kind) {
            mark_refused(&mut schema, kind, refused);
        }
    }
    schema
}

/// Sets `x-vzd-carried-out: false` on a field, or on each field of a group for `group.*`.
fn mark_refused(schema: &mut Value, kind: Kind, path: &str) {
    let (group, all) = path.strip_suffix(".*").map_or((path, false), |group| (group, true));
    let Some(pointer) = fields::pointer(schema, kind, group) else { return };
    let mut marked = Vec::new();
    if all {
        let Some((definition, properties)) = fields::properties(schema, &pointer) else { return };
        marked.extend(properties.map(|name| format!("{definition}/properties/{name}")));
    } else {
        marked.push(pointer);
    }
    for pointer in marked {
        if let Some(Value::Object(field)) = schema.pointer_mut(&pointer) {
            field.insert("x-vzd-carried-out".to_owned(), Value::Bool(false));
        }
    }
}

/// Takes out the update class of fields that have none.
fn drop_classless(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("x-vzd-update").is_some_and(|class| class == "none") {
                map.remove("x-vzd-update");
            }
            map.values_mut().for_each(drop_classless);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_classless),
        _ => {}
    }
}
