//! Training a tokenizer on text, and the registry of kinds that can be made.
//!
//! The file depends on the texts and the configuration only: counting is a sum, and ties between pairs go to the lower ids.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use codex_core::Registry;
use tokenizers::models::bpe::{BPE, BpeTrainer, BpeTrainerBuilder};
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Trainer};
use tokenizers::{AddedToken, ProgressFormat};

use crate::alphabet::byte_to_char;
use crate::bpe::BpeTokenizer;
use crate::byte::ByteTokenizer;
use crate::config::{TokenizerConfig, TokenizerKind};
use crate::error::TokenizeError;
use crate::piece::pieces;
use crate::tokenizer::{Tokenizer, load};
use crate::tokenizer_json::{byte_level, write};

/// The most text a tokenizer is trained on: the library counts pairs in 31 bits, and a pair takes a byte of text.
pub const MAX_CORPUS_BYTES: u64 = (1 << 31) - 1;

/// The longest word that is counted whole, in bytes. A longer one is counted in parts, as the trainer's time grows with the square of a word's
/// length; no language has such words.
const LONGEST_WORD: usize = 256;

/// How far training has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrainProgress {
    /// Words are being counted: so many texts and bytes of them have been read.
    Counting {
        /// Texts begun.
        texts: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Pairs are being merged among so many different words.
    Merging {
        /// Different words.
        words: u64,
    },
    /// The tokenizer is made.
    Done {
        /// How many ids it has.
        vocab_size: usize,
    },
}

/// Makes a tokenizer of one kind from a configuration and texts.
pub type TokenizerConstructor = for<'t> fn(
    &TokenizerConfig,
    &mut (dyn Iterator<Item = &'t str> + Send),
    &mut dyn FnMut(TrainProgress),
) -> Result<Arc<dyn Tokenizer>, TokenizeError>;

/// The kinds of tokenizer by name: `bpe` and `byte`.
pub fn registry() -> Registry<TokenizerConstructor> {
    let mut registry: Registry<TokenizerConstructor> = Registry::new("tokenizer");
    for (kind, make) in [(TokenizerKind::Bpe, train_bpe as TokenizerConstructor), (TokenizerKind::Byte, make_byte)] {
        let registered = registry.register(kind.name(), make);
        debug_assert!(registered.is_ok(), "each kind has its own name");
    }
    registry
}

/// Trains the configured tokenizer on these texts, or reads `config.file` when it names one; the texts are not read then.
///
/// `progress` is called on this thread, about ten times a second and once at the end.
pub fn train<'a>(
    config: &TokenizerConfig,
    mut texts: impl Iterator<Item = &'a str> + Send,
    progress: &mut dyn FnMut(TrainProgress),
) -> Result<Arc<dyn Tokenizer>, TokenizeError> {
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(TokenizeError::Config { problems });
    }
    let tokenizer = match &config.file {
        Some(path) => load(Path::new(path))?,
        None => registry().resolve(config.kind.name())?(config, &mut texts, progress)?,
    };
    progress(TrainProgress::Done { vocab_size: tokenizer.vocab_size() });
    Ok(tokenizer)
}

fn make_byte(
    config: &TokenizerConfig,
    _texts: &mut (dyn Iterator<Item = &str> + Send),
    _progress: &mut dyn FnMut(TrainProgress),
) -> Result<Arc<dyn Tokenizer>, TokenizeError> {
    Ok(Arc::new(ByteTokenizer::new(&config.special_tokens)?))
}

fn train_bpe(
    config: &TokenizerConfig,
    texts: &mut (dyn Iterator<Item = &str> + Send),
    progress: &mut dyn FnMut(TrainProgress),
) -> Result<Arc<dyn Tokenizer>, TokenizeError> {
    let count = Count::default();
    let json = std::thread::scope(|scope| {
        // The sender goes away with the work, which is how the wait below ends at once.
        let (working, ended) = mpsc::channel::<()>();
        let worker = scope.spawn(|| {
            let _working = working;
            count_and_merge(config, texts, &count, MAX_CORPUS_BYTES)
        });
        while ended.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
            progress(count.progress());
        }
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(Arc::new(BpeTokenizer::from_json(&json)?))
}

/// What the working thread has done so far.
#[derive(Debug, Default)]
struct Count {
    texts: AtomicU64,
    bytes: AtomicU64,
    words: AtomicU64,
    too_large: AtomicBool,
}

impl Count {
    fn progress(&self) -> TrainProgress {
        match self.words.load(Ordering::Relaxed) {
            0 => TrainProgress::Counting { texts: self.texts.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) },
            words => TrainProgress::Merging { words },
        }
    }

    /// Counts a text in; `false` when it no longer fits.
    fn take(&self, text: &str, max_bytes: u64) -> bool {
        self.texts.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(text.len() as u64, Ordering::Relaxed) + text.len() as u64;
        if bytes > max_bytes {
            self.too_large.store(true, Ordering::Relaxed);
        }
        bytes <= max_bytes
    }
}

