//! Limits that may be `unlimited`, and OpenVZ's pairs of them: `barrier:limit`, `soft:hard`.

use super::{ScalarError, TextVisitor};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A quantity that can be limited.
pub trait Amount: Copy + Ord + fmt::Display + FromStr<Err = ScalarError> {
    /// The amount that, by OpenVZ's custom, means "no limit" for this quantity.
    const NO_LIMIT: Option<Self> = None;
}

/// An amount, or no limit at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit<T> {
    /// At most this much.
    At(T),
    /// `unlimited`; greater than every amount.
    Unlimited,
}

impl<T: Copy> Limit<T> {
    /// The amount, unless there is no limit.
    pub fn amount(self) -> Option<T> {
        match self {
            Self::At(amount) => Some(amount),
            Self::Unlimited => None,
        }
    }
}

impl<T: Amount> FromStr for Limit<T> {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        // OpenVZ's configuration files write no limit as LONG_MAX.
        if text.eq_ignore_ascii_case("unlimited") || text == "9223372036854775807" {
            return Ok(Self::Unlimited);
        }
        match text.parse::<T>() {
            Ok(amount) if T::NO_LIMIT == Some(amount) => Ok(Self::Unlimited),
            Ok(amount) => Ok(Self::At(amount)),
            Err(wrong) => Err(ScalarError::new(format!("{wrong}, or `unlimited`"))),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Limit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(amount) => amount.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl<T: fmt::Display> Serialize for Limit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: Amount> Deserialize<'de> for Limit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor::new("an amount or `unlimited`"))
    }
}

impl<T: JsonSchema> JsonSchema for Limit<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Limit", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "const": "unlimited" }] })
    }
}

/// Two limits: the first may be passed for a while or with privileges, the second never.
///
/// Written `"barrier:limit"`, as a map, or as one value that sets both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair<T> {
    barrier: Limit<T>,
    limit: Limit<T>,
}

impl<T: Copy> Pair<T> {
    /// One value for both.
    pub fn both(limit: Limit<T>) -> Self {
        Self { barrier: limit, limit }
    }

    /// The barrier, or soft limit. Never above the limit.
    pub fn barrier(&self) -> Limit<T> {
        self.barrier
    }

    /// The limit, or hard limit.
    pub fn limit(&self) -> Limit<T> {
        self.limit
    }
}

impl<T: Amount> Pair<T> {
    /// A pair, if the barrier is not above the limit.
    pub fn new(barrier: Limit<T>, limit: Limit<T>) -> Result<Self, ScalarError> {
        if barrier > limit {
            return Err(ScalarError::new(format!(
                "the first value of `{barrier}:{limit}` is above the second: it may be lower or equal"
            )));
        }
        Ok(Self { barrier, limit })
    }
}

impl<T: Amount> FromStr for Pair<T> {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        match text.split_once(':') {
            Some((barrier, limit)) => Self::new(barrier.trim().parse()?, limit.trim().parse()?),
            None => text.parse().map(Self::both),
        }
    }
}

impl<T: PartialEq + fmt::Display> fmt::Display for Pair<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.barrier == self.limit {
            self.limit.fmt(f)
        } else {
            write!(f, "{}:{}", self.barrier, self.limit)
        }
    }
}

impl<T: PartialEq + fmt::Display> Serialize for Pair<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A pair as it is written as a map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Amount"))]
struct PairMap<T> {
    barrier: Limit<T>,
    limit: Limit<T>,
}

struct PairVisitor<T>(TextVisitor<Pair<T>>);

impl<'de, T: Amount> Visitor<'de> for PairVisitor<T> {
    type Value = Pair<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Pair<T>, E> {
        self.0.visit_str(text)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Pair<T>, E> {
        self.0.visit_u64(number)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pair<T>, A::Error> {
        let PairMap { barrier, limit } = PairMap::deserialize(MapAccessDeserializer::new(map))?;
        Pair::new(barrier, limit).map_err(de::Error::custom)
    }
}

impl<'de, T: Amount> Deserialize<'de> for Pair<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "one value, `\"barrier:limit\"` or a map of both";
        deserializer.deserialize_any(PairVisitor(TextVisitor::new(expecting)))
    }
}

impl<T: JsonSchema> JsonSchema for Pair<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Pair", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let limit = generator.subschema_for::<Limit<T>>();
        json_schema!({
            "anyOf": [
                limit,
                { "type": "string", "pattern": "^[^:]+:[^:]+$", "examples": ["1G:2G"] },
                {
                    "type": "object",
                    "properties": { "barrier": limit, "limit": limit },
                    "required": ["barrier", "limit"],
                    "additionalProperties": false
                }
            ]
        })
    }
}
