//! The tokenizer without training: special tokens first, then one id for each byte, in byte order.
//!
//! Its file is a BPE model without merges, so that other programs read it as they read any byte-level tokenizer.

use std::path::Path;

use tokenizers::models::bpe::{BPE, Merges, Vocab};

use crate::alphabet::byte_to_char;
use crate::config::{TokenizerConfig, TokenizerKind};
use crate::error::TokenizeError;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json::{self, TokenizerFile, malformed};
use crate::vocabulary::{Vocabulary, answer_from_vocabulary};

/// One token for each byte.
#[derive(Debug)]
pub struct ByteTokenizer {
    vocabulary: Vocabulary,
    /// The id of byte 0.
    base: u32,
}

impl ByteTokenizer {
    /// The tokenizer with these special tokens, as in [`TokenizerConfig::special_tokens`].
    pub fn new(special_tokens: &[String]) -> Result<Self, TokenizeError> {
        let config = TokenizerConfig { kind: TokenizerKind::Byte, special_tokens: special_tokens.to_vec(), ..TokenizerConfig::default() };
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(TokenizeError::Config { problems });
        }
        let bytes = (0..=255).map(|byte| byte_to_char(byte).to_string());
        let vocab: Vocab = special_tokens.iter().cloned().chain(bytes).zip(0..).collect();
        let model = BPE::builder().vocab_and_merges(vocab, Merges::new()).build();
        let json = tokenizer_json::write(model.map_err(|error| TokenizeError::library("make a byte tokenizer", error))?, special_tokens)?;
        Self::from_json(&json)
    }

    /// The tokenizer in the text of a `tokenizer.json`, which must be one of bytes.
    pub fn from_json(text: &str) -> Result<Self, TokenizeError> {
        let path = Path::new("tokenizer.json");
        let file = TokenizerFile::parse(text, path)?;
        if !file.is_bytes() {
            let found = format!("{} merges over {} tokens", file.merges.len(), file.entries.len());
            return Err(malformed(path, "model", "the 256 bytes in order and no merge", found));
        }
        Ok(Self::from_file(file, text.to_owned()))
    }

    /// The tokenizer of a file that [is one of bytes](TokenizerFile::is_bytes).
    pub(crate) fn from_file(file: TokenizerFile, json: String) -> Self {
        let base = file.byte_base.unwrap_or_default();
        Self { vocabulary: file.into_vocabulary(json), base }
    }
}

impl Tokenizer for ByteTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        Ok(text.bytes().map(|byte| self.base + u32::from(byte)).collect())
    }

    fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenizeError> {
        texts.iter().map(|text| self.encode(text)).collect()
    }

    answer_from_vocabulary!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> ByteTokenizer {
        ByteTokenizer::new(&TokenizerConfig::default().special_tokens).unwrap()
    }

    #[test]
    fn ids_are_two_more_than_the_bytes() {
        let tokenizer = tokenizer();
        assert_eq!(tokenizer.vocab_size(), 258);
        assert_eq!((tokenizer.end_of_text(), tokenizer.pad()), (0, 1));
        assert_eq!(tokenizer.encode("Aé\0").unwrap(), [67, 197, 171, 2]);
        assert_eq!(tokenizer.encode_batch(&["A", ""]).unwrap(), [vec![67], vec![]]);
        assert_eq!(tokenizer.decode_bytes(&[257, 0]).unwrap(), b"\xFF<|endoftext|>");
        assert_eq!(tokenizer.decode(&[197, 67]).unwrap(), "\u{FFFD}A");
        assert_eq!(tokenizer.token_bytes(2), Some(1));
        assert_eq!(tokenizer.id_to_token(34).as_deref(), Some("Ġ"));
        assert_eq!(tokenizer.token_to_id("Ġ"), Some(34));
    }

    #[test]
    fn its_file_reads_back_equal_and_a_bpe_file_is_refused() {
        let tokenizer = tokenizer();
        let again = ByteTokenizer::from_json(tokenizer.to_json()).unwrap();
        assert_eq!(again.digest(), tokenizer.digest());
        assert_eq!(again.base, 2);
        let swapped = tokenizer.to_json().replacen("\"!\": 35", "\"!\": 36", 1).replacen("\"\\\"\": 36", "\"\\\"\": 35", 1);
        assert_ne!(swapped, tokenizer.to_json());
        assert!(ByteTokenizer::from_json(&swapped).unwrap_err().to_string().contains("expected the 256 bytes in order"));
        assert!(matches!(ByteTokenizer::new(&["pad".to_owned()]), Err(TokenizeError::Config { .. })));
    }
}
