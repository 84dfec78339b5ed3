//! The encoding of protocol buffers, as far as CRIU's requests and answers need it: numbers and byte strings.
//!
//! Which fields there are is [`super::swrk`]'s business.

use crate::error::{SysError, SysResult};

/// A message that is being written.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

/// A field that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, a truth value or one of an enumeration.
    Number(u64),
    /// Text or a message.
    Bytes(&'a [u8]),
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    /// The encoded message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// Adds a message.
    #[must_use]
    pub fn message(self, field: u32, message: Message) -> Self {
        self.bytes(field, &message.0)
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(lowest(value) | 0x80);
            value >>= 7;
        }
        self.0.push(lowest(value));
    }
}

/// The lowest byte.
fn lowest(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// The fields of a message, in order.
pub fn fields(mut bytes: &[u8]) -> SysResult<Vec<(u32, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = u32::try_from(key >> 3).map_err(|_| malformed())?;
        let value = match key & 7 {
            VARINT => Value::Number(varint(&mut bytes)?),
            LENGTH => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| malformed())?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            FIXED64 => Value::Bytes(take(&mut bytes, 8)?),
            FIXED32 => Value::Bytes(take(&mut bytes, 4)?),
            _ => return Err(malformed()),
        };
        fields.push((field, value));
    }
    Ok(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> SysResult<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or_else(malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> SysResult<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn malformed() -> SysError {
    SysError::refused("understand", "CRIU", "its answer is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Message::default().text(1, "key").number(2, 300);
        let bytes = Message::default().number(1, u64::MAX).message(27, inner).into_bytes();
        let read = fields(&bytes).unwrap();
        assert_eq!(read[0], (1, Value::Number(u64::MAX)));
        let (27, Value::Bytes(inner)) = read[1] else { panic!("{read:?}") };
        assert_eq!(fields(inner).unwrap(), [(1, Value::Bytes(b"key")), (2, Value::Number(300))]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in
            [&[0x08][..], &[0x12, 5, 1], &[0x0b], &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]]
        {
            assert!(fields(bytes).is_err(), "{bytes:?}");
        }
    }
}
