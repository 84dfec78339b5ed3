//! Amounts a second. As OpenVZ has it, a rate of 0 is no limit.

use super::size::{scaled, split_suffix, write_amount};
use super::{Amount, Count, ScalarError, Size, text_scalar};
use std::fmt;
use std::str::FromStr;

/// Bytes a second: `10M` is 10 × 1024² bytes each second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRate(Size);

impl ByteRate {
    /// That many bytes a second.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(Size::from_bytes(bytes))
    }

    /// Bytes a second.
    pub const fn bytes(self) -> u64 {
        self.0.bytes()
    }
}

impl FromStr for ByteRate {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Amount for ByteRate {
    const NO_LIMIT: Option<Self> = Some(Self::from_bytes(0));
}

text_scalar!(ByteRate, "bytes a second such as 10M", {
    "type": ["string", "integer"],
    "pattern": "^[0-9]+(\\.[0-9]+)?[BKMGTbkmgt]?$",
    "minimum": 0,
    "examples": ["10M"]
});

/// Input and output operations a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpRate(Count);

impl OpRate {
    /// That many operations a second.
    pub const fn new(operations: u64) -> Self {
        Self(Count::new(operations))
    }

    /// Operations a second.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for OpRate {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for OpRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Amount for OpRate {
    const NO_LIMIT: Option<Self> = Some(Self::new(0));
}

text_scalar!(OpRate, "operations a second", { "type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 0 });

/// Bits a second: `100M`, `1G`, `512K`. Suffixes are powers of 1000, as network speeds are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitRate(u64);

const UNITS: [(char, u64); 4] =
    [('T', 1_000_000_000_000), ('G', 1_000_000_000), ('M', 1_000_000), ('K', 1_000)];

impl BitRate {
    /// That many bits a second.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Bits a second.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl FromStr for BitRate {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let (what, allowed) =
            ("a bit rate", "give bits a second, or a number with K, M or G (powers of 1000) such as 100M");
        let (number, unit) = split_suffix(text.strip_suffix("bit").unwrap_or(text));
        let factor = match unit {
            None => Some(1),
            Some(unit) => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor),
        };
        let factor = factor.ok_or_else(|| ScalarError::not(text, what, allowed))?;
        scaled(number, factor).map(Self).map_err(|wrong| wrong.explain(text, what, allowed))
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_amount(f, self.0, &UNITS)
    }
}

impl Amount for BitRate {
    const NO_LIMIT: Option<Self> = Some(Self(0));
}

text_scalar!(BitRate, "bits a second such as 100M", {
    "type": ["string", "integer"],
    "pattern": "^[0-9]+(\\.[0-9]+)?[KMGTkmgt]?(bit)?$",
    "minimum": 0,
    "examples": ["100M", "1Gbit"]
});
