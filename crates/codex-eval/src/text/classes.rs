//! Metrics of classification from the counts of what was said for what: accuracy, F1, and the correlation of Matthews, as scikit-learn computes them.

use std::collections::BTreeMap;

use crate::error::EvalError;
use crate::text::{f1, mean};

/// How often each label was predicted for each true one. Memory is that of the pairs that occur.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion<T> {
    labels: Vec<T>,
    counts: BTreeMap<(usize, usize), u64>,
    truth: Vec<u64>,
    predicted: Vec<u64>,
    total: u64,
}

/// The scores of one label, 0 to 1; a share of nothing is 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassScore<T> {
    /// The label.
    pub label: T,
    /// Share of its predictions that are right.
    pub precision: f64,
    /// Share of its records that were found.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// How many records have it.
    pub support: u64,
}

impl<T: Ord + Clone> Confusion<T> {
    /// The counts of records whose true and predicted labels stand at the same places. Labels are those that occur on either side.
    pub fn of(truth: &[T], predicted: &[T]) -> Result<Self, EvalError> {
        if truth.len() != predicted.len() {
            return Err(EvalError::Lengths { what: "predicted labels", expected: truth.len(), found: predicted.len() });
        }
        if truth.is_empty() {
            return Err(EvalError::NoRecords { what: "counts of labels" });
        }
        let mut labels: Vec<T> = truth.iter().chain(predicted).cloned().collect();
        labels.sort();
        labels.dedup();
        let mut confusion = Self {
            counts: BTreeMap::new(),
            truth: vec![0; labels.len()],
            predicted: vec![0; labels.len()],
            total: truth.len() as u64,
            labels,
        };
        for (truth, predicted) in truth.iter().zip(predicted) {
            let (Ok(truth), Ok(predicted)) = (confusion.labels.binary_search(truth), confusion.labels.binary_search(predicted)) else {
                continue;
            };
            *confusion.counts.entry((truth, predicted)).or_default() += 1;
            confusion.truth[truth] += 1;
            confusion.predicted[predicted] += 1;
        }
        Ok(confusion)
    }

    /// The labels, sorted.
    pub fn labels(&self) -> &[T] {
        &self.labels
    }

    /// How many records there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How often `predicted` was said where `truth` was right; 0 for labels that do not occur.
    pub fn count(&self, truth: &T, predicted: &T) -> u64 {
        match (self.labels.binary_search(truth), self.labels.binary_search(predicted)) {
            (Ok(truth), Ok(predicted)) => self.at(truth, predicted),
            _ => 0,
        }
    }

    /// The pairs of true and predicted label that occur, with their counts, in order of the labels.
    pub fn pairs(&self) -> impl Iterator<Item = (&T, &T, u64)> {
        self.counts.iter().map(|(&(truth, predicted), &count)| (&self.labels[truth], &self.labels[predicted], count))
    }

    /// Share of the records that are right, 0 to 1. With one label for each record this is micro-averaged precision, recall and F1 too.
    pub fn accuracy(&self) -> f64 {
        self.n_right() as f64 / self.total as f64
    }

    /// F1 of all labels' decisions together, 0 to 1: each wrong prediction is one too many for a label and one too few for another.
    pub fn micro_f1(&self) -> f64 {
        self.accuracy()
    }

    /// The mean of the labels' F1, each label alike, 0 to 1.
    pub fn macro_f1(&self) -> f64 {
        mean(&self.by_label().map(|score| score.f1).collect::<Vec<_>>())
    }

    /// The scores of each label, in order of the labels.
    pub fn by_label(&self) -> impl Iterator<Item = ClassScore<T>> {
        self.labels.iter().enumerate().map(|(idx, label)| {
            let right = self.at(idx, idx) as f64;
            let (precision, recall) = (right / self.predicted[idx].max(1) as f64, right / self.truth[idx].max(1) as f64);
            ClassScore { label: label.clone(), precision, recall, f1: f1(precision, recall), support: self.truth[idx] }
        })
    }

    /// The correlation of Matthews, -1 to 1, for any number of labels (Gorodkin 2004, <https://doi.org/10.1016/j.compbiolchem.2004.09.006>); 0 where all
    /// records have one label, or one was always predicted.
    pub fn matthews(&self) -> f64 {
        let square = |n: u64| i128::from(n) * i128::from(n);
        let products = self.truth.iter().zip(&self.predicted).map(|(&truth, &predicted)| i128::from(truth) * i128::from(predicted));
        let together = i128::from(self.n_right()) * i128::from(self.total) - products.sum::<i128>();
        let of_truth = square(self.total) - self.truth.iter().map(|&n| square(n)).sum::<i128>();
        let of_predicted = square(self.total) - self.predicted.iter().map(|&n| square(n)).sum::<i128>();
        if of_truth == 0 || of_predicted == 0 { 0.0 } else { together as f64 / (of_truth as f64 * of_predicted as f64).sqrt() }
    }

    fn n_right(&self) -> u64 {
        (0..self.labels.len()).map(|idx| self.at(idx, idx)).sum()
    }

    fn at(&self, truth: usize, predicted: usize) -> u64 {
        self.counts.get(&(truth, predicted)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_follow_from_the_counts() {
        let confusion = Confusion::of(&["a", "a", "a", "b", "b", "c"], &["a", "a", "b", "b", "d", "a"]).unwrap();
        assert_eq!((confusion.labels(), confusion.total()), (&["a", "b", "c", "d"][..], 6));
        assert_eq!((confusion.count(&"a", &"b"), confusion.count(&"b", &"a"), confusion.count(&"x", &"a")), (1, 0, 0));
        assert_eq!(confusion.pairs().map(|(_, _, count)| count).sum::<u64>(), 6);
        let labels: Vec<ClassScore<&str>> = confusion.by_label().collect();
        assert_eq!(labels.iter().map(|score| score.support).collect::<Vec<_>>(), [3, 2, 1, 0]);
        let close = |found: f64, want: f64| (found - want).abs() < 1e-12;
        assert!(close(labels[0].precision, 2.0 / 3.0) && close(labels[0].recall, 2.0 / 3.0));
        assert!(close(labels[1].f1, 0.5) && close(labels[2].f1, 0.0) && close(labels[3].precision, 0.0));
        assert!(close(confusion.accuracy(), 0.5) && close(confusion.micro_f1(), 0.5));
        assert!(close(confusion.macro_f1(), (2.0 / 3.0 + 0.5) / 4.0));
        assert!(close(confusion.matthews(), (3.0 * 6.0 - 13.0) / ((36.0_f64 - 14.0) * (36.0 - 14.0)).sqrt()));
    }

    #[test]
    fn the_ends_of_the_scale() {
        let of = |truth: &[u8], predicted: &[u8]| Confusion::of(truth, predicted).unwrap().matthews();
        assert!((of(&[0, 1], &[0, 1]) - 1.0).abs() < 1e-12 && (of(&[0, 1], &[1, 0]) + 1.0).abs() < 1e-12);
        assert!(of(&[0, 1], &[0, 0]).abs() < 1e-12 && of(&[1], &[1]).abs() < 1e-12);
        assert!(Confusion::<u8>::of(&[], &[]).is_err());
        assert_eq!(Confusion::of(&[1], &[]).unwrap_err().to_string(), "0 predicted labels, expected 1");
    }
}
