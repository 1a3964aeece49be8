//! Byte-level byte-pair encoding in the layout of GPT-2.
//!
//! References: R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016); A. Radford et al. (2019).
//! The library splits and merges; which tokens are special is decided here, so that no text can spell one.

use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::parallelism::MaybeParallelRefIterator;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::error::TokenizeError;
use crate::manifest;
use crate::piece::pieces;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json::{TokenizerFile, byte_level};
use crate::vocabulary::{Vocabulary, answer_from_vocabulary};

/// A byte-level BPE tokenizer.
#[derive(Debug)]
pub struct BpeTokenizer {
    vocabulary: Vocabulary,
    /// The plain tokens only: what is not in it cannot come out of it.
    model: BPE,
    splitter: ByteLevel,
}

impl BpeTokenizer {
    /// The tokenizer in the text of a `tokenizer.json`.
    pub fn from_json(text: &str) -> Result<Self, TokenizeError> {
        Self::from_file(TokenizerFile::parse(text, Path::new(manifest::TOKENIZER_FILE))?, text.to_owned())
    }

    /// Reads a `tokenizer.json` file, or the one in a folder, as [`load`](crate::load) does.
    pub fn load(path: &Path) -> Result<Self, TokenizeError> {
        let (path, text) = manifest::read_verified(path)?;
        Self::from_file(TokenizerFile::parse(&text, &path)?, text)
    }

    pub(crate) fn from_file(mut file: TokenizerFile, json: String) -> Result<Self, TokenizeError> {
        let plain = file.entries.iter().zip(0..).filter(|(entry, _)| !entry.special);
        let vocab: Vocab = plain.map(|(entry, id)| (entry.token.clone(), id)).collect();
        let merges = std::mem::take(&mut file.merges);
        let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(file.ignore_merges).build();
        let model = model.map_err(|error| TokenizeError::library("make a tokenizer of the file", error))?;
        Ok(Self { vocabulary: file.into_vocabulary(json), model, splitter: byte_level() })
    }

    /// The ids of a stretch of text that is short enough to be split at once.
    fn encode_piece(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let mut split = PreTokenizedString::from(text);
        self.splitter.pre_tokenize(&mut split).map_err(|error| TokenizeError::library("split the text", error))?;
        let mut ids = Vec::with_capacity(text.len() / 3);
        for (word, _, _) in split.get_splits(OffsetReferential::Original, OffsetType::None) {
            let tokens = self.model.tokenize(word).map_err(|error| TokenizeError::library("encode the text", error))?;
            ids.extend(tokens.into_iter().map(|token| token.id));
        }
        Ok(ids)
    }
}

impl Tokenizer for BpeTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let pieces: Vec<&str> = pieces(text).collect();
        match pieces[..] {
            [] => Ok(Vec::new()),
            [piece] => self.encode_piece(piece),
            _ => {
                let parts: Vec<Vec<u32>> = pieces.maybe_par_iter().map(|piece| self.encode_piece(piece)).collect::<Result<_, _>>()?;
                Ok(parts.concat())
            }
        }
    }

    fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenizeError> {
        texts.maybe_par_iter().map(|text| self.encode(text)).collect()
    }

    answer_from_vocabulary!();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::TokenizerConfig;
    use crate::piece::pieces_of;

    fn trained() -> BpeTokenizer {
        let text = "the cat sat on the mat, and the other cat's hat\n\n  was 1234 \u{3000}字字 by the door  ".repeat(3);
        let config = TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() };
        BpeTokenizer::from_json(crate::train(&config, std::iter::once(text.as_str()), &mut |_| ()).unwrap().to_json()).unwrap()
    }

    #[test]
    fn cutting_a_text_changes_no_id() {
        let tokenizer = trained();
        let letters = prop::sample::select(vec![
            "a", "the", " ", " ", "  ", "\n", "\r\n", "\t", "'s", "'", "1", "字", "\u{3000}", "\u{85}", "\u{200b}", "!", "é", "🦀",
        ]);
        proptest!(|(text in prop::collection::vec(letters, 0..60).prop_map(|parts| parts.concat()))| {
            let parts: Vec<u32> = pieces_of(&text, 1, usize::MAX).flat_map(|piece| tokenizer.encode_piece(piece).unwrap()).collect();
            prop_assert_eq!(parts, tokenizer.encode_piece(&text).unwrap());
        });
    }
}
