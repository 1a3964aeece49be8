//! Multiple choice from log-likelihoods: a model's answer is the choice that it finds likeliest, as it is or for its length, as in the evaluation harness
//! of EleutherAI (lm-evaluation-harness: `acc`, `acc_norm` and `acc_bytes`).

use crate::error::EvalError;

/// One choice of a question, as a model scored it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The sum of the log-likelihoods of its tokens behind the question, in nats.
    pub log_likelihood: f64,
    /// Its length in characters (Unicode scalar values).
    pub n_characters: usize,
    /// Its length in bytes of UTF-8.
    pub n_bytes: usize,
    /// Its length in the model's tokens.
    pub n_tokens: usize,
}

/// A question with its choices.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceRecord {
    /// The choices.
    pub choices: Vec<Choice>,
    /// The place of the right one.
    pub answer_idx: usize,
}

/// What a log-likelihood is divided by before choices are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalisation {
    /// Nothing: `acc` of the harness.
    Raw,
    /// Characters: its `acc_norm`.
    Characters,
    /// Bytes: its `acc_bytes`. The same as characters where all text is ASCII.
    Bytes,
    /// Tokens.
    Tokens,
}

/// Shares of the questions that were answered right, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChoiceAccuracy {
    /// By the log-likelihoods as they are (`acc`).
    pub raw: f64,
    /// By log-likelihood per character (`acc_norm`).
    pub by_characters: f64,
    /// By log-likelihood per byte (`acc_bytes`).
    pub by_bytes: f64,
    /// By log-likelihood per token.
    pub by_tokens: f64,
    /// How many questions this is of.
    pub n_records: usize,
}

impl Choice {
    /// The choice of this text; the space that parts it from the question is its caller's to count or not.
    pub fn new(log_likelihood: f64, text: &str, n_tokens: usize) -> Self {
        Self { log_likelihood, n_characters: text.chars().count(), n_bytes: text.len(), n_tokens }
    }

    /// The log-likelihood over the length.
    fn score(&self, normalisation: Normalisation) -> f64 {
        let length = match normalisation {
            Normalisation::Raw => 1,
            Normalisation::Characters => self.n_characters,
            Normalisation::Bytes => self.n_bytes,
            Normalisation::Tokens => self.n_tokens,
        };
        self.log_likelihood / length as f64
    }
}

impl ChoiceRecord {
    /// The place of the likeliest choice, the first of equals.
    ///
    /// `None` where the choices cannot be compared: there is none, a log-likelihood is not a number, or one has no length to divide by.
    pub fn chosen_idx(&self, normalisation: Normalisation) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (idx, choice) in self.choices.iter().enumerate() {
            let score = choice.score(normalisation);
            if score.is_nan() || score == f64::INFINITY || choice.n_characters.min(choice.n_bytes).min(choice.n_tokens) == 0 {
                return None;
            }
            if best.is_none_or(|(_, most)| score > most) {
                best = Some((idx, score));
            }
        }
        best.map(|(idx, _)| idx)
    }

    /// Whether the likeliest choice is the right one; [`EvalError::Choices`] where that cannot be said. `record` is its number in messages.
    pub fn is_right(&self, normalisation: Normalisation, record: usize) -> Result<bool, EvalError> {
        if self.answer_idx >= self.choices.len() {
            return Err(EvalError::Choices { record, why: "the right choice is none of the choices" });
        }
        let chosen = self.chosen_idx(normalisation);
        let chosen = chosen.ok_or(EvalError::Choices { record, why: "a choice is empty, or its log-likelihood is not a number" })?;
        Ok(chosen == self.answer_idx)
    }
}

/// The accuracy of the answers to all questions, in each normalisation.
pub fn choice_accuracy(records: &[ChoiceRecord]) -> Result<ChoiceAccuracy, EvalError> {
    if records.is_empty() {
        return Err(EvalError::NoRecords { what: "accuracy of choices" });
    }
    let share = |normalisation| -> Result<f64, EvalError> {
        let mut right = 0_u64;
        for (number, record) in (1..).zip(records) {
            right += u64::from(record.is_right(normalisation, number)?);
        }
        Ok(right as f64 / records.len() as f64)
    };
    Ok(ChoiceAccuracy {
        raw: share(Normalisation::Raw)?,
        by_characters: share(Normalisation::Characters)?,
        by_bytes: share(Normalisation::Bytes)?,
        by_tokens: share(Normalisation::Tokens)?,
        n_records: records.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(choices: &[(f64, &str, usize)], answer_idx: usize) -> ChoiceRecord {
        ChoiceRecord {
            choices: choices.iter().map(|&(likelihood, text, n_tokens)| Choice::new(likelihood, text, n_tokens)).collect(),
            answer_idx,
        }
    }

    #[test]
    fn each_length_can_choose_another() {
        // Likeliest as it is, per character, per byte (four bytes to the character), per token.
        let question = record(&[(-2.0, "ab", 2), (-6.0, "abcdefghijkl", 6), (-3.0, "𝄞𝄞", 2), (-4.5, "abc", 9)], 0);
        let chosen = |normalisation| question.chosen_idx(normalisation);
        assert_eq!(chosen(Normalisation::Raw), Some(0));
        assert_eq!(chosen(Normalisation::Characters), Some(1));
        assert_eq!(chosen(Normalisation::Bytes), Some(2));
        assert_eq!(chosen(Normalisation::Tokens), Some(3));
        let found = choice_accuracy(&[question.clone(), ChoiceRecord { answer_idx: 1, ..question }]).unwrap();
        assert_eq!(found, ChoiceAccuracy { raw: 0.5, by_characters: 0.5, by_bytes: 0.0, by_tokens: 0.0, n_records: 2 });
    }

    #[test]
    fn of_equals_the_first_is_chosen_and_minus_infinity_is_a_likelihood() {
        assert_eq!(record(&[(-2.0, "a", 1), (-2.0, "b", 1)], 0).chosen_idx(Normalisation::Raw), Some(0));
        assert_eq!(record(&[(f64::NEG_INFINITY, "a", 1), (-2.0, "b", 1)], 0).chosen_idx(Normalisation::Bytes), Some(1));
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let good = record(&[(-1.0, "a", 1)], 0);
        for bad in [record(&[], 0), record(&[(-1.0, "a", 1)], 1), record(&[(f64::NAN, "a", 1)], 0), record(&[(-1.0, "", 0)], 0)] {
            let error = choice_accuracy(&[good.clone(), bad]).unwrap_err().to_string();
            assert!(error.starts_with("the choices of record 2 cannot be compared: "), "{error}");
        }
        assert!(choice_accuracy(&[]).is_err());
    }
}
