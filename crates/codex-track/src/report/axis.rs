//! An axis: which part of the numbers it shows, where a number lies on it, and the ticks with their labels.

use super::wording;

/// Larger values are not drawn: a range of them cannot be divided into ticks.
pub(super) const LARGEST_DRAWN: f64 = 1e30;

/// Smaller ones are zero, for the same reason.
const SMALLEST_DRAWN: f64 = 1e-30;

/// How an axis spreads its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// Between the least and the greatest.
    Linear,
    /// From zero.
    FromZero,
    /// Equal factors are equal distances.
    Log,
}

/// An axis with its ticks.
#[derive(Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    /// Where each tick is and what it says.
    pub(super) ticks: Vec<(f64, String)>,
    /// The power of ten that was taken out of the labels: `×10⁻⁴`, or nothing.
    pub(super) factor: String,
}

impl Axis {
    /// An axis over these values with about `n_ticks` ticks; `None` without a value that can be drawn.
    pub(super) fn over(values: impl Iterator<Item = f64>, spread: Spread, n_ticks: usize) -> Option<Self> {
        let is_log = spread == Spread::Log;
        let places = values.filter_map(|value| position(value, is_log));
        let (low, high) = places.fold(None, |range: Option<(f64, f64)>, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })?;
        let (low, high) = if spread == Spread::FromZero { (low.min(0.0), high.max(0.0)) } else { (low, high) };
        let size = low.abs().max(high.abs());
        let room = if high > low { ((high - low) * 0.05).max(size * 1e-9) } else { size.max(1e-9) * 0.5 };
        let is_floor = spread == Spread::FromZero && low >= 0.0;
        let mut axis =
            Self { low: if is_floor { low } else { low - room }, high: high + room, is_log, ticks: Vec::new(), factor: String::new() };
        if is_log {
            axis.tick_powers();
        } else {
            axis.tick_evenly(n_ticks);
        }
        Some(axis)
    }

    /// An axis that ends exactly at the least and greatest of the values.
    pub(super) fn exactly(low: f64, high: f64, n_ticks: usize) -> Self {
        // Steps are whole numbers.
        let high = high.max(low + 1.0 + low.abs() * 1e-9);
        let mut axis = Self { low, high, is_log: false, ticks: Vec::new(), factor: String::new() };
        axis.tick_evenly(n_ticks);
        axis
    }

    /// Where a value lies: 0 at the low end, 1 at the high end; `None` when it cannot be drawn.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let value = position(value, self.is_log)?;
        Some((value - self.low) / (self.high - self.low))
    }

    fn tick_evenly(&mut self, n_ticks: usize) {
        let step = nice_step((self.high - self.low) / n_ticks.max(1) as f64);
        let first = (self.low / step).ceil();
        let places = (0..=3 * n_ticks).map(|idx| (first + idx as f64) * step).take_while(|&value| value <= self.high + step * 1e-9);
        let greatest = self.low.abs().max(self.high.abs());
        let exponent = if (0.01..1e7).contains(&greatest) { 0 } else { greatest.log10().floor() as i32 };
        let unit = 10_f64.powi(exponent);
        if exponent != 0 {
            self.factor = format!("×10{}", wording::superscript(exponent));
        }
        let (scale, suffix) = match greatest {
            _ if exponent != 0 => (unit, ""),
            _ if greatest >= 1e6 && step >= 1e4 => (1e6, "M"),
            _ if greatest >= 1e4 && step >= 100.0 => (1e3, "k"),
            _ => (1.0, ""),
        };
        let decimals = (-(step / scale * 1.000_001).log10().floor()).clamp(0.0, 6.0) as usize;
        let label = |value: f64| {
            let suffix = if value.abs() > 0.0 { suffix } else { "" };
            // A zero must not be `-0`.
            format!("{:.decimals$}{suffix}", value / scale + 0.0)
        };
        self.ticks = places.map(|value| (value, label(if value.abs() < step * 1e-9 { 0.0 } else { value }))).collect();
    }

    fn tick_powers(&mut self) {
        let (first, last) = (self.low.ceil() as i32, self.high.floor() as i32);
        let every = ((last - first) / 6 + 1).max(1) as usize;
        let mut values: Vec<f64> = (first..=last).step_by(every).map(|power| 10_f64.powi(power)).collect();
        if values.len() < 3 {
            // Too narrow for whole powers: 2 and 5 between them.
            let between = (first - 1..=last).flat_map(|power| [2.0, 5.0].map(|part| part * 10_f64.powi(power)));
            values.extend(between.filter(|value| (self.low..=self.high).contains(&value.log10())));
            values.sort_by(f64::total_cmp);
        }
        self.ticks = values.into_iter().map(|value| (value, plain(value))).collect();
    }
}

