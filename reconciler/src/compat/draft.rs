//! A spec that is being changed: what holds now, and the changes of the manifest that were asked for. Pure.

use serde_json::{Map, Value as Json};
use vzd_schema::edit::{Change, Value, steps, to_yaml};
use vzd_schema::{Kind, Node, NodeKind};

/// What holds, and what is to be changed.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The document with everything that its profile says, as far as it has been changed.
    whole: Json,
    changes: Vec<Change>,
}

impl Draft {
    /// On top of a spec with everything that its profile says; lists as the manifest itself writes them.
    pub fn new(spec: &Json, written: Option<&Node>) -> Self {
        let mut whole = Json::Object(Map::from_iter([("spec".to_owned(), spec.clone())]));
        if let Some(node) = written {
            lists(&mut whole, node);
        }
        Self { whole, changes: Vec::new() }
    }

    /// What was changed, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What a field says now.
    pub fn get(&self, path: &str) -> Option<&Json> {
        steps(path).iter().try_fold(&self.whole, |at, step| at.get(step)).filter(|found| !found.is_null())
    }

    /// The texts of a list.
    pub fn texts(&self, path: &str) -> Vec<String> {
        let items = self.get(path).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
    }

    /// The items of a list.
    pub fn items(&self, path: &str) -> Vec<Json> {
        self.get(path).and_then(Json::as_array).cloned().unwrap_or_default()
    }

    /// Sets a field.
    pub fn set(&mut self, path: &str, value: Value) {
        put(&mut self.whole, &steps(path), json(&value));
        self.changes.push(Change::set(path, value));
    }

    /// Sets a list of words.
    pub fn set_words(&mut self, path: &str, words: Vec<String>) {
        self.set(path, Value::Seq(words.into_iter().map(Value::Word).collect()));
    }

    /// Sets a list of whatever.
    pub fn set_items(&mut self, path: &str, items: &[Json]) {
        self.set(path, Value::Seq(items.iter().map(value).collect()));
    }

    /// Takes a field out.
    pub fn remove(&mut self, path: &str) {
        put(&mut self.whole, &steps(path), Json::Null);
        self.changes.push(Change::remove(path));
    }

    /// The changes as a manifest of their own, which is not there yet.
    pub fn document(&self, kind: Kind, name: &str) -> String {
        let mut metadata = vec![("name".to_owned(), Value::Text(name.to_owned()))];
        metadata.extend(self.part("metadata"));
        to_yaml(&Value::Map(vec![
            ("apiVersion".to_owned(), Value::word("vzd/v1")),
            ("kind".to_owned(), Value::word(kind)),
            ("metadata".to_owned(), Value::Map(metadata)),
            ("spec".to_owned(), Value::Map(self.part("spec"))),
        ]))
    }

    fn part(&self, part: &str) -> Vec<(String, Value)> {
        let mut whole = Json::Object(Map::new());
        for change in &self.changes {
            match change {
                Change::Set(path, value) => put(&mut whole, path, json(value)),
                Change::Remove(path) => put(&mut whole, path, Json::Null),
            }
        }
        let part = whole.get(part).and_then(Json::as_object).cloned().unwrap_or_default();
        match value(&Json::Object(part)) {
            Value::Map(entries) => entries,
            _ => Vec::new(),
        }
    }
}

/// Puts lists there as they are written, so that what a change leaves alone is not spelled anew.
fn lists(whole: &mut Json, node: &Node) {
    for entry in node.entries() {
        let Some(at) = whole.as_object_mut().and_then(|map| map.get_mut(&*entry.key.text)) else { continue };
        match entry.value.kind {
            NodeKind::Seq(_) => *at = json(&Value::of(&entry.value)),
            NodeKind::Map(_) => lists(at, &entry.value),
            NodeKind::Null | NodeKind::Scalar { .. } => {}
        }
    }
}

/// The value as it is written: text that the format knows no type of is quoted where it has to be.
pub fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(_) | Json::Number(_) => Value::word(json),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::Seq(items.iter().map(value).collect()),
        Json::Object(entries) => Value::Map(
            entries
                .iter()
                .filter(|(_, is)| !is_nothing(is))
                .map(|(key, is)| (key.clone(), value(is)))
                .collect(),
        ),
    }
}

/// Null, and a map that nothing is left of.
fn is_nothing(json: &Json) -> bool {
    json.is_null() || json.as_object().is_some_and(|map| map.values().all(is_nothing))
}

/// The value as JSON: words that are numbers or truths are those.
pub fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Word(text) if text == "true" || text == "false" => Json::Bool(text == "true"),
        Value::Word(text) if !text.starts_with('0') && text.parse::<i64>().is_ok() => {
            text.parse::<i64>().map_or(Json::Null, Json::from)
        }
        Value::Word(text) | Value::Text(text) => Json::String(text.clone()),
        Value::Seq(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(key, is)| (key.clone(), json(is))).collect())
        }
    }
}

fn put(into: &mut Json, path: &[String], new: Json) {
    let Some((step, rest)) = path.split_first() else {
        *into = new;
        return;
    };
    if !into.is_object() {
        *into = Json::Object(Map::new());
    }
    if let Some(map) = into.as_object_mut() {
        put(map.entry(step.clone()).or_insert(Json::Null), rest, new);
    }
}
