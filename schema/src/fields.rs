//! What the JSON Schema says about each field, by path: the one source for update classes, for
//! `explain` and for suggestions. A path is written `spec.mounts[].source`; an index may stand in
//! the brackets, and below a map of free keys (labels) the path of the map is meant.

use crate::json_schema::json_schema;
use crate::v1::Kind;
use crate::yaml::path_steps;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::sync::OnceLock;

/// What a change of a field does to a running VE, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpdateClass {
    /// It takes effect while the VE runs.
    Live,
    /// A part of the VE (such as an interface) is taken away and put back.
    Reattach,
    /// It takes effect at the next start.
    Restart,
    /// It needs a new VE: the data would be lost.
    Recreate,
}

impl UpdateClass {
    /// The word in the JSON Schema.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Reattach => "reattach",
            Self::Restart => "restart",
            Self::Recreate => "recreate",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Live, Self::Reattach, Self::Restart, Self::Recreate]
            .into_iter()
            .find(|class| class.as_str() == word)
    }
}

impl fmt::Display for UpdateClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One field, as the schema describes it.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) kind: Kind,
    /// `spec.mounts[].source`.
    pub(crate) path: String,
    pub(crate) description: String,
    pub(crate) class: Option<UpdateClass>,
    pub(crate) default: Option<String>,
    /// What may be written, in words.
    pub(crate) takes: String,
    pub(crate) carried_out: bool,
}

impl Field {
    /// The field's own name.
    pub(crate) fn name(&self) -> &str {
        self.parent_and_name().1
    }

    /// The path of the map it stands in, and its name there.
    pub(crate) fn parent_and_name(&self) -> (&str, &str) {
        self.path.rsplit_once('.').unwrap_or(("", &self.path))
    }
}

/// How disruptive a change of that field of a VE is; `None` for what is no field, or belongs to no
/// running VE. Of a group of fields it is the class of the group itself, not the most of its fields.
pub fn update_class(path: &str) -> Option<UpdateClass> {
    find(Kind::Ve, path)?.class
}

/// What holds for a field of a VE that nobody writes, where that is one value for all.
pub fn default_value(path: &str) -> Option<&'static str> {
    find(Kind::Ve, path)?.default.as_deref()
}

/// The field at a path, or the map of free keys that it leads into.
pub(crate) fn find(kind: Kind, path: &str) -> Option<&'static Field> {
    let wanted: Vec<&str> = path_steps(path).filter(|step| step.parse::<usize>().is_err()).collect();
    let fits = |field: &&Field| {
        let steps = || field.path.split(['.', '[', ']']).filter(|step| !step.is_empty());
        let free_keys = field.takes == FREE_MAP && steps().count() < wanted.len();
        field.kind == kind
            && (steps().eq(wanted.iter().copied()) || free_keys && steps().zip(&wanted).all(|(a, b)| a == *b))
    };
    all().iter().find(fits)
}

const FREE_MAP: &str = "a map of keys of your own";

/// Every field of every kind.
pub(crate) fn all() -> &'static [Field] {
    static FIELDS: OnceLock<Vec<Field>> = OnceLock::new();
    FIELDS.get_or_init(|| {
        let schema = json_schema();
        let mut fields = Vec::new();
        for kind in Kind::ALL {
            let document = &schema["$defs"][definition(kind)];
            collect(&schema, kind, document, "", true, &mut fields);
        }
        fields
    })
}

/// The name under which the schema defines a kind.
fn definition(kind: Kind) -> &'static str {
    match kind {
        Kind::Ve => "Ve",
        Kind::Profile => "Profile",
        Kind::Host => "Host",
    }
}

fn collect(
    schema: &Value,
    kind: Kind,
    group: &Value,
    prefix: &str,
    carried_out: bool,
    fields: &mut Vec<Field>,
) {
    let properties = meant(schema, group).and_then(|group| group.get("properties")?.as_object());
    for (name, value) in properties.into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let carried_out = carried_out && value.get("x-vzd-carried-out").is_none();
        fields.push(Field {
            kind,
            path: path.clone(),
            description: text(value, "description"),
            class: UpdateClass::parse(&text(value, "x-vzd-update")),
            default: value
                .get("default")
                .map(|default| default.as_str().map_or_else(|| default.to_string(), str::to_owned)),
            takes: takes(schema, value),
            carried_out,
        });
        collect(schema, kind, value, &path, carried_out, fields);
        if let Some(items) = meant(schema, value).and_then(|list| list.get("items")) {
            collect(schema, kind, items, &format!("{path}[]"), carried_out, fields);
        }
    }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().replace('\n', " ")
}

