//! Any number of runs side by side: where their configurations and data differ, and what each measured.

use std::collections::{BTreeMap, BTreeSet};

use codex_core::Digest;
use serde::Serialize;
use serde_json::Value;

use crate::comparison::flatten;
use crate::dataset::DatasetChecksums;
use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::summary::{MetricSummary, summarize};
use crate::summary_export::text_table;

/// The most runs that are compared at once.
pub const MAX_RUNS: usize = 64;

/// What sets runs apart; every list of values has one for each run, in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ManyRuns {
    /// The runs' ids.
    pub runs: Vec<String>,
    /// Values of the configuration that are not the same in all.
    pub config: Vec<ConfigRow>,
    /// Files of the data that are not the same in all.
    pub data: Vec<DataRow>,
    /// What any of them measured, by split, metric and dataset.
    pub metrics: Vec<MetricRow>,
}

/// A value of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfigRow {
    /// Its key, such as `train.learning_rate`.
    pub key: String,
    /// `None` where a run has no such key.
    pub values: Vec<Option<Value>>,
}

/// A file of the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataRow {
    /// Its path.
    pub path: String,
    /// `None` where a run did not read it.
    pub digests: Vec<Option<Digest>>,
}

/// A metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricRow {
    /// Such as `validation`.
    pub split: String,
    /// Such as `loss`.
    pub metric: String,
    /// What it was measured on, where that is said.
    pub dataset: Option<String>,
    /// `None` where a run did not measure it.
    pub values: Vec<Option<MetricSummary>>,
}

/// Compares runs; their resolved configurations come as JSON, one for each.
///
/// # Errors
/// Files that cannot be read, and more than [`MAX_RUNS`] runs.
pub fn compare_many(runs: &[&RunDir], configs: &[&Value]) -> Result<ManyRuns, TrackError> {
    if runs.len() > MAX_RUNS {
        return Err(TrackError::TooMany { path: runs[MAX_RUNS].path().to_owned(), what: "runs before it to compare", most: MAX_RUNS });
    }
    let mut flat = vec![BTreeMap::new(); runs.len()];
    for (flat, config) in flat.iter_mut().zip(configs) {
        flatten("", config, flat);
    }
    let keys: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    let config = keys.into_iter().map(|key| ConfigRow { key: key.clone(), values: flat.iter().map(|of| of.get(key).cloned()).collect() });
    let config = config.filter(|row| row.values.iter().any(|value| *value != row.values[0])).collect();
    let mut files: BTreeMap<String, Vec<Option<Digest>>> = BTreeMap::new();
    let mut metrics: BTreeMap<(String, String, Option<String>), Vec<Option<MetricSummary>>> = BTreeMap::new();
    for (idx, run) in runs.iter().enumerate() {
        for source in DatasetChecksums::read(run)?.sources {
            files.entry(source.path).or_insert_with(|| vec![None; runs.len()])[idx] = Some(source.blake3);
        }
        for it in summarize(run)?.metrics {
            let key = (it.split.clone(), it.metric.clone(), it.dataset.clone());
            metrics.entry(key).or_insert_with(|| vec![None; runs.len()])[idx] = Some(it);
        }
    }
    let data = files.into_iter().map(|(path, digests)| DataRow { path, digests });
    let data = data.filter(|row| row.digests.iter().any(|digest| *digest != row.digests[0])).collect();
    let metrics = metrics.into_iter().map(|((split, metric, dataset), values)| MetricRow { split, metric, dataset, values }).collect();
    Ok(ManyRuns { runs: runs.iter().map(|run| run.id()).collect(), config, data, metrics })
}

/// A value as a cell.
pub(crate) fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

