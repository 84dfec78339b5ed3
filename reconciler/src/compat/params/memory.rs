//! Parameters that are reckoned from a container's RAM and swap: what they come to is what the manifest says, whatever they are said
//! before or after. Pure.

use serde_json::Value as Json;
use vzd_schema::edit::Value;
use vzd_schema::v1::scalars::{Limit, Pages, Pair, Size};

use super::Written;
use crate::compat::draft::Draft;

const PRIVVMPAGES: &str = "spec.beancounters.privvmpages";
const GUARANTEE: &str = "spec.memory.guarantee";

/// How much of it the container may have, in bytes, of either spelling; none without a limit.
fn limit(draft: &Draft, field: &str, counter: &str) -> Option<u64> {
    let text = |is: &Json| is.as_str().map_or_else(|| is.to_string(), str::to_owned);
    if let Some(pages) = draft.get(&format!("spec.beancounters.{counter}")) {
        return text(pages).parse::<Pair<Pages>>().ok()?.limit().amount().map(|pages| pages.size().bytes());
    }
    match text(draft.get(&format!("spec.memory.{field}"))?).parse::<Limit<Size>>().ok()? {
        Limit::At(size) => Some(size.bytes()),
        Limit::Unlimited => None,
    }
}

/// What a number in thousandths makes of an amount.
fn times(bytes: u64, thousandths: u64) -> u64 {
    let product = u128::from(bytes) * u128::from(thousandths) / 1000;
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// A number with up to three places behind the point, in thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(format!("{part:0<3}").parse().ok()?)
}

/// Private memory is bound by RAM and swap together, times this; 0 is no bound.
pub fn vm_overcommit(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    let factor = thousandths(value).ok_or_else(|| format!("`{value}` is no factor such as 1.5"))?;
    if factor == 0 {
        draft.set(PRIVVMPAGES, Value::Word("unlimited".to_owned()));
        return Ok(());
    }
    let ram = limit(draft, "ram", "physpages").ok_or("there is no limit of RAM that could be multiplied")?;
    let swap = limit(draft, "swap", "swappages").unwrap_or_default();
    let pages = Pages::of(Size::from_bytes(times(ram.saturating_add(swap), factor)));
    draft.set(PRIVVMPAGES, Value::word(pages));
    Ok(())
}

/// A part of RAM, in percent, that is not taken back from the container; `auto` is none.
pub fn memguarantee(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    if value == "auto" {
        draft.remove(GUARANTEE);
        return Ok(());
    }
    let percent: u64 =
        value.trim_end_matches('%').parse().map_err(|_| format!("`{value}` is neither auto nor percent"))?;
    if percent > 100 {
        return Err(format!("`{value}` is more than all of it"));
    }
    let ram =
        limit(draft, "ram", "physpages").ok_or("there is no limit of RAM that this could be a part of")?;
    draft.set(GUARANTEE, Value::word(Size::from_bytes(times(ram, percent * 10))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn they_are_reckoned_from_ram_and_swap() {
        let draft = || Draft::new(&json!({ "memory": { "ram": "512M", "swap": "1G" } }), None);
        let said = |draft: &Draft, field: &str| draft.get(field).map(ToString::to_string);
        let mut one = draft();
        vm_overcommit(&mut one, "1.5", Written::Option).unwrap();
        assert_eq!(said(&one, PRIVVMPAGES), Some("589824".to_owned()));
        vm_overcommit(&mut one, "0", Written::Option).unwrap();
        assert_eq!(said(&one, PRIVVMPAGES), Some("\"unlimited\"".to_owned()));
        memguarantee(&mut one, "25%", Written::Option).unwrap();
        assert_eq!(said(&one, GUARANTEE), Some("\"128M\"".to_owned()));
        memguarantee(&mut one, "auto", Written::Option).unwrap();
        assert_eq!(said(&one, GUARANTEE), None);
        let mut counters = Draft::new(
            &json!({ "beancounters": { "physpages": "0:1000", "swappages": "0:unlimited" } }),
            None,
        );
        vm_overcommit(&mut counters, "2", Written::Option).unwrap();
        assert_eq!(said(&counters, PRIVVMPAGES), Some("2000".to_owned()));
        for wrong in ["", "x", "1.2345", "-1", "1e3"] {
            assert!(vm_overcommit(&mut draft(), wrong, Written::Option).is_err(), "{wrong}");
        }
        assert!(memguarantee(&mut draft(), "101", Written::Option).is_err());
        assert!(vm_overcommit(&mut Draft::default(), "1", Written::Option).is_err());
    }
}
