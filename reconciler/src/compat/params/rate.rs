//! Traffic shaping of OpenVZ: `--rate DEVICE:CLASS:KBITS` and `--ratebound`. Pure.
//!
//! There a rate is what a container is guaranteed of what it sends through a device to addresses of a class, and the most too if
//! it is bound. Here a VE has a bound of all that it sends, so that a bound rate of all devices and of the class of all addresses
//! is carried out, and nothing else is.

use vzd_schema::edit::Value;

use super::Written;
use crate::compat::draft::Draft;

const OUT: &str = "spec.network.rate.out";

/// The bound of what the container sends.
pub fn rate(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    let words: Vec<&str> = value.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let [one] = words[..] else { return Err("what a container sends has one bound: `*:1:KBITS`".to_owned()) };
    let parts: Vec<&str> = one.split(':').collect();
    let [device, class, kbits] = parts[..] else { return Err(format!("`{one}` is no DEVICE:CLASS:KBITS")) };
    let kbits: u64 = kbits.parse().map_err(|_| format!("`{kbits}` is no number of kilobits a second"))?;
    if device != "*" {
        return Err(format!(
            "a container's links are bound, not {device} of the host, which all use: say `*`"
        ));
    }
    if class != "1" {
        return Err(format!("there is no class {class} of addresses: class 1, that of all, is bound"));
    }
    if kbits == 0 {
        return Err("nothing could be sent at a rate of 0".to_owned());
    }
    draft.set(OUT, Value::Word(format!("{kbits}K")));
    Ok(())
}

/// Whether the rate is a bound: it always is; without a bound there is none.
pub fn ratebound(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    if !super::truth(value)? && draft.get(OUT).is_some() {
        draft.remove(OUT);
    }
    Ok(())
}

/// Whether these two together can be carried out, of a container that has a bound already or not.
///
/// # Errors
///
/// They would be a guarantee, or nothing; in words.
pub fn fits(rate: Option<&str>, bound: Option<&str>, is_bound: bool) -> Result<(), String> {
    let why = match (rate, bound) {
        (None, Some("yes")) if !is_bound => "there is no rate that could be a bound: give --rate too",
        (Some(_), Some("no")) => "a rate that is no bound is a guarantee, and nothing keeps one",
        (Some(_), None) if !is_bound => {
            "a rate that is no bound is a guarantee, and nothing keeps one: --ratebound yes makes it one"
        }
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// Whether a container has a bound.
pub fn is_bound(draft: &Draft) -> bool {
    draft.get(OUT).is_some_and(|out| out != "unlimited")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_is_what_the_container_sends() {
        let mut draft = Draft::default();
        rate(&mut draft, "*:1:512", Written::Option).unwrap();
        assert_eq!(draft.texts("spec.network.rate.out"), [""; 0]);
        assert!(is_bound(&draft) && draft.get(OUT).is_some_and(|is| is == "512K"));
        for wrong in ["eth0:1:512", "*:2:512", "*:1", "*:1:x", "*:1:0", "*:1:8 eth1:1:8", ""] {
            assert!(rate(&mut draft, wrong, Written::Option).is_err(), "{wrong}");
        }
        ratebound(&mut draft, "no", Written::Option).unwrap();
        assert!(!is_bound(&draft));
    }

    #[test]
    fn a_guarantee_is_refused() {
        let rate = Some("*:1:8");
        for (rate, bound, is_bound, fit) in [
            (rate, None, false, false),
            (rate, None, true, true),
            (rate, Some("no"), true, false),
            (rate, Some("yes"), false, true),
            (None, Some("yes"), false, false),
            (None, Some("no"), false, true),
        ] {
            assert_eq!(fits(rate, bound, is_bound).is_ok(), fit, "{rate:?} {bound:?} {is_bound}");
        }
    }
}
