//! Whether probabilities mean what they say: expected calibration error with its table (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>; bins as
//! scikit-learn's `calibration_curve` has them), and the score of Brier 1950 (<https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2>).

use crate::error::EvalError;

/// How many bins are usual.
pub const DEFAULT_BINS: usize = 15;

/// Most bins there may be.
pub const MAX_BINS: usize = 10_000;

/// The records whose confidence lies above `lower` and up to `upper`; those of confidence 0 are in the first bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReliabilityBin {
    /// The lower edge.
    pub lower: f64,
    /// The upper edge.
    pub upper: f64,
    /// How many records it holds.
    pub n_records: u64,
    /// Their mean confidence; `None` of no record.
    pub confidence: Option<f64>,
    /// The share of them that was right; `None` of no record.
    pub accuracy: Option<f64>,
}

/// How far confidence and accuracy are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Expected calibration error, 0 to 1: the mean over records of the distance between confidence and accuracy of their bin.
    pub ece: f64,
    /// Maximum calibration error: the largest of those distances.
    pub mce: f64,
    /// The reliability table: bins of equal width from 0 to 1.
    pub bins: Vec<ReliabilityBin>,
}

/// The calibration of answers, each with the probability that the model gave it and whether it was right.
pub fn calibration(confidences: &[f64], right: &[bool], n_bins: usize) -> Result<Calibration, EvalError> {
    same_length("outcomes", confidences.len(), right.len())?;
    all_probabilities(confidences)?;
    if !(1..=MAX_BINS).contains(&n_bins) {
        return Err(EvalError::OutOfRange { what: "number of bins", expected: "1 to 10,000", found: n_bins as f64 });
    }
    let width = 1.0 / n_bins as f64;
    let edges: Vec<f64> = (1..n_bins).map(|edge| edge as f64 * width).collect();
    let mut sums = vec![(0_u64, 0.0, 0_u64); n_bins];
    for (&confidence, &right) in confidences.iter().zip(right) {
        let (count, sum, n_right) = &mut sums[edges.partition_point(|&edge| edge < confidence)];
        *count += 1;
        *sum += confidence;
        *n_right += u64::from(right);
    }
    let mut found = Calibration { ece: 0.0, mce: 0.0, bins: Vec::with_capacity(n_bins) };
    for (idx, (count, sum, n_right)) in sums.into_iter().enumerate() {
        let edge = |idx: usize| if idx == n_bins { 1.0 } else { idx as f64 * width };
        let mut bin = ReliabilityBin { lower: edge(idx), upper: edge(idx + 1), n_records: count, confidence: None, accuracy: None };
        if count > 0 {
            let (confidence, accuracy) = (sum / count as f64, n_right as f64 / count as f64);
            let distance = (confidence - accuracy).abs();
            found.ece += distance * count as f64 / confidences.len() as f64;
            found.mce = found.mce.max(distance);
            (bin.confidence, bin.accuracy) = (Some(confidence), Some(accuracy));
        }
        found.bins.push(bin);
    }
    Ok(found)
}

/// The mean square of what probabilities of one event are off, 0 to 1: the usual Brier score of a yes or no.
pub fn brier_binary(probabilities: &[f64], outcomes: &[bool]) -> Result<f64, EvalError> {
    same_length("outcomes", probabilities.len(), outcomes.len())?;
    all_probabilities(probabilities)?;
    let off = |(&probability, &outcome): (&f64, &bool)| probability - if outcome { 1.0 } else { 0.0 };
    Ok(probabilities.iter().zip(outcomes).map(off).map(|off| off * off).sum::<f64>() / probabilities.len() as f64)
}

/// The score as Brier defined it, 0 to 2: the squares of what the probabilities of all classes are off, summed over classes and averaged over records.
/// Of two classes it is twice [`brier_binary`].
pub fn brier(probabilities: &[Vec<f64>], answers: &[usize]) -> Result<f64, EvalError> {
    same_length("answers", probabilities.len(), answers.len())?;
    let mut sum = 0.0;
    for (row, &answer) in probabilities.iter().zip(answers) {
        all_probabilities(row)?;
        if answer >= row.len() {
            return Err(EvalError::OutOfRange { what: "place of an answer", expected: "one of the classes", found: answer as f64 });
        }
        let total: f64 = row.iter().sum();
        if (total - 1.0).abs() > 1e-3 {
            return Err(EvalError::OutOfRange { what: "sum of a record's probabilities", expected: "1", found: total });
        }
        for (class, &probability) in row.iter().enumerate() {
            let off = probability - if class == answer { 1.0 } else { 0.0 };
            sum += off * off;
        }
    }
    Ok(sum / probabilities.len() as f64)
}

fn same_length(what: &'static str, expected: usize, found: usize) -> Result<(), EvalError> {
    match (expected, found) {
        (0, 0) => Err(EvalError::NoRecords { what: "calibration" }),
        _ if expected == found => Ok(()),
        _ => Err(EvalError::Lengths { what, expected, found }),
    }
}

fn all_probabilities(values: &[f64]) -> Result<(), EvalError> {
    match values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        Some(&found) => Err(EvalError::OutOfRange { what: "probability", expected: "0 to 1", found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, want: f64) -> bool {
        (found - want).abs() < 1e-12
    }

    #[test]
    fn a_bin_holds_its_upper_edge_and_the_first_one_zero() {
        let found = calibration(&[0.0, 0.5, 0.5, 0.75, 1.0], &[false, true, false, true, true], 2).unwrap();
        let counts: Vec<u64> = found.bins.iter().map(|bin| bin.n_records).collect();
        assert_eq!((counts, found.bins[0].lower, found.bins[0].upper, found.bins[1].upper), (vec![3, 2], 0.0, 0.5, 1.0));
        assert!(close(found.bins[0].confidence.unwrap(), 1.0 / 3.0) && close(found.bins[0].accuracy.unwrap(), 1.0 / 3.0));
        assert!(close(found.ece, 0.125 * 2.0 / 5.0) && close(found.mce, 0.125));
        assert_eq!(calibration(&[0.9], &[true], 15).unwrap().bins[0].accuracy, None);
    }

    #[test]
    fn brier_of_two_classes_is_twice_the_binary_one() {
        let binary = brier_binary(&[0.9, 0.2], &[true, true]).unwrap();
        assert!(close(binary, f64::midpoint(0.01, 0.64)));
        assert!(close(brier(&[vec![0.1, 0.9], vec![0.8, 0.2]], &[1, 1]).unwrap(), 2.0 * binary));
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for (confidences, right, n_bins, want) in [
            (&[1.5][..], &[true][..], 15, "a probability of 1.5, expected 0 to 1"),
            (&[f64::NAN], &[true], 15, "a probability of NaN, expected 0 to 1"),
            (&[0.5], &[], 15, "0 outcomes, expected 1"),
            (&[], &[], 15, "calibration of no records"),
            (&[0.5], &[true], 0, "a number of bins of 0, expected 1 to 10,000"),
        ] {
            assert_eq!(calibration(confidences, right, n_bins).unwrap_err().to_string(), want);
        }
        assert!(
            brier(&[vec![0.5, 0.5]], &[2]).is_err() && brier(&[vec![0.5, 0.4]], &[0]).is_err() && brier_binary(&[-0.1], &[true]).is_err()
        );
    }
}
