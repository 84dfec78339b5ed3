//! A value read from the kernel, or why it could not be read.
//!
//! The three cases are kept apart because they mean different things to a diff: `Absent` may be put
//! right, `Unreadable` never causes a change, only a condition.

use serde::{Deserialize, Serialize};

/// One reading of the world.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reading<T> {
    /// It was read and is this.
    Is(T),
    /// It is certain that there is no such thing.
    #[default]
    Absent,
    /// It could not be found out, for this reason.
    Unreadable(String),
}

impl<T> Reading<T> {
    /// The value, if it was read.
    pub fn is(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// Why the value could not be read.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Unreadable(why) => Some(why),
            Self::Is(_) | Self::Absent => None,
        }
    }

    /// The same reading with the value borrowed.
    pub fn as_ref(&self) -> Reading<&T> {
        match self {
            Self::Is(value) => Reading::Is(value),
            Self::Absent => Reading::Absent,
            Self::Unreadable(why) => Reading::Unreadable(why.clone()),
        }
    }

    /// The same reading with the value changed by `f`.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Is(value) => Reading::Is(f(value)),
            Self::Absent => Reading::Absent,
            Self::Unreadable(why) => Reading::Unreadable(why),
        }
    }
}
