//! The documents of sources as others see them: all that may be used, and the texts that a tokenizer is trained on.

use codex_safety::Scanner;

use crate::config::DataConfig;
use crate::document::Document;
use crate::error::DataError;
use crate::pipeline::{Account, SafeDocuments};
use crate::source::Sources;
use crate::split::Split;

/// Every document that may be used, as the safety policy leaves it.
pub struct UsableDocuments<'a>(SafeDocuments<'a>);

/// The documents of all sources in reading order, training first; the first error ends them.
pub fn usable_documents<'a>(sources: &'a Sources, config: &DataConfig, scanner: &'a Scanner) -> UsableDocuments<'a> {
    UsableDocuments(SafeDocuments::new(sources, config, scanner, None))
}

impl UsableDocuments<'_> {
    /// What happened to the documents so far.
    pub fn account(&self) -> &Account {
        self.0.account()
    }

    /// Bytes of sources with these sizes, in reading order, that are behind: near enough for a progress bar.
    pub fn bytes_done(&self, sizes: &[u64]) -> u64 {
        self.0.bytes_done(sizes)
    }
}

impl std::fmt::Debug for UsableDocuments<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsableDocuments").field("account", self.account()).finish_non_exhaustive()
    }
}

impl Iterator for UsableDocuments<'_> {
    type Item = Result<Document, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.next()?.map(|(_, document)| document);
        // Listed where the cache is made.
        self.0.take_left_out();
        Some(next)
    }
}

/// The texts to train a tokenizer on: those of the training split, as the safety policy leaves them.
#[derive(Debug)]
pub struct TrainTexts<'a>(UsableDocuments<'a>);

/// The safe texts of the training split in source order, those of all parts; the first error ends them.
pub fn train_texts<'a>(sources: &'a Sources, config: &DataConfig, scanner: &'a Scanner) -> TrainTexts<'a> {
    TrainTexts(UsableDocuments(SafeDocuments::new(sources, &config.unsharded(), scanner, Some(Split::Train))))
}

impl<'a> TrainTexts<'a> {
    /// The documents that they are of: what happened to them, and how far they are read.
    pub fn documents(&self) -> &UsableDocuments<'a> {
        &self.0
    }
}

impl Iterator for TrainTexts<'_> {
    type Item = Result<String, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|document| document.content.text().into_owned()))
    }
}
