//! Metrics in a few numbers each, read line by line from `metrics.ndjson` and the files that were turned over before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::TrackError;
use crate::line_log::{Line, for_each_line};
use crate::metric::ReadLine;
use crate::metric_files::for_each_metric_line;
use crate::number;
use crate::run_dir::RunDir;

/// The most series, each of a run, split, metric and dataset, that are summed up at once; so much is held in memory and no more.
pub const MAX_SERIES: usize = 10_000;
/// A longer name of a run, split, metric or dataset makes its line a bad one.
const MAX_NAME_BYTES: usize = 1024;

/// Metrics in a few numbers each, and how much was not readable.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MetricSummaries {
    /// One for each run, split, metric and dataset, sorted by these.
    pub metrics: Vec<MetricSummary>,
    /// Finished lines that are no metric. An unfinished last line is not counted.
    pub bad_lines: u64,
}

/// One metric of one split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricSummary {
    /// The run; that of the folder where its lines do not say.
    pub run_id: String,
    /// `train`, `validation`, or `validation/NAME` of a set.
    pub split: String,
    /// Such as `loss`.
    pub metric: String,
    /// What it was measured on, where the lines say.
    pub dataset: Option<String>,
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
    /// The least; a NaN where no value is finite, as the next two are.
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
    /// The first step with the least value.
    pub min_step: Option<u64>,
    /// The first step with the greatest value.
    pub max_step: Option<u64>,
    /// When the first value was written, RFC 3339 in UTC, where its line says.
    pub first_at: Option<String>,
    /// When the last was.
    pub last_at: Option<String>,
}

/// Run, split, metric and dataset.
type Key = (String, String, String, Option<String>);

/// Sums up lines as they come; what is held grows with the series and not with the lines.
#[derive(Debug, Default)]
struct Summing {
    series: BTreeMap<Key, MetricSummary>,
    /// Whether a line was left out, for one series more would have been too many.
    is_full: bool,
}

impl Summing {
    fn add(&mut self, run_id: String, line: ReadLine) {
        let key = (run_id, line.split, line.metric, line.dataset);
        let value = line.value.0;
        if !self.series.contains_key(&key) && self.series.len() == MAX_SERIES {
            self.is_full = true;
            return;
        }
        let summary = self.series.entry(key).or_insert_with_key(|(run_id, split, metric, dataset)| MetricSummary {
            run_id: run_id.clone(),
            split: split.clone(),
            metric: metric.clone(),
            dataset: dataset.clone(),
            count: 0,
            non_finite: 0,
            first: value,
            last: value,
            min: f64::NAN,
            max: f64::NAN,
            mean: f64::NAN,
            first_step: line.step,
            last_step: line.step,
            min_step: None,
            max_step: None,
            first_at: line.timestamp.clone(),
            last_at: None,
        });
        summary.count += 1;
        summary.last = value;
        summary.last_step = line.step;
        summary.last_at = line.timestamp;
        if !value.is_finite() {
            summary.non_finite += 1;
            return;
        }
        let n = (summary.count - summary.non_finite) as f64;
        if summary.min_step.is_none() || value < summary.min {
            (summary.min, summary.min_step) = (value, Some(line.step));
        }
        if summary.max_step.is_none() || value > summary.max {
            (summary.max, summary.max_step) = (value, Some(line.step));
        }
        let before = if n > 1.0 { summary.mean } else { 0.0 };
        // The difference of two huge values is no number; their parts are.
        summary.mean = before + (value / n - before / n);
    }

    fn finish(self, path: &Path, bad_lines: u64) -> Result<MetricSummaries, TrackError> {
        if self.is_full {
            return Err(TrackError::TooMany { path: path.to_owned(), what: "series of metrics", most: MAX_SERIES });
        }
        Ok(MetricSummaries { metrics: self.series.into_values().collect(), bad_lines })
    }
}

/// Sums up the metrics of a run; none when it has written none.
///
/// # Errors
/// Files that cannot be read, and more than [`MAX_SERIES`] series.
pub fn summarize(run: &RunDir) -> Result<MetricSummaries, TrackError> {
    let mut summing = Summing::default();
    let id = run.id();
    let bad_lines = for_each_metric(run, |line| summing.add(id.clone(), line))?;
    summing.finish(run.path(), bad_lines)
}

/// Sums up the metrics of many runs and files in one pass: a folder is a run, and its files that were put away (`metrics-00001.ndjson`, …) are read before the
/// one that is written to; a file is read as it is. Lines of a file that do not name their run are of the run `-`.
///
/// # Errors
/// A path that does not exist or cannot be read, and more than [`MAX_SERIES`] series.
pub fn summarize_metrics(paths: &[PathBuf]) -> Result<MetricSummaries, TrackError> {
    let mut summing = Summing::default();
    let mut bad_lines = 0;
    for path in paths {
        if path.is_dir() {
            let run = RunDir::open(path)?;
            let id = run.id();
            bad_lines += for_each_metric(&run, |line| summing.add(id.clone(), line))?;
        } else {
            for_each_line(path, |line| match read_line(&line) {
                Ok(Some(mut line)) => {
                    let named = std::mem::take(&mut line.run_id);
                    summing.add(if named.is_empty() { "-".to_owned() } else { named }, line);
                }
                Ok(None) => {}
                Err(()) => bad_lines += 1,
            })?;
        }
        if summing.is_full {
            return summing.finish(path, bad_lines);
        }
    }
    summing.finish(Path::new("."), bad_lines)
}

