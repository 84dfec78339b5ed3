//! What is run, and with which rights.

use super::{ScalarError, shorten, text_scalar};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A program and its arguments: a list, or the program's name alone. No shell reads it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command(Vec<String>);

impl Command {
    /// A command, if it has a program and no NUL in any word.
    pub fn new(words: Vec<String>) -> Result<Self, ScalarError> {
        if words.first().is_none_or(|program| program.trim().is_empty()) {
            return Err(ScalarError::new(
                "the command is empty: give a program, or a list of program and arguments",
            ));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(ScalarError::new("a word of the command holds a NUL: no program can be given one"));
        }
        Ok(Self(words))
    }

    /// The program, then its arguments; never empty.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Command {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        if text.trim().contains(char::is_whitespace) {
            let text = shorten(text);
            return Err(ScalarError::new(format!(
                "`{text}` is more than one word: give arguments as a list, [program, argument]"
            )));
        }
        Self::new(vec![text.trim().to_owned()])
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = Command;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a program, or a list of program and arguments")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Command, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Command, A::Error> {
        let mut command = Vec::new();
        while let Some(word) = words.next_element()? {
            command.push(word);
        }
        Command::new(command).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommandVisitor)
    }
}

impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "a program, or a list of program and arguments",
            "anyOf": [
                { "type": "string", "pattern": "^\\s*\\S+\\s*$" },
                { "type": "array", "items": { "type": ["string", "number", "boolean"] }, "minItems": 1 }
            ]
        })
    }
}

/// A capability of a process, by its name in capabilities(7): `CAP_NET_ADMIN`, or OpenVZ's `net_admin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// In the kernel's order: the index is the capability's number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capability {
    /// The kernel's number of it.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its name without `CAP_`.
    pub fn name(self) -> &'static str {
        CAPABILITIES[usize::from(self.0)]
    }

    /// Every capability this version knows, by number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0_u8..).take(CAPABILITIES.len()).map(Self)
    }
}

impl FromStr for Capability {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Self::all().find(|capability| capability.name() == name).ok_or_else(|| {
            ScalarError::not(
                text,
                "a capability",
                "see capabilities(7) for their names, such as CAP_NET_ADMIN",
            )
        })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.name())
    }
}

text_scalar!(Capability, "a capability such as CAP_NET_ADMIN", {
    "type": "string", "pattern": "^([Cc][Aa][Pp]_)?[A-Za-z_]+$", "examples": ["CAP_NET_ADMIN"]
});
