//! How varied texts are: distinct-n (Li et al. 2016, <https://arxiv.org/abs/1510.03055>). It compares with no reference.

use std::collections::BTreeSet;

use crate::text::ngrams::{n_runs, words};
use crate::text::{TextRecord, TextScores};

/// The share of runs of `n` words that are different ones, 0 to 1, over all predictions, and within each by itself; 0 where there is no run.
///
/// A word is what stands between white space. The divisor is the number of runs, as in the programs that are in use; the paper divides by the number of
/// words, which keeps distinct-2 of a text without repetition below 1. No run goes over the end of a prediction. Longer texts repeat more: compare
/// values only of about as many words.
pub fn distinct(records: &[TextRecord], n: usize) -> TextScores {
    let mut all = BTreeSet::new();
    let mut total = 0;
    let mut per_record = Vec::with_capacity(records.len());
    for record in records {
        let words: Vec<&str> = words(&record.prediction).collect();
        let mut own = BTreeSet::new();
        for run in words.windows(n.max(1)) {
            own.insert(run.to_vec());
        }
        let runs = n_runs(words.len(), n.max(1));
        per_record.push(share(own.len(), runs));
        total += runs;
        all.append(&mut own);
    }
    TextScores { value: share(all.len(), total), per_record }
}

fn share(distinct: usize, runs: u64) -> f64 {
    distinct as f64 / runs.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_apart_within_and_over_records() {
        let records: Vec<TextRecord> = ["a b a b", "b a", "", "c"].iter().map(|text| TextRecord::new(text, &[])).collect();
        assert_eq!(distinct(&records, 1), TextScores { value: 3.0 / 7.0, per_record: vec![0.5, 1.0, 0.0, 1.0] });
        assert_eq!(distinct(&records, 2), TextScores { value: 2.0 / 4.0, per_record: vec![2.0 / 3.0, 1.0, 0.0, 0.0] });
        assert_eq!(distinct(&[], 2), TextScores { value: 0.0, per_record: vec![] });
    }
}
