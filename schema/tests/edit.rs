//! Edits in place: by example, in every style, and thousands of generated manifests that are edited at random:
//! what is read again is what was meant, and every line that has nothing to do with it is the same, byte for byte.
#![expect(clippy::unwrap_used, reason = "a test fails at the place, at once")]

use proptest::prelude::*;
use vzd_schema::edit::{Change, Value, edit, steps, to_yaml};
use vzd_schema::{Kind, Node, parse};

const WEB: (Kind, &str) = (Kind::Ve, "web");

fn edited(text: &str, changes: &[Change]) -> String {
    edit("web.yaml", text, WEB, changes).unwrap_or_else(|wrong| panic!("{wrong:#?}\n{text}"))
}

/// What comes before `spec`, then this, edited; and only what comes after `spec:` is given back.
fn spec(spec: &str, changes: &[Change]) -> String {
    const HEAD: &str = "apiVersion: vzd/v1\nkind: VE\nmetadata:\n  name: web   # the web server\n";
    let new = edited(&format!("{HEAD}{spec}"), changes);
    new.strip_prefix(HEAD).unwrap_or_else(|| panic!("the head was changed:\n{new}")).to_owned()
}

fn word(text: &str) -> Value {
    Value::word(text)
}

fn words(texts: &[&str]) -> Value {
    Value::Seq(texts.iter().map(Value::word).collect())
}

#[test]
fn fields_are_set_in_the_style_they_are_written_in() {
    let set = Change::set;
    for (before, change, after) in [
        // A scalar, whatever its quotes; comments stay.
        ("spec:\n  hostname: a  # why\n", set("spec.hostname", word("b")), "spec:\n  hostname: b  # why\n"),
        ("spec:\n  hostname: 'a'\n", set("spec.hostname", word("b")), "spec:\n  hostname: 'b'\n"),
        ("spec:\n  hostname: \"a\"#\n", set("spec.hostname", word("b")), ""),
        (
            "spec: {hostname: a, ctid: 101}\n",
            set("spec.hostname", word("b")),
            "spec: {hostname: b, ctid: 101}\n",
        ),
        (
            "spec:\n  description: |\n    two\n    lines\n  ctid: 101\n",
            set("spec.description", Value::Text("one".into())),
            "spec:\n  description: one\n  ctid: 101\n",
        ),
        (
            "spec:\n  description: >-\n    two\n    lines\n",
            set("spec.description", Value::Text("12: # \"x\"".into())),
            "spec:\n  description: \"12: # \\\"x\\\"\"\n",
        ),
        // A field that is not there comes last in its map.
        (
            "spec:\n  ctid: 101\n# end\n",
            set("spec.hostname", word("b")),
            "spec:\n  ctid: 101\n  hostname: b\n# end\n",
        ),
        ("spec:\n  ctid: 101", set("spec.cpu.cpus", word("2")), "spec:\n  ctid: 101\n  cpu:\n    cpus: 2"),
        ("spec: {ctid: 101}\n", set("spec.cpu.cpus", word("2")), "spec: {ctid: 101, cpu: {cpus: 2}}\n"),
        ("spec: {}\n", set("spec.cpu.cpus", word("2")), "spec: {cpu: {cpus: 2}}\n"),
        ("spec:\n", set("spec.cpu.cpus", word("2")), "spec:\n  cpu:\n    cpus: 2\n"),
        ("spec: ~ # nothing\n", set("spec.cpu.cpus", word("2")), "spec: # nothing\n  cpu:\n    cpus: 2\n"),
        (
            "spec:\n  cpu:\n  ctid: 101\n",
            set("spec.cpu.cpus", word("2")),
            "spec:\n  cpu:\n    cpus: 2\n  ctid: 101\n",
        ),
        ("", set("spec.cpu.cpus", word("2")), "spec:\n  cpu:\n    cpus: 2\n"),
        (
            "spec:\n  cpu: {\n    cpus: 2,  # two\n  }\n",
            set("spec.cpu.cpuunits", word("500")),
            "spec:\n  cpu: {\n    cpus: 2,  # two\n    cpuunits: 500,\n  }\n",
        ),
        (
            "spec:\n  cpu: {\n    cpus: 2   # two\n  }\n",
            set("spec.cpu.cpuunits", word("500")),
            "spec:\n  cpu: {\n    cpus: 2,   # two\n    cpuunits: 500\n  }\n",
        ),
        (
            "spec:\n  mounts:\n  - source: /a\n    target: /b\n  ctid: 101\n",
            set("spec.mounts[0].readOnly", word("true")),
            "spec:\n  mounts:\n  - source: /a\n    target: /b\n    readOnly: true\n  ctid: 101\n",
        ),
        // A null unsets what a profile says.
        ("spec:\n  hostname: a\n", set("spec.hostname", Value::Null), "spec:\n  hostname: null\n"),
    ] {
        if !after.is_empty() {
            assert_eq!(spec(before, &[change]), after, "{before}");
        }
    }
}

