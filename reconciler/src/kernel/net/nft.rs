//! vzd's table of nftables in a network namespace, by the host's own `nft` (ADR 0021).
//!
//! All of it is for a thread or process that is in that namespace. No program of a VE is run.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::{At, SysError, SysResult};

/// Family and name of the table.
const TABLE: &str = "inet vzd";

/// Where distributions have the program.
const PLACES: [&str; 4] =
    ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/run/current-system/sw/bin/nft"];

/// Memory that nft may take. The VE's root may have put a table of any size where vzd's is looked for.
const MEMORY: u64 = 256 << 20;

fn program() -> SysResult<&'static str> {
    PLACES.into_iter().find(|place| Path::new(place).exists()).ok_or_else(|| {
        SysError::refused("run", "nft", "it is not installed on the host (Debian's package nftables)")
    })
}

/// Whether the host has the program. What its kernel lacks is told when a text is tried.
pub fn find_nft() -> SysResult<()> {
    program().map(drop)
}

/// Runs nft and returns what it prints; its own words if it fails.
pub(super) fn nft(words: &[&str], input: &str) -> SysResult<String> {
    let object = || format!("nft {}", words.join(" "));
    let mut child = Command::new(program()?)
        .args(words)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .at("run", object())?;
    if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        let limit = rustix::process::Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::As, limit).at("limit", object())?;
    }
    // It reads all of its input before it says anything. One that ends early tells why on its own.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let done = child.wait_with_output().at("run", object())?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let said: Vec<&str> = said.lines().map(str::trim_end).take(4).collect();
        return Err(SysError::refused("run", object(), said.join(" / ")));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Puts a table with this text between its braces in the place of the one that is there, in one transaction; or takes
/// it away.
pub fn load_table(text: Option<&str>) -> SysResult<()> {
    let gone = format!("table {TABLE}\ndelete table {TABLE}\n");
    let input = match text {
        // The user's lines keep their numbers, but for these two.
        Some(text) => format!("{gone}table {TABLE} {{ {text}\n}}\n"),
        None => gone,
    };
    nft(&["-f", "-"], &input).map(drop)
}

/// What is in the table, without what changes by itself; none if there is no table.
pub fn read_table() -> SysResult<Option<Value>> {
    let all = nft(&["-j", "list", "tables"], "")?;
    let understand = |text: &str| {
        serde_json::from_str::<Value>(text).map_err(|e| SysError::refused("understand", "nft", e))
    };
    let is_ours = |item: &&Value| item["table"]["family"] == "inet" && item["table"]["name"] == "vzd";
    let all = understand(&all)?;
    let ours = all["nftables"].as_array().into_iter().flatten().find(is_ours);
    if ours.is_none() {
        return Ok(None);
    }
    let Ok(listed) = nft(&["-j", "list", "table", "inet", "vzd"], "") else {
        // Too large to be vzd's, or gone meanwhile: not what anybody wants in any case.
        return Ok(Some(Value::Null));
    };
    let mut table = understand(&listed)?;
    settle(&mut table);
    Ok(Some(table))
}

/// Takes out what changes by itself: numbers that the kernel gives, counts, and what rules put into sets.
pub(super) fn settle(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.retain(|item| item.get("metainfo").is_none());
            items.iter_mut().for_each(settle);
        }
        Value::Object(fields) => {
            let is_dynamic = |flags: &Value| {
                flags == "dynamic" || flags.as_array().is_some_and(|flags| flags.contains(&"dynamic".into()))
            };
            if fields.get("flags").is_some_and(is_dynamic) {
                fields.remove("elem");
            }
            for name in ["handle", "packets", "expires", "used"] {
                fields.remove(name);
            }
            if let Some(counter) = fields.get_mut("counter").and_then(Value::as_object_mut) {
                counter.remove("bytes");
            }
            fields.values_mut().for_each(settle);
        }
        _ => {}
    }
}

/// What the kernel makes of a text, tried in a network namespace that nobody has. A text that makes more than the one
/// table is refused.
pub fn try_table(text: &str) -> SysResult<Value> {
    super::in_new_namespace(|| {
        load_table(Some(text))?;
        let all = nft(&["list", "tables"], "")?;
        if all.trim() != format!("table {TABLE}") {
            return Err(SysError::refused("load", "the firewall's text", "it makes more than its one table"));
        }
        read_table()?.ok_or_else(|| SysError::refused("load", "the firewall's text", "there is no table"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_changes_by_itself_does_not_count() {
        let mut table = json!({ "nftables": [
            { "metainfo": { "version": "1.0.6" } },
            { "set": { "name": "seen", "flags": ["dynamic", "timeout"], "handle": 4, "elem": ["10.0.0.1"] } },
            { "set": { "name": "fixed", "handle": 5, "elem": [{ "elem": { "val": 7, "expires": 3 } }] } },
            { "rule": { "handle": 6, "expr": [{ "counter": { "packets": 1, "bytes": 2 } }, { "accept": null }] } },
        ] });
        settle(&mut table);
        let wanted = json!({ "nftables": [
            { "set": { "name": "seen", "flags": ["dynamic", "timeout"] } },
            { "set": { "name": "fixed", "elem": [{ "elem": { "val": 7 } }] } },
            { "rule": { "expr": [{ "counter": {} }, { "accept": null }] } },
        ] });
        assert_eq!(table, wanted);
    }
}
