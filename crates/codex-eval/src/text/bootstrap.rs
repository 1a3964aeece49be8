//! How far a mean may be trusted: the percentile interval of the bootstrap (Efron 1979, <https://doi.org/10.1214/aos/1176344552>; Koehn 2004,
//! <https://aclanthology.org/W04-3250>, for scores of texts). Randomness is the caller's, so that a seeded stream gives the same interval again.

use crate::error::EvalError;
use crate::text::mean;

/// How many resamples are usual.
pub const DEFAULT_RESAMPLES: usize = 1000;

/// Most resamples there may be.
pub const MAX_RESAMPLES: usize = 1_000_000;

/// A mean and where means of resampled records lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean of the values.
    pub mean: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The share of resampled means that lies between the ends, such as 0.95.
    pub level: f64,
    /// How many times the values were resampled.
    pub n_resamples: usize,
}

/// The interval that holds the middle share `level` of the means of `n_resamples` resamples, each as many values as there are, drawn with replacement.
///
/// `draw` gives numbers in [0, 1), one for each value of each resample in order; other numbers count as the nearest of these. The ends are quantiles with
/// linear interpolation, as numpy's `percentile` gives them. Time is values x resamples.
pub fn bootstrap_mean(values: &[f64], n_resamples: usize, level: f64, draw: impl FnMut() -> f64) -> Result<Interval, EvalError> {
    if let Some(&found) = values.iter().find(|value| !value.is_finite()) {
        return Err(EvalError::OutOfRange { what: "value", expected: "a finite number", found });
    }
    let of = |sample: &[usize]| sample.iter().map(|&idx| values[idx]).sum::<f64>() / values.len() as f64;
    let (low, high) = bootstrap(values.len(), n_resamples, level, draw, of)?;
    Ok(Interval { mean: mean(values), low, high, level, n_resamples })
}

/// The ends of the interval that holds the middle share `level` of what `statistic` makes of `n_resamples` resamples: the places of as many of
/// `n_records` records as there are, drawn with replacement as [`bootstrap_mean`] draws them.
pub fn bootstrap(
    n_records: usize,
    n_resamples: usize,
    level: f64,
    mut draw: impl FnMut() -> f64,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Result<(f64, f64), EvalError> {
    let Some(last) = n_records.checked_sub(1) else {
        return Err(EvalError::NoRecords { what: "bootstrap" });
    };
    if !(1..=MAX_RESAMPLES).contains(&n_resamples) {
        return Err(EvalError::OutOfRange { what: "number of resamples", expected: "1 to 1,000,000", found: n_resamples as f64 });
    }
    if !(level > 0.0 && level < 1.0) {
        return Err(EvalError::OutOfRange { what: "level", expected: "more than 0 and less than 1", found: level });
    }
    let mut found = Vec::with_capacity(n_resamples);
    let mut sample = vec![0; n_records];
    for _ in 0..n_resamples {
        for place in &mut sample {
            // A cast of what is below 0, or not a number, gives 0.
            *place = ((draw() * n_records as f64) as usize).min(last);
        }
        found.push(statistic(&sample));
    }
    found.sort_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    Ok((quantile(&found, tail), quantile(&found, 1.0 - tail)))
}

/// The value at a share of the way through sorted values, between two of them in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let below = place.floor();
    let at = |idx: usize| sorted.get(idx).or(sorted.last()).copied().unwrap_or_default();
    let (low, high) = (at(below as usize), at(below as usize + 1));
    low + (high - low) * (place - below)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        for (share, want) in [(0.0, 1.0), (0.5, 3.0), (0.25, 2.0), (0.125, 1.5), (1.0, 9.0)] {
            assert!((quantile(&[1.0, 2.0, 3.0, 4.0, 9.0], share) - want).abs() < 1e-12);
        }
        assert!((quantile(&[7.0], 0.3) - 7.0).abs() < 1e-12);
    }

    #[test]
    fn a_stream_that_always_draws_the_same_has_no_spread() {
        let found = bootstrap_mean(&[1.0, 2.0, 6.0], 10, 0.95, || 0.99).unwrap();
        assert_eq!((found.mean, found.low, found.high), (3.0, 6.0, 6.0));
        // Draws that are none are taken as the nearest.
        for (drawn, want) in [(1.5, 2.0), (-0.5, 1.0), (f64::NAN, 1.0)] {
            let found = bootstrap_mean(&[1.0, 2.0], 10, 0.95, || drawn).unwrap();
            assert_eq!((found.low, found.high), (want, want));
        }
    }

    #[test]
    fn what_has_no_interval_is_refused() {
        for (values, n, level) in
            [(&[][..], 10, 0.95), (&[f64::NAN], 10, 0.95), (&[1.0], 0, 0.95), (&[1.0], 2_000_000, 0.95), (&[1.0], 10, 1.0)]
        {
            assert!(bootstrap_mean(values, n, level, || 0.5).is_err());
        }
    }

    proptest! {
        #[test]
        fn the_interval_lies_within_the_values(values in prop::collection::vec(-1e3..1e3, 1..30), seed in 1_u64..) {
            let mut state = seed;
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 11) as f64 / (1_u64 << 53) as f64
            };
            let found = bootstrap_mean(&values, 50, 0.9, &mut draw).unwrap();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(least - 1e-9 <= found.low && found.low <= found.high && found.high <= most + 1e-9, "{found:?}");
        }
    }
}
