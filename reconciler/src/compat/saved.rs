//! What `vzctl set --save` makes of thousands of generated manifests: each parameter's change is what is read again, and no byte
//! of what it is not about is another.

use vzd_schema::edit::{Change, Value, edit};
use vzd_schema::{Code, Kind, parse};

use super::conformance::example;
use super::draft::{Draft, json};
use super::import::convert::{container, tests::generated};
use super::params::{Home, PARAMS, Param, Written};

const MANIFESTS: u64 = 2500;

/// With a comment above each part of the spec, and one behind.
fn commented(text: &str) -> String {
    let mut commented = String::new();
    for (at, line) in text.lines().enumerate() {
        let is_part = line.starts_with("  ") && !line.starts_with("   ");
        if is_part {
            commented += &format!("  # above {at}\n");
        }
        let behind = if is_part && !line.ends_with(':') { format!(" # behind {at}") } else { String::new() };
        commented += &format!("{line}{behind}\n");
    }
    commented
}

/// Parts of the spec by their names, each with the comment above it.
fn parts(text: &str) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in text.lines().skip_while(|line| *line != "spec:").skip(1) {
        if line.starts_with("  # above") {
            parts.push((String::new(), format!("{line}\n")));
        } else if let Some((name, part)) = parts.last_mut() {
            if name.is_empty() {
                *name = line.trim().split(':').next().unwrap_or_default().to_owned();
            }
            *part += &format!("{line}\n");
        }
    }
    parts
}

/// Says it in a document, or takes it out, with maps that nothing is left in.
fn say(document: &mut Value, path: &[String], new: Option<&Value>) {
    let Some((step, rest)) = path.split_first() else { return };
    if !matches!(document, Value::Map(_)) {
        *document = Value::Map(Vec::new());
    }
    let Value::Map(entries) = document else { return };
    let at = entries.iter().position(|(key, _)| key == step);
    match (at, new) {
        (None, None) => {}
        (Some(at), None) if rest.is_empty() => drop(entries.remove(at)),
        (Some(at), None) => {
            say(&mut entries[at].1, rest, None);
            if matches!(&entries[at].1, Value::Map(left) if left.is_empty()) {
                entries.remove(at);
            }
        }
        (at, Some(new)) => {
            let at = at.unwrap_or_else(|| {
                entries.push((step.clone(), Value::Map(Vec::new())));
                entries.len() - 1
            });
            if rest.is_empty() {
                entries[at].1 = new.clone();
            } else {
                say(&mut entries[at].1, rest, Some(new));
            }
        }
    }
}

/// Saves it, and looks at what came of that; tells whether there was anything to be saved.
fn save(text: &str, param: &Param, value: &str) -> bool {
    let before = parse("f", text.as_bytes());
    let document = &before.documents[0];
    let name = document.name.clone().unwrap();
    let spec = document.tree.get("spec").map(|node| json(&Value::of(node))).unwrap_or_default();
    let mut draft = Draft::new(&spec, Some(&document.tree));
    if param.put(&mut draft, value, Written::Option).is_err() || draft.changes().is_empty() {
        return false;
    }
    let new = match edit("f", text, (Kind::Ve, &name), draft.changes()) {
        Ok(new) => new,
        // What does not go together is no manifest; what cannot be written would be a fault of the editor.
        Err(wrong) if wrong.iter().all(|is| is.code != Code::NotEditable) => return false,
        Err(wrong) => panic!("--{} {value}: {wrong:?}\n{text}", param.option),
    };
    let after = parse("f", new.as_bytes());
    let mut meant = Value::of(&document.tree);
    let mut touched = Vec::new();
    for change in draft.changes() {
        let (path, value) = match change {
            Change::Set(path, value) => (path, Some(value)),
            Change::Remove(path) => (path, None),
        };
        say(&mut meant, path, value);
        touched.push(path.get(1).cloned().unwrap_or_default());
    }
    let is = Value::of(&after.documents[0].tree);
    assert!(is.says_the_same(&meant), "--{} {value}: {:?}\n{text}\n=>\n{new}", param.option, draft.changes());
    for (part, lines) in parts(text) {
        assert!(
            touched.contains(&part) || new.contains(&lines),
            "--{} {value}: {part}\n{text}\n=>\n{new}",
            param.option
        );
    }
    true
}

#[test]
fn what_is_saved_is_what_was_meant_and_nothing_else_is_touched() {
    let settable = |param: &&Param| {
        !param.option.is_empty()
            && !matches!(param.home, Home::Inside(_) | Home::Nowhere(_) | Home::Needless(_))
    };
    let params: Vec<&Param> = PARAMS.iter().filter(settable).collect();
    let mut saved = 0;
    for seed in 1..=MANIFESTS {
        let text = commented(&container(101, &generated(seed)).text);
        let first = usize::try_from(seed).unwrap_or(0);
        for at in [first, first * 7 + 3] {
            let param = params[at % params.len()];
            saved += usize::from(save(&text, param, example(param)));
        }
    }
    assert!(saved > 3000, "{saved}");
}
