//! What the trials' parameters have to do with their values: the lines of a picture of parallel coordinates, and rank correlations.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::config::Goal;
use crate::folder::SweepRecord;
use crate::results::{TrialResult, TrialState, value_of};
use crate::value::Value;

/// A picture of parallel coordinates: an upright axis for each key, a line for each trial that completed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParallelCoordinates {
    /// What the lines are coloured by.
    pub metric: String,
    /// Which way it is better.
    pub goal: Goal,
    /// The axes, in the order of the sweep file.
    pub axes: Vec<Axis>,
    /// The lines, by index.
    pub lines: Vec<Polyline>,
}

/// An axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// The key.
    pub key: String,
    /// What is where on it.
    pub scale: AxisScale,
}

/// What is where on an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AxisScale {
    /// Numbers, from the smallest that was tried to the largest.
    Linear {
        /// At 0.
        min: f64,
        /// At 1.
        max: f64,
    },
    /// Numbers by their logarithm.
    Log {
        /// At 0.
        min: f64,
        /// At 1.
        max: f64,
    },
    /// Anything else, evenly spaced, in the order of first use.
    Categories(Vec<String>),
}

/// The line of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Polyline {
    /// The trial's number.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Where it crosses each axis, from 0 (below) to 1.
    pub positions: Vec<f64>,
    /// Its value on each axis, in words.
    pub labels: Vec<String>,
    /// The metric.
    pub value: f64,
}

/// The picture of the trials that completed with a value and set every key.
pub fn parallel_coordinates(record: &SweepRecord, results: &[TrialResult]) -> ParallelCoordinates {
    let is_whole = |result: &&TrialResult| {
        result.state == TrialState::Completed && result.value.is_some() && record.keys.iter().all(|key| value_of(result, key).is_some())
    };
    let mut trials: Vec<&TrialResult> = results.iter().filter(is_whole).collect();
    trials.sort_by_key(|trial| trial.index);
    let axes: Vec<Axis> = record
        .keys
        .iter()
        .map(|key| {
            let values: Vec<&Value> = trials.iter().filter_map(|trial| value_of(trial, key)).collect();
            Axis { key: key.clone(), scale: scale_of(&values, record.log_keys.contains(key)) }
        })
        .collect();
    let lines = trials.iter().map(|trial| {
        let values = axes.iter().filter_map(|axis| value_of(trial, &axis.key));
        let positions = axes.iter().zip(values.clone()).map(|(axis, value)| axis.scale.position(value)).collect();
        let labels = values.map(Value::plain).collect();
        Polyline { index: trial.index, name: trial.name.clone(), positions, labels, value: trial.value.unwrap_or(f64::NAN) }
    });
    let lines = lines.collect();
    ParallelCoordinates { metric: record.metric.clone(), goal: record.goal, axes, lines }
}

fn scale_of(values: &[&Value], is_log: bool) -> AxisScale {
    let numbers: Option<Vec<f64>> = values.iter().map(|value| value.as_number()).collect();
    match numbers {
        Some(numbers) if !numbers.is_empty() => {
            let min = numbers.iter().copied().fold(f64::INFINITY, f64::min);
            let max = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // A list of rates is as good a sign of orders of magnitude as the scale of a range.
            if min > 0.0 && (is_log || max / min >= 100.0) { AxisScale::Log { min, max } } else { AxisScale::Linear { min, max } }
        }
        _ => {
            let mut names: Vec<String> = Vec::new();
            for name in values.iter().map(ToString::to_string) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            AxisScale::Categories(names)
        }
    }
}

impl AxisScale {
    /// Where a value is, from 0 to 1; in the middle when all are alike.
    fn position(&self, value: &Value) -> f64 {
        let share = |at: f64, min: f64, max: f64| if max > min { ((at - min) / (max - min)).clamp(0.0, 1.0) } else { 0.5 };
        match self {
            Self::Linear { min, max } => share(value.as_number().unwrap_or(*min), *min, *max),
            Self::Log { min, max } => share(libm::log(value.as_number().unwrap_or(*min)), libm::log(*min), libm::log(*max)),
            Self::Categories(names) => {
                let at = names.iter().position(|name| *name == value.to_string()).unwrap_or(0);
                share(at as f64, 0.0, names.len() as f64 - 1.0)
            }
        }
    }
}

/// How the values of a key go with the metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The key.
    pub key: String,
    /// Spearman's rank correlation with the metric, from -1 to 1; near 0, the key says little alone.
    pub correlation: f64,
    /// The trials it is from.
    pub n_trials: usize,
}

/// The rank correlation of each key whose values are numbers with the metric, the strongest first; of trials that completed, of which it takes three.
///
/// It sees whether more is better, not a best value in the middle, and not what two keys do together.
pub fn importance(record: &SweepRecord, results: &[TrialResult]) -> Vec<Importance> {
    let mut all: Vec<Importance> = record
        .keys
        .iter()
        .filter_map(|key| {
            let completed = results.iter().filter(|result| result.state == TrialState::Completed);
            let pair = |result: &TrialResult| Some((value_of(result, key)?.as_number()?, result.value?));
            let (x, y): (Vec<f64>, Vec<f64>) = completed.filter_map(pair).unzip();
            let correlation = if x.len() < 3 { None } else { pearson(&ranks(&x), &ranks(&y)) }?;
            Some(Importance { key: key.clone(), correlation, n_trials: x.len() })
        })
        .collect();
    all.sort_by(|a, b| b.correlation.abs().total_cmp(&a.correlation.abs()).then_with(|| a.key.cmp(&b.key)));
    all
}

/// The ranks from 1; values alike share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let count = |of: f64, order: Ordering| values.iter().filter(|value| value.total_cmp(&of) == order).count() as f64;
    values.iter().map(|value| 0.5 + count(*value, Ordering::Less) + 0.5 * count(*value, Ordering::Equal)).collect()
}

/// `None` when one side does not vary.
fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| f(x - mean_x, y - mean_y)).sum::<f64>();
    let (xy, xx, yy) = (sum(&|x, y| x * y), sum(&|x, _| x * x), sum(&|_, y| y * y));
    (xx > 0.0 && yy > 0.0).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
}
