//! How well a tokenizer suits some texts. Whether it is right for them is in `validation`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::TokenizeError;
use crate::scripts::main_script;
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
    /// Words of the texts: what stands between white space.
    pub words: u64,
    /// Tokens for each word (fertility); 0 without words.
    pub tokens_per_word: f64,
    /// The share of the ids, special ones apart, that the texts used, 0 to 1.
    pub used_share: f64,
    /// The share of the tokens' bytes that stand in tokens of several bytes, 0 to 1.
    pub multi_byte_share: f64,
    /// The same counts by writing system: a text counts for the one that most of its letters have, and for `none` without letters.
    pub scripts: BTreeMap<String, ScriptStats>,
}

/// What a tokenizer made of the texts of one writing system.
#[derive(Clone, Debug, Default, Serialize, PartialEq)]
pub struct ScriptStats {
    /// How many texts.
    pub texts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their words.
    pub words: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Bytes for each token; 0 without tokens.
    pub bytes_per_token: f64,
    /// Tokens for each word; 0 without words.
    pub tokens_per_word: f64,
}

impl ScriptStats {
    fn add(&mut self, text: &str, n_tokens: usize) {
        self.texts += 1;
        self.bytes += text.len() as u64;
        self.words += text.split_whitespace().count() as u64;
        self.tokens += n_tokens as u64;
    }

    /// With the quotients of its counts.
    fn divided(mut self) -> Self {
        self.bytes_per_token = quotient(self.bytes, self.tokens);
        self.tokens_per_word = quotient(self.tokens, self.words);
        self
    }
}

fn quotient(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
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
    let (mut all, mut scripts) = (ScriptStats::default(), BTreeMap::<String, ScriptStats>::new());
    let (mut token_bytes, mut multi_bytes) = (0, 0);
    let mut used = BTreeSet::new();
    each_encoded(tokenizer, texts, |text, ids| {
        all.add(text, ids.len());
        scripts.entry(main_script(text).unwrap_or("none").to_owned()).or_default().add(text, ids.len());
        for length in ids.iter().filter_map(|&id| tokenizer.token_bytes(id)) {
            token_bytes += length as u64;
            multi_bytes += if length > 1 { length as u64 } else { 0 };
        }
        used.extend(ids);
        Ok(())
    })?;
    let lengths =
        (0..tokenizer.vocab_size() as u32).filter_map(|id| Some((id, tokenizer.token_bytes(id)?))).filter(|(_, bytes)| *bytes > 0);
    let n_plain = lengths.clone().count() as u64;
    let unused_ids: Vec<u32> = lengths.clone().map(|(id, _)| id).filter(|id| !used.contains(id)).collect();
    let longest = lengths.min_by_key(|&(id, bytes)| (std::cmp::Reverse(bytes), id));
    let all = all.divided();
    Ok(TokenizerStats {
        texts: all.texts,
        bytes: all.bytes,
        tokens: all.tokens,
        bytes_per_token: all.bytes_per_token,
        vocab_size: tokenizer.vocab_size(),
        used_share: quotient(n_plain - unused_ids.len() as u64, n_plain),
        unused_ids,
        longest_token: longest.map(|(id, bytes)| LongestToken { id, token: tokenizer.id_to_token(id).unwrap_or_default(), bytes }),
        words: all.words,
        tokens_per_word: all.tokens_per_word,
        multi_byte_share: quotient(multi_bytes, token_bytes),
        scripts: scripts.into_iter().map(|(script, counts)| (script, counts.divided())).collect(),
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
    fn scripts_words_and_coverage_are_told() {
        let config = TokenizerConfig { vocab_size: 259, ..TokenizerConfig::default() };
        let tokenizer = crate::train(&config, ["ab ab"].into_iter(), &mut |_| ()).unwrap();
        let found = stats(&*tokenizer, ["ab cd", "да", "12", ""]).unwrap();
        // `ab`, a space, `c`, `d`; two letters of two bytes; two digits.
        assert_eq!((found.words, found.tokens, found.bytes), (4, 10, 11));
        let near = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
        assert!(near(found.tokens_per_word, 2.5) && near(found.multi_byte_share, 2.0 / 11.0));
        assert!(near(found.used_share, 9.0 / 257.0), "{}", found.used_share);
        assert_eq!(found.scripts.keys().map(String::as_str).collect::<Vec<_>>(), ["Cyrillic", "Latin", "none"]);
        let latin = ScriptStats { texts: 1, bytes: 5, words: 2, tokens: 4, bytes_per_token: 1.25, tokens_per_word: 2.0 };
        assert_eq!(found.scripts["Latin"], latin);
        assert_eq!((found.scripts["none"].texts, found.scripts["Cyrillic"].tokens), (2, 4));
        let keys: Vec<String> = serde_json::to_value(&found).unwrap().as_object().unwrap().keys().cloned().collect();
        for key in
            ["texts", "bytes", "tokens", "bytes_per_token", "vocab_size", "unused_ids", "longest_token", "scripts", "tokens_per_word"]
        {
            assert!(keys.iter().any(|found| found == key), "{key}");
        }
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
