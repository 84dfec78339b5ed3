//! Hostile files: each is refused in bounded time, and none takes the program down.

use proptest::prelude::*;
use vzd_schema::{Code, Parsed, Set, parse, render};

fn read(text: impl AsRef<[u8]>) -> Parsed {
    let parsed = parse("hostile.yaml", text.as_ref());
    let source: std::sync::Arc<str> = String::from_utf8_lossy(text.as_ref()).into();
    // What comes out can be shown, and the documents can be looked at together.
    for diagnostic in &parsed.diagnostics {
        render::render(diagnostic, render::Style::Plain, |_| Some(source.clone()));
        render::render_short(diagnostic);
    }
    let set = Set::new(&parsed.documents);
    set.check();
    for document in &parsed.documents {
        drop(set.resolve(document));
    }
    parsed
}

/// Refused with that code, as a file that is not wholly known.
fn refused(text: impl AsRef<[u8]>, code: Code) {
    let parsed = read(text);
    assert!(parsed.diagnostics.iter().any(|diagnostic| diagnostic.code == code), "{:?}", parsed.diagnostics);
    assert!(parsed.documents.iter().all(|document| document.manifest.is_none()));
    assert!(!parsed.whole || code == Code::DuplicateKey);
}

const HEAD: &str = "apiVersion: vzd/v1\nkind: VE\nmetadata: {name: a}\n";

#[test]
fn billion_laughs() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    refused(text, Code::TooMuch);
}

#[test]
fn a_long_list_used_often() {
    let list = vec!["x"; 10_000].join(",");
    let uses = vec!["*a"; 10_000].join(",");
    refused(format!("a: &a [{list}]\nb: [{uses}]\n"), Code::TooMuch);
}

#[test]
fn a_long_text_used_often() {
    let uses = vec!["*a"; 20_000].join(",");
    refused(format!("a: &a {}\nb: [{uses}]\n", "x".repeat(100_000)), Code::TooMuch);
    refused(format!("a: &a {}\nb: [{uses}]\n", "x".repeat(60_000)), Code::TooMuch);
}

#[test]
fn depth() {
    refused("[".repeat(200_000), Code::TooMuch);
    refused("{a: ".repeat(200_000), Code::TooMuch);
    refused("- ".repeat(200_000), Code::TooMuch);
    let blocks: String = (0..500).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    refused(blocks, Code::TooMuch);
    // Deep by way of aliases, though no line is.
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..200 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    refused(text, Code::TooMuch);
}

#[test]
fn size() {
    refused(format!("a: {}\n", "x".repeat(2 << 20)), Code::TooMuch);
    refused(format!("a: \"{}\"\n", "x".repeat(1 << 19)), Code::TooMuch);
    refused(format!("a: |\n  {}\n", "x".repeat(1 << 19)), Code::TooMuch);
    let keys: String = (0..60_000).map(|key| format!("k{key}: 1\n")).collect();
    refused(keys, Code::TooMuch);
    refused("- x\n".repeat(100_000), Code::TooMuch);
    refused("--- {}\n".repeat(20_000), Code::TooMuch);
    let anchors: String = (0..5_000).map(|key| format!("k{key}: &a{key} 1\n")).collect();
    refused(anchors, Code::TooMuch);
}

#[test]
fn merge_keys_that_multiply() {
    let keys: String = (0..1_000).map(|key| format!("k{key}: 1, ")).collect();
    let merges: String = (0..1_000).map(|key| format!("m{key}: {{<<: *a}}\n")).collect();
    refused(format!("a: &a {{{keys}}}\n{merges}"), Code::TooMuch);
    refused(format!("a: &a {{{keys}}}\nb: {{<<: [{}]}}\n", vec!["*a"; 5_000].join(",")), Code::TooMuch);
}

#[test]
fn many_errors() {
    let keys: String = (0..20_000).map(|key| format!("  k{key}: 1\n")).collect();
    let parsed = read(format!("{HEAD}spec:\n{keys}"));
    assert!(parsed.diagnostics.len() < 1000);
    assert_eq!(parsed.documents[0].name.as_deref(), Some("a"));
    let duplicates = "  template: x\n".repeat(20_000);
    let parsed = read(format!("{HEAD}spec:\n{duplicates}"));
    assert!(parsed.diagnostics.len() < 1000);
    let dependencies = vec!["b"; 20_000].join(", ");
    let parsed = read(format!("{HEAD}spec: {{template: x, dependsOn: [{dependencies}]}}\n"));
    assert!(parsed.diagnostics.len() < 1000);
    let broken = "---\na: [\n".repeat(20_000);
    assert!(read(broken).diagnostics.len() < 1000);
}

#[test]
fn a_long_chain_of_dependencies() {
    let text: String = (0..4_000)
        .map(|ve| {
            let next = (ve + 1) % 4_000;
            format!("---\napiVersion: vzd/v1\nkind: VE\nmetadata: {{name: v{ve}}}\nspec: {{template: x, dependsOn: [v{next}]}}\n")
        })
        .collect();
    let parsed = read(text);
    assert_eq!(parsed.diagnostics, []);
    let problems = Set::new(&parsed.documents).check();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].code, Code::BadDependency);
}

#[test]
fn encodings() {
    refused(b"a: \xff\xfe\n", Code::Encoding);
    refused(b"\xff\xfea\0:\0", Code::Encoding);
    refused(b"a: x\0y\n", Code::Encoding);
    for nothing in ["", "\u{feff}", "# nothing\n", "---\n", "---\n---\n...\n", "\r\n"] {
        let parsed = read(nothing);
        assert!(parsed.whole && parsed.documents.is_empty() && parsed.diagnostics.is_empty(), "{nothing:?}");
    }
}

#[test]
fn byte_order_mark_and_crlf_do_no_harm() {
    let text = format!("\u{feff}{HEAD}spec: {{template: debian-12}}\n").replace('\n', "\r\n");
    let parsed = read(text);
    assert_eq!(parsed.diagnostics, []);
    assert!(parsed.documents[0].ve().is_some());
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(bytes);
    }

    #[test]
    fn any_yaml_like_text(text in "([a-c]|[-:,{}\\[\\]&*!|>'\"#%@` \n\t~<?.]|&a |\\*a|<<: |\n  |\n- |---\n|name|spec){0,120}") {
        read(text);
    }

    #[test]
    fn any_change_of_a_good_manifest(at in 0..3800_usize, length in 0..12_usize, with in "\\PC{0,6}|[\n {}\\[\\]:,\"'&*-]{0,6}") {
        let good = include_str!("full-ve.yaml");
        let position = |at: usize| good.char_indices().nth(at).map_or(good.len(), |(at, _)| at);
        let (start, end) = (position(at), position(at + length));
        read(format!("{}{with}{}", &good[..start], &good[end..]));
    }
}
