//! vzd's table of nftables in a network namespace, by the host's own `nft` (ADR 0021).
//!
//! All of it is for a thread or process that is in that namespace. No program of a VE is run.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Resource, Rlimit};
use serde_json::Value;

use crate::error::{At, SysError, SysResult};

/// Family and name of the table.
pub(super) const TABLE: &str = "inet vzd";

/// Where distributions have the program.
const PLACES: [&str; 4] =
    ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/run/current-system/sw/bin/nft"];

/// What nft may take.
struct Limits {
    /// Bytes of memory.
    memory: u64,
    /// Seconds of a processor.
    seconds: u64,
    /// Bytes that it may say.
    says: u64,
}

/// In a VE: its root may have put a table of any size where vzd's is looked for.
const IN_A_VE: Limits = Limits { memory: 256 << 20, seconds: 5, says: 4 << 20 };

/// On the host, where the table has an element for each port of each VE.
const ON_THE_HOST: Limits = Limits { memory: 1 << 30, seconds: 60, says: 64 << 20 };

fn program() -> SysResult<&'static str> {
    PLACES.into_iter().find(|place| Path::new(place).exists()).ok_or_else(|| {
        SysError::refused("run", "nft", "it is not installed on the host (Debian's package nftables)")
    })
}

/// Whether the host has the program. What its kernel lacks is told when a text is tried.
pub fn find_nft() -> SysResult<()> {
    program().map(drop)
}

/// Runs nft for a VE and returns what it prints; its own words if it fails.
pub(super) fn nft(words: &[&str], input: &str) -> SysResult<String> {
    run(words, input, &IN_A_VE)
}

/// The same for the host itself.
pub(super) fn nft_of_host(words: &[&str], input: &str) -> SysResult<String> {
    run(words, input, &ON_THE_HOST)
}

/// It takes no more than the limits: it reads and writes files in memory, not pipes that somebody would have to empty in
/// time.
fn run(words: &[&str], input: &str, limits: &Limits) -> SysResult<String> {
    let Limits { memory, seconds, says } = *limits;
    let object = || format!("nft {}", words.join(" "));
    let (mut stdin, mut stdout, mut stderr) = (in_memory()?, in_memory()?, in_memory()?);
    stdin.write_all(input.as_bytes()).and_then(|()| stdin.rewind()).at("tell", object())?;
    let file = |file: &File| file.try_clone().map(Stdio::from).at("run", object());
    let mut child = Command::new(program()?)
        .args(words)
        .env_clear()
        .stdin(file(&stdin)?)
        .stdout(file(&stdout)?)
        .stderr(file(&stderr)?)
        .spawn()
        .at("run", object())?;
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        let limits = [(Resource::As, memory), (Resource::Cpu, seconds), (Resource::Fsize, says)];
        for (resource, most) in limits {
            let limit = Rlimit { current: Some(most), maximum: Some(most) };
            rustix::process::prlimit(Some(pid), resource, limit).at("limit", object())?;
        }
    }
    let done = child.wait().at("run", object())?;
    let said = |file: &mut File| {
        let mut text = Vec::new();
        let read = file.rewind().and_then(|()| file.take(says).read_to_end(&mut text));
        read.map(|_| String::from_utf8_lossy(&text).into_owned()).at("hear", object())
    };
    if !done.success() {
        let said = said(&mut stderr)?;
        let lines: Vec<&str> = said.lines().map(str::trim_end).take(4).collect();
        let why = if lines.is_empty() { done.to_string() } else { lines.join(" / ") };
        return Err(SysError::refused("run", object(), why));
    }
    said(&mut stdout)
}

fn in_memory() -> SysResult<File> {
    let file = rustix::fs::memfd_create("nft", MemfdFlags::CLOEXEC).at("make", "a file in memory")?;
    Ok(file.into())
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

/// What is in the table, without what changes by itself; none if there is no table. One that is too large to be looked at
/// is nobody's wish: it is null.
pub fn read_table() -> SysResult<Option<Value>> {
    let listed = match nft(&["-j", "list", "table", "inet", "vzd"], "") {
        Ok(listed) => listed,
        Err(e) if e.to_string().contains("No such file or directory") => return Ok(None),
        Err(_) => {
            // nft itself is not there or does not run: then it does not list its version either.
            nft(&["--version"], "")?;
            return Ok(Some(Value::Null));
        }
    };
    let understood = serde_json::from_str::<Value>(&listed);
    let mut table = understood.map_err(|e| SysError::refused("understand", "nft", e))?;
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
