//! Any bytes: parsed, looked at as a set, resolved, and everything that is wrong with them shown.
//!
//! In `schema/`: `mkdir -p fuzz/corpus/parse && cargo +nightly fuzz run parse fuzz/corpus/parse fuzz/seeds/parse`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use vzd_schema::{Set, parse, render};

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse("fuzz.yaml", bytes);
    let set = Set::new(&parsed.documents);
    let mut diagnostics = parsed.diagnostics.clone();
    diagnostics.extend(set.check());
    diagnostics.extend(parsed.documents.iter().filter_map(|document| set.resolve(document).err()).flatten());
    let source: Arc<str> = String::from_utf8_lossy(bytes).into();
    for diagnostic in diagnostics.iter().take(20) {
        let told = render::render(diagnostic, render::Style::Plain, |_| Some(source.clone()));
        assert!(!told.contains('\u{1b}'), "a manifest must not write to the terminal");
        render::render_short(diagnostic);
    }
    for document in &parsed.documents {
        if let Some(manifest) = &document.manifest {
            serde_json_is_stable(manifest);
        }
    }
});

/// What was read is written, and reads as what it was.
fn serde_json_is_stable(manifest: &vzd_schema::Manifest) {
    let Ok(text) = serde_json::to_string(manifest) else { panic!("a manifest has no JSON form") };
    let parsed = parse("again.yaml", text.as_bytes());
    let again = parsed.documents.first().and_then(|document| document.manifest.as_ref());
    assert_eq!(again, Some(manifest), "{text}: {:?}", parsed.diagnostics);
}