#[test]
fn lists_change_item_by_item() {
    let addresses = |texts: &[&str]| [Change::set("spec.network.addresses", words(texts))];
    let block =
        "spec:\n  network:\n    addresses:\n    - 10.0.0.1  # one\n    # two:\n    - 10.0.0.2\n  ctid: 101\n";
    for (before, texts, after) in [
        (
            block,
            &["10.0.0.2"][..],
            "spec:\n  network:\n    addresses:\n    # two:\n    - 10.0.0.2\n  ctid: 101\n",
        ),
        (
            block,
            &["10.0.0.1", "10.0.0.2", "fd00::1"],
            "spec:\n  network:\n    addresses:\n    - 10.0.0.1  # one\n    # two:\n    - 10.0.0.2\n    - fd00::1\n  ctid: 101\n",
        ),
        (
            block,
            &["10.0.0.9", "10.0.0.1"],
            "spec:\n  network:\n    addresses:\n    - 10.0.0.9\n    - 10.0.0.1  # one\n    # two:\n  ctid: 101\n",
        ),
        (block, &[], "spec:\n  network:\n    addresses: []\n  ctid: 101\n"),
        (
            "spec:\n  network: {addresses: [10.0.0.1, 10.0.0.2]}\n",
            &["10.0.0.2"],
            "spec:\n  network: {addresses: [10.0.0.2]}\n",
        ),
        (
            "spec:\n  network: {addresses: [10.0.0.1]}\n",
            &["10.0.0.1", "fd00::2"],
            "spec:\n  network: {addresses: [10.0.0.1, \"fd00::2\"]}\n",
        ),
        (
            "spec:\n  network:\n    addresses: [\n      10.0.0.1, # one\n      10.0.0.2  # two\n    ]\n",
            &["10.0.0.1", "10.0.0.3"],
            "spec:\n  network:\n    addresses: [\n      10.0.0.1, # one\n      10.0.0.3\n    ]\n",
        ),
        (
            "spec:\n  ctid: 101\n",
            &["10.0.0.1"],
            "spec:\n  ctid: 101\n  network:\n    addresses: [10.0.0.1]\n",
        ),
    ] {
        assert_eq!(spec(before, &addresses(texts)), after, "{before}");
    }
}

#[test]
fn what_is_taken_out_leaves_no_empty_map_behind() {
    for (before, field, after) in [
        ("spec:\n  cpu:\n    cpus: 2 # two\n  ctid: 101\n", "spec.cpu.cpus", "spec:\n  ctid: 101\n"),
        ("spec:\n  cpu: {cpus: 2}\n", "spec.cpu.cpus", "spec: {}\n"),
        ("spec: {cpu: {cpus: 2, cpuunits: 9}}\n", "spec.cpu.cpus", "spec: {cpu: {cpuunits: 9}}\n"),
        ("spec: {cpu: {cpus: 2, cpuunits: 9}}\n", "spec.cpu.cpuunits", "spec: {cpu: {cpus: 2}}\n"),
        ("spec:\n  ctid: 101\n", "spec.cpu.cpus", "spec:\n  ctid: 101\n"),
        (
            "spec:\n  mounts:\n  - readOnly: true\n    source: /a\n    target: /b\n",
            "spec.mounts[0].readOnly",
            "spec:\n  mounts:\n  - source: /a\n    target: /b\n",
        ),
    ] {
        assert_eq!(spec(before, &[Change::remove(field)]), after, "{before}");
    }
}

