//! Disk input and output of a VE.

use super::defaults;
use super::macros::group;
use super::scalars::{ByteRate, Limit, OpRate, ScalarError, text_scalar};
use std::fmt;
use std::str::FromStr;

group! {
    /// Disk input and output of a VE.
    pub struct Io {
        /// Weight against other VEs when the disk is busy: 0 (least) to 7.
        live ioprio: Option<IoPrio> = defaults::IO_PRIO,
        /// At most this many bytes a second. 0 or `unlimited` is no limit.
        live iolimit: Option<Limit<ByteRate>> = "unlimited",
        /// At most this many operations a second. 0 or `unlimited` is no limit.
        live iopslimit: Option<Limit<OpRate>> = "unlimited",
    }
}

/// A priority of input and output: 0 (least) to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoPrio(u8);

impl IoPrio {
    /// The priority.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl FromStr for IoPrio {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        match text.parse() {
            Ok(priority @ 0..=7) => Ok(Self(priority)),
            _ => Err(ScalarError::not(text, "an I/O priority", "give 0 (least) to 7")),
        }
    }
}

impl fmt::Display for IoPrio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_scalar!(IoPrio, "an I/O priority from 0 to 7", {
    "type": ["integer", "string"], "minimum": 0, "maximum": 7, "pattern": "^[0-7]$"
});
