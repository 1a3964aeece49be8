//! From sources to documents that may be used: bad rows, the split and the safety policy, in that order, one document at a time.
//!
//! The split is decided on the text as the source has it, so that another safety policy moves no document.

use std::collections::VecDeque;

use codex_safety::{Scanner, Tally};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::{DataConfig, OnBadRow};
use crate::document::{Content, Document, Origin};
use crate::error::DataError;
use crate::filter::{Filter, LeftOut};
use crate::layout::{Layout, Layouter, Unusable};
use crate::policy::{Policy, Unsafe};
use crate::row::RowFault;
use crate::skipped::SkippedRows;
use crate::source::{DataSource, Documents, Sources};
use crate::split::{Split, shard_of_text};

/// What happened to the documents on their way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Documents that were read, those skipped not among them.
    pub read: u64,
    /// Documents without a character; they are left out.
    pub empty: u64,
    /// Documents of the other parts, where `data.shard` names one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub of_other_shards: u64,
    /// Documents that the safety policy dropped.
    pub dropped: u64,
    /// Rows that were skipped because they could not be used.
    pub skipped: SkippedRows,
    /// Documents that `data.filter` leaves out.
    #[serde(default, skip_serializing_if = "SkippedRows::is_empty")]
    pub filtered: SkippedRows,
    /// What the safety rules found.
    pub safety: Tally,
    /// Prompts and chats that could be used, those that train nothing among them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub conversations: u64,
    /// Those of them that train nothing; they are left out.
    #[serde(default, skip_serializing_if = "SkippedRows::is_empty")]
    pub untrained: SkippedRows,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The usable documents of all sources, with their splits.
