//! What the trials' parameters have to do with their values: rank correlations.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::folder::SweepRecord;
use crate::results::{TrialResult, TrialState, value_of};

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
