//! Whether a tokenizer keeps its promises on some texts: they come back as they were, no text makes a special token, ids have no gap.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::TokenizeError;
use crate::stats::each_encoded;
use crate::tokenizer::Tokenizer;

/// What was found; [`is_ok`](Self::is_ok) says whether it will do.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct ValidationReport {
    /// How many texts were tried.
    pub texts: u64,
    /// Those that did not come back as they were.
    pub round_trip_failures: Vec<RoundTripFailure>,
    /// How many ids, special ones apart, none of the texts used. Not a fault.
    pub unused_ids: usize,
    /// Special tokens that are not apart from text.
    pub special_collisions: Vec<SpecialCollision>,
    /// Ids below the vocabulary's size that have no token.
    pub id_gaps: Vec<u32>,
}

/// A text that was decoded to something else.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct RoundTripFailure {
    /// Which text, from 0.
    pub index: u64,
    /// The first byte that differs, from 0.
    pub first_difference: usize,
    /// The byte there; absent when the text ends before it.
    pub expected: Option<u8>,
    /// The byte that was decoded; absent when the decoded text ends before it.
    pub found: Option<u8>,
}

/// A special token that plain text can make, or that shares its name.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct SpecialCollision {
    /// The special token.
    pub token: String,
    /// Its id.
    pub id: u32,
    /// What it collides with.
    pub reason: String,
}

impl ValidationReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.round_trip_failures.is_empty() && self.special_collisions.is_empty() && self.id_gaps.is_empty()
    }
}

/// Whether the ids of a tokenizer are those that a model has rows for.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
pub struct ModelFit {
    /// How many ids the tokenizer has.
    pub vocab_size: usize,
    /// How many rows the model's table has.
    pub model_vocab_size: usize,
    /// Ids without a row: a text with one cannot be given to the model.
    pub ids_without_row: usize,
    /// Rows without an id: not a fault, as tables are often filled up to a round number, but the model may predict one.
    pub rows_without_id: usize,
}

impl ModelFit {
    /// Whether every id has a row.
    pub fn is_ok(&self) -> bool {
        self.ids_without_row == 0
    }
}

/// Compares a tokenizer with the number of ids that a model was made for.
pub fn validate_against(tokenizer: &dyn Tokenizer, model_vocab_size: usize) -> ModelFit {
    let vocab_size = tokenizer.vocab_size();
    ModelFit {
        vocab_size,
        model_vocab_size,
        ids_without_row: vocab_size.saturating_sub(model_vocab_size),
        rows_without_id: model_vocab_size.saturating_sub(vocab_size),
    }
}

/// Tries a tokenizer on texts, and each special token's name as a text.
pub fn validate<'a>(tokenizer: &dyn Tokenizer, texts: impl IntoIterator<Item = &'a str>) -> Result<ValidationReport, TokenizeError> {
    let all = 0..tokenizer.vocab_size() as u32;
    let id_gaps: Vec<u32> = all.clone().filter(|&id| tokenizer.id_to_token(id).is_none()).collect();
    let special: BTreeMap<u32, String> =
        all.clone().filter(|&id| tokenizer.is_special(id)).filter_map(|id| Some((id, tokenizer.id_to_token(id)?))).collect();

    let mut collisions = Vec::new();
    for (&id, token) in &special {
        let mut tell = |reason: String| collisions.push(SpecialCollision { token: token.clone(), id, reason });
        if tokenizer.encode(token)?.iter().any(|id| special.contains_key(id)) {
            tell("its name as plain text encodes to a special token".to_owned());
        }
        match tokenizer.token_to_id(token) {
            Some(found) if found == id => {}
            Some(other) => tell(format!("its name is also that of id {other}")),
            None => tell("its name has no id".to_owned()),
        }
    }

    let (mut index, mut failures, mut used) = (0, Vec::new(), BTreeSet::new());
    each_encoded(tokenizer, texts, |text, ids| {
        let decoded = tokenizer.decode_bytes(&ids)?;
        if decoded != text.as_bytes() {
            failures.push(first_difference(index, text.as_bytes(), &decoded));
        }
        if let Some((&id, token)) = ids.iter().find_map(|id| special.get_key_value(id)) {
            collisions.push(SpecialCollision { token: token.clone(), id, reason: format!("text {index} encodes to it") });
        }
        used.extend(ids);
        index += 1;
        Ok(())
    })?;
    let unused_ids = all.filter(|id| !used.contains(id) && !special.contains_key(id) && !id_gaps.contains(id)).count();
    Ok(ValidationReport { texts: index, round_trip_failures: failures, unused_ids, special_collisions: collisions, id_gaps })
}

fn first_difference(index: u64, expected: &[u8], found: &[u8]) -> RoundTripFailure {
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    RoundTripFailure { index, first_difference: at, expected: expected.get(at).copied(), found: found.get(at).copied() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_needs_a_row_for_each_id() {
        let tokenizer = crate::ByteTokenizer::new(&crate::TokenizerConfig::default().special_tokens).unwrap();
        let fit = |rows| {
            let fit = validate_against(&tokenizer, rows);
            (fit.is_ok(), fit.ids_without_row, fit.rows_without_id)
        };
        assert_eq!((fit(258), fit(250), fit(264)), ((true, 0, 0), (false, 8, 0), (true, 0, 6)));
    }

    #[test]
    fn the_first_difference_is_named() {
        let case = |a: &[u8], b: &[u8]| {
            let failure = first_difference(3, a, b);
            (failure.first_difference, failure.expected, failure.found)
        };
        assert_eq!(case(b"abc", b"abd"), (2, Some(b'c'), Some(b'd')));
        assert_eq!(case(b"abc", b"ab"), (2, Some(b'c'), None));
        assert_eq!(case(b"", b"x"), (0, None, Some(b'x')));
    }
}
