//! Spans of time, and moments.

use super::size::scaled;
use super::{ScalarError, text_scalar};
use std::fmt;
use std::str::FromStr;

/// A span of time: `30s`, `10m`, `1h30m`, `7d`, `500ms`. A bare number is seconds, as in OpenVZ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u64);

const UNITS: [(&str, u64); 6] =
    [("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Duration {
    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// In milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_millis(duration.0)
    }
}

impl FromStr for Duration {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let (what, allowed) = ("a duration", "give a number with ms, s, m, h, d or w such as 30s or 1h30m");
        let mut rest = text;
        let mut total = 0_u64;
        // The last unit seen: units come from large to small, each once.
        let mut below = u64::MAX;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, tail) = rest.split_at(number_end);
            let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let factor = match unit {
                "" if number.len() == text.len() => 1000,
                _ => UNITS
                    .iter()
                    .find(|(name, factor)| *name == unit && *factor < below)
                    .map(|(_, factor)| *factor)
                    .ok_or_else(|| ScalarError::not(text, what, allowed))?,
            };
            let millis = scaled(number, factor).map_err(|wrong| wrong.explain(text, what, allowed))?;
            total = total.saturating_add(millis);
            (below, rest) = (factor, tail);
        }
        if text.is_empty() {
            return Err(ScalarError::not(text, what, allowed));
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        // Weeks are read, but printed as days: nobody has to divide to compare two of them.
        for (name, factor) in &UNITS[1..] {
            if rest >= *factor {
                write!(f, "{}{name}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

text_scalar!(Duration, "a duration such as 30s", {
    "type": ["string", "integer"],
    "pattern": "^([0-9]+(\\.[0-9]+)?|([0-9]+(\\.[0-9]+)?(ms|s|m|h|d|w))+)$",
    "minimum": 0,
    "examples": ["30s", "10m", "7d"]
});

/// A moment: RFC 3339, `2026-11-22T10:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// From milliseconds since 1970 UTC, within the years that can be written.
    pub fn from_unix_millis(millis: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(millis).ok().map(Self)
    }

    /// Milliseconds since 1970 UTC.
    pub fn unix_millis(self) -> i64 {
        self.0.as_millisecond()
    }
}

impl FromStr for Timestamp {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let allowed = "give date, time and zone such as 2026-11-22T10:00:00Z";
        text.parse().map(Self).map_err(|_| ScalarError::not(text, "a moment", allowed))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_scalar!(Timestamp, "a moment such as 2026-11-22T10:00:00Z", { "type": "string", "format": "date-time" });
