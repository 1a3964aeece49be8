//! chrF (Popović 2015, <https://aclanthology.org/W15-3049>) and chrF++ (Popović 2017, <https://aclanthology.org/W17-4770>) as sacrebleu gives them: runs
//! of one to six characters without white space, for chrF++ those of one and two words besides, beta 2, no smoothing. Values are 0 to 100.

use crate::text::ngrams::{counts, is_punctuation, is_space, n_runs, shared, words};
use crate::text::{TextRecord, TextScores};

/// The longest run of characters that is compared.
pub const CHARACTER_ORDER: usize = 6;

/// How often each kind of run occurs in the prediction, in the reference, and in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// Runs of the prediction; 0 where the reference is too short for any.
    pub predicted: u64,
    /// Runs of the reference.
    pub reference: u64,
    /// Runs that both have.
    pub matches: u64,
}

/// A member of the family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chrf {
    /// The longest run of words that is compared: 0 in chrF, 2 in chrF++.
    pub word_order: usize,
    /// How many times as much recall counts as precision.
    pub beta: f64,
}

impl Chrf {
    /// chrF: characters only.
    pub const PLAIN: Self = Self { word_order: 0, beta: 2.0 };
    /// chrF++: words too.
    pub const WITH_WORDS: Self = Self { word_order: 2, beta: 2.0 };

    /// The counts of one record, one of each order: those with the reference for which the score is highest, the first of equals.
    pub fn counts(&self, prediction: &str, references: &[String]) -> Vec<RunCounts> {
        let said = Runs::of(prediction, self.word_order);
        let mut best: Option<(f64, Vec<RunCounts>)> = None;
        for reference in references {
            let counts = said.beside(&Runs::of(reference, self.word_order), self.word_order);
            let score = self.score(&counts);
            if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
                best = Some((score, counts));
            }
        }
        best.map_or_else(|| vec![RunCounts::default(); CHARACTER_ORDER + self.word_order], |(_, counts)| counts)
    }

    /// F-beta of the mean precision and the mean recall, over the orders of which both texts have a run.
    pub fn score(&self, counts: &[RunCounts]) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0_u32);
        for order in counts.iter().filter(|order| order.predicted > 0 && order.reference > 0) {
            precision += order.matches as f64 / order.predicted as f64;
            recall += order.matches as f64 / order.reference as f64;
            orders += 1;
        }
        if precision + recall <= 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / f64::from(orders), recall / f64::from(orders));
        let factor = self.beta * self.beta;
        // In this order of operations: where two references are equally good, the last bit says which of them counts in the corpus.
        let score = (1.0 + factor) * precision * recall / (factor * precision + recall);
        100.0 * score
    }

    /// The score of the records' counts together, and of each record by itself.
    pub fn scores(&self, records: &[TextRecord]) -> TextScores {
        let mut all = vec![RunCounts::default(); CHARACTER_ORDER + self.word_order];
        let mut per_record = Vec::with_capacity(records.len());
        for record in records {
            let counts = self.counts(&record.prediction, &record.references);
            for (sum, order) in all.iter_mut().zip(&counts) {
                sum.predicted += order.predicted;
                sum.reference += order.reference;
                sum.matches += order.matches;
            }
            per_record.push(self.score(&counts));
        }
        TextScores { value: self.score(&all), per_record }
    }
}

/// A text as it is compared.
struct Runs<'t> {
    characters: Vec<char>,
    words: Vec<&'t str>,
}

impl<'t> Runs<'t> {
    fn of(text: &'t str, word_order: usize) -> Self {
        let words = if word_order == 0 { Vec::new() } else { words(text).flat_map(parted).collect() };
        Self { characters: text.chars().filter(|&character| !is_space(character)).collect(), words }
    }

    fn beside(&self, reference: &Self, word_order: usize) -> Vec<RunCounts> {
        let mut orders: Vec<RunCounts> = (1..=CHARACTER_ORDER).map(|n| run_counts(&self.characters, &reference.characters, n)).collect();
        orders.extend((1..=word_order).map(|n| run_counts(&self.words, &reference.words, n)));
        orders
    }
}

fn run_counts<T: Ord>(said: &[T], wanted: &[T], n: usize) -> RunCounts {
    let reference = n_runs(wanted.len(), n);
    let predicted = if reference == 0 { 0 } else { n_runs(said.len(), n) };
    RunCounts { predicted, reference, matches: shared(&counts(said, n), &counts(wanted, n)) }
}

/// A word and one sign of punctuation at its end, or else one at its beginning, apart from it.
fn parted(word: &str) -> impl Iterator<Item = &str> {
    let mut characters = word.char_indices();
    let (first, last) = (characters.next(), characters.next_back());
    let at = match (first, last) {
        (Some(_), Some((at, last))) if is_punctuation(last) => at,
        (Some((_, first)), Some(_)) if is_punctuation(first) => first.len_utf8(),
        _ => word.len(),
    };
    let (head, tail) = word.split_at(at);
    [head, tail].into_iter().filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(kind: Chrf, prediction: &str, references: &[&str]) -> f64 {
        kind.scores(&[TextRecord::new(prediction, references)]).value
    }

    #[test]
    fn one_sign_parts_from_a_word() {
        for (word, want) in [("(hi)", "(hi )"), ("(hi", "( hi"), ("hi!!", "hi! !"), ("-", "-"), ("é", "é"), ("“hi”", "“hi”"), ("--", "- -")]
        {
            assert_eq!(parted(word).collect::<Vec<_>>().join(" "), want);
        }
    }

    #[test]
    fn precision_and_recall_are_means_over_orders() {
        // Characters: 2 of 3 and 2 of 2, then 1 of 2 and 1 of 1; no longer run in the reference.
        let (precision, recall) = (f64::midpoint(2.0 / 3.0, 0.5), 1.0);
        let of_beta = |beta: f64| 100.0 * (1.0 + beta * beta) * precision * recall / (beta * beta * precision + recall);
        assert!((score(Chrf::PLAIN, "a b c", &["ab"]) - of_beta(2.0)).abs() < 1e-9);
        assert!((score(Chrf::PLAIN, "a b c", &["ab"]) - of_beta(1.0)).abs() > 1.0);
        assert!((score(Chrf { beta: 1.0, ..Chrf::PLAIN }, "a b c", &["ab"]) - of_beta(1.0)).abs() < 1e-9);
    }

    #[test]
    fn the_ends_of_the_scale() {
        for kind in [Chrf::PLAIN, Chrf::WITH_WORDS] {
            for (prediction, reference, want) in
                [("", "", 0.0), ("", "a", 0.0), ("a", "", 0.0), ("a", "a", 100.0), ("a", "b", 0.0), ("the cat sat", "the cat sat", 100.0)]
            {
                assert!((score(kind, prediction, &[reference]) - want).abs() < 1e-9, "{prediction} {reference}");
            }
            assert!((score(kind, "the cat", &["a dog", "the cat"]) - 100.0).abs() < 1e-9);
        }
        // The same characters: only words tell these apart.
        assert!((score(Chrf::PLAIN, "thec at", &["the cat"]) - 100.0).abs() < 1e-9);
        assert!(score(Chrf::WITH_WORDS, "thec at", &["the cat"]) < 90.0);
    }
}
