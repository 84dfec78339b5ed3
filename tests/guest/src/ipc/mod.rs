//! `guest ipc KIND VERB KEY`: makes, looks up and removes named objects, so that a test can show that each VE has its own.
//!
//! Must not create on lookup: a lookup that finds something proves that it was visible.

mod locks;
mod posix;
mod sysv;

use serde::Serialize;

use crate::sys::{Errno, signal};

/// Every kind that `run` knows.
pub(crate) const KINDS: [&str; 8] =
    ["sysv-shm", "sysv-sem", "sysv-msg", "posix-shm", "posix-sem", "posix-mq", "flock", "posix-lock"];

/// What to do with an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Lookup,
    /// Create (or lock), then keep it until told to end.
    Hold,
    Remove,
}

/// The answer, as JSON.
#[derive(Serialize)]
pub(crate) struct Finding {
    kind: String,
    verb: String,
    key: String,
    /// `created`, `exists` (create found one), `found`, `absent`, `locked`, `free`, `busy`, `removed` or `error`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The caller is to wait, because the object lasts only as long as this process.
    #[serde(skip)]
    pub(crate) held: bool,
}

/// What a kind's function says: the outcome's word, and something to add.
type Answer = Result<(&'static str, Option<String>), Errno>;

/// Runs one verb on one object.
pub(crate) fn run(kind: &str, verb: &str, key: &str) -> Result<Finding, String> {
    let what = match verb {
        "create" => Verb::Create,
        "lookup" => Verb::Lookup,
        "hold" => Verb::Hold,
        "remove" => Verb::Remove,
        other => return Err(format!("unknown verb {other}: create, lookup, hold or remove")),
    };
    let answer = match kind {
        "sysv-shm" => sysv::segment(what, sysv_key(key)?),
        "sysv-sem" => sysv::semaphore(what, sysv_key(key)?),
        "sysv-msg" => sysv::queue(what, sysv_key(key)?),
        "posix-shm" => posix::file(what, key, ""),
        "posix-sem" => posix::file(what, key, "sem."),
        "posix-mq" => posix::queue(what, key),
        "flock" => locks::flock(what, key),
        "posix-lock" => locks::posix(what, key),
        other => return Err(format!("unknown kind {other}: {}", KINDS.join(", "))),
    };
    let (outcome, errno, detail) = match answer {
        Ok((outcome, detail)) => (outcome, None, detail),
        Err(errno) if what == Verb::Create && errno.0 == libc::EEXIST => ("exists", None, None),
        Err(errno) if what != Verb::Create && errno.is_any(&[libc::ENOENT, libc::EIDRM]) => {
            ("absent", None, None)
        }
        Err(errno) => ("error", Some(errno.to_string()), None),
    };
    let held = what == Verb::Hold && outcome != "error";
    Ok(Finding {
        kind: kind.to_owned(),
        verb: verb.to_owned(),
        key: key.to_owned(),
        outcome,
        errno,
        detail,
        held,
    })
}

/// Waits for SIGTERM, SIGINT or the end of standard input, whichever its caller finds easiest to give.
pub(crate) fn wait_for_end() -> std::io::Result<()> {
    signal::unblock(&[libc::SIGTERM, libc::SIGINT])?;
    let mut input = std::io::stdin();
    std::io::copy(&mut input, &mut std::io::sink())?;
    Ok(())
}

fn sysv_key(key: &str) -> Result<i32, String> {
    let parsed =
        key.strip_prefix("0x").map_or_else(|| key.parse().ok(), |hex| i32::from_str_radix(hex, 16).ok());
    // Key 0 is IPC_PRIVATE, which never names anything.
    parsed
        .filter(|key| *key != 0)
        .ok_or_else(|| format!("a System V key is a number other than 0, not {key}"))
}