/// A value on its scale; `None` when it cannot be drawn.
fn position(value: f64, is_log: bool) -> Option<f64> {
    let size = value.abs();
    if !value.is_finite() || size > LARGEST_DRAWN || (is_log && value < SMALLEST_DRAWN) {
        return None;
    }
    Some(if is_log {
        value.log10()
    } else if size < SMALLEST_DRAWN {
        0.0
    } else {
        value
    })
}

/// The shortest form of a tick of one digit.
fn plain(value: f64) -> String {
    if (0.001..10_000.0).contains(&value) { format!("{}", (value * 1e6).round() / 1e6) } else { wording::value(value) }
}

/// The nearest of 1, 2, 5, 10, … times a power of ten.
fn nice_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.max(1e-30).log10().floor());
    let part = rough / power;
    // The borders are the geometric means.
    let nice = [(1.0, 1.414), (2.0, 3.162), (5.0, 7.071)].into_iter().find(|&(_, border)| part <= border);
    nice.map_or(10.0, |(nice, _)| nice) * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(values: &[f64], spread: Spread) -> String {
        let axis = Axis::over(values.iter().copied(), spread, 5).unwrap();
        let labels: Vec<String> = axis.ticks.into_iter().map(|(_, label)| label).collect();
        format!("{} {}", labels.join(" "), axis.factor).trim_end().to_owned()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&[2.1, 7.9], Spread::Linear), "2 3 4 5 6 7 8");
        assert_eq!(labels(&[3.41, 3.52], Spread::Linear), "3.42 3.44 3.46 3.48 3.50 3.52");
        assert_eq!(labels(&[1e-5, 3e-4], Spread::FromZero), "0.0 0.5 1.0 1.5 2.0 2.5 3.0 ×10⁻⁴");
        assert_eq!(labels(&[8000.0, 41_000.0], Spread::FromZero), "0 10k 20k 30k 40k");
        assert_eq!(labels(&[0.0, 1_530_000.0], Spread::FromZero), "0.0 0.5M 1.0M 1.5M");
        assert_eq!(labels(&[0.02, 150.0], Spread::Log), "0.1 1 10 100");
        assert_eq!(labels(&[0.9, 4.0], Spread::Log), "1 2");
        assert_eq!(labels(&[5.0], Spread::Linear), "3 4 5 6 7");
        assert_eq!(labels(&[-1.0, 1.0], Spread::Linear), "-1.0 -0.5 0.0 0.5 1.0");
    }

    #[test]
    fn values_lie_between_the_ends() {
        let axis = Axis::exactly(0.0, 200.0, 4);
        assert_eq!([axis.place(0.0), axis.place(50.0), axis.place(f64::NAN)], [Some(0.0), Some(0.25), None]);
        assert!(Axis::over([f64::NAN, f64::INFINITY, 1e40].into_iter(), Spread::Linear, 5).is_none());
        assert_eq!(labels(&[0.0, 6e-309], Spread::Linear), labels(&[0.0], Spread::Linear));
        assert!(Axis::over([0.0, -1.0].into_iter(), Spread::Log, 5).is_none());
    }

    proptest! {
        #[test]
        fn any_values_have_an_axis_with_few_ticks(values: Vec<f64>, kind in 0_usize..3, n_ticks in 1_usize..9) {
            let spread = [Spread::Linear, Spread::FromZero, Spread::Log][kind];
            if let Some(axis) = Axis::over(values.iter().copied(), spread, n_ticks) {
                prop_assert!(axis.ticks.len() <= 3 * n_ticks + 12);
                for place in values.iter().filter_map(|&value| axis.place(value)) {
                    prop_assert!((-1e-6..=1.0 + 1e-6).contains(&place), "{place}");
                }
            }
        }
    }
}
