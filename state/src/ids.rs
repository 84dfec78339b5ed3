//! Identities: names, uids, container ids and ranges of user ids, each a type of its own.
//!
//! Only well-formed values exist; nothing here hands values out (that is `ledger`) or makes them up. Names and uids are
//! shared by those who hold them: each VE's are in a dozen places.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A value that is not well-formed, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {what}: {why}")]
pub struct InvalidId {
    /// What the value should have been.
    pub what: &'static str,
    /// The value as given.
    pub value: String,
    /// Which rule it breaks.
    pub why: &'static str,
}

/// The name of a VE: a DNS label (1 to 63 of `a-z 0-9 -`, no `-` at either end).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VeName(Arc<str>);

impl VeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VeName {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let invalid = |why| InvalidId { what: "VE name", value: value.to_owned(), why };
        if value.is_empty() || value.len() > 63 {
            return Err(invalid("it must have 1 to 63 characters"));
        }
        if !value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(invalid("only a-z, 0-9 and - are allowed"));
        }
        if value.starts_with('-') || value.ends_with('-') {
            return Err(invalid("it must not begin or end with -"));
        }
        Ok(Self(value.into()))
    }
}

/// What identifies one VE for ever, across renames of files and reuse of names: 32 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VeUid(Arc<str>);

impl VeUid {
    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The uid made of 128 random bits, which the caller draws.
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}").into())
    }

    /// One of so many numbers, the same each time; of none, none.
    pub fn number(&self, of: u32) -> Option<u32> {
        let bits = u128::from_str_radix(&self.0, 16).ok()?;
        bits.checked_rem(of.into()).and_then(|number| u32::try_from(number).ok())
    }
}

impl FromStr for VeUid {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let well_formed = value.len() == 32 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if well_formed {
            Ok(Self(value.into()))
        } else {
            Err(InvalidId {
                what: "VE uid",
                value: value.to_owned(),
                why: "it must be 32 lower-case hex digits",
            })
        }
    }
}

macro_rules! text_id {
    ($id:ident) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $id {
            type Error = InvalidId;

            fn try_from(value: String) -> Result<Self, InvalidId> {
                value.parse()
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> String {
                id.as_str().to_owned()
            }
        }
    };
}

text_id!(VeName);
text_id!(VeUid);

/// The numeric id that OpenVZ tools use: 101 to 2147483644.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ctid(u32);

impl Ctid {
    /// The lowest id that a VE can have.
    pub const FIRST: Self = Self(101);
    /// The highest id that a VE can have.
    pub const LAST: Self = Self(2_147_483_644);

    /// The id as a number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The id after this one, unless this is the last.
    pub fn next(self) -> Option<Self> {
        (self < Self::LAST).then(|| Self(self.0 + 1))
    }
}

impl TryFrom<u32> for Ctid {
    type Error = InvalidId;

    fn try_from(value: u32) -> Result<Self, InvalidId> {
        if (Self::FIRST.0..=Self::LAST.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(InvalidId {
                what: "ctid",
                value: value.to_string(),
                why: "it must lie between 101 and 2147483644",
            })
        }
    }
}

impl From<Ctid> for u32 {
    fn from(ctid: Ctid) -> u32 {
        ctid.0
    }
}

impl fmt::Display for Ctid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The host's user and group ids that one VE's ids 0, 1, 2, ... stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdRange {
    /// The host id that the VE's id 0 is.
    pub start: u32,
    /// How many ids there are.
    pub count: u32,
}

impl IdRange {
    /// How many ids a VE has unless its manifest says otherwise.
    pub const BLOCK: u32 = 65536;

    /// One past the last host id of the range.
    pub fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.count)
    }

    /// What an id of this range is in another one of the same size. One that is not of this range stays what it is.
    pub fn carry(self, id: u32, to: Self) -> u32 {
        id.checked_sub(self.start)
            .filter(|inside| *inside < self.count)
            .map_or(id, |inside| to.start + inside)
    }

    /// Whether the two ranges share an id.
    pub fn overlaps(self, other: Self) -> bool {
        u64::from(self.start) < other.end() && u64::from(other.start) < self.end()
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.count)
    }
}
