//! Reads pax extended headers, by their length fields.
//!
//! The tar crate splits them at newlines, which breaks binary values: a `security.capability` with the
//! bits for CAP_DAC_OVERRIDE and CAP_FOWNER holds the byte 0x0a. This file must not interpret what it reads.

use std::collections::BTreeMap;

/// What a pax header says of the entry after it. Absent fields leave the entry's own.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) acls: u64,
    pub(super) sparse: bool,
}

impl Pax {
    /// Takes a pax header's data apart. The error names the rule that it breaks.
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        while !data.is_empty() {
            let (record, rest) = split_record(data)?;
            data = rest;
            let equals = record.iter().position(|b| *b == b'=').ok_or("a pax record without =")?;
            pax.set(&record[..equals], &record[equals + 1..])?;
        }
        Ok(pax)
    }

    /// Whether it says anything that changes what is unpacked.
    pub(super) fn matters(&self) -> bool {
        self.path.is_some()
            || self.link.is_some()
            || self.size.is_some()
            || self.uid.is_some()
            || self.gid.is_some()
            || !self.xattrs.is_empty()
            || self.sparse
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.insert(decode_name(name), value.to_vec());
            return Ok(());
        }
        if key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize" {
            self.sparse = true;
            return Ok(());
        }
        // An empty value takes a record back.
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" if given => self.size = Some(number(value).ok_or("a bad pax size")?),
            b"uid" if given => self.uid = Some(signed(value).ok_or("a bad pax uid")?),
            b"gid" if given => self.gid = Some(signed(value).ok_or("a bad pax gid")?),
            b"mtime" if given => self.mtime = Some(time(value).ok_or("a bad pax mtime")?),
            b"SCHILY.acl.access" | b"SCHILY.acl.default" => self.acls += 1,
            // Names of owners, other times, comments, SELinux labels, LIBARCHIVE's copies of what is above.
            _ => {}
        }
        Ok(())
    }
}

/// `"<length> <key>=<value>\n"`, where the length counts all of it.
fn split_record(data: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let space = data.iter().take(20).position(|b| *b == b' ').ok_or("a pax record without a length")?;
    let len = number(&data[..space]).and_then(|n| usize::try_from(n).ok()).ok_or("a bad pax length")?;
    if len > data.len() || len < space + 2 || data[len - 1] != b'\n' {
        return Err("a pax record of the wrong length");
    }
    Ok((&data[space + 1..len - 1], &data[len..]))
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => number(digits).and_then(|n| i64::try_from(n).ok()).map(|n| -n),
        None => number(text).and_then(|n| i64::try_from(n).ok()),
    }
}

/// `[-]seconds[.fraction]`, as seconds and nanoseconds counted upwards from them.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let dot = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let seconds = signed(&text[..dot])?;
    let mut nanos = 0;
    let mut unit = 100_000_000;
    for digit in text.get(dot + 1..).unwrap_or_default() {
        if !digit.is_ascii_digit() {
            return None;
        }
        nanos += u32::from(digit - b'0') * unit;
        unit /= 10;
    }
    if text.starts_with(b"-") && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

/// GNU tar writes `=` and `%` in an attribute's name as `%3D` and `%25`.
fn decode_name(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, tail) = match (first, tail) {
            (b'%', [b'3', b'D', tail @ ..]) => (b'=', tail),
            (b'%', [b'2', b'5', tail @ ..]) => (b'%', tail),
            (byte, tail) => (*byte, tail),
        };
        out.push(byte);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_value_with_a_newline_survives() {
        let value = [1, 0, 0, 2, 0x0a, 0, 0, 0, 0, 0, 0, 0];
        let mut data = b"46 SCHILY.xattr.security.capability=".to_vec();
        data.extend(value);
        data.push(b'\n');
        let len = data.len();
        data.splice(..2, len.to_string().bytes());
        data.extend(b"9 size=7\n");
        let pax = Pax::parse(&data).unwrap();
        assert_eq!(pax.xattrs[&b"security.capability"[..]], value);
        assert_eq!(pax.size, Some(7));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for bad in [
            &b"9 size=77\n"[..],
            b"99 size=7\n",
            b"3 \n",
            b"size=7\n",
            b"-9 size=7\n",
            b"8 size7\n",
            b"0 a=b\n",
        ] {
            assert!(Pax::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_before_1970_count_upwards() {
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-0.5"), Some((-1, 500_000_000)));
        assert_eq!(time(b"7.1234567899"), Some((7, 123_456_789)));
        assert_eq!(time(b"x"), None);
    }

    #[test]
    fn attribute_names_are_decoded() {
        assert_eq!(decode_name(b"user.a%3Db%25%"), b"user.a=b%%");
    }
}
