//! Medians, floors and ratios. Must not smooth or weigh anything: the rounds are as they were.

use std::time::Duration;

/// Middle value; of an even number, the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// Median of the ratios of values of the same round.
pub(crate) fn paired_ratio(values: &[f64], to: &[f64]) -> f64 {
    median(&values.iter().zip(to).map(|(value, base)| value / base).collect::<Vec<_>>())
}

/// The mean of the fastest fifth: what it takes when nothing else is waited for.
pub(crate) fn fastest(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.truncate(values.len().div_ceil(5));
    mean(&sorted)
}

/// Arithmetic mean.
pub(crate) fn mean(values: &[f64]) -> f64 {
    let count = u32::try_from(values.len()).map_or(f64::NAN, f64::from);
    values.iter().sum::<f64>() / count
}

/// In milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(fastest(&[9.0, 3.0, 8.0, 1.0, 7.0, 6.0]), 2.0);
        assert_eq!(paired_ratio(&[1.0, 4.0, 9.0], &[2.0, 4.0, 3.0]), 1.0);
    }
}
