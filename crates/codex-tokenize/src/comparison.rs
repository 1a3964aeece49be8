//! Two tokenizers on the same texts, side by side. It says what differs, not which is better.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::TokenizeError;
use crate::stats::{TokenizerStats, each_encoded, stats};
use crate::tokenizer::Tokenizer;

/// How many places of different cuts are told.
const MAX_DIFFERENCES: usize = 10;

/// What two tokenizers made of the same texts.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Comparison {
    /// The first tokenizer's statistics.
    pub a: TokenizerStats,
    /// The second one's.
    pub b: TokenizerStats,
    /// How many tokens, special ones apart, both vocabularies have.
    pub shared_tokens: usize,
    /// The share of the first vocabulary that the second has too, 0 to 1.
    pub shared_of_a: f64,
    /// The share of the second vocabulary that the first has too, 0 to 1.
    pub shared_of_b: f64,
    /// How many texts both cut at the same places.
    pub texts_cut_alike: u64,
    /// How many texts could not be laid side by side, because a tokenizer does not keep every byte of them.
    pub texts_without_spans: u64,
    /// The first places where the cuts differ, one for each text, ten at most.
    pub differences: Vec<CutDifference>,
}

/// The first place of a text where two tokenizers cut differently.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct CutDifference {
    /// Which text, from 0.
    pub index: u64,
    /// The byte at which both begin a token, from 0.
    pub at: usize,
    /// The first one's token there, as its vocabulary writes it.
    pub a: String,
    /// The second one's.
    pub b: String,
}

/// A token and the bytes of the text that it stands for.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
pub struct TokenSpan {
    /// Its id.
    pub id: u32,
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last. A span may begin or end within a character.
    pub end: usize,
}

/// Where each token of a text stands; `None` where the tokenizer does not keep every byte of it, so that there is no such place.
pub fn token_spans(tokenizer: &dyn Tokenizer, text: &str) -> Result<Option<Vec<TokenSpan>>, TokenizeError> {
    let ids = tokenizer.encode(text)?;
    spans_of(tokenizer, text, &ids)
}

fn spans_of(tokenizer: &dyn Tokenizer, text: &str, ids: &[u32]) -> Result<Option<Vec<TokenSpan>>, TokenizeError> {
    if !tokenizer.is_lossless() && tokenizer.decode_bytes(ids)? != text.as_bytes() {
        return Ok(None);
    }
    let mut at = 0;
    let span = |&id: &u32| {
        let start = at;
        at += tokenizer.token_bytes(id).unwrap_or_default();
        TokenSpan { id, start, end: at }
    };
    let spans: Vec<TokenSpan> = ids.iter().map(span).collect();
    Ok((at == text.len()).then_some(spans))
}

/// Encodes the texts with both and compares. The texts are gone through three times.
pub fn compare(a: &dyn Tokenizer, b: &dyn Tokenizer, texts: &[&str]) -> Result<Comparison, TokenizeError> {
    let vocabulary = |tokenizer: &dyn Tokenizer| -> BTreeSet<String> {
        let plain = (0..tokenizer.vocab_size() as u32).filter(|&id| !tokenizer.is_special(id));
        plain.filter_map(|id| tokenizer.id_to_token(id)).collect()
    };
    let (of_a, of_b) = (vocabulary(a), vocabulary(b));
    let shared_tokens = of_a.intersection(&of_b).count();
    let share = |n: usize| if n == 0 { 0.0 } else { shared_tokens as f64 / n as f64 };

    let (mut index, mut alike, mut without, mut differences) = (0, 0, 0, Vec::new());
    each_encoded(a, texts.iter().copied(), |text, ids| {
        match (spans_of(a, text, &ids)?, token_spans(b, text)?) {
            (Some(in_a), Some(in_b)) => match in_a.iter().zip(&in_b).find(|(one, other)| one.end != other.end) {
                None => alike += 1,
                Some((one, other)) if differences.len() < MAX_DIFFERENCES => {
                    let name = |tokenizer: &dyn Tokenizer, id| tokenizer.id_to_token(id).unwrap_or_default();
                    differences.push(CutDifference { index, at: one.start, a: name(a, one.id), b: name(b, other.id) });
                }
                Some(_) => {}
            },
            _ => without += 1,
        }
        index += 1;
        Ok(())
    })?;
    Ok(Comparison {
        a: stats(a, texts.iter().copied())?,
        b: stats(b, texts.iter().copied())?,
        shared_tokens,
        shared_of_a: share(of_a.len()),
        shared_of_b: share(of_b.len()),
        texts_cut_alike: alike,
        texts_without_spans: without,
        differences,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte::ByteTokenizer;
    use crate::config::{TokenizerConfig, TokenizerKind};
    use crate::train;

    #[test]
    fn a_trained_tokenizer_is_compared_with_bytes() {
        let bytes = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let config = TokenizerConfig { vocab_size: 259, ..TokenizerConfig::default() };
        let trained = train(&config, ["ab ab"].into_iter(), &mut |_| ()).unwrap();
        let found = compare(&*trained, &bytes, &["xab", "x", "abab"]).unwrap();
        assert_eq!((found.a.tokens, found.b.tokens, found.texts_cut_alike, found.texts_without_spans), (5, 8, 1, 0));
        assert_eq!((found.shared_tokens, found.shared_of_b.to_bits()), (256, 1.0_f64.to_bits()));
        assert!((found.shared_of_a - 256.0 / 257.0).abs() < 1e-12);
        let told = |index, at| CutDifference { index, at, a: "ab".to_owned(), b: "a".to_owned() };
        assert_eq!(found.differences, [told(0, 1), told(2, 0)]);
        let alike = compare(&bytes, &bytes, &["xab", ""]).unwrap();
        assert_eq!((alike.texts_cut_alike, alike.differences.len()), (2, 0));
    }

    #[test]
    fn spans_are_the_whole_text_or_none() {
        let bytes = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let spans = token_spans(&bytes, "aé").unwrap().unwrap();
        assert_eq!(spans.iter().map(|span| (span.start, span.end)).collect::<Vec<_>>(), [(0, 1), (1, 2), (2, 3)]);
        let config = TokenizerConfig { kind: TokenizerKind::WordLevel, vocab_size: 9, ..TokenizerConfig::default() };
        let words = train(&config, ["a b a b"].into_iter(), &mut |_| ()).unwrap();
        assert_eq!(token_spans(&*words, "a  b").unwrap(), None);
        assert_eq!(compare(&*words, &bytes, &["a  c"]).unwrap().texts_without_spans, 1);
    }
}
