//! Names and numbers by which things are known.

use super::{ScalarError, text_scalar};
use std::fmt;
use std::str::FromStr;

/// Declares a name: a checked text that prints as it was written.
macro_rules! text_name {
    ($(#[$meta:meta])* $name:ident, $what:literal, $allowed:literal, $valid:expr, $schema:tt) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::v1::scalars::ScalarError;

            fn from_str(text: &str) -> Result<Self, $crate::v1::scalars::ScalarError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err($crate::v1::scalars::ScalarError::not(text, $what, $allowed)) }
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        $crate::v1::scalars::text_scalar!($name, $what, $schema);
    };
}
pub(crate) use text_name;

fn alphanumeric_ends(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends(text.chars().next()) && ends(text.chars().next_back())
}

text_name!(
    /// A DNS label: what VEs and profiles are called.
    Name,
    "a name",
    "give at most 63 of a-z, 0-9 and -, with a letter or digit at both ends",
    |text| {
        text.len() <= 63
            && alphanumeric_ends(text)
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    },
    { "type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63 }
);

text_name!(
    /// A host or domain name as the kernel keeps it: dotted, at most 64 characters.
    HostName,
    "a host name",
    "give at most 64 letters, digits, - and _, with dots between parts",
    |text| {
        let part = |part: &str| {
            alphanumeric_ends(part) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        text.len() <= 64 && text.split('.').all(part)
    },
    { "type": "string", "pattern": "^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$", "maxLength": 64 }
);

text_name!(
    /// The key of a label or annotation, with an optional prefix before a slash.
    LabelKey,
    "a label key",
    "give at most 63 letters, digits, -, _, . and one /, with a letter or digit at both ends",
    |text| {
        text.len() <= 63
            && alphanumeric_ends(text)
            && text.bytes().filter(|b| *b == b'/').count() <= 1
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    },
    { "type": "string", "pattern": "^[A-Za-z0-9]([-_./A-Za-z0-9]*[A-Za-z0-9])?$", "maxLength": 63 }
);

text_name!(
    /// The value of a label; may be empty.
    LabelValue,
    "a label value",
    "give at most 63 letters, digits, -, _ and ., with a letter or digit at both ends",
    |text| {
        text.is_empty()
            || text.len() <= 63
                && alphanumeric_ends(text)
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    },
    { "type": ["string", "number", "boolean"], "pattern": "^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$", "maxLength": 63 }
);

text_name!(
    /// The name of a user or group, on the host or in a VE.
    UserName,
    "a user name",
    "give at most 32 of a-z, 0-9, - and _, beginning with a letter or _",
    |text| {
        text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    },
    { "type": "string", "pattern": "^[a-z_][-a-z0-9_]*$", "maxLength": 32 }
);

text_name!(
    /// The name of a package of a distribution, without a version.
    PackageName,
    "the name of a package",
    "give letters, digits, +, -, _ and ., beginning with a letter or digit, and no version",
    |text| {
        text.len() <= 128
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-_.".contains(&b))
    },
    { "type": "string", "pattern": "^[A-Za-z0-9][-+_.A-Za-z0-9]*$", "maxLength": 128 }
);

text_name!(
    /// The name of a time zone, as the directories of the tz database have it. It is part of a path.
    TimeZone,
    "the name of a time zone",
    "give one as /usr/share/zoneinfo has it, such as Europe/Berlin or UTC",
    |text| {
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-_".contains(&b))
        };
        text.len() <= 64 && text.split('/').all(part)
    },
    { "type": "string", "pattern": "^[A-Za-z0-9][-+_A-Za-z0-9]*(/[A-Za-z0-9][-+_A-Za-z0-9]*)*$", "maxLength": 64 }
);

text_name!(
    /// The name of a locale: language, country, character set, modifier.
    LocaleName,
    "the name of a locale",
    "give one as `locale -a` prints it, such as de_DE.UTF-8 or C.UTF-8",
    |text| {
        text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b))
    },
    { "type": "string", "pattern": "^[A-Za-z][-_.@A-Za-z0-9]*$", "maxLength": 64 }
);

/// The number by which OpenVZ's tools know a VE: 101 to 2147483644.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtId(u32);

impl CtId {
    /// The lowest id a VE may have; OpenVZ kept those below for itself.
    pub const MIN: Self = Self(101);
    /// The highest id a VE may have.
    pub const MAX: Self = Self(2_147_483_644);

    /// An id, if it lies between [`CtId::MIN`] and [`CtId::MAX`].
    pub fn new(id: u32) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&id).then_some(Self(id))
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for CtId {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let id = text.parse().ok().filter(|_| digits).and_then(Self::new);
        id.ok_or_else(|| ScalarError::not(text, "a ctid", "give a number from 101 to 2147483644"))
    }
}

impl fmt::Display for CtId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_scalar!(CtId, "a ctid from 101 to 2147483644", {
    "type": ["integer", "string"], "minimum": 101, "maximum": 2_147_483_644, "pattern": "^[0-9]+$"
});