#[test]
fn only_the_document_that_is_meant_is_changed() {
    let other = "# one\napiVersion: vzd/v1\nkind: VE\nmetadata: {name: db}\nspec: {hostname: a}\n";
    let text = format!("{other}---\n{}", other.replace("db", "web"));
    let new = edited(&text, &[Change::set("spec.hostname", word("b"))]);
    assert_eq!(
        new,
        format!("{other}---\n{}", other.replace("db", "web").replace("hostname: a", "hostname: b"))
    );
    let wrong = edit("f", other, WEB, &[Change::remove("spec.hostname")]).unwrap_err();
    assert!(wrong[0].message.contains("there is no VE `web`"), "{wrong:?}");
}

#[test]
fn line_ends_and_marks_stay() {
    let text = "\u{feff}apiVersion: vzd/v1\r\nkind: VE\r\nmetadata: {name: web}\r\nspec:\r\n  ctid: 101\r\n";
    let new = edited(text, &[Change::set("spec.cpu.cpus", word("2"))]);
    assert_eq!(new, format!("{text}  cpu:\r\n    cpus: 2\r\n"));
}

#[test]
fn what_is_shared_or_wrong_is_refused_at_its_line() {
    let head = "apiVersion: vzd/v1\nkind: VE\nmetadata: {name: web}\n";
    let cpus = [Change::set("spec.cpu.cpus", word("2"))];
    for text in [
        format!("{head}spec:\n  beancounters: {{}}\n  cpu: &a {{cpuunits: 9}}\n  io: *a\n"),
        format!("{head}spec:\n  <<: {{cpu: {{cpuunits: 9}}}}\n"),
    ] {
        let wrong = edit("f", &text, WEB, &cpus).unwrap_err();
        assert!(wrong.iter().any(|is| is.code.as_str() == "VZ0406"), "{wrong:?}");
    }
    // A value that the format does not allow.
    let text = format!("{head}spec: {{ctid: 101}}\n");
    let wrong = edit("f", &text, WEB, &[Change::set("spec.cpu.cpus", word("many"))]).unwrap_err();
    assert!(wrong[0].message.contains("many"), "{wrong:?}");
    // An alias itself may be exchanged, and an anchor's other users stay.
    let text = format!("{head}spec:\n  hostname: &h a\n  domainname: *h\n");
    assert!(edited(&text, &[Change::set("spec.domainname", word("b"))]).ends_with("  domainname: b\n"));
    assert!(edit("f", &text, WEB, &[Change::set("spec.hostname", word("b"))]).is_err());
}

#[test]
fn keys_with_dots_are_one_step() {
    assert_eq!(steps("metadata.labels.a.b/c"), ["metadata", "labels", "a.b/c"]);
    assert_eq!(steps("spec.mounts[0].source"), ["spec", "mounts", "0", "source"]);
    assert_eq!(steps("spec.network.sysctls.net.ipv4.ip_forward").len(), 4);
}

// -- generated manifests

#[derive(Debug, Clone)]
struct Style {
    flow: u8,
    quote: u8,
    comment: bool,
    blank: bool,
}

fn style() -> impl Strategy<Value = Style> {
    (0_u8..8, 0_u8..3, any::<bool>(), prop::bool::weighted(0.1))
        .prop_map(|(flow, quote, comment, blank)| Style { flow, quote, comment, blank })
}

const FIELDS: &[&str] = &[
    "spec.description",
    "spec.hostname",
    "spec.cpu.cpus",
    "spec.cpu.cpuunits",
    "spec.cpu.cpulimit",
    "spec.memory.ram",
    "spec.memory.swap",
    "spec.disk.diskspace",
    "spec.io.ioprio",
    "spec.onBoot",
    "spec.beancounters.numfile",
    "spec.beancounters.numpty",
    "spec.network.addresses",
    "metadata.labels.role",
    "metadata.annotations.a.b/note",
    "spec.bootOrder",
    "spec.mounts",
];

