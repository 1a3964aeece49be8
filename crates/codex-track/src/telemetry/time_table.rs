//! How long the spans of each name took. Durations are kept as counts by size, so that memory does not grow with their number.

use std::collections::BTreeMap;

use serde::Serialize;

/// Each power of two of nanoseconds is cut into 2 to this many parts: a percentile is right within 1 in 256.
const BITS: u32 = 7;

/// The durations of one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    count: u64,
    total: f64,
    own: f64,
    max: f64,
    buckets: BTreeMap<u64, u64>,
}

impl Times {
    pub(crate) fn add(&mut self, seconds: f64, own_seconds: f64) {
        self.count += 1;
        self.total += seconds;
        self.own += own_seconds;
        self.max = self.max.max(seconds);
        *self.buckets.entry(bucket((seconds * 1e9).max(0.0) as u64)).or_default() += 1;
    }

    /// The duration that this part of them does not exceed, in seconds.
    fn percentile(&self, part: f64) -> f64 {
        let rank = ((part * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (&bucket, &n) in &self.buckets {
            seen += n;
            if seen >= rank {
                return (middle(bucket) / 1e9).min(self.max);
            }
        }
        self.max
    }
}

/// The bucket of a number: its power of two and the bits behind its first.
fn bucket(nanoseconds: u64) -> u64 {
    let bits = u64::BITS - nanoseconds.leading_zeros();
    match bits.checked_sub(BITS + 1) {
        None | Some(0) => nanoseconds,
        Some(shift) => (u64::from(shift) << BITS) + (nanoseconds >> shift),
    }
}

/// The middle of a bucket's numbers.
fn middle(bucket: u64) -> f64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    let first = (bucket - (shift << BITS)) as f64 * (1_u64 << shift) as f64;
    first + ((1_u64 << shift) - 1) as f64 / 2.0
}

/// One name in the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimeRow {
    /// The name of the spans.
    pub name: String,
    /// How many there were.
    pub count: u64,
    /// What they took together.
    pub total_seconds: f64,
    /// What of that was not spent in spans inside them.
    pub own_seconds: f64,
    /// The part that their own time is of the whole time, between 0 and 1 where one thread is traced.
    pub share: f64,
    /// The mean of one.
    pub mean_seconds: f64,
    /// What half of them do not exceed, within 1 in 256.
    pub p50_seconds: f64,
    /// What 95 of 100 do not exceed, within 1 in 256.
    pub p95_seconds: f64,
    /// The longest.
    pub max_seconds: f64,
}

/// Where the time went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimeTable {
    /// The names, those first that took the most time of their own.
    pub rows: Vec<TimeRow>,
    /// From the beginning of the trace to the table.
    pub elapsed_seconds: f64,
}

impl TimeTable {
    pub(crate) fn new(times: &BTreeMap<String, Times>, elapsed_seconds: f64) -> Self {
        let row = |(name, times): (&String, &Times)| TimeRow {
            name: name.clone(),
            count: times.count,
            total_seconds: times.total,
            own_seconds: times.own,
            share: if elapsed_seconds > 0.0 { times.own / elapsed_seconds } else { 0.0 },
            mean_seconds: times.total / times.count.max(1) as f64,
            p50_seconds: times.percentile(0.5),
            p95_seconds: times.percentile(0.95),
            max_seconds: times.max,
        };
        let mut rows: Vec<TimeRow> = times.iter().map(row).collect();
        rows.sort_by(|a, b| b.own_seconds.total_cmp(&a.own_seconds).then_with(|| a.name.cmp(&b.name)));
        Self { rows, elapsed_seconds }
    }

    /// The table as text, one line a name.
    pub fn text(&self) -> String {
        let wide = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(4);
        let mut text = format!(
            "{:<wide$} {:>9} {:>10} {:>10} {:>6} {:>10} {:>10} {:>10} {:>10}\n",
            "span", "count", "total s", "own s", "share", "mean ms", "p50 ms", "p95 ms", "max ms"
        );
        for row in &self.rows {
            let ms = |seconds: f64| format!("{:.3}", seconds * 1e3);
            text.push_str(&format!(
                "{:<wide$} {:>9} {:>10.3} {:>10.3} {:>5.1}% {:>10} {:>10} {:>10} {:>10}\n",
                row.name,
                row.count,
                row.total_seconds,
                row.own_seconds,
                100.0 * row.share,
                ms(row.mean_seconds),
                ms(row.p50_seconds),
                ms(row.p95_seconds),
                ms(row.max_seconds),
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(durations: &[f64], elapsed: f64) -> TimeTable {
        let mut times = Times::default();
        for &seconds in durations {
            times.add(seconds, seconds / 2.0);
        }
        TimeTable::new(&BTreeMap::from([("forward".to_owned(), times)]), elapsed)
    }

    #[test]
    fn a_row_has_its_sums_and_percentiles() {
        let durations: Vec<f64> = (1..=100).map(f64::from).map(|n| n / 1000.0).collect();
        let row = table(&durations, 10.1).rows[0].clone();
        let is_near = |found: f64, expected: f64| (found - expected).abs() <= expected / 256.0;
        assert_eq!(row.count, 100);
        assert!((row.total_seconds - 5.05).abs() < 1e-9 && (row.share - 0.25).abs() < 1e-9 && (row.mean_seconds - 0.0505).abs() < 1e-9);
        assert!(is_near(row.p50_seconds, 0.050) && is_near(row.p95_seconds, 0.095) && (row.max_seconds - 0.1).abs() < 1e-12, "{row:?}");
    }

    #[test]
    fn the_text_has_a_line_a_name() {
        let text = table(&[0.002, 0.002], 0.01).text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "span        count    total s      own s  share    mean ms     p50 ms     p95 ms     max ms");
        assert!(lines[1].starts_with("forward         2      0.004      0.002  20.0%      2.000 "), "{text}");
        assert_eq!(table(&[], 0.0).rows[0].p95_seconds.to_bits(), 0.0_f64.to_bits());
    }

    proptest! {
        #[test]
        fn a_bucket_is_near_its_numbers(nanoseconds in 0_u64..(1 << 53)) {
            let near = middle(bucket(nanoseconds));
            prop_assert!((near - nanoseconds as f64).abs() <= nanoseconds as f64 / 256.0, "{near}");
        }

        #[test]
        fn buckets_are_in_the_order_of_their_numbers(a in any::<u64>(), b in any::<u64>()) {
            prop_assert_eq!(a.cmp(&b).then(bucket(a).cmp(&bucket(b))), a.cmp(&b));
            prop_assert!(a > b || bucket(a) <= bucket(b));
        }

        #[test]
        fn percentiles_are_those_of_the_sorted_list(list in proptest::collection::vec(1_u32..1_000_000, 1..60)) {
            let mut sorted = list.clone();
            sorted.sort_unstable();
            let durations: Vec<f64> = list.iter().map(|&us| f64::from(us) / 1e6).collect();
            let row = table(&durations, 1.0).rows[0].clone();
            let expected = f64::from(sorted[(sorted.len() * 95).div_ceil(100) - 1]) / 1e6;
            prop_assert!((row.p95_seconds - expected).abs() <= expected / 250.0, "{} {}", row.p95_seconds, expected);
        }
    }
}
