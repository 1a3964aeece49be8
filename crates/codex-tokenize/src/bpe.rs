//! Byte-level byte-pair encoding in the layout of GPT-2.
//!
//! References: R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016); A. Radford et al. (2019).
//! Words are found in `split`, their ids in `merges`, and both are those of the tokenizers library. No special token is among the plain ones, so
//! that no text can spell one.

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::parallelism::MaybeParallelRefIterator;

use crate::alphabet::byte_to_char;
use crate::error::TokenizeError;
use crate::manifest;
use crate::merges::Merges;
use crate::piece::pieces;
use crate::split::words;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json::TokenizerFile;
use crate::vocabulary::{Vocabulary, answer_from_vocabulary};
use crate::word_cache::{IdleCaches, WordCache};

/// A byte-level BPE tokenizer.
#[derive(Debug)]
pub struct BpeTokenizer {
    vocabulary: Vocabulary,
    /// Of plain tokens only: what is not in them cannot come out of them.
    merges: Merges,
    /// The plain tokens by their bytes, where a word that is a token is taken whole.
    whole: Option<BTreeMap<Vec<u8>, u32>>,
    caches: IdleCaches,
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
        let merges = std::mem::take(&mut file.merges);
        let plain: BTreeMap<&str, u32> =
            file.entries.iter().zip(0..).filter(|(entry, _)| !entry.special).map(|(entry, id)| (entry.token.as_str(), id)).collect();
        // The file is checked: each byte has a token, and so have both parts of a merge and what it makes.
        let id_of = |token: &str| {
            let missing = || TokenizeError::library("make a tokenizer of the file", format!("no token `{token}`"));
            plain.get(token).copied().ok_or_else(missing)
        };
        let mut byte_ids = [0; 256];
        for (id, byte) in byte_ids.iter_mut().zip(0..=255) {
            *id = id_of(byte_to_char(byte).encode_utf8(&mut [0; 4]))?;
        }
        let ids_of = |(left, right): &(String, String)| Ok(((id_of(left)?, id_of(right)?), id_of(&format!("{left}{right}"))?));
        let merges = Merges::new(&byte_ids, &merges.iter().map(ids_of).collect::<Result<Vec<_>, TokenizeError>>()?);
        let by_bytes = || file.entries.iter().zip(0..).filter(|(entry, _)| !entry.special).map(|(entry, id)| (entry.bytes.clone(), id));
        let whole = file.ignore_merges.then(|| by_bytes().collect());
        Ok(Self { vocabulary: file.into_vocabulary(json), merges, whole, caches: IdleCaches::default() })
    }

    /// The ids of a stretch of text.
    fn encode_piece(&self, text: &str) -> Vec<u32> {
        self.caches.with(|cache| {
            let mut ids = Vec::with_capacity(text.len() / 3);
            for word in words(text) {
                self.encode_word(word.as_bytes(), cache, &mut ids);
            }
            ids
        })
    }

    fn encode_word(&self, word: &[u8], cache: &mut WordCache, ids: &mut Vec<u32>) {
        cache.encode(word, ids, |scratch, ids| match self.whole.as_ref().and_then(|whole| whole.get(word)) {
            Some(&id) => ids.push(id),
            None => self.merges.encode(word, scratch, ids),
        });
    }
}

impl Tokenizer for BpeTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let pieces: Vec<&str> = pieces(text).collect();
        match pieces[..] {
            [] => Ok(Vec::new()),
            [piece] => Ok(self.encode_piece(piece)),
            _ => {
                let parts: Vec<Vec<u32>> = pieces.maybe_par_iter().map(|piece| self.encode_piece(piece)).collect();
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
            let parts: Vec<u32> = pieces_of(&text, 1, usize::MAX).flat_map(|piece| tokenizer.encode_piece(piece)).collect();
            prop_assert_eq!(parts, tokenizer.encode_piece(&text));
        });
    }
}