/// A value that a field may have; the number picks one.
fn value(field: &str, n: u32) -> Value {
    let text = |texts: &[&str]| Value::Text(texts[n as usize % texts.len()].to_owned());
    match field {
        "spec.description" | "metadata.annotations.a.b/note" => text(&[
            "plain",
            "12",
            "yes",
            "with: colon",
            "# hash",
            "a 'b' \"c\"",
            "two\nlines\n",
            " pad ",
            "äöü €",
            "- x",
            "[a]",
            "tab\there",
            "{",
            "null",
            "~",
            "a, b",
            "trailing:",
            "!tag",
            "&x",
            "*x",
            "%",
            "@",
            "back\\slash",
        ]),
        "spec.hostname" => text(&["a", "web.example.net", "x1-2"]),
        "metadata.labels.role" => text(&["web", "db", "1"]),
        "spec.cpu.cpus" => Value::word(n % 8 + 1),
        "spec.cpu.cpuunits" => Value::word(n % 1000 + 8),
        "spec.cpu.cpulimit" => Value::word(format!("{}%", n % 400 + 1)),
        "spec.memory.ram" | "spec.memory.swap" => Value::word(format!("{}M", n % 900 + 64)),
        "spec.disk.diskspace" => Value::word(format!("{}G:{}G", n % 9 + 1, n % 9 + 2)),
        "spec.io.ioprio" => Value::word(n % 8),
        "spec.onBoot" => Value::word(n.is_multiple_of(2)),
        "spec.network.addresses" => Value::Seq(
            (0..n % 4)
                .map(|i| {
                    Value::word(if i % 2 == 0 {
                        format!("10.0.{n}.{i}", n = n % 3)
                    } else {
                        format!("fd00::{i}")
                    })
                })
                .collect(),
        ),
        "spec.mounts" => Value::Seq(
            (0..n % 3)
                .map(|i| {
                    let pair = |key: &str, value: String| (key.to_owned(), Value::Text(value));
                    Value::Map(vec![
                        pair("source", format!("/srv/{i}")),
                        pair("target", format!("/mnt/{}", i + n % 2)),
                    ])
                })
                .collect(),
        ),
        _ => Value::word(n % 200),
    }
}

/// Text of a value in one of the many ways it can be written.
struct Writer<'s> {
    styles: std::iter::Cycle<std::slice::Iter<'s, Style>>,
    step: usize,
    notes: usize,
}

impl Writer<'_> {
    fn note(&mut self, style: &Style) -> String {
        if !style.comment {
            return String::new();
        }
        self.notes += 1;
        format!("  # note {}: 'x' {{[", self.notes)
    }

    fn scalar(&mut self, value: &Value, flow: bool) -> String {
        let style = self.styles.next().unwrap().clone();
        let (Value::Word(text) | Value::Text(text)) = value else { return "null".to_owned() };
        // Numbers and truths are none in quotes.
        let typed = matches!(value, Value::Word(_)) && text.parse::<u32>().is_ok()
            || text == "true"
            || text == "false";
        if typed {
            return text.clone();
        }
        if style.quote == 1 && !text.contains(['\n', '\t']) {
            return format!("'{}'", text.replace('\'', "''"));
        }
        if style.quote == 0 {
            let whole = to_yaml(&Value::Map(vec![("k".to_owned(), value.clone())]));
            let plain = whole.trim_end().strip_prefix("k: ").unwrap().to_owned();
            if !flow
                || plain.starts_with('"')
                || !plain.contains([',', '[', ']', '{', '}']) && !plain.contains("::")
            {
                return plain;
            }
        }
        serde_json::to_string(text).unwrap()
    }

    fn flow(&mut self, value: &Value, broken: Option<usize>) -> String {
        let (open, close, parts): (_, _, Vec<String>) = match value {
            Value::Seq(items) => ('[', ']', items.iter().map(|item| self.flow(item, None)).collect()),
            Value::Map(entries) => (
                '{',
                '}',
                entries.iter().map(|(key, value)| format!("{key}: {}", self.flow(value, None))).collect(),
            ),
            _ => return self.scalar(value, true),
        };
        let Some(margin) = broken.filter(|_| !parts.is_empty()) else {
            return format!("{open}{}{close}", parts.join(", "));
        };
        let (inner, outer) = (" ".repeat(margin + self.step), " ".repeat(margin));
        let style = self.styles.next().unwrap().clone();
        let last = parts.len() - 1;
        let lines: String = parts
            .iter()
            .enumerate()
            .map(|(at, part)| {
                let comma = if at < last || style.blank { "," } else { "" };
                format!("{inner}{part}{comma}{}\n", self.note(&style))
            })
            .collect();
        format!("{open}\n{lines}{outer}{close}")
    }

    fn block(&mut self, value: &Value, margin: usize) -> String {
        let pad = " ".repeat(margin);
        let mut out = String::new();
        match value {
            Value::Map(entries) => {
                for (key, value) in entries {
                    let style = self.styles.next().unwrap().clone();
                    if style.blank {
                        out += &format!("\n{pad}# about {key}\n");
                    }
                    let note = self.note(&style);
                    let below = matches!(value, Value::Map(below) if !below.is_empty())
                        || matches!(value, Value::Seq(below) if !below.is_empty());
                    out += &match (value, style.flow) {
                        _ if below && style.flow > 2 => {
                            let deeper = margin
                                + if matches!(value, Value::Seq(_)) && style.flow.is_multiple_of(2) {
                                    0
                                } else {
                                    self.step
                                };
                            format!("{pad}{key}:{note}\n{}", self.block(value, deeper))
                        }
                        _ if below => {
                            let broken = (style.flow == 1).then_some(margin);
                            format!("{pad}{key}: {}{note}\n", self.flow(value, broken))
                        }
                        (Value::Text(text), 7) if text.ends_with('\n') => {
                            let lines: String = text
                                .lines()
                                .map(|line| format!("{pad}{}{line}\n", " ".repeat(self.step)))
                                .collect();
                            format!("{pad}{key}: |\n{lines}")
                        }
                        _ => {
                            let text = self.flow(value, None);
                            format!("{pad}{key}: {text}{note}\n")
                        }
                    };
                }
            }
            Value::Seq(items) => {
                for item in items {
                    let style = self.styles.next().unwrap().clone();
                    if style.blank {
                        out += &format!("{pad}# an item\n");
                    }
                    match item {
                        Value::Map(_) if style.flow > 3 => {
                            let lines = self.block(item, margin + 2);
                            let body = lines.trim_start_matches(['\n', ' ']);
                            // A comment first would not be behind the dash.
                            let text = if body.starts_with('#') {
                                format!("{}\n", self.flow(item, None))
                            } else {
                                body.to_owned()
                            };
                            out += &format!("{pad}- {text}");
                        }
                        _ => {
                            let note = self.note(&style);
                            out += &format!("{pad}- {}{note}\n", self.flow(item, None));
                        }
                    }
                }
            }
            _ => {}
        }
        out
    }
}

