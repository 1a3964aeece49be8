//! How well a tokenizer suits some texts. Whether it is right for them is in `validation`.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::TokenizeError;
use crate::tokenizer::Tokenizer;

/// How many texts are encoded at once: enough for every thread, and bounded memory.
const AT_ONCE: usize = 256;

/// What a tokenizer made of some texts.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct TokenizerStats {
    /// How many texts there were.
    pub texts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Bytes for each token; 0 without tokens.
    pub bytes_per_token: f64,
    /// How many ids there are.
    pub vocab_size: usize,
    /// The ids, special ones apart, that none of the texts used.
    pub unused_ids: Vec<u32>,
    /// The token of the vocabulary with the most bytes, the lowest id among equals.
    pub longest_token: Option<LongestToken>,
}

/// A token and its length.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct LongestToken {
    /// Its id.
    pub id: u32,
    /// As it is written in the vocabulary.
    pub token: String,
    /// How many bytes of text it stands for.
    pub bytes: usize,
}

/// Encodes the texts and counts.
pub fn stats<'a>(tokenizer: &dyn Tokenizer, texts: impl IntoIterator<Item = &'a str>) -> Result<TokenizerStats, TokenizeError> {
    let (mut n_texts, mut bytes, mut tokens) = (0, 0, 0);
    let mut used = BTreeSet::new();
    each_encoded(tokenizer, texts, |text, ids| {
        n_texts += 1;
        bytes += text.len() as u64;
        tokens += ids.len() as u64;
        used.extend(ids);
        Ok(())
    })?;
    let lengths =
        (0..tokenizer.vocab_size() as u32).filter_map(|id| Some((id, tokenizer.token_bytes(id)?))).filter(|(_, bytes)| *bytes > 0);
    let unused_ids = lengths.clone().map(|(id, _)| id).filter(|id| !used.contains(id)).collect();
    let longest = lengths.min_by_key(|&(id, bytes)| (std::cmp::Reverse(bytes), id));
    Ok(TokenizerStats {
        texts: n_texts,
        bytes,
        tokens,
        bytes_per_token: if tokens == 0 { 0.0 } else { bytes as f64 / tokens as f64 },
        vocab_size: tokenizer.vocab_size(),
        unused_ids,
        longest_token: longest.map(|(id, bytes)| LongestToken { id, token: tokenizer.id_to_token(id).unwrap_or_default(), bytes }),
    })
}

/// Calls `see` with each text and its ids, in order.
pub(crate) fn each_encoded<'a>(
    tokenizer: &dyn Tokenizer,
    texts: impl IntoIterator<Item = &'a str>,
    mut see: impl FnMut(&'a str, Vec<u32>) -> Result<(), TokenizeError>,
) -> Result<(), TokenizeError> {
    let mut texts = texts.into_iter();
    loop {
        let some: Vec<&str> = texts.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            return Ok(());
        }
        for (text, ids) in some.iter().zip(tokenizer.encode_batch(&some)?) {
            see(text, ids)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte::ByteTokenizer;
    use crate::config::TokenizerConfig;

    #[test]
    fn bytes_and_tokens_are_counted() {
        let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let found = stats(&tokenizer, ["aé", "a"]).unwrap();
        assert_eq!((found.texts, found.bytes, found.tokens, found.vocab_size), (2, 4, 4, 258));
        assert_eq!(found.bytes_per_token.to_bits(), 1.0_f64.to_bits());
        assert_eq!(found.unused_ids.len(), 253);
        assert!(!found.unused_ids.contains(&99) && !found.unused_ids.contains(&0));
        assert_eq!(found.longest_token, Some(LongestToken { id: 2, token: "Ā".to_owned(), bytes: 1 }));
        assert_eq!(stats(&tokenizer, []).unwrap().bytes_per_token.to_bits(), 0);
    }

    #[test]
    fn more_texts_than_are_encoded_at_once_come_in_order() {
        let tokenizer = ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap();
        let texts: Vec<String> = (0..2 * AT_ONCE + 3).map(|i| i.to_string()).collect();
        let mut seen = Vec::new();
        each_encoded(&tokenizer, texts.iter().map(String::as_str), |text, ids| {
            assert_eq!(ids.len(), text.len());
            seen.push(text.to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, texts);
    }
}