impl ManyRuns {
    /// Tables for a person: the runs by number, what differs, and the last value of each metric with the best in brackets.
    pub fn to_text(&self) -> String {
        let numbers: Vec<String> = (1..=self.runs.len()).map(|n| format!("[{n}]")).collect();
        let head = |name: &'static str| std::iter::once(name).chain(numbers.iter().map(String::as_str)).collect::<Vec<_>>();
        let listed = self.runs.iter().zip(&numbers).flat_map(|(run, number)| [number.as_str(), " ", run, "\n"]);
        let mut text: String = listed.collect();
        let mut part = |title: &'static str, rows: Vec<Vec<String>>| {
            text.push('\n');
            let made = if rows.is_empty() { format!("{title}: no difference\n") } else { text_table(&head(title), 1, rows) };
            text.push_str(&made);
        };
        let row = |name: &String, cells: Vec<String>| std::iter::once(name.clone()).chain(cells).collect::<Vec<_>>();
        part(
            "configuration",
            self.config.iter().map(|it| row(&it.key, it.values.iter().map(|value| shown(value.as_ref())).collect())).collect(),
        );
        let digest = |digest: &Option<Digest>| digest.map_or_else(|| "-".to_owned(), |digest| digest.short());
        part("data", self.data.iter().map(|it| row(&it.path, it.digests.iter().map(digest).collect())).collect());
        let measured = self.metrics.iter().map(|it| {
            let name = [Some(it.split.as_str()), Some(it.metric.as_str()), it.dataset.as_deref()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ");
            let cell = |value: &Option<MetricSummary>| {
                value.as_ref().map_or_else(|| "-".to_owned(), |it| format!("{:.4} ({:.4})", it.last, it.min))
            };
            row(&name, it.values.iter().map(cell).collect())
        });
        part("last (least)", measured.collect());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::SourceChecksum;
    use serde_json::json;

    fn run(root: &std::path::Path, name: &str, losses: &[f64], text: &str) -> RunDir {
        codex_core::files::create_dir_all(&root.join(name)).unwrap();
        let run = RunDir::open(&root.join(name)).unwrap();
        let line =
            |(step, value): (usize, &f64)| json!({ "step": step, "split": "train", "metric": "loss", "value": value }).to_string() + "\n";
        run.write_text("metrics.ndjson", &losses.iter().enumerate().map(line).collect::<String>()).unwrap();
        let source = |path: &str, text: &str| SourceChecksum { path: path.to_owned(), bytes: 1, blake3: Digest::of_bytes(text.as_bytes()) };
        DatasetChecksums::new(vec![source("same.txt", "x"), source("a.txt", text)]).write(&run).unwrap();
        run
    }

    #[test]
    fn what_is_not_the_same_in_all_is_listed_with_a_value_of_each() {
        let root = tempfile::tempdir().unwrap();
        let runs =
            [run(root.path(), "one", &[4.0, 2.0, 3.0], "x"), run(root.path(), "two", &[4.0], "x"), run(root.path(), "three", &[], "y")];
        let configs = [
            json!({ "train": { "lr": 0.1, "steps": 3 } }),
            json!({ "train": { "lr": 0.1, "steps": 3 }, "x": "w" }),
            json!({ "train": { "lr": 0.3, "steps": 3 } }),
        ];
        let found = compare_many(&runs.each_ref(), &configs.each_ref()).unwrap();
        assert_eq!(found.runs, ["one", "two", "three"]);
        assert_eq!(found.config.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["train.lr", "x"]);
        assert_eq!(found.config[1].values, [None, Some(json!("w")), None]);
        assert_eq!((found.data.len(), found.data[0].path.as_str()), (1, "a.txt"));
        let loss = &found.metrics[0].values;
        assert_eq!((loss[0].as_ref().unwrap().min_step, loss[1].as_ref().unwrap().count, &loss[2]), (Some(1), 1, &None));
        let text = found.to_text();
        assert!(
            text.starts_with(
                "[1] one\n[2] two\n[3] three\n\nconfiguration  [1]  [2]  [3]\ntrain.lr       0.1  0.1  0.3\nx                -    w    -\n"
            ),
            "{text}"
        );
        assert!(text.contains("train loss    3.0000 (2.0000)  4.0000 (4.0000)    -\n"), "{text}");
        let page = crate::report::render_many(&runs.each_ref(), &found).unwrap();
        assert!(page.contains("train.lr") && page.contains("a.txt") && page.matches("<svg").count() == 2, "{page}");
        let many = vec![&runs[0]; MAX_RUNS + 1];
        assert!(compare_many(&many, &[]).unwrap_err().to_string().contains("more than 64 runs"));
    }
}
