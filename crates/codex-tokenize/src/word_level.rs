//! One token for each frequent word, and one for all others: the `WordLevel` layout of Hugging Face.
//!
//! A word is a run of letters and digits, or a run of other visible characters, as the layout's `Whitespace` pre-tokenizer cuts them. The ids go to
//! the special tokens, then to the words by falling count, equal ones by their bytes. Nothing else is kept of a text: spaces and unknown words are
//! lost, so the tokenizer is not [lossless](crate::Tokenizer::is_lossless).

use std::sync::Arc;

use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::whitespace::Whitespace;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::config::TokenizerConfig;
use crate::error::TokenizeError;
use crate::hf::HfTokenizer;
use crate::tokenizer_json::write_parts;
use crate::training::{TokenizerTrainer, TrainProgress, Trained};
use crate::word_counter::{TrainOptions, WordCounter, WordList};
use crate::word_counts::WordCounts;

/// The longest word that can be a token, in bytes.
const LONGEST_WORD: usize = 256;
/// Spellings of the token for unknown words; the first that is configured is taken.
const KNOWN_UNKNOWN: [&str; 4] = ["<unk>", "<|unk|>", "[UNK]", "<|unknown|>"];

/// The trainer of word-level tokenizers.
pub(crate) struct WordLevelTrainer {
    config: TokenizerConfig,
    counter: WordCounter,
}

impl WordLevelTrainer {
    pub(crate) fn new(config: &TokenizerConfig, options: &TrainOptions) -> Self {
        Self { config: config.clone(), counter: WordCounter::new(count_piece, options) }
    }
}

impl TokenizerTrainer for WordLevelTrainer {
    fn add(&mut self, texts: &[&str]) -> Result<(), TokenizeError> {
        self.counter.add(texts)
    }

    fn finish(self: Box<Self>, progress: &mut dyn FnMut(TrainProgress)) -> Result<Trained, TokenizeError> {
        let (words, report) = self.counter.counted(progress)?;
        let json = file_of(&words, &self.config)?;
        Ok(Trained { tokenizer: Arc::new(HfTokenizer::from_json(&json)?), report })
    }
}

/// The special tokens of a word-level tokenizer, and which of them stands for unknown words: the configured one, else `<unk>` behind the others.
pub(crate) fn special_tokens(configured: &[String]) -> (Vec<String>, &'static str) {
    let mut tokens = configured.to_vec();
    let unknown = KNOWN_UNKNOWN.into_iter().find(|known| tokens.iter().any(|token| token == known));
    let unknown = unknown.unwrap_or_else(|| {
        tokens.push(KNOWN_UNKNOWN[0].to_owned());
        KNOWN_UNKNOWN[0]
    });
    (tokens, unknown)
}

/// The tokenizer file of these words.
fn file_of(words: &WordList, config: &TokenizerConfig) -> Result<String, TokenizeError> {
    let (special, unknown) = special_tokens(&config.special_tokens);
    let mut frequent: Vec<(&[u8], u64)> = words.iter().filter(|(_, count)| *count >= config.min_frequency).collect();
    // The words come in the order of their bytes, which a stable sort keeps among equals.
    frequent.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let room = config.vocab_size.saturating_sub(special.len());
    let frequent = frequent.into_iter().take(room).map(|(word, _)| String::from_utf8_lossy(word).into_owned());
    let vocab: Vocab = special.iter().cloned().chain(frequent).zip(0..).collect();
    let model = WordLevel::builder().vocab(vocab).unk_token(unknown.to_owned()).build();
    let model = model.map_err(|error| TokenizeError::library("train a tokenizer", error))?;
    write_parts(model, Whitespace {}, None, &special)
}

/// Counts the words of a stretch of text.
fn count_piece(piece: &str, counts: &mut WordCounts) -> Result<(), TokenizeError> {
    let mut split = PreTokenizedString::from(piece);
    Whitespace {}.pre_tokenize(&mut split).map_err(|error| TokenizeError::library("split the text", error))?;
    for (word, _, _) in split.get_splits(OffsetReferential::Original, OffsetType::None) {
        if !word.is_empty() && word.len() <= LONGEST_WORD {
            counts.add(word.as_bytes(), 1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenizerKind;
    use crate::tokenizer::Tokenizer;
    use crate::train;

    fn config() -> TokenizerConfig {
        TokenizerConfig { kind: TokenizerKind::WordLevel, vocab_size: 7, min_frequency: 1, ..TokenizerConfig::default() }
    }

    fn tokens(tokenizer: &dyn Tokenizer) -> Vec<String> {
        (0..tokenizer.vocab_size() as u32).map(|id| tokenizer.id_to_token(id).unwrap()).collect()
    }

    #[test]
    fn words_have_ids_by_count_and_then_by_text() {
        let tokenizer = train(&config(), ["b a, b c a", "d ... 字 d d"].into_iter(), &mut |_| ()).unwrap();
        assert_eq!(tokens(&*tokenizer), ["<|endoftext|>", "<|pad|>", "<unk>", "d", "a", "b", ","]);
        assert_eq!((tokenizer.end_of_text(), tokenizer.pad(), tokenizer.is_lossless()), (0, 1, false));
        let ids = tokenizer.encode("a  d, zebra <|pad|> <unk>").unwrap();
        assert_eq!(ids, [4, 3, 6, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(tokenizer.decode(&ids[..4]).unwrap(), "a d , <unk>");
        assert_eq!(tokenizer.encode_with_special("a <|endoftext|>", &["<|endoftext|>"]).unwrap(), [4, 0]);
        let again = crate::from_json(tokenizer.to_json()).unwrap();
        assert_eq!(again.digest(), tokenizer.digest());
    }

    #[test]
    fn the_library_reads_the_file() {
        let tokenizer = train(&config(), ["b a b c a d d d"].into_iter(), &mut |_| ()).unwrap();
        let library: tokenizers::Tokenizer = tokenizer.to_json().parse().unwrap();
        let encoding = library.encode("a zebra d", false).unwrap();
        assert_eq!(encoding.get_ids(), tokenizer.encode("a zebra d").unwrap());
        assert_eq!(encoding.get_tokens(), ["a", "<unk>", "d"]);
    }

    #[test]
    fn the_unknown_token_may_be_configured_and_rare_words_have_none() {
        let config = TokenizerConfig { special_tokens: vec!["</s>".into(), "[UNK]".into()], min_frequency: 2, ..config() };
        let tokenizer = train(&config, ["b a b c a"].into_iter(), &mut |_| ()).unwrap();
        assert_eq!(tokens(&*tokenizer), ["</s>", "[UNK]", "a", "b"]);
        assert_eq!(tokenizer.pad(), 0);
        assert_eq!(tokenizer.encode("c a").unwrap(), [1, 2]);
    }
}
