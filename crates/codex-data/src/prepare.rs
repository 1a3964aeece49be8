//! Making a token cache, or finding the one that is there: sources -> safe documents -> tokens -> a folder published at once.
//!
//! It is safe under a kill at any moment and with two processes at once: each drafts in a folder of its own, the first to finish publishes,
//! and the other uses what it finds.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::mpsc;

use codex_core::locked_draft::sweep_dead;
use codex_core::{Digest, FileError, LockedDraft, files};
use codex_safety::Scanner;
use codex_tokenize::Tokenizer;
use codex_tokenize::chat::ChatTemplate;

use crate::cache::TokenCache;
use crate::config::DataConfig;
use crate::document::Origin;
use crate::error::DataError;
use crate::filter::LeftOut;
use crate::layout::{EncodeFault, Layout, Layouter};
use crate::left_out::LeftOutList;
use crate::manifest::{CacheManifest, ConversationParams, MANIFEST, Recipe, SCHEMA, Splits, chat_template};
use crate::pipeline::{Account, BATCH_BYTES, BATCH_DOCUMENTS, SafeDocuments};
use crate::source::Sources;
use crate::split::Split;
use crate::writer::SplitWriter;

/// How far the preparation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Documents tokenized.
    pub documents: u64,
    /// Tokens written.
    pub tokens: u64,
    /// Bytes of the sources read, near enough for a progress bar.
    pub bytes_done: u64,
    /// Bytes of the sources.
    pub bytes_total: u64,
}

/// Batches that may wait to be tokenized while more is read.
const WAITING: usize = 2;

/// How often a cache that is damaged, or that vanishes while it is opened, is built again.
const ATTEMPTS: usize = 3;