fn put(into: &mut Value, path: &[String], value: Value) {
    let Value::Map(entries) = into else { panic!("no map") };
    let at = entries.iter().position(|(key, _)| *key == path[0]).unwrap_or_else(|| {
        entries.push((path[0].clone(), Value::Map(Vec::new())));
        entries.len() - 1
    });
    if path.len() == 1 { entries[at].1 = value } else { put(&mut entries[at].1, &path[1..], value) }
}

fn manifest(name: &str, fields: &[(usize, u32)]) -> Value {
    let mut whole = Value::Map(Vec::new());
    for (field, value) in [("apiVersion", "vzd/v1"), ("kind", "VE"), ("metadata.name", name)] {
        put(&mut whole, &steps(field), Value::word(value));
    }
    put(&mut whole, &steps("spec.template"), Value::word("busybox"));
    for (field, n) in fields {
        put(&mut whole, &steps(FIELDS[*field]), value(FIELDS[*field], *n));
    }
    whole
}

fn fields() -> impl Strategy<Value = Vec<(usize, u32)>> {
    prop::collection::vec((0..FIELDS.len(), any::<u32>()), 0..10)
}

#[derive(Debug, Clone)]
struct Edit {
    field: usize,
    value: Option<u32>,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let one = (0..FIELDS.len(), prop::option::weighted(0.7, any::<u32>()));
    prop::collection::vec(one.prop_map(|(field, value)| Edit { field, value }), 1..4)
}

