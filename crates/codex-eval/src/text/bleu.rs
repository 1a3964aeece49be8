//! BLEU (Papineni et al. 2002, <https://aclanthology.org/P02-1040>) as sacrebleu gives it without options (Post 2018,
//! <https://aclanthology.org/W18-6319>): tokenizer `13a`, case kept, runs of one to four tokens, and exponential smoothing, the third method of Chen and
//! Cherry 2014 (<https://aclanthology.org/W14-3346>). Values are 0 to 100.

use std::collections::BTreeMap;

use crate::text::mteval::tokens;
use crate::text::ngrams::{counts, n_runs, shared};
use crate::text::{TextRecord, TextScores};

/// The longest run of tokens that is compared.
pub const MAX_ORDER: usize = 4;

/// What BLEU adds up over texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuCounts {
    /// Tokens of the predictions.
    pub n_predicted: u64,
    /// Tokens of the references, of each record's that is nearest in length to the prediction.
    pub n_reference: u64,
    /// Runs of one, two, three and four tokens that a reference has too.
    pub matches: [u64; MAX_ORDER],
    /// Runs of one, two, three and four tokens.
    pub totals: [u64; MAX_ORDER],
}

impl BleuCounts {
    /// The counts of one record. A run counts as often as the reference that has most of it; of two references equally near in length the shorter
    /// gives the length.
    pub fn of(prediction: &str, references: &[String]) -> Self {
        let said = tokens(prediction);
        let wanted: Vec<Vec<String>> = references.iter().map(|reference| tokens(reference)).collect();
        let nearest = wanted.iter().map(Vec::len).min_by_key(|&len| (len.abs_diff(said.len()), len)).unwrap_or_default();
        let mut found = Self { n_predicted: said.len() as u64, n_reference: nearest as u64, ..Self::default() };
        let orders = found.matches.iter_mut().zip(&mut found.totals);
        for (n, (matches, total)) in (1..).zip(orders) {
            let mut most: BTreeMap<&[String], u64> = BTreeMap::new();
            for (run, count) in wanted.iter().flat_map(|wanted| counts(wanted, n)) {
                let known = most.entry(run).or_default();
                *known = count.max(*known);
            }
            *matches = shared(&counts(&said, n), &most);
            *total = n_runs(said.len(), n);
        }
        found
    }

    /// Adds the counts of another text.
    pub fn add(&mut self, other: &Self) {
        self.n_predicted += other.n_predicted;
        self.n_reference += other.n_reference;
        for n in 0..MAX_ORDER {
            self.matches[n] += other.matches[n];
            self.totals[n] += other.totals[n];
        }
    }

    /// exp(1 - reference / prediction) where the prediction is shorter, else 1.
    pub fn brevity_penalty(&self) -> f64 {
        match (self.n_predicted, self.n_reference) {
            (said, wanted) if said >= wanted => 1.0,
            (0, _) => 0.0,
            (said, wanted) => libm::exp(1.0 - wanted as f64 / said as f64),
        }
    }

    /// BLEU of a corpus: all four orders count, and predictions that have no run of four tokens give 0.
    pub fn corpus(&self) -> f64 {
        self.score(true)
    }

    /// BLEU of one text: only the orders that the prediction is long enough for count.
    pub fn sentence(&self) -> f64 {
        self.score(false)
    }

    fn score(&self, every_order: bool) -> f64 {
        if self.matches == [0; MAX_ORDER] {
            return 0.0;
        }
        let (mut halved, mut logs, mut orders) = (1.0, 0.0, 0_u32);
        for (&matches, &total) in self.matches.iter().zip(&self.totals).take_while(|&(_, &total)| total > 0) {
            // Each order without a match counts for half as much as one before it: 1/2, 1/4, 1/8 of a run.
            let right = if matches == 0 {
                halved /= 2.0;
                halved
            } else {
                matches as f64
            };
            logs += libm::log(100.0 * right / total as f64);
            orders += 1;
        }
        if every_order && orders < MAX_ORDER as u32 {
            return 0.0;
        }
        self.brevity_penalty() * libm::exp(logs / f64::from(orders))
    }
}

/// BLEU of the corpus, and of each record by itself.
pub fn corpus_bleu(records: &[TextRecord]) -> TextScores {
    let mut all = BleuCounts::default();
    let mut per_record = Vec::with_capacity(records.len());
    for record in records {
        let counts = BleuCounts::of(&record.prediction, &record.references);
        all.add(&counts);
        per_record.push(counts.sentence());
    }
    TextScores { value: all.corpus(), per_record }
}

/// BLEU of each record, and the mean.
pub fn sentence_bleu(records: &[TextRecord]) -> TextScores {
    TextScores::mean_of(corpus_bleu(records).per_record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prediction: &str, references: &[&str]) -> BleuCounts {
        BleuCounts::of(prediction, &TextRecord::new("", references).references)
    }

    #[test]
    fn runs_are_clipped_by_the_reference_that_has_most() {
        let counts = of("the the the cat", &["the cat", "the the dog sat here"]);
        assert_eq!(counts, BleuCounts { n_predicted: 4, n_reference: 5, matches: [3, 2, 0, 0], totals: [4, 3, 2, 1] });
        // Two words are as near as four: the shorter one gives the length.
        assert_eq!(of("a b c", &["a b c d", "a b"]).n_reference, 2);
    }

    #[test]
    fn a_missing_order_counts_half_and_then_a_quarter() {
        let counts = of("a b x c", &["a b c d"]);
        assert_eq!((counts.matches, counts.totals), ([3, 1, 0, 0], [4, 3, 2, 1]));
        let want = 100.0 * (0.75_f64 * (1.0 / 3.0) * (0.5 / 2.0) * (0.25 / 1.0)).powf(0.25);
        assert!((counts.corpus() - want).abs() < 1e-9);
        // Smoothing by halves for each order alike would give more.
        let wrong = 100.0 * (0.75_f64 * (1.0 / 3.0) * (0.5 / 2.0) * (0.5 / 1.0)).powf(0.25);
        assert!((counts.corpus() - wrong).abs() > 1.0);
    }

    #[test]
    fn short_texts_are_judged_by_the_orders_they_have() {
        for (prediction, reference, corpus, sentence) in [
            ("", "a b", 0.0, 0.0),
            ("a b", "", 0.0, 0.0),
            ("", "", 0.0, 0.0),
            ("x", "x", 0.0, 100.0),
            ("x", "y", 0.0, 0.0),
            ("a b c d", "a b c d", 100.0, 100.0),
            ("a b", "a b c d", 0.0, 100.0 * (-1.0_f64).exp()),
        ] {
            let counts = of(prediction, &[reference]);
            assert!((counts.corpus() - corpus).abs() < 1e-9 && (counts.sentence() - sentence).abs() < 1e-9, "{prediction} {reference}");
        }
    }
}
