//! What the tests of the format share: reading stories from disk, and rendering.
#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot read its stories has failed")]

use std::path::Path;
use vzd_schema::{Diagnostic, render};

/// The files of a directory of tests, by name without ending, in order.
#[expect(clippy::disallowed_methods, reason = "tests read their stories from disk")]
pub fn stories(directory: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory);
    let mut stories: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    stories.sort();
    stories
}

/// Every diagnostic in full, all of one source.
pub fn render_all(diagnostics: &[Diagnostic], source: &[u8]) -> String {
    let source: std::sync::Arc<str> = String::from_utf8_lossy(source).into();
    diagnostics
        .iter()
        .map(|diagnostic| render::render(diagnostic, render::Style::Plain, |_| Some(source.clone())) + "\n")
        .collect()
}
