//! What a report shows, read from the run's files. What is missing or unreadable is noted, never made up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codex_core::files;
use serde_json::{Map, Value};

use super::ReportOptions;
use super::streams::{Drawn, Happened, Metrics, read_system};
use super::wording::clipped;
use crate::annotation::Annotations;
use crate::best::checkpoints_of;
use crate::dataset::{DatasetChecksums, SourceChecksum};
use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::run_record::RunRecord;
use crate::verdict::VerifyRecord;
use crate::{dataset, environment, report};

/// The longest value of a configuration or an environment, in characters.
const MAX_VALUE_CHARS: usize = 400;
/// The most files that are listed, and the most checkpoints.
const MAX_FILES: usize = 400;
const MAX_CHECKPOINTS: usize = 200;

/// What the model wrote at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) step: u64,
    pub(super) prompt: String,
    pub(super) text: String,
}

/// One value of the configuration and the layer that set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) layer: String,
    pub(super) place: String,
}

/// A checkpoint that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) step: u64,
    pub(super) folder: String,
    pub(super) bytes: u64,
    /// `latest`, `best`, or what else is said of it.
    pub(super) marks: Vec<String>,
}

/// How much text a split of the data has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SplitCounts {
    pub(super) name: String,
    pub(super) documents: Option<u64>,
    pub(super) tokens: Option<u64>,
    pub(super) text_bytes: Option<u64>,
}

/// Everything a report shows.
#[derive(Debug)]
pub(super) struct ReportData {
    pub(super) record: RunRecord,
    /// The folder's name, to say commands with.
    pub(super) folder: String,
    pub(super) metrics: Metrics,
    system: BTreeMap<String, Drawn>,
    pub(super) happened: Happened,
    pub(super) settings: Vec<Setting>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) sources: Vec<SourceChecksum>,
    pub(super) splits: Vec<SplitCounts>,
    pub(super) checkpoints: Vec<Checkpoint>,
    pub(super) verdict: Option<VerifyRecord>,
    /// Path in the run folder and size.
    pub(super) files: Vec<(String, u64)>,
    /// What could not be read.
    pub(super) notes: Vec<String>,
}

impl ReportData {
    /// Reads a run; only its record must be there.
    pub(super) fn read(run: &RunDir, options: ReportOptions<'_>) -> Result<Self, TrackError> {
        let mut record = RunRecord::read(run)?.seen(run);
        let mut notes = Vec::new();
        match Annotations::read(run) {
            Ok(said) => said.apply(&mut record),
            Err(error) => notes.push(codex_core::failure::chain(&error)),
        }
        let (metrics, system) = (Metrics::read(run, &mut notes), read_system(run, &mut notes));
        let happened = Happened::read(run, &mut notes);
        let mut data = Self {
            record,
            folder: run.id(),
            metrics,
            system,
            happened,
            settings: Vec::new(),
            environment: Vec::new(),
            sources: Vec::new(),
            splits: Vec::new(),
            checkpoints: Vec::new(),
            verdict: options.verdict.cloned(),
            files: Vec::new(),
            notes,
        };
        data.read_settings(run);
        if let Some(environment) = data.optional::<Value>(run, environment::FILE) {
            flatten("", &environment, &mut data.environment);
        }
        data.sources = data.optional::<DatasetChecksums>(run, dataset::FILE).map(|checksums| checksums.sources).unwrap_or_default();
        data.splits = data.optional::<Value>(run, "data.manifest.json").as_ref().map(splits).unwrap_or_default();
        data.read_checkpoints(run);
        if data.verdict.is_none() {
            match VerifyRecord::read(run) {
                Ok(verdict) => data.verdict = verdict,
                Err(error) => data.note(&error),
            }
        }
        list_files(run.path(), "", &mut data.files);
        Ok(data)
    }

    /// A measured curve.
    pub(super) fn curve(&self, split: &str, metric: &str) -> Option<&Drawn> {
        self.metrics.curves.get(&(split.to_owned(), metric.to_owned()))
    }

    /// The values of a metric; empty when there are none.
    pub(super) fn series(&self, split: &str, metric: &str) -> &[(f64, f64)] {
        self.curve(split, metric).map_or(&[], |curve| &curve.points)
    }

    /// The values of a machine sample by step.
    pub(super) fn machine(&self, name: &str) -> &[(f64, f64)] {
        self.system.get(name).map_or(&[], |curve| &curve.points)
    }

    /// The newest value of a split's metric: the record's, or else the last one written.
    pub(super) fn newest(&self, split: &str, metric: &str) -> Option<f64> {
        let written = || self.series(split, metric).last().map(|point| point.1);
        self.record.summary.get(&format!("{split}/{metric}")).copied().or_else(written)
    }

    /// The names of the validation sets that have one, sorted.
    pub(super) fn validation_sets(&self) -> Vec<&str> {
        let names = self.metrics.curves.keys().filter_map(|(split, _)| split.strip_prefix("validation/"));
        let mut names: Vec<&str> = names.collect();
        names.dedup();
        names
    }

