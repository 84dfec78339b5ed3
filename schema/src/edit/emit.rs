//! Values as YAML text, in block and in flow style.

use super::value::Value;
use crate::yaml::ScalarStyle;

/// A whole document.
pub fn document(value: &Value) -> String {
    block(value, 0, 2, "\n")
}

/// A value on lines of its own, each with its line break. Lists and maps within lists are in flow style.
pub(super) fn block(value: &Value, indent: usize, step: usize, newline: &str) -> String {
    let margin = " ".repeat(indent);
    match value {
        Value::Map(entries) if !entries.is_empty() => {
            let lines = entries.iter().map(|(key, value)| entry(key, value, indent, step, newline));
            lines.map(|lines| format!("{margin}{lines}")).collect()
        }
        Value::Seq(items) if !items.is_empty() => {
            items.iter().map(|item| format!("{margin}- {}{newline}", flow(item, false))).collect()
        }
        _ => format!("{margin}{}{newline}", flow(value, false)),
    }
}

/// An entry of a block map: the first line without its margin, then what is below it.
pub(super) fn entry(key: &str, value: &Value, indent: usize, step: usize, newline: &str) -> String {
    let key = word(key, false);
    match value {
        Value::Null => format!("{key}:{newline}"),
        Value::Map(below) if !below.is_empty() => {
            format!("{key}:{newline}{}", block(value, indent + step, step, newline))
        }
        Value::Seq(items) if items.iter().any(|item| matches!(item, Value::Map(_) | Value::Seq(_))) => {
            format!("{key}:{newline}{}", block(value, indent + step, step, newline))
        }
        _ => format!("{key}: {}{newline}", flow(value, false)),
    }
}

/// A value on one line; `within` brackets or braces.
pub(super) fn flow(value: &Value, within: bool) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Word(text) => word(text, within),
        Value::Text(text) => self::text(text, within),
        Value::Seq(items) => {
            format!("[{}]", items.iter().map(|item| flow(item, true)).collect::<Vec<_>>().join(", "))
        }
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| flow_entry(key, value));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// An entry of a map in braces.
pub(super) fn flow_entry(key: &str, value: &Value) -> String {
    format!("{}: {}", word(key, true), flow(value, true))
}

/// A scalar in the place of one of that style.
pub(super) fn scalar_like(value: &Value, style: ScalarStyle, within: bool) -> Option<String> {
    let (Value::Word(text) | Value::Text(text)) = value else { return None };
    Some(match style {
        ScalarStyle::SingleQuoted if !text.contains(needs_escape) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => quoted(text),
        _ => flow(value, within),
    })
}

fn word(text: &str, within: bool) -> String {
    if can_be_plain(text, within) { text.to_owned() } else { quoted(text) }
}

fn text(text: &str, within: bool) -> String {
    if can_be_plain(text, within) && !looks_typed(text) { text.to_owned() } else { quoted(text) }
}

/// Whether a text without quotes is read back as it is, by any reader of YAML.
fn can_be_plain(text: &str, within: bool) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let begins_well = first.is_alphanumeric()
        || matches!(first, '/' | '.' | '_' | '+' | '$')
        || first == '-' && text[1..].starts_with(|next: char| next.is_alphanumeric());
    begins_well
        && !matches!(text, "null" | "Null" | "NULL" | "...")
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
        && !text.contains(needs_escape)
        && !(within && (text.contains([',', '[', ']', '{', '}']) || text.contains("::")))
}

/// Whether a reader may take it for a number, a truth value or a time.
fn looks_typed(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    matches!(&*lower, "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | ".inf" | ".nan")
        || text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '.' | '+' | '-'))
            && text.chars().all(|c| {
                c.is_ascii_hexdigit()
                    || matches!(c, 'x' | 'o' | '.' | '_' | '+' | '-' | ':' | 'T' | 'Z' | ' ')
            })
}

/// Whether a character can stand in double quotes only as an escape.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
