//! The files of a run that grow with it, read for a report in bounded memory: metrics, machine samples and events.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use serde_json::{Map, Value};

use super::curve_store::CurveStore;
use super::data::{Sample, plain};
use super::wording::clipped;
use crate::error::TrackError;
use crate::event::{self, Event, Level};
use crate::line_log::{Line, for_each_line_if_any};
use crate::number::Number;
use crate::run_dir::RunDir;
use crate::summary::for_each_metric;
use crate::system;

/// The most curves of one kind that are read.
const MAX_CURVES: usize = 256;
/// The most samples that are held, and how many of the newest are never given up.
const MAX_SAMPLES: usize = 256;
const NEWEST_SAMPLES: usize = 16;
/// The longest text of a sample, and the longest message of an event, in characters.
const MAX_TEXT_CHARS: usize = 2000;
const MAX_MESSAGE_CHARS: usize = 400;
/// The most events that are shown, and the most that are told at the top.
const MAX_EVENTS: usize = 300;
const MAX_TOLD: usize = 50;

/// A curve as it is drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawn {
    /// The values that make the picture: (step, value).
    pub(super) points: Vec<(f64, f64)>,
    /// Means of equally many values each.
    pub(super) means: Vec<(f64, f64)>,
    /// How many.
    pub(super) n_each: usize,
}

impl From<CurveStore> for Drawn {
    fn from(store: CurveStore) -> Self {
        Self { points: store.points(), means: store.means(), n_each: store.n_each() }
    }
}

/// Curves by name, those that are more than can be held left out.
#[derive(Debug)]
struct Curves<K>(BTreeMap<K, CurveStore>, bool);

impl<K: Ord> Curves<K> {
    fn push(&mut self, name: K, x: f64, y: f64) {
        if self.0.len() < MAX_CURVES || self.0.contains_key(&name) {
            self.0.entry(name).or_default().push(x, y);
        } else {
            self.1 = true;
        }
    }

    fn finish(self, file: &str, notes: &mut Vec<String>) -> BTreeMap<K, Drawn> {
        if self.1 {
            notes.push(format!("`{file}` has more than {MAX_CURVES} curves; the others are not read"));
        }
        self.0.into_iter().map(|(name, store)| (name, store.into())).collect()
    }
}

/// What the metrics say.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// By split and metric.
    pub(super) curves: BTreeMap<(String, String), Drawn>,
    pub(super) tokens: Option<u64>,
    pub(super) epoch: Option<f64>,
    /// Values that were read.
    pub(super) n_values: u64,
}

impl Metrics {
    pub(super) fn read(run: &RunDir, notes: &mut Vec<String>) -> Self {
        let mut metrics = Self::default();
        let mut curves = Curves(BTreeMap::new(), false);
        let read = for_each_metric(run, |line| {
            metrics.tokens = line.tags.tokens.or(metrics.tokens);
            metrics.epoch = line.tags.epoch.map(|epoch| epoch.0).or(metrics.epoch);
            metrics.n_values += 1;
            curves.push((line.split, line.metric), line.step as f64, line.value.0);
        });
        match read {
            Ok(bad_lines) => note_bad_lines(notes, crate::NdjsonWriter::FILE, bad_lines),
            Err(error) => notes.push(codex_core::failure::chain(&error)),
        }
        metrics.curves = curves.finish(crate::NdjsonWriter::FILE, notes);
        metrics
    }
}

