//! Curves in a line of text.

/// The most values that are held of a curve; then each is the mean of twice as many.
const MOST_HELD: usize = 512;

/// A curve in bounded memory, by means of equally many values each.
#[derive(Clone, Debug)]
pub(crate) struct Spark {
    means: Vec<f64>,
    per_mean: u64,
    sum: f64,
    n_finite: u64,
    n: u64,
    /// The newest value.
    pub(crate) last: f64,
}

impl Spark {
    pub(crate) fn new() -> Self {
        Self { means: Vec::new(), per_mean: 1, sum: 0.0, n_finite: 0, n: 0, last: f64::NAN }
    }

    /// One more value; those that are not finite are in no mean.
    pub(crate) fn add(&mut self, value: f64) {
        self.last = value;
        self.n += 1;
        if value.is_finite() {
            self.sum += value;
            self.n_finite += 1;
        }
        if self.n < self.per_mean {
            return;
        }
        self.means.push(self.sum / self.n_finite as f64);
        (self.sum, self.n_finite, self.n) = (0.0, 0, 0);
        if self.means.len() == MOST_HELD {
            self.means = self.means.chunks(2).map(mean).collect();
            self.per_mean *= 2;
        }
    }

    /// The curve over a number of columns, fewer where there are fewer values.
    pub(crate) fn draw(&self, width: usize, is_unicode: bool) -> String {
        let values = self.columns(width);
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let levels =
            if is_unicode { ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] } else { ['_', '.', ':', '-', '=', '+', '*', '#'] };
        let level = |value: f64| {
            if !value.is_finite() {
                return if is_unicode { '×' } else { 'x' };
            }
            // Halves, so that the distance of two huge values is a number.
            let (place, size) = (value / 2.0 - low / 2.0, high / 2.0 - low / 2.0);
            let share = if size > 0.0 { place / size } else { 0.5 };
            levels[((share * 8.0) as usize).min(7)]
        };
        values.iter().map(|&value| level(value)).collect()
    }

    /// Where it goes: the last quarter of the curve against the quarter before, by at least a twentieth of what both span.
    pub(crate) fn trend(&self, is_unicode: bool) -> char {
        let values = self.columns(32);
        let quarter = values.len() / 4;
        let end = values.len();
        let flat = if is_unicode { '→' } else { '-' };
        if quarter == 0 {
            return flat;
        }
        let (now, before) = (mean(&values[end - quarter..]), mean(&values[end - 2 * quarter..end - quarter]));
        let span = values[end - 2 * quarter..].iter().filter(|value| value.is_finite());
        let (low, high) = span.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
        let change = now - before;
        if !change.is_finite() || change.abs() <= (high - low) * 0.05 {
            flat
        } else if change > 0.0 {
            if is_unicode { '↗' } else { '/' }
        } else if is_unicode {
            '↘'
        } else {
            '\\'
        }
    }

    fn columns(&self, width: usize) -> Vec<f64> {
        let rest = (self.n > 0).then(|| self.sum / self.n_finite as f64);
        let all: Vec<f64> = self.means.iter().copied().chain(rest).collect();
        if all.len() <= width || width == 0 {
            return all.into_iter().take(width).collect();
        }
        (0..width).map(|idx| mean(&all[idx * all.len() / width..(idx + 1) * all.len() / width])).collect()
    }
}

/// The mean of the finite values; a NaN where there is none.
fn mean(values: &[f64]) -> f64 {
    let finite = || values.iter().filter(|value| value.is_finite());
    let n = finite().count() as f64;
    finite().map(|value| value / n).sum::<f64>() + if n > 0.0 { 0.0 } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Spark {
        let mut spark = Spark::new();
        values.into_iter().for_each(|value| spark.add(value));
        spark
    }

    #[test]
    fn a_curve_is_drawn_from_its_least_to_its_greatest() {
        let up = of((0..8).map(f64::from));
        assert_eq!((up.draw(20, true), up.draw(20, false), up.trend(true)), ("▁▂▃▄▅▆▇█".to_owned(), "_.:-=+*#".to_owned(), '↗'));
        assert_eq!(of([3.0, f64::NAN, 1.0]).draw(20, true), "█×▁");
        assert_eq!((of([2.0; 5]).draw(3, true), of([2.0; 9]).trend(true), of([]).draw(3, true)), ("▅▅▅".to_owned(), '→', String::new()));
        assert_eq!((of((0..9).rev().map(f64::from)).trend(false), of([1e308, -1e308]).draw(2, false)), ('\\', "#_".to_owned()));
        assert_eq!(up.draw(0, true), "");
    }

    #[test]
    fn a_long_curve_is_held_in_bounded_memory_and_keeps_its_shape() {
        let long = of((0..100_000).map(f64::from));
        assert!(long.means.len() < MOST_HELD);
        assert_eq!((long.draw(8, true).as_str(), long.trend(true), long.last.to_bits()), ("▁▂▃▄▅▆▇█", '↗', 99_999.0_f64.to_bits()));
    }
}
