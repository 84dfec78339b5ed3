//! The values that fields hold: sizes, pairs, durations, names, addresses.
//!
//! Each is a type of its own with one text form that people write (`FromStr`, forgiving where there
//! is one meaning only) and one that we print (`Display`, canonical: equal values print equally).
//! JSON and YAML carry that text; a bare number is read by its text too, so `0644` stays octal.
//! A type here knows nothing of the field it stands in, of the host or of other values.

mod account;
mod cpu;
mod file;
mod limit;
mod name;
mod net;
mod process;
mod rate;
mod size;
mod time;

pub use account::{PasswordHash, SshKey};
pub use cpu::{CpuList, CpuUnits, Percent};
pub use file::{AbsPath, Access, DeviceNumber, FileMode};
pub use limit::{Amount, Limit, Pair};
pub use name::{CtId, HostName, LabelKey, LabelValue, LocaleName, Name, PackageName, TimeZone, UserName};
pub use net::{Address, Cidr, Endpoint, HttpPath, IfName, Mac, Mark, Ports, RouteTarget};
pub use process::{Capability, Command};
pub use rate::{BitRate, ByteRate, OpRate};
pub use size::{Count, Pages, Size};
pub use time::{Duration, Timestamp};

use serde::de::{self, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// Why a text is not a value of some type: names the text, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScalarError(String);

impl ScalarError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The usual form: "`5x` is not a size: give ...".
    pub(crate) fn not(text: &str, what: &str, allowed: &str) -> Self {
        Self(format!("`{}` is not {what}: {allowed}", shorten(text)))
    }
}

/// A value as it is quoted in a message: never longer than a line.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain(['…']).collect()
    }
}

/// Reads a value from its text, or from a number by the number's text.
pub(crate) struct TextVisitor<T> {
    expecting: &'static str,
    of: PhantomData<T>,
}

impl<T> TextVisitor<T> {
    pub(crate) fn new(expecting: &'static str) -> Self {
        Self { expecting, of: PhantomData }
    }
}

impl<T: FromStr<Err = ScalarError>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// Gives a type with `FromStr` and `Display` its serde and JSON Schema forms.
macro_rules! text_scalar {
    ($ty:ident, $expecting:literal, $schema:tt) => {
        impl serde::Serialize for $ty {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $ty {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($crate::v1::scalars::TextVisitor::<Self>::new($expecting))
            }
        }

        impl schemars::JsonSchema for $ty {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($ty).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut schema = schemars::json_schema!($schema);
                schema.insert("title".to_owned(), $expecting.into());
                schema
            }
        }
    };
}
pub(crate) use name::text_name;
pub(crate) use text_scalar;
