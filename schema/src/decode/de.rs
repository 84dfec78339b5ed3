//! serde's view of a tree.
//!
//! Whoever asks for text gets the text as it was written, quoted or not: `0644` and `1e5` stay what
//! they are. Numbers and booleans are only read from unquoted text, by the rules of YAML 1.2, and
//! never guessed: `yes` is no boolean and `1_000` no number. Nothing written is an empty map or list.

use super::error::DecodeError;
use super::pruned::Pruned;
use crate::v1::shorten;
use crate::yaml::{Entry, Node, NodeKind};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Gives a node to a visitor.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'t> {
    node: &'t Node,
    pruned: Option<&'t Pruned>,
}

impl<'t> NodeDeserializer<'t> {
    pub(super) fn new(node: &'t Node, pruned: &'t Pruned) -> Self {
        Self { node, pruned: Some(pruned) }
    }

    fn wrong_type(self, expected: &str) -> DecodeError {
        DecodeError::wrong_type(self.found(), expected, None)
    }

    fn found(self) -> String {
        match &self.node.kind {
            NodeKind::Null => "nothing".to_owned(),
            NodeKind::Scalar { text, plain: true } => format!("`{}`", shorten(text)),
            NodeKind::Scalar { text, plain: false } => format!("the text \"{}\"", shorten(text)),
            NodeKind::Seq(_) => "a list".to_owned(),
            NodeKind::Map(_) => "a map".to_owned(),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, items: &'t [Node], visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(Items { items, at: 0, pruned: self.pruned })
    }

    fn map<'de, V: Visitor<'de>>(self, entries: &'t [Entry], visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_map(Entries { entries, at: 0, pruned: self.pruned })
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.kind {
            NodeKind::Scalar { text, plain: true } => match integer(text) {
                Some(number) => match (u64::try_from(number), i64::try_from(number)) {
                    (Ok(number), _) => visitor.visit_u64(number),
                    (_, Ok(number)) => visitor.visit_i64(number),
                    _ => Err(DecodeError::custom(format!("`{}` is too large", shorten(text)))),
                },
                None => Err(self.wrong_type("a whole number")),
            },
            NodeKind::Scalar { text, plain: false } if integer(text).is_some() => {
                let help = format!("write {text} without quotes");
                Err(DecodeError::wrong_type(self.found(), "a whole number", Some(help)))
            }
            _ => Err(self.wrong_type("a whole number")),
        }
    }
}

/// An integer by YAML 1.2's core schema.
fn integer(text: &str) -> Option<i128> {
    let (digits, radix) = match text.get(..2) {
        Some("0x") => (&text[2..], 16),
        Some("0o") => (&text[2..], 8),
        _ => (text, 10),
    };
    let unsigned = if radix == 10 { digits.strip_prefix(['-', '+']).unwrap_or(digits) } else { digits };
    let valid = !unsigned.is_empty() && unsigned.chars().all(|digit| digit.is_digit(radix));
    // A number of more digits than i128 has is out of every range.
    if valid { Some(i128::from_str_radix(digits, radix).unwrap_or(i128::MAX)) } else { None }
}

/// What YAML 1.1 took for booleans, with what should be written now.
fn old_boolean(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "1" => Some("true"),
        "false" | "no" | "off" | "n" | "0" => Some("false"),
        _ => None,
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.kind {
            NodeKind::Null => visitor.visit_unit(),
            NodeKind::Scalar { text, .. } => visitor.visit_str(text),
            NodeKind::Seq(items) => self.list(items, visitor),
            NodeKind::Map(entries) => self.map(entries, visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.kind {
            NodeKind::Scalar { text, plain: true } if &**text == "true" => visitor.visit_bool(true),
            NodeKind::Scalar { text, plain: true } if &**text == "false" => visitor.visit_bool(false),
            NodeKind::Scalar { text, .. } => {
                let help = old_boolean(text).map(|word| format!("write {word}"));
                Err(DecodeError::wrong_type(self.found(), "true or false", help))
            }
            _ => Err(self.wrong_type("true or false")),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.kind {
            NodeKind::Scalar { text, .. } => visitor.visit_str(text),
            _ => Err(self.wrong_type("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.kind {
            NodeKind::Seq(items) => self.list(items, visitor),
            NodeKind::Null => self.list(&[], visitor),
            NodeKind::Scalar { text, .. } => {
                let help = format!("write [{}]", shorten(text));
                Err(DecodeError::wrong_type(self.found(), "a list", Some(help)))
            }
            NodeKind::Map(_) => Err(self.wrong_type("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.kind {
            NodeKind::Map(entries) => self.map(entries, visitor),
            NodeKind::Null => self.map(&[], visitor),
            _ => Err(self.wrong_type("a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.node.kind {
            NodeKind::Scalar { text, .. } => {
                let word: StrDeserializer<'_, DecodeError> = (**text).into_deserializer();
                visitor.visit_enum(word)
            }
            _ => Err(self.wrong_type(&format!("one of {}", variants.join(", ")))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

/// The items of a list that are not left out.
struct Items<'t> {
    items: &'t [Node],
    at: usize,
    pruned: Option<&'t Pruned>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        while let Some(node) = self.items.get(self.at) {
            let index = self.at;
            self.at += 1;
            let pruned = self.pruned.and_then(|pruned| pruned.below(index));
            if pruned.is_some_and(Pruned::is_gone) {
                continue;
            }
            if node.is_null() {
                let help = Some("fill the item in, or take it out".to_owned());
                return Err(DecodeError::wrong_type("nothing", "a value", help).within(index));
            }
            let value = seed.deserialize(NodeDeserializer { node, pruned });
            return value.map(Some).map_err(|wrong| wrong.within(index));
        }
        Ok(None)
    }
}

/// The entries of a map that are not left out.
struct Entries<'t> {
    entries: &'t [Entry],
    at: usize,
    pruned: Option<&'t Pruned>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        let gone = |index| self.pruned.and_then(|pruned| pruned.below(index)).is_some_and(Pruned::is_gone);
        while self.at < self.entries.len() && gone(self.at) {
            self.at += 1;
        }
        let Some(entry) = self.entries.get(self.at) else { return Ok(None) };
        let key: StrDeserializer<'_, DecodeError> = (*entry.key.text).into_deserializer();
        seed.deserialize(key).map(Some).map_err(|wrong: DecodeError| wrong.about_key().within(self.at))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let index = self.at;
        self.at += 1;
        let entry = self.entries.get(index).ok_or_else(|| DecodeError::custom("a value without a key"))?;
        let pruned = self.pruned.and_then(|pruned| pruned.below(index));
        seed.deserialize(NodeDeserializer { node: &entry.value, pruned }).map_err(|wrong| wrong.within(index))
    }
}
