//! What came out of a sweep: its trials side by side, the best first, as a table, CSV, JSON and the lines of a picture.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::Goal;
use crate::error::SweepError;
use crate::folder::SweepFolder;
use crate::sweep::Parameters;
use crate::trial_record::TrialStatus;
use crate::value::Value;

/// How far a trial has come, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TrialState {
    /// It ended as planned.
    Completed,
    /// It was given up by the stopping rule: its value is not that of a whole run.
    Stopped,
    /// A process works on it.
    Running,
    /// It has begun and no process works on it: claimed again, it goes on.
    Interrupted,
    /// It ended with an error.
    Failed,
}

impl TrialState {
    /// The word for a person.
    pub fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// A trial that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Its number, from 0.
    pub index: usize,
    /// Its folder's name.
    pub name: String,
    /// How far it has come.
    pub state: TrialState,
    /// What it tries, in the order of the sweep file.
    pub parameters: Parameters,
    /// The metric's best value; of a trial that has not ended, the best so far.
    pub value: Option<f64>,
    /// The step that has it.
    pub best_step: Option<u64>,
    /// The last step.
    pub last_step: Option<u64>,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// How often it was begun.
    pub attempts: u32,
    /// What it died of.
    pub error: Option<String>,
    /// The folder of its run, relative to that of the trial.
    pub run: Option<String>,
}

/// The trials of a folder that were begun, by index.
///
/// # Errors
/// A folder or a record that cannot be read.
pub fn results(folder: &SweepFolder) -> Result<Vec<TrialResult>, SweepError> {
    let mut all = Vec::new();
    for index in folder.begun()? {
        // Between the folder and its record a process can be killed.
        let Some(record) = folder.trial_record(index)? else { continue };
        let state = match record.status {
            TrialStatus::Completed => TrialState::Completed,
            TrialStatus::Stopped => TrialState::Stopped,
            TrialStatus::Failed => TrialState::Failed,
            TrialStatus::Running if folder.is_running(index) => TrialState::Running,
            TrialStatus::Running => TrialState::Interrupted,
        };
        let mut result = TrialResult {
            index,
            name: record.name,
            state,
            parameters: record.parameters,
            value: record.outcome.value,
            best_step: record.outcome.best_step,
            last_step: record.outcome.last_step,
            seconds: record.outcome.seconds,
            attempts: record.attempts,
            error: record.outcome.error,
            run: record.outcome.run,
        };
        if matches!(state, TrialState::Running | TrialState::Interrupted) {
            let series = folder.series(index)?;
            let best = series.best(folder.record().goal).filter(|(_, value)| value.is_finite());
            result.value = best.map(|(_, value)| value);
            result.best_step = best.map(|(step, _)| step);
            result.last_step = series.last_step();
        }
        all.push(result);
    }
    Ok(all)
}

/// Puts the best first: trials that completed by their value, then those that were stopped, that run, were interrupted and failed, each by value too.
/// What has no value is behind what has one, and of two alike the one with the lower index is first.
pub fn rank(results: &mut [TrialResult], goal: Goal) {
    results.sort_by(|a, b| a.state.cmp(&b.state).then_with(|| by_value(a.value, b.value, goal)).then(a.index.cmp(&b.index)));
}

fn by_value(a: Option<f64>, b: Option<f64>, goal: Goal) -> Ordering {
    let (a, b) = (a.unwrap_or(f64::NAN), b.unwrap_or(f64::NAN));
    match (goal.is_better(a, b), goal.is_better(b, a)) {
        (true, _) => Ordering::Less,
        (_, true) => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

/// The best of the trials that completed, of two alike the one with the lower index.
pub fn best(results: &[TrialResult], goal: Goal) -> Option<&TrialResult> {
    let completed = results.iter().filter(|result| result.state == TrialState::Completed && result.value.is_some());
    completed.min_by(|a, b| by_value(a.value, b.value, goal).then(a.index.cmp(&b.index)))
}

/// The keys that any of the trials sets, in their order.
fn keys(results: &[TrialResult]) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in results.iter().flat_map(|result| &result.parameters) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys
}

/// The value of a key in a trial.
pub(crate) fn value_of<'r>(result: &'r TrialResult, key: &str) -> Option<&'r Value> {
    result.parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// A table in plain text, in the order given, one trial a line.
pub fn table(results: &[TrialResult], metric: &str) -> String {
    let keys = keys(results);
    let mut head = vec!["trial", "state", metric, "step", "seconds"];
    head.extend(&keys);
    let mut rows: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
    for result in results {
        let shown = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
        let mut row = vec![
            result.name.clone(),
            result.state.word().to_owned(),
            shown(result.value.map(rounded)),
            shown(result.best_step.map(|step| step.to_string())),
            shown(result.seconds.map(|seconds| format!("{seconds:.0}"))),
        ];
        row.extend(keys.iter().map(|key| shown(value_of(result, key).map(one_line))));
        rows.push(row);
    }
    let widths: Vec<usize> = (0..rows[0].len()).map(|n| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A value in a cell: control characters would tear the table.
fn one_line(value: &Value) -> String {
    let number = value.as_number().filter(|_| matches!(value, Value::Float(_)));
    number.map_or_else(|| value.plain().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(), rounded)
}

/// Six digits are more than two trials differ by for a reason.
fn rounded(number: f64) -> String {
    let digits: f64 = format!("{number:.5e}").parse().unwrap_or(number);
    if digits == 0.0 || (1e-4..1e7).contains(&digits.abs()) { format!("{digits}") } else { format!("{digits:e}") }
}

/// CSV (RFC 4180) in the order given, one trial a row, numbers in full.
pub fn csv(results: &[TrialResult], metric: &str) -> String {
    let keys = keys(results);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = ["trial", "state", metric, "best_step", "last_step", "seconds", "attempts"];
    // Nothing can fail when it is written to memory, with as many cells in each row.
    let mut write = |cells: Vec<String>| drop(writer.write_record(&cells));
    write(head.iter().chain(&keys).map(|word| (*word).to_owned()).collect());
    for result in results {
        let number = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
        let step = |step: Option<u64>| step.map(|step| step.to_string()).unwrap_or_default();
        let mut row = vec![
            result.name.clone(),
            result.state.word().to_owned(),
            number(result.value),
            step(result.best_step),
            step(result.last_step),
            number(result.seconds),
            result.attempts.to_string(),
        ];
        row.extend(keys.iter().map(|key| value_of(result, key).map(Value::plain).unwrap_or_default()));
        write(row);
    }
    writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// The trials as JSON, in the order given, the parameters of each as an object.
pub fn json(results: &[TrialResult]) -> serde_json::Value {
    let trial = |result: &TrialResult| {
        let parameters: std::collections::BTreeMap<_, _> = crate::sweep::as_map(&result.parameters);
        json!({
            "index": result.index, "name": result.name, "state": result.state, "parameters": parameters, "value": result.value,
            "best_step": result.best_step, "last_step": result.last_step, "seconds": result.seconds, "attempts": result.attempts,
            "error": result.error, "run": result.run,
        })
    };
    results.iter().map(trial).collect()
}