/// The pointer to the schema of a field of a kind; `list[].field` is one of the list's items.
pub(crate) fn pointer(schema: &Value, kind: Kind, path: &str) -> Option<String> {
    let within = |pointer: String, path: &str| {
        path_steps(path).try_fold(pointer, |pointer, step| {
            let (definition, mut names) = properties(schema, &pointer)?;
            names.any(|name| name == step).then(|| format!("{definition}/properties/{step}"))
        })
    };
    let mut parts = path.split("[].");
    let first = within(format!("/$defs/{}", definition(kind)), parts.next()?)?;
    parts.try_fold(first, |list, part| within(format!("{}/items", target(schema, &list)), part))
}

/// Where the properties behind a schema are defined, and their names.
pub(crate) fn properties<'s>(
    schema: &'s Value,
    pointer: &str,
) -> Option<(String, impl Iterator<Item = &'s str>)> {
    let definition = target(schema, pointer);
    let properties = schema.pointer(&definition)?.get("properties")?.as_object()?;
    Some((definition, properties.keys().map(String::as_str)))
}

/// References that are followed, at most.
const FURTHEST: usize = 8;

/// Where a schema leads.
enum Leads<'s> {
    /// To another one, by a pointer.
    To(&'s str),
    /// To the first of its alternatives, of which the other is null.
    Within,
    Nowhere,
}

fn leads(value: &Value) -> Leads<'_> {
    if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
        return Leads::To(reference.trim_start_matches('#'));
    }
    match value.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([_, null]) if null.get("type").and_then(Value::as_str) == Some("null") => Leads::Within,
        _ => Leads::Nowhere,
    }
}

/// Follows references, and what may also be null, to what is meant.
fn meant<'s>(schema: &'s Value, mut value: &'s Value) -> Option<&'s Value> {
    for _ in 0..FURTHEST {
        value = match leads(value) {
            Leads::To(pointer) => schema.pointer(pointer)?,
            Leads::Within => value.pointer("/anyOf/0")?,
            Leads::Nowhere => break,
        };
    }
    Some(value)
}

/// The same, as a pointer.
fn target(schema: &Value, pointer: &str) -> String {
    let mut pointer = pointer.to_owned();
    for _ in 0..FURTHEST {
        match schema.pointer(&pointer).map(leads) {
            Some(Leads::To(other)) => pointer = other.to_owned(),
            Some(Leads::Within) => pointer.push_str("/anyOf/0"),
            Some(Leads::Nowhere) | None => break,
        }
    }
    pointer
}

/// What may be written, in words.
fn takes(schema: &Value, value: &Value) -> String {
    if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
        return schema
            .pointer(reference.trim_start_matches('#'))
            .map(|value| takes(schema, value))
            .unwrap_or_default();
    }
    if let Some(title) = value.get("title").and_then(Value::as_str) {
        return title.to_owned();
    }
    if let Some(word) = value.get("const").and_then(Value::as_str) {
        return format!("`{word}`");
    }
    if let Some(words) = value.get("enum").and_then(Value::as_array) {
        let words: Vec<String> =
            words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|key| value.get(*key)?.as_array()) {
        let mut words: Vec<String> = choices.iter().map(|choice| takes(schema, choice)).collect();
        words.retain(|word| !word.is_empty());
        words.dedup();
        return words.join(", ");
    }
    let words = match value.get("type") {
        Some(Value::String(word)) => vec![word.as_str()],
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let example = value.get("examples").and_then(|examples| examples.get(0));
    let example = example.map(|example| format!(" such as {example}")).unwrap_or_default();
    let word = match words.first().copied() {
        Some("object") if value.get("properties").is_some() => "a map",
        Some("object") => FREE_MAP,
        Some("array") => {
            let items = value.get("items").map(|items| takes(schema, items)).unwrap_or_default();
            return format!("a list of: {items}");
        }
        Some("boolean") => "true or false",
        Some("integer" | "number") => "a number",
        Some("string") => "text",
        _ => "",
    };
    format!("{word}{example}")
}
