//! The best of many runs by a metric, and the checkpoint that has it.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use codex_core::{failure, files};
use serde::Serialize;

use crate::error::TrackError;
use crate::number;
use crate::run_dir::RunDir;
use crate::run_list::RunEntry;
use crate::run_record::RunRecord;
use crate::summary::for_each_metric;
use crate::summary_export::text_table;

/// Which values are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smaller ones, as of a loss.
    Min,
    /// Greater ones, as of an accuracy.
    Max,
}

impl FromStr for Direction {
    type Err = TrackError;

    /// `min` or `max`.
    fn from_str(text: &str) -> Result<Self, TrackError> {
        match text {
            "min" => Ok(Self::Min),
            "max" => Ok(Self::Max),
            other => Err(TrackError::Filter { text: other.to_owned(), expected: "`min` or `max`" }),
        }
    }
}

impl Direction {
    /// The direction of a metric by its name: an accuracy, a score or a speed is better when it is greater, everything else when it is smaller.
    pub fn of(metric: &str) -> Self {
        let last = metric.rsplit('/').next().unwrap_or(metric);
        let greater = ["accuracy", "score", "f1", "exact_match", "bleu", "per_second"];
        if greater.iter().any(|word| last.contains(word)) { Self::Max } else { Self::Min }
    }

    /// The better one first.
    pub(crate) fn order(self, a: f64, b: f64) -> Ordering {
        // -0 and 0 are one value.
        let (a, b) = (a + 0.0, b + 0.0);
        match self {
            Self::Min => a.total_cmp(&b),
            Self::Max => b.total_cmp(&a),
        }
    }
}

/// Where a run's value is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFrom {
    /// Its record: the newest value.
    Summary,
    /// All of its metrics, read from the beginning: the best value of any step.
    EveryStep,
}

/// A run and its value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BestRun {
    /// The run folder.
    pub path: PathBuf,
    /// The run's name.
    pub name: String,
    /// The value; it is finite.
    pub value: f64,
    /// The first step that has it; the run's last where it is from the record.
    pub step: u64,
    /// The checkpoint of that step, where it is kept.
    pub checkpoint: Option<PathBuf>,
}

/// Runs by their value.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BestRuns {
    /// The best first; equal ones by step and then by path.
    pub runs: Vec<BestRun>,
    /// Runs that have no finite value, with the reason.
    pub without: Vec<(PathBuf, String)>,
}

/// The best runs by `metric`, such as `validation/loss`: at most `limit` of them.
pub fn best_runs(entries: &[RunEntry], metric: &str, direction: Direction, from: ValueFrom, limit: usize) -> BestRuns {
    let mut found = BestRuns::default();
    for entry in entries {
        match value_of(entry, metric, direction, from) {
            Ok(Some((record, value, step))) => {
                found.runs.push(BestRun { path: entry.path.clone(), name: record.name.clone(), value, step, checkpoint: None });
            }
            Ok(None) => found.without.push((entry.path.clone(), format!("it has no finite `{metric}`"))),
            Err(reason) => found.without.push((entry.path.clone(), reason)),
        }
    }
    found.runs.sort_by(|a, b| direction.order(a.value, b.value).then(a.step.cmp(&b.step)).then_with(|| a.path.cmp(&b.path)));
    found.runs.truncate(limit);
    for run in &mut found.runs {
        run.checkpoint = checkpoint_at(&run.path, run.step);
    }
    found
}

fn value_of<'a>(
    entry: &'a RunEntry,
    metric: &str,
    direction: Direction,
    from: ValueFrom,
) -> Result<Option<(&'a RunRecord, f64, u64)>, String> {
    let record = entry.record.as_ref().map_err(|error| failure::chain(error))?;
    if from == ValueFrom::Summary {
        let value = record.summary.get(metric).copied().filter(|value| value.is_finite());
        return Ok(value.map(|value| (record, value, record.step)));
    }
    let mut best: Option<(f64, u64)> = None;
    let (split, name) = metric.rsplit_once('/').unwrap_or(("train", metric));
    let run = RunDir::open(&entry.path).map_err(|error| failure::chain(&error))?;
    let read = for_each_metric(&run, |line| {
        let value = line.value.0;
        let is_it = line.split == split && line.metric == name && value.is_finite();
        if is_it && best.is_none_or(|(best, at)| direction.order(value, best).then(line.step.cmp(&at)).is_lt()) {
            best = Some((value, line.step));
        }
    });
    read.map_err(|error| failure::chain(&error))?;
    Ok(best.map(|(value, step)| (record, value, step)))
}

/// The folder of the checkpoint of a step, if it has its manifest.
pub(crate) fn checkpoint_at(run: &Path, step: u64) -> Option<PathBuf> {
    checkpoints_of(run).into_iter().find(|(at, _)| *at == step).map(|(_, path)| path)
}

