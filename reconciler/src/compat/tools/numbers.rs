//! Numbers of a configuration: which key has which, in which unit, and how they are written. Pure.

use vzd_schema::counters::Numbers;
use vzd_schema::v1::scalars::{Amount, Count, Limit, Pages, Size};

use super::super::params::{Home, by_key};

/// No limit, as OpenVZ writes it.
const UNLIMITED: u64 = i64::MAX as u64;

/// What a key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Pages of 4 KiB.
    Pages,
    /// Things.
    Items,
    /// Disk space.
    KiB,
}

/// The counter of a key that has a barrier and a limit, and its unit.
pub fn counter(key: &str) -> Option<(&'static str, Unit)> {
    if key == "DISKINODES" {
        return Some(("diskinodes", Unit::Items));
    }
    match by_key(key)?.home {
        Home::Bytes(name) => Some((name, Unit::Bytes)),
        Home::Pages(name) | Home::Memory(name, _) => Some((name, Unit::Pages)),
        Home::Count(name) => Some((name, Unit::Items)),
        Home::KiB(_) => Some(("diskspace", Unit::KiB)),
        _ => None,
    }
}

/// Reads `barrier:limit`, or one number for both; the barrier may be above the limit.
///
/// # Errors
///
/// It is no such pair; in words.
pub fn read(value: &str, unit: Unit) -> Result<Numbers, String> {
    let (barrier, limit) = value.split_once(':').unwrap_or((value, value));
    Ok((half(barrier, unit)?, half(limit, unit)?))
}

fn half(text: &str, unit: Unit) -> Result<Option<u64>, String> {
    fn amount<T: Amount>(text: &str, number: impl Fn(T) -> u64) -> Result<Option<u64>, String> {
        let limit: Limit<T> = text.parse().map_err(|wrong| format!("{wrong}"))?;
        Ok(limit.amount().map(number).filter(|is| *is < UNLIMITED))
    }
    let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Numbers beyond what OpenVZ's kernel knew are unlimited, as vzctl clips them.
    if bare && text.parse::<u64>().map_or(true, |number| number >= UNLIMITED) {
        return Ok(None);
    }
    match unit {
        Unit::Bytes => amount::<Size>(text, Size::bytes),
        Unit::Pages => amount::<Pages>(text, Pages::pages),
        Unit::Items => amount::<Count>(text, Count::get),
        Unit::KiB if bare => Ok(text.parse().ok()),
        Unit::KiB => amount::<Size>(text, |size: Size| size.bytes().div_ceil(1024)),
    }
}

/// Writes them in the unit of a bare number.
pub fn write((barrier, limit): Numbers) -> String {
    let word = |number: Option<u64>| number.map_or_else(|| "unlimited".to_owned(), |is| is.to_string());
    format!("{}:{}", word(barrier), word(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_openvzs() {
        for (key, value, written) in [
            ("KMEMSIZE", "14M:15M", "14680064:15728640"),
            ("PHYSPAGES", "0:256M", "0:65536"),
            ("NUMPROC", "240", "240:240"),
            ("NUMPROC", "300:240", "300:240"),
            ("DISKSPACE", "2G:2.2G", "2097152:2306868"),
            ("DISKSPACE", "1048576:1153434", "1048576:1153434"),
            ("DISKINODES", "200:unlimited", "200:unlimited"),
            ("VMGUARPAGES", "33792:9223372036854775807", "33792:unlimited"),
            ("OOMGUARPAGES", "1:99999999999999999999", "1:unlimited"),
        ] {
            let (_, unit) = counter(key).unwrap();
            assert_eq!(read(value, unit).map(write).as_deref(), Ok(written), "{key}={value}");
        }
        for value in ["", "many", "1:2:3", "-1", ":"] {
            assert!(read(value, Unit::Items).is_err(), "{value}");
        }
        assert_eq!(counter("HOSTNAME"), None);
    }
}