    fn read_checkpoints(&mut self, run: &RunDir) {
        let at = |name: &str| PathBuf::from("checkpoints").join(name).to_string_lossy().into_owned();
        let folder = |value: &Value| value.get("folder").and_then(Value::as_str).map(str::to_owned);
        let latest = self.optional::<Value>(run, &at("latest.json")).as_ref().and_then(folder);
        let best = self.optional::<Value>(run, &at("best.json")).unwrap_or_default();
        let metric = best.get("metric").and_then(Value::as_str).unwrap_or("metric");
        let items = best.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let found = checkpoints_of(run.path());
        let skipped = found.len().saturating_sub(MAX_CHECKPOINTS);
        self.checkpoints = found
            .into_iter()
            .skip(skipped)
            .map(|(step, path)| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let bytes = files::list_dir(&path).unwrap_or_default().iter().filter_map(|file| files::size(file).ok()).sum();
                let mut marks: Vec<String> = (latest.as_ref() == Some(&name)).then(|| "latest".to_owned()).into_iter().collect();
                let value = items.iter().find(|item| folder(item).as_ref() == Some(&name)).and_then(|item| item.get("value")?.as_f64());
                marks.extend(value.map(|value| format!("best by {metric}: {}", super::wording::value(value))));
                Checkpoint { step, folder: name, bytes, marks }
            })
            .collect();
    }

    fn read_settings(&mut self, run: &RunDir) {
        let path = run.path().join("config.resolved.toml");
        let text = match files::read_to_string(&path) {
            Err(error) if error.is_not_found() => return,
            Err(error) => return self.note(&error.into()),
            Ok(text) => text,
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => return self.notes.push(format!("`{}` cannot be read: {}", path.display(), error.message())),
        };
        let origins: Map<String, Value> = self.optional(run, "config.sources.json").unwrap_or_default();
        let mut values = Vec::new();
        flatten_toml("", &toml::Value::Table(table), &mut values);
        self.settings = values
            .into_iter()
            .map(|(key, value)| {
                let origin = origins.get(&key);
                let part = |name: &str| origin.and_then(|origin| origin.get(name)).map(plain).unwrap_or_default();
                let line = if part("line").is_empty() { String::new() } else { format!(":{}", part("line")) };
                let place = format!("{}{}{}{line}", part("name"), part("path"), part("text"));
                Setting { key, value: clipped(&value, MAX_VALUE_CHARS), layer: part("layer"), place: clipped(&place, MAX_VALUE_CHARS) }
            })
            .collect();
    }

    /// A JSON file of the run that may be absent.
    fn optional<T: serde::de::DeserializeOwned>(&mut self, run: &RunDir, name: &str) -> Option<T> {
        match run.read_json(name) {
            Ok(value) => Some(value),
            Err(TrackError::File(error)) if error.is_not_found() => None,
            Err(error) => {
                self.note(&error);
                None
            }
        }
    }

    fn note(&mut self, error: &TrackError) {
        self.notes.push(codex_core::failure::chain(error));
    }
}

/// What `data.manifest.json` says of the splits.
fn splits(manifest: &Value) -> Vec<SplitCounts> {
    let of = |(name, split): (&String, &Value)| {
        let count = |key: &str| split.get(key).and_then(Value::as_u64);
        SplitCounts { name: clipped(name, 80), documents: count("count"), tokens: count("tokens"), text_bytes: count("text_bytes") }
    };
    manifest.get("splits").and_then(Value::as_object).map(|splits| splits.iter().take(MAX_FILES).map(of).collect()).unwrap_or_default()
}

/// A value as text; a string without its quotes.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The leaves of a JSON value by dotted key; a list is one leaf, and what is empty is none.
fn flatten(prefix: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                flatten(&dotted(prefix, key), inner, leaves);
            }
        }
        Value::Array(items) => leaves.push((prefix.to_owned(), items.iter().map(plain).collect::<Vec<_>>().join(" "))),
        Value::Null => {}
        leaf => leaves.push((prefix.to_owned(), plain(leaf))),
    }
    // The newest one is the only one that can be empty or too long.
    if let Some((_, text)) = leaves.last_mut() {
        *text = clipped(text, MAX_VALUE_CHARS);
    }
    drop(leaves.pop_if(|(_, text)| text.is_empty()));
}

fn flatten_toml(prefix: &str, value: &toml::Value, leaves: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, inner)| flatten_toml(&dotted(prefix, key), inner, leaves)),
        leaf => leaves.push((prefix.to_owned(), leaf.to_string())),
    }
}

fn dotted(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// The files under a folder, two levels deep, without locks and the report itself.
fn list_files(dir: &Path, prefix: &str, found: &mut Vec<(String, u64)>) {
    for path in files::list_dir(dir).unwrap_or_default() {
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if found.len() == MAX_FILES {
            return;
        }
        if files::is_plain_file(&path) {
            if name != report::FILE && !name.starts_with('.') {
                found.push((name, files::size(&path).unwrap_or(0)));
            }
        } else if path.is_dir() && !path.is_symlink() && name.matches('/').count() < 2 {
            list_files(&path, &format!("{name}/"), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_flattened_to_what_it_says() {
        let mut leaves = Vec::new();
        flatten("", &json!({ "cpu": { "flags": ["avx2", "fma"], "cores": 2 }, "none": null, "empty": [], "os": "linux" }), &mut leaves);
        let expected = [("cpu.cores", "2"), ("cpu.flags", "avx2 fma"), ("os", "linux")];
        let mut leaves: Vec<(&str, &str)> = leaves.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        leaves.sort_unstable();
        assert_eq!(leaves, expected);
    }
}