/// The machine samples by name.
pub(super) fn read_system(run: &RunDir, notes: &mut Vec<String>) -> BTreeMap<String, Drawn> {
    let path = run.path().join(system::FILE);
    let mut steps = Vec::new();
    let mut bad_lines = 0;
    let read = for_each_sample(&path, |sample| match sample {
        Some((step, _)) => steps.push(step),
        None => bad_lines += 1,
    });
    if let Err(error) = read {
        notes.push(codex_core::failure::chain(&error));
    }
    note_bad_lines(notes, system::FILE, bad_lines);
    // Steps that were taken again after a resume count as they were the last time.
    let mut least_later = f64::INFINITY;
    let mut stays: VecDeque<bool> = VecDeque::with_capacity(steps.len());
    for step in steps.into_iter().rev() {
        stays.push_front(step <= least_later);
        least_later = least_later.min(step);
    }
    let mut curves = Curves(BTreeMap::new(), false);
    // What is appended between the two looks is left out.
    let again = for_each_sample(&path, |sample| {
        if let Some((step, values)) = sample
            && stays.pop_front() == Some(true)
        {
            for (name, value) in values {
                if let Ok(Number(value)) = serde_json::from_value(value) {
                    curves.push(name, step, value);
                }
            }
        }
    });
    drop(again);
    curves.finish(system::FILE, notes)
}

fn for_each_sample(path: &Path, mut visit: impl FnMut(Option<(f64, Map<String, Value>)>)) -> Result<(), TrackError> {
    Ok(for_each_line_if_any(path, |line| match line {
        Line::Torn => {}
        Line::TooLong => visit(None),
        Line::Whole(whole) => {
            let values = serde_json::from_slice::<Map<String, Value>>(whole).ok();
            visit(values.and_then(|values| Some((values.get("step").and_then(Value::as_f64)?, values))));
        }
    })?)
}

/// What the events say.
#[derive(Debug, Default)]
pub(super) struct Happened {
    /// The newest, samples apart.
    pub(super) events: VecDeque<Event>,
    /// How many earlier ones there are.
    pub(super) n_earlier: u64,
    /// What the model wrote, by step; of a step that was taken twice, the last.
    pub(super) samples: Vec<Sample>,
    /// How many there were.
    pub(super) n_samples: u64,
    /// Components that are off, each with the newest reason.
    pub(super) degraded: BTreeMap<String, String>,
    /// Messages of what went wrong, each once.
    pub(super) errors: Vec<String>,
}

impl Happened {
    pub(super) fn read(run: &RunDir, notes: &mut Vec<String>) -> Self {
        let mut happened = Self::default();
        let mut samples = BTreeMap::new();
        let mut bad_lines = 0;
        let read = for_each_line_if_any(&run.path().join(event::FILE), |line| match line {
            Line::Torn => {}
            Line::TooLong => bad_lines += 1,
            Line::Whole(whole) => match serde_json::from_slice::<Event>(whole) {
                Ok(event) => happened.add(event, &mut samples),
                Err(_) => bad_lines += 1,
            },
        });
        if let Err(error) = read {
            notes.push(codex_core::failure::chain(&error));
        }
        note_bad_lines(notes, event::FILE, bad_lines);
        happened.samples = samples.into_values().collect();
        happened
    }

    fn add(&mut self, mut event: Event, samples: &mut BTreeMap<u64, Sample>) {
        let field = |event: &Event, name: &str, most| clipped(&event.fields.get(name).map(plain).unwrap_or_default(), most);
        if event.kind == "sample" {
            if let Some(step) = event.fields.get("step").and_then(Value::as_u64) {
                let sample = Sample { step, prompt: field(&event, "prompt", MAX_TEXT_CHARS), text: field(&event, "text", MAX_TEXT_CHARS) };
                self.n_samples += u64::from(samples.insert(step, sample).is_none());
            }
            if samples.len() > MAX_SAMPLES {
                // Every other one of the middle goes.
                let middle: Vec<u64> = samples.keys().copied().skip(1).take(samples.len() - 1 - NEWEST_SAMPLES).step_by(2).collect();
                for step in middle {
                    drop(samples.remove(&step));
                }
            }
            return;
        }
        event.message = clipped(&event.message, MAX_MESSAGE_CHARS);
        event.kind = clipped(&event.kind, 40);
        event.ts = clipped(&event.ts, 40);
        let fields = event.fields.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect::<Vec<_>>().join("  ");
        if event.kind == "degraded" && (self.degraded.len() < MAX_TOLD || self.degraded.contains_key(&field(&event, "component", 80))) {
            let reason = field(&event, "reason", MAX_MESSAGE_CHARS);
            let component = field(&event, "component", 80);
            let component = if component.is_empty() { event.message.clone() } else { component };
            self.degraded.insert(component, if reason.is_empty() { event.message.clone() } else { reason });
        } else if event.level == Level::Error && self.errors.len() < MAX_TOLD && !self.errors.contains(&event.message) {
            self.errors.push(event.message.clone());
        }
        // One text in place of fields of any number and depth.
        event.fields = Map::from_iter((!fields.is_empty()).then(|| (String::new(), Value::String(clipped(&fields, MAX_MESSAGE_CHARS)))));
        self.events.push_back(event);
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
            self.n_earlier += 1;
        }
    }
}