/// The token cache of these sources in `<root>/<key>/`: opened when it is there and whole, built otherwise.
///
/// `safety_digest` is the digest of the configuration that `safety` was made from. A damaged cache is discarded, built again and told of
/// in the notes. `progress` is called after each batch of documents, and not at all when the cache is there.
pub fn prepare(
    config: &DataConfig,
    sources: &Sources,
    tokenizer: &dyn Tokenizer,
    safety: &Scanner,
    safety_digest: Digest,
    root: &Path,
    progress: &mut dyn FnMut(PrepareProgress),
) -> Result<TokenCache, DataError> {
    let template = chat_template(config, sources)?;
    let conversations = template.as_ref().map(|template| ConversationParams::new(config, template));
    let (recipe, sizes) = Recipe::new(config, sources, tokenizer.digest(), safety_digest, conversations)?;
    let key = recipe.key()?;
    let target = root.join(key.to_string());
    let mut notes = sources.notes();
    for _ in 0..ATTEMPTS {
        if target.exists() {
            match open_as(&target, key) {
                Ok(cache) => {
                    check_untrained(config, &cache.manifest().account)?;
                    return Ok(cache.with_notes(notes));
                }
                Err(error @ DataError::CorruptCache { .. }) => {
                    notes.push(format!("{error}; the cache was discarded and built again"));
                    discard(&target)?;
                }
                // Another process discarded it between two looks.
                Err(DataError::File(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        files::create_dir_all(root)?;
        sweep_dead(root);
        let template = template.as_ref();
        let build = Build { config, sources, tokenizer, template, safety, safety_digest, recipe: &recipe, sizes: &sizes };
        build.publish(&target, progress)?;
    }
    Ok(open_as(&target, key)?.with_notes(notes))
}

/// Opens a cache that must be the one of this key: a whole cache under another's name holds other tokens.
fn open_as(folder: &Path, key: Digest) -> Result<TokenCache, DataError> {
    let cache = TokenCache::open_to_train(folder)?;
    if cache.key() == key {
        Ok(cache)
    } else {
        let found = format!("expected key {key}, found {}", cache.key());
        Err(DataError::CorruptCache { path: folder.join(MANIFEST), found })
    }
}

/// How many rows an error names.
const NAMED: usize = 3;

/// Refuses data of which too much trains nothing. What is allowed decides no tokens, so it is asked of a cache that is there as well.
fn check_untrained(config: &DataConfig, account: &Account) -> Result<(), DataError> {
    let (untrained, rows) = (account.untrained.rows, account.conversations);
    if untrained as f64 <= config.max_empty_rows * rows as f64 {
        return Ok(());
    }
    let first = account.untrained.first.iter().take(NAMED).cloned().collect();
    Err(DataError::EmptyRows { untrained, rows, share: config.max_empty_rows, first })
}

/// Moves a folder out of the way in one step, then removes it.
fn discard(target: &Path) -> Result<(), FileError> {
    let bin = LockedDraft::create(target)?;
    match files::rename_new(target, &bin.path().join("discarded")) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

struct Build<'a> {
    config: &'a DataConfig,
    sources: &'a Sources,
    tokenizer: &'a dyn Tokenizer,
    template: Option<&'a ChatTemplate>,
    safety: &'a Scanner,
    safety_digest: Digest,
    recipe: &'a Recipe,
    /// The bytes of each source, folders as a whole, in reading order.
    sizes: &'a [u64],
}

impl Build<'_> {
    fn publish(&self, target: &Path, progress: &mut dyn FnMut(PrepareProgress)) -> Result<(), DataError> {
        let draft = LockedDraft::create(target)?;
        let manifest = self.write(draft.path(), progress)?;
        draft.write(MANIFEST, &manifest.to_json()?)?;
        match draft.publish() {
            // Another process was first; what it published is opened and verified next.
            Err(error) if matches!(error.source.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => Ok(()),
            published => Ok(published.map(drop)?),
        }
    }

    fn write(&self, folder: &Path, progress: &mut dyn FnMut(PrepareProgress)) -> Result<CacheManifest, DataError> {
        let vocab_size = self.tokenizer.vocab_size();
        let writer = |split: Split| SplitWriter::create(folder, split, vocab_size, self.config.shard_tokens);
        let mut output = Output { train: writer(Split::Train), validation: writer(Split::Validation), origins: BTreeMap::new() };
        let bytes_total = self.sizes.iter().sum();
        let layouter = Layouter::new(self.tokenizer, self.template, self.config.train_on);
        let mut list = LeftOutList::create(folder, !self.config.filter.is_off())?;
        let account = std::thread::scope(|scope| {
            let (sender, batches) = mpsc::sync_channel(WAITING);
            let layouter = &layouter;
            let reader = scope.spawn(move || self.read(layouter, &sender));
            for Batch { laid, left_out, bytes_done } in &batches {
                list.add(&left_out)?;
                Self::tokenize(layouter, &laid, vocab_size, &mut output)?;
                progress(PrepareProgress {
                    documents: output.train.n_documents + output.validation.n_documents,
                    tokens: output.train.n_tokens + output.validation.n_tokens,
                    bytes_done,
                    bytes_total,
                });
            }
            // Where a batch failed above, the reader finds that nobody takes the next, and ends.
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        check_untrained(self.config, &account)?;
        if output.train.n_documents == 0 {
            return Err(DataError::NoTrainingText {
                documents: account.read,
                skipped: account.skipped.rows,
                empty: account.empty + account.untrained.rows,
                dropped: account.dropped + account.filtered.rows,
                validation: output.validation.n_documents,
            });
        }
        self.check_unchanged()?;
        let mut origins: Vec<(String, u32)> = output.origins.into_iter().collect();
        origins.sort_by_key(|(_, index)| *index);
        Ok(CacheManifest {
            schema: SCHEMA.to_owned(),
            key: self.recipe.key()?,
            recipe: self.recipe.clone(),
            vocab_size,
            bytes_per_token: output.train.bytes_per_token(),
            end_of_text: self.tokenizer.end_of_text(),
            pad: self.tokenizer.pad(),
            num_records: output.train.n_documents + output.validation.n_documents,
            account,
            splits: Splits { train: output.train.finish()?, validation: output.validation.finish()? },
            origins: origins.into_iter().map(|(name, _)| name).collect(),
            left_out: list.finish()?,
        })
    }

    /// Reads all documents and hands them on in batches, as long as someone takes them; what happened to them.
    fn read(&self, layouter: &Layouter<'_>, sender: &mpsc::SyncSender<Batch>) -> Result<Account, DataError> {
        let mut documents = SafeDocuments::new(self.sources, self.config, self.safety, None);
        let mut ended = false;
        while !ended {
            let (mut laid, mut bytes) = (Vec::new(), 0);
            while bytes < BATCH_BYTES && laid.len() < BATCH_DOCUMENTS && !ended {
                match documents.next().transpose()? {
                    Some((split, document)) => {
                        if let Some(layout) = documents.layout(layouter, document.content, &document.origin)? {
                            bytes += layout.text.len();
                            laid.push(Laid { split, layout, origin: document.origin });
                        }
                    }
                    None => ended = true,
                }
            }
            let bytes_done = documents.bytes_done(self.sizes);
            if sender.send(Batch { laid, left_out: documents.take_left_out(), bytes_done }).is_err() {
                break;
            }
        }
        Ok(documents.account().clone())
    }

    fn tokenize(layouter: &Layouter<'_>, batch: &[Laid], vocab_size: usize, output: &mut Output) -> Result<(), DataError> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        let layouts: Vec<&Layout> = batch.iter().map(|laid| &laid.layout).collect();
        let broken =
            |origin: &Origin, expected: String, found: String| DataError::TokenizerContract { origin: origin.clone(), expected, found };
        let encoded = layouter.encode(&layouts).map_err(|fault| match fault {
            EncodeFault::Refused(source) => {
                let (first, last) = (first.origin.clone(), last.origin.clone());
                DataError::Tokenize { first, last, source: Box::new(source) }
            }
            EncodeFault::WrongCount { expected, found } => broken(&first.origin, format!("{expected} encodings"), found.to_string()),
        })?;
        for (Laid { split, layout, origin }, of_parts) in batch.iter().zip(encoded) {
            let encoded = layouter.joined(layout, of_parts);
            if let Some(id) = encoded.ids.iter().find(|id| **id as usize >= vocab_size) {
                return Err(broken(origin, format!("ids below {vocab_size}"), id.to_string()));
            }
            let next = output.origins.len() as u32;
            let origin_idx = match output.origins.get(&origin.source) {
                Some(index) => *index,
                None => *output.origins.entry(origin.source.clone()).or_insert(next),
            };
            let writer = match split {
                Split::Train => &mut output.train,
                Split::Validation => &mut output.validation,
            };
            writer.push(&encoded, layout.text.len() as u64, origin, origin_idx)?;
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), DataError> {
        let (after, _) =
            Recipe::new(self.config, self.sources, self.recipe.tokenizer, self.safety_digest, self.recipe.params.conversations.clone())?;
        match self.recipe.sources().zip(after.sources()).find(|(before, after)| before != after) {
            Some((before, after)) => {
                Err(DataError::SourceChanged { path: before.path.clone(), expected: before.blake3, found: after.blake3 })
            }
            None => Ok(()),
        }
    }
}

/// Documents that are tokenized together.
struct Batch {
    laid: Vec<Laid>,
    /// Those that were left out beside them.
    left_out: Vec<LeftOut>,
    /// Bytes of the sources that were read.
    bytes_done: u64,
}

/// A document on its way.
struct Laid {
    split: Split,
    layout: Layout,
    origin: Origin,
}

struct Output {
    train: SplitWriter,
    validation: SplitWriter,
    /// The index of each origin's name, in order of appearance.
    origins: BTreeMap<String, u32>,
}
