//! Medians and spreads of a few measurements.

use serde::Serialize;

/// A few measurements in four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The value in the middle; of an even number of values the mean of the two in the middle.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// How many there were.
    pub n: usize,
}

impl Summary {
    /// Sums up the finite values; `None` when there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max, n) = (*sorted.first()?, *sorted.last()?, sorted.len());
        let median = if n % 2 == 1 { sorted[n / 2] } else { f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]) };
        Some(Self { median, min, max, n })
    }

    /// From the smallest to the largest value, in percent of the median.
    pub fn spread_percent(&self) -> f64 {
        100.0 * (self.max - self.min) / self.median.abs().max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        assert_eq!(Summary::of([9.0, 1.0, 4.0]), Some(Summary { median: 4.0, min: 1.0, max: 9.0, n: 3 }));
        assert_eq!(Summary::of([9.0, 1.0, 4.0, 5.0]), Some(Summary { median: 4.5, min: 1.0, max: 9.0, n: 4 }));
        assert_eq!(Summary::of([2.5]), Some(Summary { median: 2.5, min: 2.5, max: 2.5, n: 1 }));
    }

    #[test]
    fn what_is_not_a_number_is_not_counted() {
        assert_eq!(Summary::of([f64::NAN, 3.0, f64::INFINITY]).map(|summary| (summary.median, summary.n)), Some((3.0, 1)));
        assert_eq!(Summary::of([]), None);
        assert_eq!(Summary::of([f64::NAN]), None);
    }

    #[test]
    fn the_spread_is_in_percent_of_the_median() {
        let summary = Summary::of([90.0, 100.0, 120.0]).unwrap();
        assert!((summary.spread_percent() - 30.0).abs() < 1e-12);
    }
}
