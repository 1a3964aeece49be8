//! Training a tokenizer on text, and the registry of kinds that can be made.
//!
//! The file depends on the texts and the configuration only: counting is a sum, and ties between pairs go to the lower ids.

use std::path::Path;
use std::sync::Arc;

use codex_core::Registry;

use crate::bpe::BpeTokenizer;
use crate::bpe_merging::merge_words;
use crate::byte::ByteTokenizer;
use crate::config::{TokenizerConfig, TokenizerKind};
use crate::error::TokenizeError;
use crate::split::words;
use crate::tokenizer::{Tokenizer, load};
use crate::tokenizer_json::write;
use crate::word_counter::{LeftOut, TrainOptions, WordCounter};
use crate::word_counts::WordCounts;
use crate::word_level::WordLevelTrainer;

/// The longest word that is counted whole, in bytes. A longer one is counted in parts; no language has such words.
const LONGEST_WORD: usize = 256;
/// How much text [`train`] hands to a trainer at once, in bytes.
const BATCH: usize = 4 << 20;

/// How far training has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrainProgress {
    /// Words are being counted: so many texts and bytes of them have been read.
    Counting {
        /// Texts counted.
        texts: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// There are more different words than are kept in memory; the rarest are not trained on.
    LeftOut(LeftOut),
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

/// A tokenizer and what it was trained on.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The tokenizer.
    pub tokenizer: Arc<dyn Tokenizer>,
    /// What went into it.
    pub report: TrainReport,
}

/// What a tokenizer was trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TrainReport {
    /// How many texts were read.
    pub texts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many different words they have, without those left out; 0 where no words are counted.
    pub words: u64,
    /// The words that were left out, because there were more than fit into memory.
    pub left_out: Option<LeftOut>,
}

/// Makes a tokenizer of texts that come in batches.
///
/// The result depends on the texts alone: not on their order, nor on how they are put into batches, nor on the number of threads. A text is given
/// whole, as its words are cut anew at its start.
pub trait TokenizerTrainer: Send {
    /// Takes in some texts.
    fn add(&mut self, texts: &[&str]) -> Result<(), TokenizeError>;

    /// Makes the tokenizer. `progress` is called on this thread now and then.
    fn finish(self: Box<Self>, progress: &mut dyn FnMut(TrainProgress)) -> Result<Trained, TokenizeError>;
}

/// Makes the trainer of one kind from a valid configuration.
pub type TrainerConstructor = fn(&TokenizerConfig, &TrainOptions) -> Result<Box<dyn TokenizerTrainer>, TokenizeError>;

/// The kinds of tokenizer by name: `bpe`, `byte` and `word_level`.
pub fn registry() -> Registry<TrainerConstructor> {
    let mut registry: Registry<TrainerConstructor> = Registry::new("tokenizer");
    let kinds: [(TokenizerKind, TrainerConstructor); 3] = [
        (TokenizerKind::Bpe, |config, options| Ok(Box::new(BpeTrainer::new(config, options)))),
        (TokenizerKind::Byte, |config, _| Ok(Box::new(ByteTrainer { config: config.clone(), report: TrainReport::default() }))),
        (TokenizerKind::WordLevel, |config, options| Ok(Box::new(WordLevelTrainer::new(config, options)))),
    ];
    for (kind, make) in kinds {
        let registered = registry.register(kind.name(), make);
        debug_assert!(registered.is_ok(), "each kind has its own name");
    }
    registry
}

/// The trainer of the configured kind; `config.file` is not looked at.
pub fn trainer(config: &TokenizerConfig, options: &TrainOptions) -> Result<Box<dyn TokenizerTrainer>, TokenizeError> {
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(TokenizeError::Config { problems });
    }
    registry().resolve(config.kind.name())?(config, options)
}

/// Trains the configured tokenizer on these texts, or reads `config.file` when it names one; the texts are not read then.
///
/// `progress` is called on this thread now and then, and once at the end.
pub fn train<'a>(
    config: &TokenizerConfig,
    mut texts: impl Iterator<Item = &'a str> + Send,
    progress: &mut dyn FnMut(TrainProgress),
) -> Result<Arc<dyn Tokenizer>, TokenizeError> {
    let tokenizer = if let Some(path) = &config.file {
        load(Path::new(path))?
    } else {
        let mut trainer = trainer(config, &TrainOptions::default())?;
        let (mut n_texts, mut n_bytes) = (0, 0);
        loop {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while bytes < BATCH
                && let Some(text) = texts.next()
            {
                bytes += text.len();
                batch.push(text);
            }
            if batch.is_empty() {
                break trainer.finish(progress)?.tokenizer;
            }
            trainer.add(&batch)?;
            (n_texts, n_bytes) = (n_texts + batch.len() as u64, n_bytes + bytes as u64);
            progress(TrainProgress::Counting { texts: n_texts, bytes: n_bytes });
        }
    };
    progress(TrainProgress::Done { vocab_size: tokenizer.vocab_size() });
    Ok(tokenizer)
}

/// The trainer of plain bytes, which learns nothing.
struct ByteTrainer {
    config: TokenizerConfig,
    report: TrainReport,
}