/// The metric of a line; `None` for an unfinished one, and an error for one that is none.
pub(crate) fn read_line(line: &Line<'_>) -> Result<Option<ReadLine>, ()> {
    match line {
        Line::Torn => Ok(None),
        Line::TooLong => Err(()),
        Line::Whole(whole) => {
            let read = ReadLine::of(whole).ok_or(())?;
            let names = [&read.run_id, &read.split, &read.metric].into_iter().chain(&read.dataset);
            if names.into_iter().any(|name| name.len() > MAX_NAME_BYTES) { Err(()) } else { Ok(Some(read)) }
        }
    }
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
    for_each_metric_line(&dir, |line| match read_line(&line) {
        Ok(Some(line)) if !is_shared || line.run_id == id => visit(line),
        Ok(_) => {}
        Err(()) => bad_lines += u64::from(!is_shared),
    })?;
    Ok(bad_lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::files;

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

    #[test]
    fn steps_of_the_extremes_times_datasets_and_runs_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let line = |run: &str, step: u64, dataset: &str, value: &str| {
            format!(
                r#"{{"timestamp":"t{step}","run_id":"{run}","step":{step},"split":"validation","metric":"loss","dataset":{dataset},"value":{value}}}"#
            )
        };
        let run_path = root.path().join("r");
        files::create_dir_all(&run_path).unwrap();
        let write = |name: &str, lines: &[String]| files::write_atomic(&run_path.join(name), (lines.join("\n") + "\n").as_bytes()).unwrap();
        // Turned over twice: the oldest is read first.
        write("metrics-00001.ndjson", &[line("r", 1, "null", "4"), line("r", 2, "null", "1"), "{}".to_owned()]);
        write("metrics-00002.ndjson", &[line("r", 3, "null", "1"), line("r", 3, "\"a\"", "7")]);
        write("metrics.ndjson", &[line("r", 4, "null", "9"), line("r", 5, "null", "\"NaN\""), line("r", 6, "null", "9")]);
        let other = root.path().join("other.ndjson");
        files::write_atomic(&other, (line("", 1, "null", "2") + "\n" + &line("q", 1, "null", "\"NaN\"") + "\nx\ny").as_bytes()).unwrap();
        let found = summarize_metrics(&[run_path.clone(), other.clone()]).unwrap();
        assert_eq!(found.bad_lines, 2);
        let keys: Vec<String> = found.metrics.iter().map(|it| format!("{} {}", it.run_id, it.dataset.as_deref().unwrap_or("-"))).collect();
        assert_eq!(keys, ["- -", "q -", "r -", "r a"]);
        let main = &found.metrics[2];
        assert_eq!((main.min, main.min_step, main.max, main.max_step), (1.0, Some(2), 9.0, Some(4)));
        assert_eq!((main.count, main.non_finite, main.mean), (6, 1, 4.8));
        assert_eq!((main.first_at.as_deref(), main.last_at.as_deref(), main.first_step, main.last_step), (Some("t1"), Some("t6"), 1, 6));
        assert_eq!((found.metrics[1].min_step, found.metrics[1].min.is_nan()), (None, true));
        assert_eq!(summarize(&RunDir::open(&run_path).unwrap()).unwrap().metrics, found.metrics[2..]);
        assert!(summarize_metrics(&[root.path().join("absent")]).is_err());
    }

    #[test]
    fn more_series_than_are_held_are_refused_and_huge_values_have_a_mean() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m.ndjson");
        let line = |metric: &str, value: &str| format!(r#"{{"step":1,"split":"s","metric":"{metric}","value":{value}}}"#) + "\n";
        let all: String = (0..MAX_SERIES).map(|idx| line(&idx.to_string(), "1")).collect();
        files::write_atomic(&path, all.as_bytes()).unwrap();
        assert_eq!(summarize_metrics(std::slice::from_ref(&path)).unwrap().metrics.len(), MAX_SERIES);
        files::write_atomic(&path, (all + &line("one more", "1")).as_bytes()).unwrap();
        let error = summarize_metrics(std::slice::from_ref(&path)).unwrap_err();
        assert!(error.to_string().ends_with("has more than 10000 series of metrics"), "{error}");
        files::write_atomic(&path, (line("a", "1e308") + &line("a", "-1.5e308") + &line(&"x".repeat(2000), "1")).as_bytes()).unwrap();
        let found = summarize_metrics(&[path]).unwrap();
        assert_eq!((found.metrics.len(), found.bad_lines, found.metrics[0].mean.is_finite()), (1, 1, true));
    }
}
