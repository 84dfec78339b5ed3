//! What stands in the way of a hand-over. Words are for people; programs, as OpenVZ's tool with its exit codes, go by the kind.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Problem {
    /// Of what kind it is.
    pub kind: Kind,
    /// In words.
    pub why: String,
}

/// Of what kind a problem is, in the order in which they count: of several, the first tells what it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The other host was not reached, or was not heard.
    Unreached,
    /// It was reached, and has no vzd.
    NoVzd,
    /// The other host has a VE of that name or number, or has this one.
    Exists,
    /// It runs, and its processes cannot be suspended.
    Suspend,
    /// The kernel, or what writes processes down and resumes them, is older there, or is not there.
    Version,
    /// The processors there are others, or can do less.
    Processor,
    /// What keeps its disk cannot be had there, or cannot be sent.
    Disk,
    /// Another VE there has one of its addresses.
    Address,
    /// What its manifest says cannot be in force there.
    Manifest,
    /// Its files were not sent, or there is no room for them.
    Files,
    /// It could not go on there.
    Resume,
    /// Anything else.
    Other,
}

impl Kind {
    /// A problem of this kind.
    pub fn because(self, why: impl Into<String>) -> Problem {
        Problem { kind: self, why: why.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// All of them in one line.
pub fn line(problems: &[Problem]) -> String {
    problems.iter().map(|is| is.why.as_str()).collect::<Vec<_>>().join("; ")
}
