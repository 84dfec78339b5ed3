//! `vzd explain`: an error code's page, or what there is to know about a field.

use crate::code::Code;
use crate::fields::{self, Field};
use crate::v1::Kind;
use crate::yaml::path_steps;

/// The page of an error code, or all about a field: by its path (`spec.cpu.cpuunits`, or without the
/// `spec.`) or by its name alone. `None` for what is neither.
pub fn explain(what: &str) -> Option<String> {
    if let Ok(code) = what.parse::<Code>() {
        return Some(code.page().to_owned());
    }
    let fields = find(what);
    let pages: Vec<String> = fields.into_iter().map(page).collect();
    (!pages.is_empty()).then(|| pages.join("\n"))
}

fn find(what: &str) -> Vec<&'static Field> {
    if path_steps(what).next().is_none() {
        return Vec::new();
    }
    // A profile has the fields of a VE.
    for kind in [Kind::Ve, Kind::Host] {
        let found = fields::find(kind, what).or_else(|| fields::find(kind, &format!("spec.{what}")));
        if let Some(field) = found {
            return vec![field];
        }
    }
    let mut steps = path_steps(what);
    let (Some(name), None) = (steps.next(), steps.next()) else { return Vec::new() };
    fields::all().iter().filter(|field| field.kind != Kind::Profile && field.name() == name).collect()
}

fn page(field: &Field) -> String {
    let mut page = format!("{} (kind {})\n\n  {}\n\n", field.path, field.kind, field.description);
    let mut line = |name: &str, text: &str| page.push_str(&format!("  {name:<8} {text}\n"));
    line("takes", &field.takes);
    if let Some(default) = &field.default {
        line("default", default);
    }
    if let Some(class) = field.class {
        line("change", class.as_str());
    }
    if !field.carried_out {
        line("note", "this version of vzd does not carry it out yet");
    }
    let within = |other: &&Field| {
        let parent = other.parent_and_name().0;
        other.kind == field.kind && parent.trim_end_matches("[]") == field.path
    };
    let mut names = fields::all().iter().filter(within).map(Field::name).peekable();
    if names.peek().is_some() {
        line("fields", &names.collect::<Vec<_>>().join(", "));
    }
    page
}
