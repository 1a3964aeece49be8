//! ROUGE (Lin 2004, <https://aclanthology.org/W04-1013>) as the package rouge-score gives it: words of ASCII letters and digits in lower case, optionally
//! stemmed; runs of words, the longest common subsequence, and its union over lines. Values are 0 to 1.

use std::collections::BTreeMap;

use crate::error::EvalError;
use crate::text::ngrams::{counts, n_runs, shared};
use crate::text::{TextRecord, TextScores, f1, lcs, porter};

/// Most words a text may have where subsequences are sought: their time is the product of two lengths, a second or so at this many.
pub const MAX_LCS_WORDS: usize = 1 << 14;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RougeKind {
    /// Runs of this many words; ROUGE-1 and ROUGE-2 are usual.
    Runs(usize),
    /// The longest common subsequence of the words of the whole texts: ROUGE-L.
    Subsequence,
    /// ROUGE-Lsum: for each line of the reference the union of its longest common subsequences with the lines of the prediction, where no word counts
    /// more often than it occurs.
    Lines,
}

/// A member of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rouge {
    /// What is compared.
    pub kind: RougeKind,
    /// Whether words of more than three letters are stemmed first (Porter).
    pub stem: bool,
}

/// How much of the prediction is right, and how much of the reference is said, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RougeScore {
    /// Share of the prediction that the reference has.
    pub precision: f64,
    /// Share of the reference that the prediction has.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

impl Rouge {
    /// The score of a prediction beside the reference for which F1 is highest, the first of equals; zeros where there is none.
    /// [`EvalError::TooManyWords`] where a subsequence would be sought in more than [`MAX_LCS_WORDS`].
    pub fn score(self, prediction: &str, references: &[String]) -> Result<RougeScore, EvalError> {
        let mut best: Option<RougeScore> = None;
        for reference in references {
            let score = self.beside(prediction, reference)?;
            if best.is_none_or(|best| score.f1 > best.f1) {
                best = Some(score);
            }
        }
        Ok(best.unwrap_or_default())
    }

    /// The F1 of each record, and the mean.
    pub fn scores(self, records: &[TextRecord]) -> Result<TextScores, EvalError> {
        let f1 = |(idx, record): (usize, &TextRecord)| match self.score(&record.prediction, &record.references) {
            Ok(score) => Ok(score.f1),
            Err(EvalError::TooManyWords { found, most, .. }) => Err(EvalError::TooManyWords { record: idx + 1, found, most }),
            Err(error) => Err(error),
        };
        Ok(TextScores::mean_of(records.iter().enumerate().map(f1).collect::<Result<_, _>>()?))
    }

    fn beside(self, prediction: &str, reference: &str) -> Result<RougeScore, EvalError> {
        let mut words = Words { stem: self.stem, ids: BTreeMap::new() };
        match self.kind {
            RougeKind::Runs(n) => {
                let (said, wanted) = (words.of(prediction), words.of(reference));
                let matches = shared(&counts(&said, n), &counts(&wanted, n));
                Ok(RougeScore::of(matches, n_runs(said.len(), n), n_runs(wanted.len(), n)))
            }
            RougeKind::Subsequence => {
                let (said, wanted) = (words.of(prediction), words.of(reference));
                bounded(said.len())?;
                bounded(wanted.len())?;
                Ok(RougeScore::of(lcs::length(&wanted, &said) as u64, said.len() as u64, wanted.len() as u64))
            }
            RougeKind::Lines => {
                let said: Vec<Vec<u32>> = prediction.split('\n').map(|line| words.of(line)).collect();
                let wanted: Vec<Vec<u32>> = reference.split('\n').map(|line| words.of(line)).collect();
                let (n_said, n_wanted) = (said.iter().map(Vec::len).sum(), wanted.iter().map(Vec::len).sum());
                bounded(n_said)?;
                bounded(n_wanted)?;
                Ok(RougeScore::of(union_matches(&wanted, &said), n_said as u64, n_wanted as u64))
            }
        }
    }
}

impl RougeScore {
    fn of(matches: u64, predicted: u64, reference: u64) -> Self {
        let (precision, recall) = (matches as f64 / predicted.max(1) as f64, matches as f64 / reference.max(1) as f64);
        Self { precision, recall, f1: f1(precision, recall) }
    }
}

/// The numbers that stand for the words of two texts.
struct Words {
    stem: bool,
    ids: BTreeMap<String, u32>,
}

impl Words {
    fn of(&mut self, text: &str) -> Vec<u32> {
        let lower = text.to_lowercase();
        let words = lower.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words
            .map(|word| {
                let word = if self.stem && word.len() > 3 { porter::stem(word) } else { word.to_owned() };
                let next = self.ids.len() as u32;
                *self.ids.entry(word).or_insert(next)
            })
            .collect()
    }
}

