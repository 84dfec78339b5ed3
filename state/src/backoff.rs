//! How long to wait before the next try: 750 ms doubling to 15 min, with jitter.

use crate::units::Millis;

/// The first wait.
pub const FIRST: Millis = Millis(750);
/// The longest wait, before jitter.
pub const LONGEST: Millis = Millis::from_secs(15 * 60);
/// A run that lasted this long was a success: what went wrong before it no longer counts.
pub const STABLE: Millis = Millis::from_secs(10 * 60);

/// A fraction from 0 to 1 that the caller draws at random, so that many VEs do not retry as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// The middle: no jitter.
    pub const NONE: Self = Self(0.5);

    /// A fraction made of 32 random bits.
    pub fn from_bits(bits: u32) -> Self {
        Self(f64::from(bits) / f64::from(u32::MAX))
    }
}

/// The wait after so many failures in a row, give or take a tenth; none after no failure.
pub fn delay(failures: u32, jitter: Jitter) -> Millis {
    let Some(doublings) = failures.checked_sub(1) else { return Millis(0) };
    let exact = FIRST.0.saturating_mul(1u64.checked_shl(doublings).unwrap_or(u64::MAX)).min(LONGEST.0);
    let tenth = exact / 10;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2 × 90000")]
    let offset = (2.0 * jitter.0 * tenth as f64) as u64;
    Millis(exact - tenth + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_quarter_of_an_hour() {
        let waits: Vec<_> = (0..5).map(|n| delay(n, Jitter::NONE).0).collect();
        assert_eq!(waits, [0, 750, 1500, 3000, 6000]);
        for failures in [12, 64, 65, u32::MAX] {
            assert_eq!(delay(failures, Jitter::NONE), LONGEST);
        }
        assert_eq!(delay(1, Jitter::from_bits(0)), Millis(675));
        assert_eq!(delay(1, Jitter::from_bits(u32::MAX)), Millis(825));
    }
}