/// The lines, from 1, that a change may touch: what it says now, from key to end; in braces, the line before too.
fn touched(root: &Node, path: &[String], lines: &mut [bool]) {
    let mut node = root;
    let mut mark = |from: u32, to: u32| {
        for line in from..=to {
            if let Some(line) = lines.get_mut(line as usize) {
                *line = true;
            }
        }
    };
    for step in path {
        let Some(entry) = node.entry(step) else {
            // It is put behind what is there: only in braces does that need a comma.
            if let (Some(first), Some(last)) = (node.entries().first(), node.entries().last()) {
                let flow = node.span.start < first.key.span.start;
                if flow {
                    mark(last.key.span.start.line, last.value.span.end.line);
                }
            } else {
                mark(node.span.start.line, node.span.end.line);
            }
            return;
        };
        if entry.key.text.as_ref() == path.last().unwrap().as_str() && step == path.last().unwrap() {
            mark(entry.key.span.start.line, entry.value.span.end.line.max(entry.key.span.end.line));
        }
        // The last one of a map takes the map along; in braces, the one before loses its comma.
        if node.entries().len() == 1 && node.span.start.line != 1 {
            mark(node.span.start.line, node.span.end.line);
        }
        let at = node.entries().iter().position(|other| other.key.text == entry.key.text).unwrap_or(0);
        if at > 0 && node.span.start < node.entries()[0].key.span.start {
            let before = &node.entries()[at - 1];
            mark(before.value.span.end.line, before.value.span.end.line);
        }
        if entry.value.entries().len() <= 1 {
            mark(entry.key.span.start.line, entry.value.span.end.line);
        }
        node = &entry.value;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_again_is_what_was_meant(
        (web, db) in (fields(), fields()),
        styles in prop::collection::vec(style(), 1..60),
        edits in edits(),
        (wide, crlf, ended, first) in (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.9), any::<bool>()),
    ) {
        let mut writer = Writer { styles: styles.iter().cycle(), step: if wide { 4 } else { 2 }, notes: 0 };
        let (web, db) = (writer.block(&manifest("web", &web), 0), writer.block(&manifest("db", &db), 0));
        let mut text = if first { format!("{web}---\n{db}") } else { format!("# two\n---\n{db}---  # next\n{web}") };
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        if !ended {
            text.truncate(text.trim_end().len());
        }
        for edit in &edits {
            text = one_edit(text, edit)?;
        }
    }
}

/// Carries one out, looks at what came of it, and gives the new text.
fn one_edit(text: String, one: &Edit) -> Result<String, TestCaseError> {
    let (field, path) = (FIELDS[one.field], steps(FIELDS[one.field]));
    let before = parse("f", text.as_bytes());
    prop_assert!(
        before.whole && !before.diagnostics.iter().any(|is| is.is_error()),
        "{:?}\n{}",
        before.diagnostics,
        text
    );
    let change = match one.value {
        Some(n) => Change::set(field, value(field, n)),
        None => Change::remove(field),
    };
    let new = match edit("f", &text, WEB, std::slice::from_ref(&change)) {
        Ok(new) => new,
        // What clashes as a manifest is refused; what cannot be written would be a fault of the editor.
        Err(wrong) if wrong.iter().all(|is| is.code.as_str() != "VZ0406") => return Ok(text),
        Err(wrong) => return Err(TestCaseError::fail(format!("{wrong:?}\n{change:?}\n{text}"))),
    };
    let after = parse("f", new.as_bytes());
    prop_assert_eq!(before.documents.len(), after.documents.len());
    for (old, is) in before.documents.iter().zip(&after.documents) {
        let mut meant = Value::of(&old.tree);
        if old.name.as_deref() == Some("web") {
            match one.value {
                Some(n) => put(&mut meant, &path, value(field, n)),
                None => take(&mut meant, &path),
            }
        }
        prop_assert!(Value::of(&is.tree).says_the_same(&meant), "{:?}\n{}\n=>\n{}", change, text, new);
    }
    // Each line that the change is not about is there still, in order.
    let lines: Vec<&str> = text.split('\n').collect();
    let mut may = vec![false; lines.len() + 1];
    let web = before.documents.iter().find(|is| is.name.as_deref() == Some("web")).unwrap();
    touched(&web.tree, &path, &mut may);
    let mut rest = new.split('\n');
    for (at, line) in lines.iter().enumerate().filter(|(at, _)| !may[at + 1]) {
        // The last line of a text without an end gets one.
        let last = at + 1 == lines.len();
        prop_assert!(
            rest.any(|other| other == *line || last && other.trim_end() == *line),
            "line {} is gone: {:?}\n{}\n=>\n{}",
            at + 1,
            change,
            text,
            new
        );
    }
    Ok(new)
}

/// Takes a field out of a value, and the maps that are empty then, but `spec`.
fn take(from: &mut Value, path: &[String]) {
    let Value::Map(entries) = from else { return };
    if let [last] = path {
        entries.retain(|(key, _)| key != last);
        return;
    }
    let Some(at) = entries.iter().position(|(key, _)| *key == path[0]) else { return };
    let was = entries[at].1.clone();
    take(&mut entries[at].1, &path[1..]);
    let empty = matches!(&entries[at].1, Value::Map(left) if left.is_empty());
    if empty && was != entries[at].1 && !matches!(&*path[0], "spec" | "metadata") {
        entries.remove(at);
    }
}
