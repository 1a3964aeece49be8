//! What a report shows, read from the run's files. What is missing or unreadable is noted, never made up.

use std::collections::BTreeMap;
use std::path::Path;

use codex_core::files;
use serde_json::{Map, Value};

use crate::dataset::{DatasetChecksums, SourceChecksum};
use crate::error::TrackError;
use crate::event::{Event, read_events};
use crate::line_log::{Line, for_each_line_if_any};
use crate::number::Number;
use crate::run_dir::RunDir;
use crate::run_record::RunRecord;
use crate::summary::for_each_metric;
use crate::{dataset, environment, report, system};

/// (step, value), steps ascending.
pub(super) type Series = Vec<(f64, f64)>;

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

/// Everything a report shows.
#[derive(Debug)]
pub(super) struct ReportData {
    pub(super) record: RunRecord,
    metrics: BTreeMap<(String, String), Series>,
    system: BTreeMap<String, Series>,
    pub(super) tokens: Option<u64>,
    pub(super) epoch: Option<f64>,
    pub(super) events: Vec<Event>,
    pub(super) samples: Vec<Sample>,
    pub(super) settings: Vec<Setting>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) sources: Vec<SourceChecksum>,
    /// Path in the run folder and size.
    pub(super) files: Vec<(String, u64)>,
    /// What could not be read.
    pub(super) notes: Vec<String>,
}

impl ReportData {
    /// Reads a run; only its record must be there.
    pub(super) fn read(run: &RunDir) -> Result<Self, TrackError> {
        let mut data = Self {
            record: RunRecord::read(run)?,
            metrics: BTreeMap::new(),
            system: BTreeMap::new(),
            tokens: None,
            epoch: None,
            events: Vec::new(),
            samples: Vec::new(),
            settings: Vec::new(),
            environment: Vec::new(),
            sources: Vec::new(),
            files: Vec::new(),
            notes: Vec::new(),
        };
        data.read_metrics(run);
        data.read_system(run);
        match read_events(run) {
            Ok((events, bad_lines)) => {
                data.events = events;
                data.note_bad_lines(crate::event::FILE, bad_lines);
            }
            Err(error) => data.note(&error),
        }
        data.samples = samples(&data.events);
        data.read_settings(run);
        if let Some(environment) = data.optional::<Value>(run, environment::FILE) {
            flatten("", &environment, &mut data.environment);
        }
        data.sources = data.optional::<DatasetChecksums>(run, dataset::FILE).map(|checksums| checksums.sources).unwrap_or_default();
        list_files(run.path(), "", &mut data.files);
        Ok(data)
    }

    /// The values of a metric; empty when there are none.
    pub(super) fn series(&self, split: &str, metric: &str) -> &[(f64, f64)] {
        self.metrics.get(&(split.to_owned(), metric.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The values of a machine sample by step.
    pub(super) fn machine(&self, name: &str) -> &[(f64, f64)] {
        self.system.get(name).map_or(&[], Vec::as_slice)
    }

    /// The newest value of a split's metric: the record's, or else the last one written.
    pub(super) fn newest(&self, split: &str, metric: &str) -> Option<f64> {
        let written = || self.series(split, metric).last().map(|point| point.1);
        self.record.summary.get(&format!("{split}/{metric}")).copied().or_else(written)
    }

    fn read_metrics(&mut self, run: &RunDir) {
        let (metrics, tokens, epoch) = (&mut self.metrics, &mut self.tokens, &mut self.epoch);
        let read = for_each_metric(run, |line| {
            *tokens = line.tags.tokens.or(*tokens);
            *epoch = line.tags.epoch.map(|epoch| epoch.0).or(*epoch);
            metrics.entry((line.split, line.metric)).or_default().push((line.step as f64, line.value.0));
        });
        match read {
            Ok(bad_lines) => self.note_bad_lines(crate::NdjsonWriter::FILE, bad_lines),
            Err(error) => self.note(&error),
        }
    }

    fn read_system(&mut self, run: &RunDir) {
        let mut lines: Vec<(f64, Map<String, Value>)> = Vec::new();
        let mut bad_lines = 0;
        let read = for_each_line_if_any(&run.path().join(system::FILE), |line| match line {
            Line::Torn => {}
            Line::TooLong => bad_lines += 1,
            Line::Whole(whole) => match serde_json::from_slice::<Map<String, Value>>(whole) {
                Ok(values) => match values.get("step").and_then(Value::as_f64) {
                    Some(step) => lines.push((step, values)),
                    None => bad_lines += 1,
                },
                Err(_) => bad_lines += 1,
            },
        });
        if let Err(error) = read {
            self.note(&error.into());
        }
        self.note_bad_lines(system::FILE, bad_lines);
        // Steps that were taken again after a resume count as they were the last time.
        let mut least_later = f64::INFINITY;
        let is_last = |step: f64| {
            let stays = step <= least_later;
            least_later = least_later.min(step);
            stays
        };
        let stays: Vec<bool> = lines.iter().rev().map(|line| line.0).map(is_last).collect();
        for ((step, values), _) in lines.into_iter().zip(stays.into_iter().rev()).filter(|(_, stays)| *stays) {
            for (name, value) in values {
                if let Ok(Number(value)) = serde_json::from_value(value) {
                    self.system.entry(name).or_default().push((step, value));
                }
            }
        }
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
                Setting { key, value, layer: part("layer"), place: format!("{}{}{}{line}", part("name"), part("path"), part("text")) }
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

    fn note_bad_lines(&mut self, file: &str, n: u64) {
        if n > 0 {
            self.notes.push(format!("{n} {} of `{file}` cannot be read", if n == 1 { "line" } else { "lines" }));
        }
    }
}

/// The samples by step; of a step that was taken twice, the last.
fn samples(events: &[Event]) -> Vec<Sample> {
    let field = |event: &Event, name: &str| event.fields.get(name).map(plain).unwrap_or_default();
    let by_step: BTreeMap<u64, Sample> = events
        .iter()
        .filter(|event| event.kind == "sample")
        .filter_map(|event| Some((event.fields.get("step")?.as_u64()?, event)))
        .map(|(step, event)| (step, Sample { step, prompt: field(event, "prompt"), text: field(event, "text") }))
        .collect();
    by_step.into_values().collect()
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
    leaves.retain(|(_, text)| !text.is_empty());
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

    #[test]
    fn a_step_taken_again_counts_as_the_last_time() {
        let at = |step: u64, text: &str| {
            Event::new(codex_core::Timestamp(0), crate::Level::Info, "sample", "", json!({ "step": step, "text": text }))
        };
        let found = samples(&[at(1, "a"), at(2, "b"), at(2, "c"), Event { kind: "other".to_owned(), ..at(3, "d") }]);
        assert_eq!(found.iter().map(|sample| (sample.step, sample.text.as_str())).collect::<Vec<_>>(), [(1, "a"), (2, "c")]);
    }
}