/// The checkpoints of a run that have their manifest, by step.
pub(crate) fn checkpoints_of(run: &Path) -> Vec<(u64, PathBuf)> {
    let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("step-")?.parse::<u64>().ok();
    let all = files::list_dir(&run.join("checkpoints")).unwrap_or_default();
    let mut found: Vec<(u64, PathBuf)> =
        all.into_iter().filter(|path| path.join("manifest.json").is_file()).filter_map(|path| Some((step(&path)?, path))).collect();
    found.sort();
    found
}

impl BestRuns {
    /// A table for a person.
    pub fn to_table(&self, metric: &str) -> String {
        let rows = self.runs.iter().enumerate().map(|(idx, run)| {
            let folder = run.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let checkpoint = run.checkpoint.as_ref().map_or_else(|| "not kept".to_owned(), |path| path.display().to_string());
            vec![(idx + 1).to_string(), folder, number::text(run.value), run.step.to_string(), checkpoint]
        });
        text_table(&["", "run", metric, "step", "checkpoint"], usize::MAX, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_list::list_runs;
    use codex_core::{Digest, Timestamp};

    fn make(root: &Path, name: &str, last: Option<f64>, values: &[(u64, &str)], checkpoints: &[u64]) {
        let path = root.join(name);
        files::create_dir_all(&path).unwrap();
        let run = RunDir::open(&path).unwrap();
        let mut record = RunRecord::new(&run, name, &[], 1, Digest::of_bytes(b""), Digest::of_bytes(b""), Timestamp(0));
        record.step = 9;
        record.summary.extend(last.map(|last| ("validation/loss".to_owned(), last)));
        record.write(&run).unwrap();
        let line =
            |(step, value): &(u64, &str)| format!(r#"{{"step":{step},"split":"validation","metric":"loss","value":{value}}}"#) + "\n";
        run.write_text("metrics.ndjson", &values.iter().map(line).collect::<String>()).unwrap();
        for step in checkpoints {
            let folder = run.checkpoints().join(format!("step-{step:08}"));
            files::create_dir_all(&folder).unwrap();
            files::write_atomic(&folder.join("manifest.json"), b"{}").unwrap();
        }
    }

    #[test]
    fn the_best_comes_first_and_equal_ones_have_one_order() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), "a", Some(3.0), &[(1, "2.5"), (2, "1.0"), (3, "1.0"), (4, "3")], &[2, 4]);
        make(root.path(), "b", Some(2.0), &[(1, "\"NaN\""), (2, "1"), (9, "2")], &[9]);
        make(root.path(), "c", Some(2.0), &[(9, "2")], &[]);
        make(root.path(), "d", Some(f64::NAN), &[(9, "\"NaN\"")], &[]);
        make(root.path(), "20260101-000000-e", None, &[], &[]);
        files::write_atomic(&root.path().join("20260101-000000-e/run.json"), b"{").unwrap();
        let entries = list_runs(root.path()).unwrap();
        let shown = |direction, from, limit| {
            let found = best_runs(&entries, "validation/loss", direction, from, limit);
            let one = |run: &BestRun| {
                let kept = run.checkpoint.as_ref().map_or("-".to_owned(), |path| path.file_name().unwrap().to_string_lossy().into_owned());
                format!("{} {} {} {kept}", run.name, run.value, run.step)
            };
            assert_eq!(found.without.len(), 2, "{:?}", found.without);
            found.runs.iter().map(one).collect::<Vec<_>>()
        };
        let last = ["b 2 9 step-00000009", "c 2 9 -", "a 3 9 -"];
        assert_eq!(shown(Direction::Min, ValueFrom::Summary, 9), last);
        assert_eq!(shown(Direction::Max, ValueFrom::Summary, 1), ["a 3 9 -"]);
        assert_eq!(shown(Direction::Min, ValueFrom::EveryStep, 9), ["a 1 2 step-00000002", "b 1 2 -", "c 2 9 -"]);
        assert_eq!(shown(Direction::Max, ValueFrom::EveryStep, 1), ["a 3 4 step-00000004"]);
        let table = best_runs(&entries, "validation/loss", Direction::Min, ValueFrom::EveryStep, 2).to_table("validation/loss");
        assert!(table.starts_with("   run  validation/loss  step  checkpoint\n1  a    1.0"), "{table}");
    }

    #[test]
    fn a_direction_is_known_by_the_metric() {
        assert_eq!(
            ["validation/loss", "validation/token_accuracy", "tokens_per_second"].map(Direction::of),
            [Direction::Min, Direction::Max, Direction::Max]
        );
        assert!("min".parse::<Direction>().is_ok() && "up".parse::<Direction>().is_err());
        assert_eq!(Direction::Min.order(-0.0, 0.0), Ordering::Equal);
    }
}
