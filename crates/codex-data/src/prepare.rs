//! Making a token cache, or finding the one that is there: sources -> safe documents -> tokens -> a folder published at once.
//!
//! It is safe under a kill at any moment and with two processes at once: each drafts in a folder of its own, the first to finish publishes,
//! and the other uses what it finds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use codex_core::locked_draft::sweep_dead;
use codex_core::{Digest, FileError, Hasher, LockedDraft, files};
use codex_safety::Scanner;
use codex_tokenize::Tokenizer;

use crate::cache::TokenCache;
use crate::config::DataConfig;
use crate::document::{Document, Origin};
use crate::error::DataError;
use crate::manifest::{CacheManifest, MANIFEST, Recipe, SCHEMA, SplitManifest, Splits};
use crate::pipeline::SafeDocuments;
use crate::source::Sources;
use crate::split::Split;
use crate::tokens::RECORD_BYTES;

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

/// Text that is tokenized at once: enough for all cores, little enough to hold.
const BATCH_BYTES: usize = 2 << 20;
const BATCH_DOCUMENTS: usize = 4096;

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
    let (recipe, sizes) = Recipe::new(config, sources, tokenizer.digest(), safety_digest)?;
    let key = recipe.key()?;
    let target = root.join(key.to_string());
    let mut notes = sources.notes();
    for _ in 0..ATTEMPTS {
        if target.exists() {
            match open_as(&target, key) {
                Ok(cache) => return Ok(cache.with_notes(notes)),
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
        let build = Build { config, sources, tokenizer, safety, safety_digest, recipe: &recipe, sizes: &sizes };
        build.publish(&target, progress)?;
    }
    Ok(open_as(&target, key)?.with_notes(notes))
}

/// Opens a cache that must be the one of this key: a whole cache under another's name holds other tokens.
fn open_as(folder: &Path, key: Digest) -> Result<TokenCache, DataError> {
    let cache = TokenCache::open(folder)?;
    if cache.key() == key {
        Ok(cache)
    } else {
        let found = format!("expected key {key}, found {}", cache.key());
        Err(DataError::CorruptCache { path: folder.join(MANIFEST), found })
    }
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
        let bytes_per_token = if vocab_size <= 1 << 16 { 2 } else { 4 };
        let writer = |split: Split| SplitWriter::create(folder, split, bytes_per_token);
        let mut output = Output { train: writer(Split::Train)?, validation: writer(Split::Validation)?, origins: BTreeMap::new() };
        let bytes_total = self.sizes.iter().sum();
        let mut documents = SafeDocuments::new(self.sources, self.config, self.safety, None);
        let mut batch: Vec<(Split, Document)> = Vec::new();
        let mut batch_bytes = 0;
        loop {
            let next = documents.next().transpose()?;
            let ended = next.is_none();
            if let Some((split, document)) = next {
                batch_bytes += document.text.len();
                batch.push((split, document));
            }
            if ended || batch_bytes >= BATCH_BYTES || batch.len() >= BATCH_DOCUMENTS {
                self.tokenize(&batch, vocab_size, &mut output)?;
                batch.clear();
                batch_bytes = 0;
                let (behind, in_source) = documents.progress();
                let bytes_behind: u64 = self.sizes.iter().take(behind).sum();
                progress(PrepareProgress {
                    documents: output.train.n_documents + output.validation.n_documents,
                    tokens: output.train.n_tokens + output.validation.n_tokens,
                    bytes_done: bytes_behind + self.sizes.get(behind).map_or(0, |size| in_source.min(*size)),
                    bytes_total,
                });
            }
            if ended {
                break;
            }
        }
        let account = documents.account().clone();
        if output.train.n_documents == 0 {
            return Err(DataError::NoTrainingText {
                documents: account.read,
                skipped: account.skipped.rows,
                empty: account.empty,
                dropped: account.dropped,
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
            bytes_per_token,
            end_of_text: self.tokenizer.end_of_text(),
            pad: self.tokenizer.pad(),
            num_records: output.train.n_documents + output.validation.n_documents,
            account,
            splits: Splits { train: output.train.finish()?, validation: output.validation.finish()? },
            origins: origins.into_iter().map(|(name, _)| name).collect(),
        })
    }

    fn tokenize(&self, batch: &[(Split, Document)], vocab_size: usize, output: &mut Output) -> Result<(), DataError> {
        let (Some((_, first)), Some((_, last))) = (batch.first(), batch.last()) else { return Ok(()) };
        let texts: Vec<&str> = batch.iter().map(|(_, document)| document.text.as_str()).collect();
        let encoded = self.tokenizer.encode_batch(&texts).map_err(|source| {
            let (first, last) = (first.origin.clone(), last.origin.clone());
            DataError::Tokenize { first, last, source: Box::new(source) }
        })?;
        let broken =
            |origin: &Origin, expected: String, found: String| DataError::TokenizerContract { origin: origin.clone(), expected, found };
        if encoded.len() != batch.len() {
            return Err(broken(&first.origin, format!("{} encodings", batch.len()), encoded.len().to_string()));
        }
        let end_of_text = self.tokenizer.end_of_text();
        for ((split, document), mut ids) in batch.iter().zip(encoded) {
            ids.push(end_of_text);
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
                return Err(broken(&document.origin, format!("ids below {vocab_size}"), id.to_string()));
            }
            let next = output.origins.len() as u32;
            let origin = match output.origins.get(&document.origin.source) {
                Some(index) => *index,
                None => *output.origins.entry(document.origin.source.clone()).or_insert(next),
            };
            let writer = match split {
                Split::Train => &mut output.train,
                Split::Validation => &mut output.validation,
            };
            writer.push(&ids, document, origin)?;
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), DataError> {
        let (after, _) = Recipe::new(self.config, self.sources, self.recipe.tokenizer, self.safety_digest)?;
        match self.recipe.sources().zip(after.sources()).find(|(before, after)| before != after) {
            Some((before, after)) => {
                Err(DataError::SourceChanged { path: before.path.clone(), expected: before.blake3, found: after.blake3 })
            }
            None => Ok(()),
        }
    }
}

struct Output {
    train: SplitWriter,
    validation: SplitWriter,
    /// The index of each origin's name, in order of appearance.
    origins: BTreeMap<String, u32>,
}

/// Writes the two files of a split and their digests.
struct SplitWriter {
    tokens: HashedFile,
    documents: HashedFile,
    bytes_per_token: usize,
    n_tokens: u64,
    n_documents: u64,
    text_bytes: u64,
    buffer: Vec<u8>,
}

impl SplitWriter {
    fn create(folder: &Path, split: Split, bytes_per_token: usize) -> Result<Self, DataError> {
        let file = |kind: &str| HashedFile::create(folder, format!("{split}.{kind}"));
        let (tokens, documents) = (file("tokens")?, file("documents")?);
        Ok(Self { tokens, documents, bytes_per_token, n_tokens: 0, n_documents: 0, text_bytes: 0, buffer: Vec::new() })
    }

    fn push(&mut self, ids: &[u32], document: &Document, origin: u32) -> Result<(), DataError> {
        self.buffer.clear();
        match self.bytes_per_token {
            2 => self.buffer.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes())),
            _ => self.buffer.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
        }
        self.tokens.write(&self.buffer)?;
        self.n_tokens += ids.len() as u64;
        self.n_documents += 1;
        self.text_bytes += document.text.len() as u64;
        let mut record = [0_u8; RECORD_BYTES];
        record[0..8].copy_from_slice(&self.n_tokens.to_le_bytes());
        record[8..16].copy_from_slice(&(document.text.len() as u64).to_le_bytes());
        record[16..24].copy_from_slice(&document.origin.line.unwrap_or(0).to_le_bytes());
        record[24..28].copy_from_slice(&origin.to_le_bytes());
        self.documents.write(&record)
    }

    fn finish(self) -> Result<SplitManifest, DataError> {
        let (path, checksum) = self.tokens.finish()?;
        let (documents_path, documents_checksum) = self.documents.finish()?;
        let Self { n_documents: documents, n_tokens: tokens, text_bytes, .. } = self;
        Ok(SplitManifest { documents, tokens, text_bytes, path, checksum, documents_path, documents_checksum })
    }
}

struct HashedFile {
    path: PathBuf,
    name: String,
    file: BufWriter<File>,
    hasher: Hasher,
}

impl HashedFile {
    fn create(folder: &Path, name: String) -> Result<Self, DataError> {
        let path = folder.join(&name);
        let file = BufWriter::with_capacity(1 << 16, files::open_append(&path)?);
        Ok(Self { path, name, file, hasher: Hasher::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes).map_err(|source| FileError::new("write", &self.path, source))?)
    }

    /// Flushes the file to the disk and returns its name and digest.
    fn finish(mut self) -> Result<(String, Digest), DataError> {
        let flushed = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        flushed.map_err(|source| FileError::new("sync", &self.path, source))?;
        Ok((self.name, self.hasher.finish()))
    }
}
