//! From sources to documents that may be used: bad rows, the split and the safety policy, in that order, one document at a time.
//!
//! The split is decided on the text as the source has it, so that another safety policy moves no document.

use codex_safety::{Scanner, Tally, Verdict};
use serde::{Deserialize, Serialize};

use crate::config::{DataConfig, OnBadRow};
use crate::document::Document;
use crate::error::DataError;
use crate::skipped::SkippedRows;
use crate::source::{DataSource, Documents, Sources};
use crate::split::Split;

/// What happened to the documents on their way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Documents that were read, those skipped not among them.
    pub read: u64,
    /// Documents without a character; they are left out.
    pub empty: u64,
    /// Documents that the safety policy dropped.
    pub dropped: u64,
    /// Rows that were skipped because they could not be used.
    pub skipped: SkippedRows,
    /// What the safety rules found.
    pub safety: Tally,
}

/// The usable documents of all sources, with their splits.
pub(crate) struct SafeDocuments<'a> {
    sources: Vec<(Role, &'a dyn DataSource)>,
    next_source: usize,
    current: Option<(Role, Documents<'a>)>,
    only: Option<Split>,
    on_bad_row: OnBadRow,
    scanner: &'a Scanner,
    account: Account,
    text_bytes: u64,
    ended: bool,
}

/// Which split a source's documents are in.
#[derive(Clone, Copy, Debug)]
enum Role {
    Whole(Split),
    ByHash { validation_fraction: f64 },
}

/// The share of `sources.train` that is held out: none when there are validation sources.
pub(crate) fn held_out_fraction(config: &DataConfig, sources: &Sources) -> f64 {
    if sources.validation.is_empty() { config.validation_fraction } else { 0.0 }
}

impl<'a> SafeDocuments<'a> {
    /// All documents, or those of one split only.
    pub(crate) fn new(sources: &'a Sources, config: &DataConfig, scanner: &'a Scanner, only: Option<Split>) -> Self {
        let train = Role::ByHash { validation_fraction: held_out_fraction(config, sources) };
        let with = |role: Role, sources: &'a [Box<dyn DataSource>]| sources.iter().map(move |source| (role, source.as_ref()));
        let mut all: Vec<_> = with(train, &sources.train).collect();
        if only != Some(Split::Train) {
            all.extend(with(Role::Whole(Split::Validation), &sources.validation));
        }
        Self {
            sources: all,
            next_source: 0,
            current: None,
            only,
            on_bad_row: config.on_bad_row,
            scanner,
            account: Account::default(),
            text_bytes: 0,
            ended: false,
        }
    }

    /// What happened so far.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// How many sources are behind, and the bytes of text read from the present one.
    pub(crate) fn progress(&self) -> (usize, u64) {
        (self.next_source - usize::from(self.current.is_some()), self.text_bytes)
    }

    fn step(&mut self) -> Result<Option<(Split, Document)>, DataError> {
        loop {
            let Some((role, documents)) = &mut self.current else {
                let Some((role, source)) = self.sources.get(self.next_source) else { return Ok(None) };
                self.current = Some((*role, source.documents()?));
                self.next_source += 1;
                self.text_bytes = 0;
                continue;
            };
            let role = *role;
            let document = match documents.next() {
                None => {
                    self.current = None;
                    continue;
                }
                Some(Err(DataError::BadRow { path, line, column, reason })) => {
                    let code = reason.code();
                    let told = || DataError::BadRow { path, line, column, reason: Box::new(reason.told(self.scanner)) };
                    if self.on_bad_row == OnBadRow::Error {
                        return Err(told());
                    }
                    self.account.skipped.add(code, || told().to_string());
                    continue;
                }
                Some(read) => read?,
            };
            self.account.read += 1;
            self.text_bytes += document.text.len() as u64;
            if let Some(kept) = self.judge(role, document)? {
                return Ok(Some(kept));
            }
        }
    }

    fn judge(&mut self, role: Role, document: Document) -> Result<Option<(Split, Document)>, DataError> {
        if document.text.is_empty() {
            self.account.empty += 1;
            return Ok(None);
        }
        let split = match role {
            Role::Whole(split) => split,
            Role::ByHash { validation_fraction } => Split::of_text(&document.text, validation_fraction),
        };
        if self.only.is_some_and(|only| only != split) {
            return Ok(None);
        }
        let text = match self.scanner.apply(&document.text, &mut self.account.safety) {
            Verdict::Keep(text) => text.into_owned(),
            Verdict::Drop { .. } => {
                self.account.dropped += 1;
                return Ok(None);
            }
            Verdict::Stop { rules } => return Err(DataError::Policy { origin: document.origin, rules: names(rules) }),
        };
        Ok(Some((split, Document { text, origin: document.origin })))
    }
}

fn names(rules: impl IntoIterator<Item: ToString>) -> Vec<String> {
    rules.into_iter().map(|rule| rule.to_string()).collect()
}

impl Iterator for SafeDocuments<'_> {
    type Item = Result<(Split, Document), DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step().transpose();
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}

/// The texts to train a tokenizer on: those of the training split, as the safety policy leaves them.
pub struct TrainTexts<'a>(SafeDocuments<'a>);

/// The safe texts of the training split in source order; the first error ends them.
pub fn train_texts<'a>(sources: &'a Sources, config: &DataConfig, scanner: &'a Scanner) -> TrainTexts<'a> {
    TrainTexts(SafeDocuments::new(sources, config, scanner, Some(Split::Train)))
}

impl TrainTexts<'_> {
    /// What happened to the documents so far.
    pub fn account(&self) -> &Account {
        self.0.account()
    }
}

impl std::fmt::Debug for TrainTexts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainTexts").field("account", self.account()).finish_non_exhaustive()
    }
}

impl Iterator for TrainTexts<'_> {
    type Item = Result<String, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(_, document)| document.text))
    }
}