fn bounded(n_words: usize) -> Result<(), EvalError> {
    if n_words > MAX_LCS_WORDS { Err(EvalError::TooManyWords { record: 1, found: n_words, most: MAX_LCS_WORDS }) } else { Ok(()) }
}

/// The words of the reference's lines that stand in a longest common subsequence with a line of the prediction, each as often at most as both have it.
fn union_matches(wanted: &[Vec<u32>], said: &[Vec<u32>]) -> u64 {
    let tally = |lines: &[Vec<u32>]| {
        let mut left: BTreeMap<u32, u64> = BTreeMap::new();
        for &word in lines.iter().flatten() {
            *left.entry(word).or_default() += 1;
        }
        left
    };
    // A reference's word cannot be marked more often than it occurs: only the prediction's occurrences run out.
    let mut left = tally(said);
    let mut matches = 0;
    for line in wanted {
        let mut marked = vec![false; line.len()];
        for other in said {
            lcs::mark(line, other, &mut marked);
        }
        for (word, _) in line.iter().zip(marked).filter(|(_, marked)| *marked) {
            if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
                *count -= 1;
                matches += 1;
            }
        }
    }
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(kind: RougeKind, prediction: &str, reference: &str) -> RougeScore {
        Rouge { kind, stem: false }.score(prediction, &[reference.to_owned()]).unwrap()
    }

    fn is(found: RougeScore, precision: f64, recall: f64) -> bool {
        (found.precision - precision).abs() < 1e-12
            && (found.recall - recall).abs() < 1e-12
            && (found.f1 - f1(precision, recall)).abs() < 1e-12
    }

    #[test]
    fn each_kind_counts_what_it_says() {
        let (said, wanted) = ("The cat sat, the CAT ran.", "the cat ran and sat");
        assert!(is(score(RougeKind::Runs(1), said, wanted), 4.0 / 6.0, 4.0 / 5.0));
        assert!(is(score(RougeKind::Runs(2), said, wanted), 2.0 / 5.0, 2.0 / 4.0));
        assert!(is(score(RougeKind::Subsequence, said, wanted), 3.0 / 6.0, 3.0 / 5.0));
        // Over two lines `sat` is found too.
        assert!(is(score(RougeKind::Lines, "The cat sat\nthe cat ran", wanted), 4.0 / 6.0, 4.0 / 5.0));
    }

    #[test]
    fn a_word_of_the_prediction_is_right_once() {
        // Both lines have `a b` in common with the one line of the prediction.
        assert!(is(score(RougeKind::Lines, "a b", "a b\na b"), 1.0, 0.5));
    }

    #[test]
    fn the_ends_of_the_scale() {
        for kind in [RougeKind::Runs(1), RougeKind::Subsequence, RougeKind::Lines] {
            for (prediction, reference, want) in
                [("", "", 0.0), ("", "a", 0.0), ("a", "", 0.0), ("a", "A!", 1.0), ("a", "b", 0.0), ("é", "é", 0.0), ("\n\na\n", "a", 1.0)]
            {
                assert!(is(score(kind, prediction, reference), want, want), "{kind:?} {prediction:?} {reference:?}");
            }
        }
        assert!(is(score(RougeKind::Runs(2), "a", "a"), 0.0, 0.0));
    }

    #[test]
    fn stems_match_and_the_best_reference_counts() {
        let rouge = Rouge { kind: RougeKind::Runs(1), stem: true };
        let references = ["dogs".to_owned(), "happily running".to_owned()];
        assert!(is(rouge.score("running happily", &references).unwrap(), 1.0, 1.0));
        assert!(is(rouge.score("run", &["running".to_owned()]).unwrap(), 1.0, 1.0));
        assert!(is(Rouge { stem: false, ..rouge }.score("run", &["running".to_owned()]).unwrap(), 0.0, 0.0));
    }

    #[test]
    fn too_many_words_are_refused_only_where_their_product_is_the_time() {
        let long = "a ".repeat(MAX_LCS_WORDS + 1);
        let records = [TextRecord::new("a", &["a"]), TextRecord::new(&long, &["a"])];
        let of = |kind| Rouge { kind, stem: false }.scores(&records);
        assert!(of(RougeKind::Runs(1)).is_ok());
        for kind in [RougeKind::Subsequence, RougeKind::Lines] {
            assert_eq!(
                of(kind).unwrap_err().to_string(),
                "record 2 has a text of 16385 words, more than the 16384 in which subsequences are sought"
            );
        }
    }
}
