//! Shares of CPU time, and lists of CPUs.

use super::size::scaled;
use super::{Amount, ScalarError, shorten, text_scalar};
use std::fmt;
use std::str::FromStr;

/// The weight of a VE against others at the first scheduling level: 8 to 500000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuUnits(u32);

impl CpuUnits {
    /// What a VE has when nothing is said.
    pub const DEFAULT: Self = Self(1000);

    /// The weight.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for CpuUnits {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        match text.parse() {
            Ok(units @ 8..=500_000) => Ok(Self(units)),
            _ => Err(ScalarError::not(text, "a CPU weight", "give a number from 8 to 500000")),
        }
    }
}

impl fmt::Display for CpuUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_scalar!(CpuUnits, "a CPU weight from 8 to 500000", {
    "type": ["integer", "string"], "minimum": 8, "maximum": 500_000, "pattern": "^[0-9]+$"
});

/// A share of one CPU: `150%` is one and a half CPUs. 0 is no limit, as OpenVZ has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u64);

impl Percent {
    /// From hundredths of a percent of one CPU.
    pub const fn from_hundredths(hundredths: u64) -> Self {
        Self(hundredths)
    }

    /// In hundredths of a percent of one CPU.
    pub const fn hundredths(self) -> u64 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let (what, allowed) = ("a share of CPU", "give percent of one CPU such as 150%");
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        if number.split_once('.').is_some_and(|(_, fraction)| fraction.len() > 2) {
            return Err(ScalarError::not(text, what, "it may have two digits after the point"));
        }
        scaled(number, 100).map(Self).map_err(|wrong| wrong.explain(text, what, allowed))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 100, self.0 % 100);
        match fraction {
            0 => write!(f, "{whole}%"),
            tenths if tenths.is_multiple_of(10) => write!(f, "{whole}.{}%", tenths / 10),
            _ => write!(f, "{whole}.{fraction:02}%"),
        }
    }
}

impl Amount for Percent {
    const NO_LIMIT: Option<Self> = Some(Self(0));
}

text_scalar!(Percent, "percent of one CPU such as 150%", {
    "type": ["string", "number"],
    "pattern": "^[0-9]+(\\.[0-9]{1,2})? *%?$",
    "minimum": 0,
    "examples": ["150%"]
});

/// A list of CPUs or NUMA nodes by number: `0-3,8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuList(Vec<(u16, u16)>);

/// More CPUs than any kernel is built for.
const MOST_CPUS: u16 = 8192;

impl CpuList {
    /// The first so many; at least one.
    pub fn up_to(count: u16) -> Self {
        Self(vec![(0, count.clamp(1, MOST_CPUS) - 1)])
    }

    /// The ranges, first and last included; in order, apart from each other.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Every number in the list, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }
}

impl FromStr for CpuList {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let wrong = || {
            let text = shorten(text);
            ScalarError::new(format!("`{text}` is not a list of CPUs: give numbers and ranges such as 0-3,8"))
        };
        let number = |text: &str| text.trim().parse().ok().filter(|cpu| *cpu < MOST_CPUS).ok_or_else(wrong);
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            ranges.push((first, last));
        }
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Ok(Self(joined))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

text_scalar!(CpuList, "a list of CPUs such as \"0-3,8\"", {
    "type": ["string", "integer"],
    "pattern": "^ *[0-9]+ *(- *[0-9]+ *)?(, *[0-9]+ *(- *[0-9]+ *)?)*$",
    "minimum": 0,
    "examples": ["0-3,8"]
});
