//! A manifest that is being made of another system's configuration, setting by setting: what the format takes is kept, and of
//! everything else it is told why not. Pure.

use serde_json::{Value as Json, json};
use vzd_schema::edit::Value;
use vzd_schema::v1::Name;
use vzd_schema::{Diagnostic, Kind, parse};

use super::convert::Imported;
use crate::compat::draft::Draft;

/// What there is of a manifest so far. It never has an error.
pub struct Building {
    kind: Kind,
    name: String,
    draft: Draft,
    kept: Vec<String>,
    residue: Vec<(usize, String)>,
}

/// A line that says something.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// From 1.
    pub line: usize,
    /// What it is about.
    pub key: &'a str,
    /// What it says.
    pub value: &'a str,
}

impl Building {
    /// Of a document of that kind and name.
    pub fn new(kind: Kind, name: &str) -> Self {
        Building {
            kind,
            name: name.to_owned(),
            draft: Draft::default(),
            kept: Vec::new(),
            residue: Vec::new(),
        }
    }

    /// Of a VE, which comes over as one that does not run. What is no name is made one.
    pub fn ve(wanted: &str) -> Self {
        let mut name: String =
            wanted.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        name.truncate(63);
        let name = name.trim_matches('-');
        let fits = name.parse::<Name>().is_ok();
        let mut building = Building::new(Kind::Ve, if fits { name } else { "imported" });
        if building.name != wanted {
            let message = format!(
                "the name `{wanted}` is {} now: names are small letters, digits and -",
                building.name
            );
            building.residue.push((1, message));
        }
        building.draft.set("spec.state", Value::word("stopped"));
        building
    }

    /// What is said so far.
    pub fn draft(&mut self) -> &mut Draft {
        &mut self.draft
    }

    /// Tells why something is not in the manifest, or not as it was.
    pub fn tell(&mut self, line: usize, message: impl Into<String>) {
        self.residue.push((line, message.into()));
    }

    /// Tells why a line is not in the manifest.
    pub fn refuse(&mut self, said: Said<'_>, why: impl std::fmt::Display) {
        self.residue.push((said.line, format!("{} = {}: {why}", said.key, said.value)));
    }

    /// Notes that a line is in the manifest.
    pub fn keep(&mut self, key: &str) {
        self.kept.push(key.to_owned());
    }

    /// Makes a change if the manifest has no error with it; else gives the reason.
    pub fn try_put(&mut self, put: impl FnOnce(&mut Draft) -> Result<(), String>) -> Result<(), String> {
        let mut with = self.draft.clone();
        put(&mut with)?;
        match errors(&with.document(self.kind, &self.name)).first() {
            Some(problem) => Err(problem.message.to_string()),
            None => {
                self.draft = with;
                Ok(())
            }
        }
    }

    /// The same for a line, which is kept or told.
    pub fn put(&mut self, said: Said<'_>, put: impl FnOnce(&mut Draft) -> Result<(), String>) {
        match self.try_put(put) {
            Ok(()) => self.keep(said.key),
            Err(why) => self.refuse(said, why),
        }
    }

    /// Sets a field to a text or word.
    pub fn set(&mut self, said: Said<'_>, field: &str, value: Value) {
        self.put(said, |draft| {
            draft.set(field, value);
            Ok(())
        });
    }

    /// Sets a field to what the line says, word for word.
    pub fn set_word(&mut self, said: Said<'_>, field: &str) {
        self.set(said, field, Value::word(said.value));
    }

    /// Sets a field to a yes or no.
    pub fn set_truth(&mut self, said: Said<'_>, field: &str) {
        match said.value {
            "1" | "true" | "yes" | "on" => self.set(said, field, Value::word(true)),
            "0" | "false" | "no" | "off" => self.set(said, field, Value::word(false)),
            _ => self.refuse(said, "it is neither yes nor no"),
        }
    }

    /// Adds to a list of words.
    pub fn add_words<'w>(&mut self, said: Said<'_>, field: &str, words: impl Iterator<Item = &'w str>) {
        self.put(said, |draft| {
            let mut list = draft.texts(field);
            list.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
            draft.set_words(field, list);
            Ok(())
        });
    }

    /// Adds an item to a list.
    pub fn add_item(&mut self, said: Said<'_>, field: &str, item: Json) {
        self.put(said, |draft| push(draft, field, item));
    }

    /// Changes the item of a list that has that name.
    pub fn change_item(&mut self, said: Said<'_>, list: &str, name: &str, change: impl FnOnce(&mut Json)) {
        self.put(said, |draft| {
            let mut items = draft.items(list);
            let item = items.iter_mut().find(|item| item["name"] == *name);
            change(item.ok_or("there is no such interface, since it was not taken over")?);
            draft.set_items(list, &items);
            Ok(())
        });
    }

    /// The manifest, and what is not in it.
    pub fn finish(self) -> Imported {
        let Building { kind, name, draft, kept, mut residue } = self;
        residue.sort();
        Imported { text: draft.document(kind, &name), name, kept, residue }
    }
}

/// Adds an item to a list.
pub fn push(draft: &mut Draft, field: &str, item: Json) -> Result<(), String> {
    let mut list = draft.items(field);
    list.push(item);
    draft.set_items(field, &list);
    Ok(())
}

/// A mount of the host's, whose options are all said: what they are by default differs.
pub fn mount<'o>(source: &str, target: &str, options: impl Iterator<Item = &'o str> + Clone) -> Json {
    let is = |option: &str| options.clone().any(|one| one == option);
    let mut mount = json!({ "source": source, "target": target });
    for (option, field, default) in [
        ("ro", "readOnly", false),
        ("nosuid", "nosuid", true),
        ("noexec", "noexec", false),
        ("nodev", "nodev", true),
    ] {
        if is(option) != default {
            mount[field] = json!(is(option));
        }
    }
    mount
}

/// What is wrong with a manifest.
pub fn errors(text: &str) -> Vec<Diagnostic> {
    parse("import", text.as_bytes()).diagnostics.into_iter().filter(Diagnostic::is_error).collect()
}
