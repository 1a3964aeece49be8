//! From sources to documents that may be used: bad rows, the split and the safety policy, in that order, one document at a time.
//!
//! The split is decided on the text as the source has it, so that another safety policy moves no document.

use std::borrow::Cow;

use codex_safety::{Scanner, Tally, Verdict};
use codex_tokenize::chat::ChatValue;
use serde::{Deserialize, Serialize};

use crate::config::{DataConfig, OnBadRow};
use crate::document::{Content, Document, Origin};
use crate::error::DataError;
use crate::filter::{Filter, LeftOut};
use crate::layout::{Layout, Layouter, Unusable};
use crate::row::RowFault;
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
    on_bad_row: OnBadRow,
    scanner: &'a Scanner,
    account: Account,
    /// Absent where everything stays.
    filter: Option<Filter>,
    left_out: Vec<LeftOut>,
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
            filter: (!config.filter.is_off()).then(|| Filter::new(&config.filter)),
            left_out: Vec::new(),
            text_bytes: 0,
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
                    self.bad_row((path, line, column), *reason)?;
                    continue;
                }
                Some(read) => read?,
            };
            self.account.read += 1;
            self.text_bytes += document.content.text().len() as u64;
            if let Some(kept) = self.judge(role, document)? {
                return Ok(Some(kept));
            }
        }
    }

    /// Skips a row or ends with it, as configured.
    fn bad_row(&mut self, (path, line, column): (String, Option<u64>, Option<u64>), reason: RowFault) -> Result<(), DataError> {
        let code = reason.code();
        let told = || DataError::BadRow { path, line, column, reason: Box::new(reason.told(self.scanner)) };
        if self.on_bad_row == OnBadRow::Error {
            return Err(told());
        }
        self.account.skipped.add(code, || told().to_string());
        Ok(())
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
            Err(Unusable::Bad(reason)) => self.bad_row((origin.source.clone(), origin.line, None), reason).map(|()| None),
        }
    }

    fn judge(&mut self, role: Role, document: Document) -> Result<Option<(Split, Document)>, DataError> {
        let Document { content, origin } = document;
        if matches!(&content, Content::Text(text) if text.is_empty()) {
            self.account.empty += 1;
            return Ok(None);
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
            return Ok(None);
        }
        if self.only.is_some_and(|only| only != split) {
            return Ok(None);
        }
        match self.safe(content) {
            Ok(content) => Ok(Some((split, Document { content, origin }))),
            Err(Unsafe::Drop) => {
                self.account.dropped += 1;
                Ok(None)
            }
            Err(Unsafe::Stop(rules)) => Err(DataError::Policy { origin, rules }),
        }
    }

    /// The content as the safety policy leaves each of its texts.
    fn safe(&mut self, content: Content) -> Result<Content, Unsafe> {
        Ok(match content {
            Content::Text(text) => Content::Text(self.safe_text(text)?),
            Content::Prompt { prompt, completion } => {
                Content::Prompt { prompt: self.safe_text(prompt)?, completion: self.safe_text(completion)? }
            }
            Content::Chat { messages, tools } => {
                let mut all = |list: Vec<ChatValue>| list.into_iter().map(|value| self.safe_value(value, 0)).collect::<Result<Vec<_>, _>>();
                Content::Chat { messages: all(messages)?, tools: tools.map(all).transpose()? }
            }
        })
    }

    /// A message's role, which is at depth 0, has been compared with those that are known.
    fn safe_value(&mut self, value: ChatValue, depth: usize) -> Result<ChatValue, Unsafe> {
        Ok(match value {
            ChatValue::Text(text) => ChatValue::Text(self.safe_text(text)?),
            ChatValue::List(list) => {
                ChatValue::List(list.into_iter().map(|value| self.safe_value(value, depth + 1)).collect::<Result<_, _>>()?)
            }
            ChatValue::Map(entries) => {
                let safe = |(key, value): (String, ChatValue)| {
                    let value = if depth == 0 && key == "role" { value } else { self.safe_value(value, depth + 1)? };
                    Ok::<_, Unsafe>((key, value))
                };
                ChatValue::Map(entries.into_iter().map(safe).collect::<Result<_, _>>()?)
            }
            other => other,
        })
    }

    fn safe_text(&mut self, text: String) -> Result<String, Unsafe> {
        match self.scanner.apply(&text, &mut self.account.safety) {
            Verdict::Keep(Cow::Borrowed(_)) => {}
            Verdict::Keep(Cow::Owned(text)) => return Ok(text),
            Verdict::Drop { .. } => return Err(Unsafe::Drop),
            Verdict::Stop { rules } => return Err(Unsafe::Stop(rules)),
        }
        Ok(text)
    }
}

/// What the safety policy does with a document that it does not let through.
enum Unsafe {
    Drop,
    Stop(Vec<String>),
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
        let next = self.0.next()?.map(|(_, document)| document.content.text().into_owned());
        // Listed where the cache is made.
        self.0.take_left_out();
        Some(next)
    }
}
