//! Amounts: bytes, pages and plain counts, as OpenVZ writes them.

use super::{Amount, ScalarError, text_scalar};
use std::fmt;
use std::str::FromStr;

/// The size of a page in this format, whatever the host's kernel uses.
const PAGE: u64 = 4096;
/// OpenVZ's "unlimited" as a number; no amount may reach it.
pub(super) const LONG_MAX: u64 = i64::MAX as u64;

const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// A number of bytes: `512M`, `2.2G`, `1024`. Suffixes are powers of 1024.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// A size of that many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let allowed = "give bytes, or a number with K, M, G or T (powers of 1024) such as 512M";
        let (number, unit) = split_suffix(text);
        let factor = match unit {
            None | Some('B') => 1,
            Some(unit) => byte_factor(unit).ok_or_else(|| ScalarError::not(text, "a size", allowed))?,
        };
        scaled(number, factor).map(Self).map_err(|wrong| wrong.explain(text, "a size", allowed))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_amount(f, self.0, &UNITS)
    }
}

impl Amount for Size {}

text_scalar!(Size, "a size such as 512M", {
    "type": ["string", "integer"],
    "pattern": "^[0-9]+(\\.[0-9]+)?[BKMGTbkmgt]?$",
    "minimum": 0,
    "examples": ["512M", "2.2G"]
});

/// A number of pages of 4096 bytes: a bare number counts pages, `P` too, `512M` is divided by the
/// page size (rounded up).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pages(u64);

impl Pages {
    /// That many pages.
    pub const fn from_pages(pages: u64) -> Self {
        Self(pages)
    }

    /// The pages that hold so many bytes.
    pub const fn of(size: Size) -> Self {
        Self(size.0.div_ceil(PAGE))
    }

    /// The number of pages.
    pub const fn pages(self) -> u64 {
        self.0
    }

    /// The size of that many pages.
    pub const fn size(self) -> Size {
        Size(self.0.saturating_mul(PAGE))
    }
}

impl FromStr for Pages {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let allowed = "give pages (of 4096 bytes), or bytes with B, K, M, G or T such as 512M";
        let (number, unit) = split_suffix(text);
        let pages = match unit {
            None | Some('P') => scaled(number, 1),
            Some('B') => scaled(number, 1).map(|bytes| bytes.div_ceil(PAGE)),
            Some(unit) => {
                let factor =
                    byte_factor(unit).ok_or_else(|| ScalarError::not(text, "a number of pages", allowed))?;
                scaled(number, factor).map(|bytes| bytes.div_ceil(PAGE))
            }
        };
        pages.map(Self).map_err(|wrong| wrong.explain(text, "a number of pages", allowed))
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Amount for Pages {}

text_scalar!(Pages, "a number of pages, or a size such as 512M", {
    "type": ["string", "integer"],
    "pattern": "^[0-9]+(\\.[0-9]+)?[BPKMGTbpkmgt]?$",
    "minimum": 0,
    "examples": [131072, "512M", "131072P"]
});

/// A number of things. It takes no suffix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(u64);

impl Count {
    /// That many.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// How many.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Count {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let allowed = "give a whole number without a suffix";
        if text.contains('.') || text.ends_with(|last: char| last.is_ascii_alphabetic()) {
            return Err(ScalarError::not(text, "a count", allowed));
        }
        scaled(text, 1).map(Self).map_err(|wrong| wrong.explain(text, "a count", allowed))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Amount for Count {}

text_scalar!(Count, "a whole number", { "type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 0 });

/// What is wrong with a number; the caller knows what it was to be.
pub(super) enum BadNumber {
    Syntax,
    TooLarge,
}

impl BadNumber {
    pub(super) fn explain(&self, text: &str, what: &str, allowed: &str) -> ScalarError {
        match self {
            Self::Syntax => ScalarError::not(text, what, allowed),
            Self::TooLarge => ScalarError::not(
                text,
                what,
                "it is too large; write `unlimited` for no limit where that is allowed",
            ),
        }
    }
}

/// Splits `2.2G` into `2.2` and `G`; the suffix comes back in upper case.
pub(super) fn split_suffix(text: &str) -> (&str, Option<char>) {
    match text.char_indices().next_back() {
        Some((at, last)) if last.is_ascii_alphabetic() => (&text[..at], Some(last.to_ascii_uppercase())),
        _ => (text, None),
    }
}

fn byte_factor(unit: char) -> Option<u64> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

/// `number` (digits with an optional fraction) times `factor`, rounded down, below LONG_MAX.
/// Exact: no floating point.
pub(super) fn scaled(number: &str, factor: u64) -> Result<u64, BadNumber> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 12 {
        return Err(BadNumber::Syntax);
    }
    let factor = u128::from(factor);
    let whole: u128 = whole.parse().map_err(|_| BadNumber::TooLarge)?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let fraction: u128 = fraction.parse().map_err(|_| BadNumber::Syntax)?;
    whole
        .checked_mul(factor)
        .and_then(|bytes| bytes.checked_add(fraction * factor / scale))
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| *bytes < LONG_MAX)
        .ok_or(BadNumber::TooLarge)
}

/// Writes an amount with the largest unit that keeps it whole.
pub(super) fn write_amount(f: &mut fmt::Formatter<'_>, amount: u64, units: &[(char, u64)]) -> fmt::Result {
    match units.iter().find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor)) {
        Some((name, factor)) => write!(f, "{}{name}", amount / factor),
        None => write!(f, "{amount}"),
    }
}