/// The tokenizer file for these texts.
fn count_and_merge(
    config: &TokenizerConfig,
    texts: &mut (dyn Iterator<Item = &str> + Send),
    count: &Count,
    max_bytes: u64,
) -> Result<String, TokenizeError> {
    let failed = |error| TokenizeError::library("train a tokenizer", error);
    let mut trainer = trainer(config);
    let splitter = byte_level();
    let stretches = texts.take_while(|text| count.take(text, max_bytes)).flat_map(pieces);
    let split = |stretch: &str| {
        let mut split = PreTokenizedString::from(stretch);
        splitter.pre_tokenize(&mut split)?;
        let words = split.get_splits(OffsetReferential::Original, OffsetType::None);
        Ok(words.into_iter().flat_map(|(word, _, _)| parts_of_word(word)).collect())
    };
    trainer.feed(stretches, split).map_err(failed)?;
    if count.too_large.load(Ordering::Relaxed) {
        return Err(TokenizeError::CorpusTooLarge { max_bytes });
    }
    let words = trainer.get_word_count() as u64;
    if words == 0 {
        return Err(TokenizeError::NoText);
    }
    count.words.store(words, Ordering::Relaxed);
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(failed)?;
    write(model, &config.special_tokens)
}

fn trainer(config: &TokenizerConfig) -> BpeTrainer {
    BpeTrainerBuilder::new()
        .vocab_size(config.vocab_size)
        .min_frequency(config.min_frequency)
        .special_tokens(config.special_tokens.iter().map(|token| AddedToken::from(token.as_str(), true)).collect())
        // All 256 bytes, seen or not, so that any text can be encoded.
        .initial_alphabet((0..=255).map(byte_to_char).collect())
        .show_progress(false)
        .progress_format(ProgressFormat::Silent)
        .build()
}

/// A word of the byte alphabet in parts of at most [`LONGEST_WORD`] characters, which are its bytes.
fn parts_of_word(word: &str) -> Vec<String> {
    if word.len() <= LONGEST_WORD {
        return vec![word.to_owned()];
    }
    let characters: Vec<char> = word.chars().collect();
    characters.chunks(LONGEST_WORD).map(|part| part.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_counted_in_parts() {
        assert_eq!(parts_of_word("Ġthe"), ["Ġthe"]);
        let parts = parts_of_word(&"Ġ".repeat(600));
        assert_eq!(parts.iter().map(|part| part.chars().count()).collect::<Vec<_>>(), [256, 256, 88]);
    }

    #[test]
    fn a_corpus_beyond_the_limit_is_refused_and_an_empty_one_too() {
        let run = |texts: &[&str], max_bytes| {
            count_and_merge(&TokenizerConfig::default(), &mut texts.iter().copied(), &Count::default(), max_bytes)
        };
        assert!(matches!(run(&["abc", "def"], 5), Err(TokenizeError::CorpusTooLarge { max_bytes: 5 })));
        assert!(run(&["abc", "def"], 6).is_ok());
        assert!(matches!(run(&["", ""], 6), Err(TokenizeError::NoText)));
    }

    #[test]
    fn progress_says_what_is_being_done() {
        let count = Count::default();
        assert!(count.take("abc", 10));
        assert_eq!(count.progress(), TrainProgress::Counting { texts: 1, bytes: 3 });
        count.words.store(7, Ordering::Relaxed);
        assert_eq!(count.progress(), TrainProgress::Merging { words: 7 });
    }

    #[test]
    fn both_kinds_are_registered() {
        assert_eq!(registry().names().collect::<Vec<_>>(), ["bpe", "byte"]);
        let miss = registry().resolve("bpee").unwrap_err();
        assert_eq!(miss.to_string(), "unknown tokenizer `bpee`; known: bpe, byte");
    }
}
