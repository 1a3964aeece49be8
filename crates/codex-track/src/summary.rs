//! The metrics of a run in a few numbers each, read from `metrics.ndjson`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::TrackError;
use crate::line_log::Line;
use crate::metric::ReadLine;
use crate::metric_files::for_each_metric_line;
use crate::number;
use crate::run_dir::RunDir;

/// The metrics of a run, and how much of the file was not readable.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MetricSummaries {
    /// One for each split and metric, sorted by both.
    pub metrics: Vec<MetricSummary>,
    /// Finished lines that are no metric. An unfinished last line is not counted.
    pub bad_lines: u64,
}

/// One metric of one split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricSummary {
    /// `train` or `validation`.
    pub split: String,
    /// Such as `loss`.
    pub metric: String,
    /// How many values there are.
    pub count: u64,
    /// How many of them are not finite; the least, greatest and mean are of the others.
    pub non_finite: u64,
    /// The first value.
    #[serde(serialize_with = "number::serialize")]
    pub first: f64,
    /// The last value.
    #[serde(serialize_with = "number::serialize")]
    pub last: f64,
    /// The least.
    #[serde(serialize_with = "number::serialize")]
    pub min: f64,
    /// The greatest.
    #[serde(serialize_with = "number::serialize")]
    pub max: f64,
    /// The mean.
    #[serde(serialize_with = "number::serialize")]
    pub mean: f64,
    /// The step of the first value.
    pub first_step: u64,
    /// The step of the last value.
    pub last_step: u64,
}

/// Sums up the metrics of a run; none when it has written none.
pub fn summarize(run: &RunDir) -> Result<MetricSummaries, TrackError> {
    let mut metrics: BTreeMap<(String, String), MetricSummary> = BTreeMap::new();
    let bad_lines = for_each_metric(run, |line| {
        let value = line.value.0;
        let summary = metrics.entry((line.split, line.metric)).or_insert_with_key(|(split, metric)| MetricSummary {
            split: split.clone(),
            metric: metric.clone(),
            count: 0,
            non_finite: 0,
            first: value,
            last: value,
            min: f64::NAN,
            max: f64::NAN,
            mean: f64::NAN,
            first_step: line.step,
            last_step: line.step,
        });
        summary.count += 1;
        summary.last = value;
        summary.last_step = line.step;
        if value.is_finite() {
            // `min` and `max` of a NaN and a number are the number.
            summary.min = summary.min.min(value);
            summary.max = summary.max.max(value);
            let n = (summary.count - summary.non_finite) as f64;
            let before = if n > 1.0 { summary.mean } else { 0.0 };
            summary.mean = before + (value - before) / n;
        } else {
            summary.non_finite += 1;
        }
    })?;
    Ok(MetricSummaries { metrics: metrics.into_values().collect(), bad_lines })
}

/// The values of one metric of one split by step; where a step has several, the last.
pub fn series(run: &RunDir, split: &str, metric: &str) -> Result<BTreeMap<u64, f64>, TrackError> {
    let mut found = BTreeMap::new();
    for_each_metric(run, |line| {
        if line.split == split && line.metric == metric {
            found.insert(line.step, line.value.0);
        }
    })?;
    Ok(found)
}

/// Visits each metric of a run in the order in which it was written; returns how many lines are none. In a shared folder those are other tools' and not counted.
pub(crate) fn for_each_metric(run: &RunDir, mut visit: impl FnMut(ReadLine)) -> Result<u64, TrackError> {
    let (dir, is_shared) = run.metrics_location();
    let id = run.id();
    let mut bad_lines = 0;
    for_each_metric_line(&dir, |line| match line {
        Line::Torn => {}
        Line::TooLong => bad_lines += u64::from(!is_shared),
        Line::Whole(whole) => match serde_json::from_slice::<ReadLine>(whole) {
            Ok(line) if !is_shared || line.run_id == id => visit(line),
            Ok(_) => {}
            Err(_) => bad_lines += u64::from(!is_shared),
        },
    })?;
    Ok(bad_lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_summed_up_and_bad_lines_are_counted() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        assert_eq!(summarize(&run).unwrap(), MetricSummaries::default());
        let line = |step: u64, metric: &str, value: &str| {
            format!(r#"{{"run_id":"r","step":{step},"split":"train","metric":"{metric}","value":{value}}}"#)
        };
        let lines = [
            line(1, "loss", "4.0"),
            line(2, "loss", "\"NaN\""),
            "nonsense".to_owned(),
            line(3, "loss", "1"),
            line(4, "loss", "2.5"),
            line(4, "bad", "\"Infinity\""),
            r#"{"step":5,"split":"train"}"#.to_owned(),
            r#"{"step":5,"spl"#.to_owned(),
        ];
        run.write_text("metrics.ndjson", &lines.join("\n")).unwrap();
        let summaries = summarize(&run).unwrap();
        assert_eq!(summaries.bad_lines, 2);
        assert_eq!(summaries.metrics.iter().map(|one| one.metric.as_str()).collect::<Vec<_>>(), ["bad", "loss"]);
        let loss = &summaries.metrics[1];
        let numbers = format!("{} {} {} {} {}", loss.first, loss.last, loss.min, loss.max, loss.mean);
        assert_eq!(numbers, "4 2.5 1 4 2.5");
        assert_eq!([loss.count, loss.non_finite, loss.first_step, loss.last_step], [4, 1, 1, 4]);
        let bad = serde_json::to_value(&summaries.metrics[0]).unwrap();
        assert_eq!((&bad["first"], &bad["mean"]), (&"Infinity".into(), &"NaN".into()));
    }
}