fn note_bad_lines(notes: &mut Vec<String>, file: &str, n: u64) {
    if n > 0 {
        notes.push(format!("{n} {} of `{file}` cannot be read", if n == 1 { "line" } else { "lines" }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(lines: impl Iterator<Item = Event>) -> (tempfile::TempDir, RunDir) {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let text: String = lines.map(|event| serde_json::to_string(&event).unwrap() + "\n").collect();
        run.write_text("events.ndjson", &text).unwrap();
        (root, run)
    }

    fn at(kind: &str, fields: Value) -> Event {
        Event::new(codex_core::Timestamp(0), Level::Info, kind, "m", fields)
    }

    #[test]
    fn a_step_taken_again_counts_as_the_last_time() {
        let sample = |step: u64, text: &str| at("sample", json!({ "step": step, "text": text }));
        let (_root, run) = write([sample(1, "a"), sample(2, "b"), sample(2, "c"), at("other", json!({ "step": 3 }))].into_iter());
        let happened = Happened::read(&run, &mut Vec::new());
        let found: Vec<_> = happened.samples.iter().map(|sample| (sample.step, sample.text.as_str())).collect();
        assert_eq!((found, happened.n_samples, happened.events.len()), (vec![(1, "a"), (2, "c")], 2, 1));
    }

    #[test]
    fn many_samples_and_events_are_held_in_part() {
        let all = (0..2000).map(|step| at("sample", json!({ "step": step, "text": "x".repeat(3000) })));
        let (_root, run) = write(all.chain((0..400).map(|step| at("checkpoint", json!({ "step": step, "long": "y".repeat(1000) })))));
        let happened = Happened::read(&run, &mut Vec::new());
        let steps: Vec<u64> = happened.samples.iter().map(|sample| sample.step).collect();
        assert!(steps.len() <= MAX_SAMPLES && steps[0] == 0 && steps.ends_with(&[1997, 1998, 1999]), "{steps:?}");
        assert!(happened.samples.iter().all(|sample| sample.text.chars().count() == MAX_TEXT_CHARS && sample.text.ends_with('…')));
        assert_eq!((happened.n_samples, happened.events.len(), happened.n_earlier), (2000, 300, 100));
    }

    #[test]
    fn machine_samples_of_steps_taken_again_count_as_the_last_time() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        let lines = ["1 10", "2 20", "3 30", "2 21", "4 40"].map(|it| it.split_once(' ').unwrap());
        let text = lines.map(|(step, rss)| format!("{{\"step\":{step},\"rss\":{rss}}}\n")).concat();
        run.write_text("system.ndjson", &(text + "{}\nx\n{\"step\":5,\"rs")).unwrap();
        let mut notes = Vec::new();
        let found = read_system(&run, &mut notes);
        // A step may have several samples; those of step 3 were taken before the resume.
        assert_eq!(found["rss"].points, [(1.0, 10.0), (2.0, 20.0), (2.0, 21.0), (4.0, 40.0)]);
        assert_eq!(notes, ["2 lines of `system.ndjson` cannot be read"]);
    }
}
