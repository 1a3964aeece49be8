//! Two runs side by side: where their configurations and data differ, and the step at which what was measured parts.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::dataset::{DatasetChecksums, Drift};
use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::summary::for_each_metric;

/// What sets two runs apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Values of the configuration that differ, by key.
    pub config: Vec<ConfigDifference>,
    /// Files of the data that differ, by path.
    pub data: Vec<Drift>,
    /// What both measured, by split and metric.
    pub metrics: Vec<MetricComparison>,
}

/// A value of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfigDifference {
    /// Its key, such as `train.learning_rate`.
    pub key: String,
    /// In the first run; `None` where it has no such key.
    pub first: Option<Value>,
    /// In the second.
    pub second: Option<Value>,
}

/// A metric of both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricComparison {
    /// `train` or `validation`.
    pub split: String,
    /// Such as `loss`.
    pub metric: String,
    /// Steps that both have a value of.
    pub common_steps: usize,
    /// The first of them whose values differ in any bit.
    pub parts_at: Option<u64>,
    /// The last values of both, and their steps.
    pub last: [Option<(u64, f64)>; 2],
}

/// Metrics that say how fast a machine was, which no two runs share.
const OF_THE_MACHINE: [&str; 1] = ["tokens_per_second"];

type Series = BTreeMap<(String, String), BTreeMap<u64, f64>>;

/// Compares two runs; their resolved configurations come as JSON.
///
/// # Errors
/// Files of either that cannot be read.
pub fn compare(runs: [&RunDir; 2], configs: [&Value; 2]) -> Result<Comparison, TrackError> {
    let mut flat = [BTreeMap::new(), BTreeMap::new()];
    for (flat, config) in flat.iter_mut().zip(configs) {
        flatten("", config, flat);
    }
    let keys: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    let difference =
        |key: &String| ConfigDifference { key: key.clone(), first: flat[0].get(key).cloned(), second: flat[1].get(key).cloned() };
    let config = keys.into_iter().map(difference).filter(|it| it.first != it.second).collect();
    let data = DatasetChecksums::drift(&DatasetChecksums::read(runs[0])?, &DatasetChecksums::read(runs[1])?);
    let (first, second) = (series_of(runs[0])?, series_of(runs[1])?);
    let names: BTreeSet<&(String, String)> = first.keys().chain(second.keys()).collect();
    let metrics = names.into_iter().filter(|name| !OF_THE_MACHINE.contains(&name.1.as_str())).map(|name| {
        let none = BTreeMap::new();
        let (a, b) = (first.get(name).unwrap_or(&none), second.get(name).unwrap_or(&none));
        let common = || a.iter().filter_map(|(step, value)| Some((*step, *value, *b.get(step)?)));
        let parts_at = common().find(|(_, a, b)| a.to_bits() != b.to_bits()).map(|(step, ..)| step);
        let last = |of: &BTreeMap<u64, f64>| of.last_key_value().map(|(step, value)| (*step, *value));
        MetricComparison {
            split: name.0.clone(),
            metric: name.1.clone(),
            common_steps: common().count(),
            parts_at,
            last: [last(a), last(b)],
        }
    });
    Ok(Comparison { config, data, metrics: metrics.collect() })
}

impl Comparison {
    /// The first step at which anything that both measured differs.
    pub fn parts_at(&self) -> Option<u64> {
        self.metrics.iter().filter_map(|metric| metric.parts_at).min()
    }
}

fn series_of(run: &RunDir) -> Result<Series, TrackError> {
    let mut found = Series::new();
    for_each_metric(run, |line| {
        found.entry((line.split, line.metric)).or_default().insert(line.step, line.value.0);
    })?;
    Ok(found)
}

/// The leaves of a configuration by dotted key; a list is a leaf.
pub(crate) fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, into);
            }
        }
        other => {
            into.insert(prefix.to_owned(), other.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::SourceChecksum;
    use codex_core::Digest;
    use serde_json::json;

    fn run(values: &[(u64, f64)], text: &str) -> (tempfile::TempDir, RunDir) {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let lines = values.iter().map(|(step, value)| {
            let line =
                |metric: &str, value: f64| format!(r#"{{"run_id":"r","step":{step},"split":"train","metric":"{metric}","value":{value}}}"#);
            [line("loss", *value), line("tokens_per_second", 1.0 / value)].join("\n") + "\n"
        });
        run.write_text("metrics.ndjson", &lines.collect::<String>()).unwrap();
        let source = SourceChecksum { path: "a.txt".to_owned(), bytes: 1, blake3: Digest::of_bytes(text.as_bytes()) };
        DatasetChecksums::new(vec![source]).write(&run).unwrap();
        (root, run)
    }

    #[test]
    fn what_differs_is_named_with_its_place() {
        let (_a, first) = run(&[(1, 4.0), (2, 3.5), (3, 3.0)], "x");
        let (_b, second) = run(&[(1, 4.0), (2, 3.25), (3, 3.0), (4, 2.0)], "y");
        let config =
            |rate: f64, extra: Value| json!({ "train": { "learning_rate": rate, "steps": 3 }, "data": { "train": ["a"] }, "x": extra });
        let found = compare([&first, &second], [&config(0.1, json!({})), &config(0.2, json!({ "y": 1 }))]).unwrap();
        let keys: Vec<&str> = found.config.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, ["train.learning_rate", "x", "x.y"]);
        assert_eq!((found.data.len(), found.parts_at(), found.metrics.len()), (1, Some(2), 1));
        assert_eq!((found.metrics[0].common_steps, found.metrics[0].last), (3, [Some((3, 3.0)), Some((4, 2.0))]));
        let same = compare([&first, &first], [&config(0.1, json!(1)), &config(0.1, json!(1))]).unwrap();
        assert_eq!((same.config.len(), same.data.len(), same.parts_at()), (0, 0, None));
    }
}