pub(crate) struct SafeDocuments<'a> {
    sources: Vec<(Role, &'a dyn DataSource)>,
    next_source: usize,
    current: Option<(Role, Documents<'a>)>,
    only: Option<Split>,
    /// The part of the training split that is read, and how many there are.
    shard: (u64, u64),
    on_bad_row: OnBadRow,
    scanner: &'a Scanner,
    account: Account,
    /// Absent where everything stays.
    filter: Option<Filter>,
    left_out: Vec<LeftOut>,
    text_bytes: u64,
    /// Documents that are done with, and the error that ends them.
    ready: VecDeque<Result<Read, DataError>>,
    /// Whether nothing more is read.
    is_read: bool,
    ended: bool,
}

/// Text that is looked at at once: enough for all cores, little enough to hold.
pub(crate) const BATCH_BYTES: usize = 2 << 20;
/// Documents of as much.
pub(crate) const BATCH_DOCUMENTS: usize = 4096;

/// What was read.
enum Read {
    /// A document.
    Document(Split, Document),
    /// A row that is skipped, with the code of its reason. It is counted in its turn, so that what is listed is in reading order.
    Skipped(&'static str, Box<DataError>),
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
            shard: config.shard_of().unwrap_or((0, 1)),
            on_bad_row: config.on_bad_row,
            scanner,
            account: Account::default(),
            filter: (!config.filter.is_off()).then(|| Filter::new(&config.filter)),
            left_out: Vec::new(),
            text_bytes: 0,
            ready: VecDeque::new(),
            is_read: false,
            ended: false,
        }
    }

    /// What happened so far.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// The documents that were left out since the last call.
    pub(crate) fn take_left_out(&mut self) -> Vec<LeftOut> {
        std::mem::take(&mut self.left_out)
    }

    /// Bytes of sources with these sizes that are behind, near enough for a progress bar.
    pub(crate) fn bytes_done(&self, sizes: &[u64]) -> u64 {
        let behind = self.next_source - usize::from(self.current.is_some());
        sizes.iter().take(behind).sum::<u64>() + sizes.get(behind).map_or(0, |size| self.text_bytes.min(*size))
    }

    fn step(&mut self) -> Result<Option<(Split, Document)>, DataError> {
        loop {
            match self.ready.pop_front().transpose()? {
                Some(Read::Document(split, document)) => return Ok(Some((split, document))),
                Some(Read::Skipped(code, error)) => {
                    self.account.skipped.add(code, || error.to_string());
                    continue;
                }
                None => {}
            }
            if self.is_read {
                return Ok(None);
            }
            self.gather();
        }
    }

    /// Reads as many documents as keep all cores busy and applies the safety policy to them; they come out in reading order, each error in its place.
    fn gather(&mut self) {
        let (mut batch, mut bytes, mut failed) = (Vec::new(), 0, None);
        while bytes < BATCH_BYTES && batch.len() < BATCH_DOCUMENTS && !self.is_read {
            match self.read() {
                Ok(Some(read)) => {
                    if let Read::Document(_, document) = &read {
                        bytes += document.content.text().len();
                    }
                    batch.push(read);
                }
                ended => {
                    self.is_read = true;
                    failed = ended.err();
                }
            }
        }
        let scanner = self.scanner;
        let apply = |read: Read| {
            let mut tally = Tally::default();
            let safe = match read {
                Read::Document(split, Document { content, origin }) => match (Policy { scanner, tally: &mut tally }).content(content) {
                    Ok(content) => Ok(Read::Document(split, Document { content, origin })),
                    Err(why) => Err((why, origin)),
                },
                skipped @ Read::Skipped(..) => Ok(skipped),
            };
            (safe, tally)
        };
        let applied: Vec<_> = batch.into_par_iter().map(apply).collect();
        for (safe, tally) in applied {
            self.account.safety.merge(&tally);
            match safe {
                Ok(read) => self.ready.push_back(Ok(read)),
                Err((Unsafe::Drop, _)) => self.account.dropped += 1,
                Err((Unsafe::Stop(rules), origin)) => {
                    self.is_read = true;
                    self.ready.push_back(Err(DataError::Policy { origin, rules }));
                    return;
                }
            }
        }
        self.ready.extend(failed.map(Err));
    }

    /// The next document that may be used by all but the safety policy.
    fn read(&mut self) -> Result<Option<Read>, DataError> {
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
                    let (code, error) = self.bad_row((path, line, column), *reason)?;
                    return Ok(Some(Read::Skipped(code, Box::new(error))));
                }
                Some(read) => read?,
            };
            self.account.read += 1;
            self.text_bytes += document.content.text().len() as u64;
            if let Some(kept) = self.judge(role, document) {
                return Ok(Some(Read::Document(kept.0, kept.1)));
            }
        }
    }

    /// Why a row is skipped, with its code; an error where that ends the reading.
    fn bad_row(
        &mut self,
        (path, line, column): (String, Option<u64>, Option<u64>),
        reason: RowFault,
    ) -> Result<(&'static str, DataError), DataError> {
        let code = reason.code();
        let told = DataError::BadRow { path, line, column, reason: Box::new(reason.told(self.scanner)) };
        if self.on_bad_row == OnBadRow::Error { Err(told) } else { Ok((code, told)) }
    }

    /// The layout of a document that was returned; `None` when it is skipped or trains nothing.
    pub(crate) fn layout(&mut self, layouter: &Layouter<'_>, content: Content, origin: &Origin) -> Result<Option<Layout>, DataError> {
        let is_conversation = content.is_conversation();
        match layouter.layout(content) {
            Ok(layout) => {
                self.account.conversations += u64::from(is_conversation);
                Ok(Some(layout))
            }
            Err(Unusable::TrainsNothing(why)) => {
                self.account.conversations += 1;
                self.account.untrained.add(why, || format!("`{origin}`: {}", why.replace('_', " ")));
                Ok(None)
            }
            Err(Unusable::Bad(reason)) => {
                let (code, error) = self.bad_row((origin.source.clone(), origin.line, None), reason)?;
                self.account.skipped.add(code, || error.to_string());
                Ok(None)
            }
        }
    }

    fn judge(&mut self, role: Role, document: Document) -> Option<(Split, Document)> {
        let Document { content, origin } = document;
        if matches!(&content, Content::Text(text) if text.is_empty()) {
            self.account.empty += 1;
            return None;
        }
        let split = match role {
            Role::Whole(split) => split,
            Role::ByHash { validation_fraction } => Split::of_text(&content.text(), validation_fraction),
        };
        // Judged whatever is wanted of it, so that the tokenizer is trained on what the model is.
        if let Some(left_out) = self.filter.as_mut().and_then(|filter| filter.judge(&content.text(), &origin)) {
            let told = || match &left_out.like {
                Some(like) => format!("`{origin}`: {} of `{like}`", left_out.reason.replace('_', " ")),
                None => format!("`{origin}`: {}", left_out.reason.replace('_', " ")),
            };
            self.account.filtered.add(&left_out.reason, told);
            self.left_out.push(left_out);
            return None;
        }
        let (index, total) = self.shard;
        if total > 1 && split == Split::Train && shard_of_text(&content.text(), total) != index {
            self.account.of_other_shards += 1;
            return None;
        }
        (self.only.is_none_or(|only| only == split)).then_some((split, Document { content, origin }))
    }
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