impl TokenizerTrainer for ByteTrainer {
    fn add(&mut self, texts: &[&str]) -> Result<(), TokenizeError> {
        self.report.texts += texts.len() as u64;
        self.report.bytes += texts.iter().map(|text| text.len() as u64).sum::<u64>();
        Ok(())
    }

    fn finish(self: Box<Self>, _progress: &mut dyn FnMut(TrainProgress)) -> Result<Trained, TokenizeError> {
        Ok(Trained { tokenizer: Arc::new(ByteTokenizer::new(&self.config.special_tokens)?), report: self.report })
    }
}

/// The trainer of byte-level BPE.
struct BpeTrainer {
    config: TokenizerConfig,
    counter: WordCounter,
}

impl BpeTrainer {
    fn new(config: &TokenizerConfig, options: &TrainOptions) -> Self {
        Self { config: config.clone(), counter: WordCounter::new(count_piece, options) }
    }
}

impl TokenizerTrainer for BpeTrainer {
    fn add(&mut self, texts: &[&str]) -> Result<(), TokenizeError> {
        self.counter.add(texts)
    }

    fn finish(self: Box<Self>, progress: &mut dyn FnMut(TrainProgress)) -> Result<Trained, TokenizeError> {
        let (words, report) = self.counter.counted(progress)?;
        let merging = TrainProgress::Merging { words: report.words };
        progress(merging);
        let model = merge_words(&words, &self.config, &mut |_| progress(merging))?;
        let json = write(model, &self.config.special_tokens)?;
        Ok(Trained { tokenizer: Arc::new(BpeTokenizer::from_json(&json)?), report })
    }
}

impl WordCounter {
    /// The words and what is to be reported of them; without any there is nothing to train on.
    pub(crate) fn counted(
        self,
        progress: &mut dyn FnMut(TrainProgress),
    ) -> Result<(crate::word_counter::WordList, TrainReport), TokenizeError> {
        let (texts, bytes) = (self.texts, self.bytes);
        let words = self.finish()?;
        if words.len() == 0 && words.left_out.is_none() {
            return Err(TokenizeError::NoText);
        }
        let left_out = words.left_out;
        if let Some(left_out) = left_out {
            progress(TrainProgress::LeftOut(left_out));
        }
        let report = TrainReport { texts, bytes, words: words.len() as u64, left_out };
        Ok((words, report))
    }
}

/// Counts the words of GPT-2's pattern, a long one in parts.
#[expect(clippy::unnecessary_wraps, reason = "it is a `CountPiece`, and the other one can fail")]
fn count_piece(piece: &str, counts: &mut WordCounts) -> Result<(), TokenizeError> {
    for part in words(piece).flat_map(|word| word.as_bytes().chunks(LONGEST_WORD)) {
        counts.add(part, 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_counted_in_parts() {
        let mut counts = WordCounts::default();
        count_piece(&format!("the {}", "!".repeat(600)), &mut counts).unwrap();
        // The space belongs to the first part.
        let found: Vec<(usize, u64)> = counts.sorted().map(|(word, count)| (word.len(), count)).collect();
        assert_eq!(found, [(256, 1), (89, 1), (256, 1), (3, 1)]);
    }

    #[test]
    fn no_text_is_refused() {
        let train = |texts: &[&str]| {
            let mut trainer = trainer(&TokenizerConfig::default(), &TrainOptions::default()).unwrap();
            trainer.add(texts).unwrap();
            trainer.finish(&mut |_| ())
        };
        assert!(matches!(train(&["", ""]), Err(TokenizeError::NoText)));
        let trained = train(&["abc abc", ""]).unwrap();
        assert_eq!(trained.report, TrainReport { texts: 2, bytes: 7, words: 2, left_out: None });
    }

    #[test]
    fn progress_says_what_is_being_done() {
        let mut told = Vec::new();
        train(&TokenizerConfig::default(), ["abc", "de"].into_iter(), &mut |progress| told.push(progress)).unwrap();
        let expected =
            [TrainProgress::Counting { texts: 2, bytes: 5 }, TrainProgress::Merging { words: 2 }, TrainProgress::Done { vocab_size: 258 }];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_left_out_is_told() {
        let options = TrainOptions { keep_bytes: 0, ..TrainOptions::default() };
        let mut trainer = trainer(&TokenizerConfig::default(), &options).unwrap();
        trainer.add(&["abc"]).unwrap();
        let mut told = Vec::new();
        let trained = trainer.finish(&mut |progress| told.push(progress)).unwrap();
        let left_out = LeftOut { words: 1, occurrences: 1, below: 2 };
        assert_eq!(told[0], TrainProgress::LeftOut(left_out));
        assert_eq!((trained.report.words, trained.report.left_out), (0, Some(left_out)));
    }

    #[test]
    fn all_kinds_are_registered() {
        assert_eq!(registry().names().collect::<Vec<_>>(), ["bpe", "byte", "word_level"]);
        let miss = registry().resolve("bpee").err().unwrap();
        assert_eq!(miss.to_string(), "unknown tokenizer `bpee`; known: bpe, byte, word_level");
    }
}
