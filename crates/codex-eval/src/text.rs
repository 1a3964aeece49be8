//! Metrics of texts beside their references, and of probabilities beside what happened: what the field's own programs compute, to the last digit
//! that matters (`xtask/parity/metrics.py` compares). Nothing here runs a model or reads a file.
//!
//! A text metric is found by its name with [`TextMetric::by_name`] and takes records; the rest takes numbers. Every result is a function of its
//! arguments alone: counts are kept in order of their keys and sums are taken in the order of the records.

pub mod metric;
pub mod answer;
pub mod bleu;
pub mod chrf;
pub mod rouge;
pub mod distinct;
pub mod classes;
pub mod choices;
pub mod calibration;
pub mod bootstrap;
mod mteval;
mod ngrams;
mod lcs;
mod porter;

pub use bootstrap::{DEFAULT_RESAMPLES, Interval, bootstrap, bootstrap_mean};
pub use calibration::{Calibration, DEFAULT_BINS, ReliabilityBin, brier, brier_binary, calibration};
pub use choices::{Choice, ChoiceAccuracy, ChoiceRecord, Normalisation, choice_accuracy};
pub use classes::{ClassScore, Confusion};
pub use metric::{TEXT_METRICS, TextMetric};

/// A text that a model wrote, and the texts that would have been right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextRecord {
    /// What the model wrote.
    pub prediction: String,
    /// What would have been right, any of them; metrics that compare want one at least.
    pub references: Vec<String>,
}

impl TextRecord {
    /// A record with these references.
    pub fn new(prediction: &str, references: &[&str]) -> Self {
        Self { prediction: prediction.to_owned(), references: references.iter().map(|&text| text.to_owned()).collect() }
    }
}

/// What a text metric found.
#[derive(Clone, Debug, PartialEq)]
pub struct TextScores {
    /// The value of the records together. It is the mean of the others only where the metric says so.
    pub value: f64,
    /// The value of each record by itself, in the order of the records.
    pub per_record: Vec<f64>,
}

impl TextScores {
    /// The scores whose value is the mean of the records'.
    fn mean_of(per_record: Vec<f64>) -> Self {
        Self { value: mean(&per_record), per_record }
    }
}

/// The mean, summed in order; 0 of nothing, which no caller asks for.
pub(crate) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The harmonic mean of precision and recall; 0 where both are.
fn f1(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}
