//! What people are told about bad manifests: each file of tests/bad against its snapshot, rendered in
//! full, in short, and with what could be read of it all the same.

mod common;

use common::{render_all, stories};
use vzd_schema::{Set, parse, render};

#[test]
fn bad_manifests_are_explained() {
    for (name, bytes) in stories("bad") {
        let file = format!("{name}.yaml");
        let parsed = parse(&file, &bytes);
        let set = Set::new(&parsed.documents);
        let mut diagnostics = parsed.diagnostics.clone();
        diagnostics.extend(set.check());
        diagnostics
            .extend(parsed.documents.iter().filter_map(|document| set.resolve(document).err()).flatten());
        assert!(!diagnostics.is_empty(), "{name} is not bad");

        let mut told = render_all(&diagnostics, &bytes);
        told.push_str("== in short\n");
        for diagnostic in &diagnostics {
            told.push_str(&render::render_short(diagnostic));
            told.push('\n');
        }
        told.push_str(&format!("== read all the same (whole: {})\n", parsed.whole));
        for document in &parsed.documents {
            let state = if document.manifest.is_some() { "good" } else { "bad" };
            let kind = document.kind.map_or("?", vzd_schema::Kind::as_str);
            let name = document.name.as_deref().unwrap_or("?");
            told.push_str(&format!("{kind} {name:?} {state}\n"));
        }
        insta::assert_snapshot!(name, told);
    }
}

#[test]
fn the_json_form_is_stable() {
    let parsed =
        parse("a.yaml", b"apiVersion: vzd/v1\nkind: VE\nmetadata: {name: a, name: b}\nspec: {tmplate: x}\n");
    insta::assert_json_snapshot!("json", parsed.diagnostics);
}

#[test]
fn places_are_told_without_the_source() {
    let parsed = parse("a.yaml", b"apiVersion: vzd/v1\nkind: VE\nmetadata: {name: a, name: b}\n");
    let told = render::render(&parsed.diagnostics[0], render::Style::Plain, |_| None);
    insta::assert_snapshot!("no-source", told);
    // A file that has become shorter since.
    let told = render::render(&parsed.diagnostics[0], render::Style::Plain, |_| Some("apiVersion:".into()));
    insta::assert_snapshot!("no-source", told);
}
