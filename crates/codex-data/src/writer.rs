//! Writing the files of a split, each with its digest.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use codex_core::{Digest, FileError, Hasher, files};

use crate::document::Origin;
use crate::error::DataError;
use crate::layout::Encoded;
use crate::manifest::{MaskManifest, ShardManifest, SplitManifest};
use crate::split::Split;
use crate::tokens::RECORD_BYTES;

/// Documents of a shard of records, for each token of one of tokens: both are then files of a like size at the most.
const TOKENS_PER_RECORD: u64 = 32;

/// The name of a shard.
pub(crate) fn shard_name(split: Split, kind: &str, index: usize) -> String {
    format!("{split}-{index:05}.{kind}")
}

/// Writes the files of a split and their digests.
pub(crate) struct SplitWriter {
    split: Split,
    tokens: ShardWriter,
    documents: ShardWriter,
    /// Where the tokens of each shard of documents end.
    ends: Vec<u64>,
    /// Begun with the first token that is not trained.
    mask: Option<ShardWriter>,
    /// How often each id is a trained token.
    counts: Vec<u64>,
    bytes_per_token: usize,
    pub(crate) n_tokens: u64,
    n_untrained: u64,
    pub(crate) n_documents: u64,
    text_bytes: u64,
    buffer: Vec<u8>,
}

impl SplitWriter {
    /// For ids below `vocab_size`, with at most so many tokens in a file.
    pub(crate) fn create(folder: &Path, split: Split, vocab_size: usize, shard_tokens: u64) -> Self {
        let bytes_per_token = if vocab_size <= 1 << 16 { 2 } else { 4 };
        let shards = |kind, item_bytes, most| ShardWriter::new(folder, split, kind, item_bytes, most);
        Self {
            split,
            tokens: shards("tokens", bytes_per_token, shard_tokens),
            documents: shards("documents", RECORD_BYTES, (shard_tokens / TOKENS_PER_RECORD).max(1)),
            ends: Vec::new(),
            mask: None,
            counts: vec![0; vocab_size],
            bytes_per_token,
            n_tokens: 0,
            n_untrained: 0,
            n_documents: 0,
            text_bytes: 0,
            buffer: Vec::new(),
        }
    }

    /// The bytes of a stored token.
    pub(crate) fn bytes_per_token(&self) -> usize {
        self.bytes_per_token
    }

    /// Appends a document with `text_bytes` bytes of text; `origin_idx` is the index of its origin's name. Its ids are below the vocabulary's size.
    pub(crate) fn push(&mut self, encoded: &Encoded, text_bytes: u64, origin: &Origin, origin_idx: u32) -> Result<(), DataError> {
        let ids = &encoded.ids;
        self.push_mask(ids.len(), encoded.trained.as_deref())?;
        for (i, id) in ids.iter().enumerate() {
            if let Some(count) = self.counts.get_mut(*id as usize) {
                *count += encoded.trained.as_ref().map_or(1, |trained| u64::from(trained.get(i) == Some(&1)));
            }
        }
        self.buffer.clear();
        match self.bytes_per_token {
            2 => self.buffer.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes())),
            _ => self.buffer.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
        }
        self.tokens.write(&self.buffer)?;
        self.n_tokens += ids.len() as u64;
        self.n_documents += 1;
        self.text_bytes += text_bytes;
        let mut record = [0_u8; RECORD_BYTES];
        record[0..8].copy_from_slice(&self.n_tokens.to_le_bytes());
        record[8..16].copy_from_slice(&text_bytes.to_le_bytes());
        record[16..24].copy_from_slice(&origin.line.unwrap_or(0).to_le_bytes());
        record[24..28].copy_from_slice(&origin_idx.to_le_bytes());
        self.documents.write(&record)?;
        let shard = self.documents.n_shards();
        self.ends.resize(shard, self.n_tokens);
        if let Some(end) = self.ends.last_mut() {
            *end = self.n_tokens;
        }
        Ok(())
    }

    fn push_mask(&mut self, n_tokens: usize, trained: Option<&[u8]>) -> Result<(), DataError> {
        let n_untrained = trained.map_or(0, |trained| trained.iter().map(|token| u64::from(*token == 0)).sum());
        if n_untrained > 0 && self.mask.is_none() {
            let mut mask = ShardWriter::new(&self.tokens.folder, self.split, "mask", 1, self.tokens.most);
            write_ones(&mut mask, self.n_tokens)?;
            self.mask = Some(mask);
        }
        self.n_untrained += n_untrained;
        match (&mut self.mask, trained) {
            (None, _) => Ok(()),
            (Some(mask), Some(trained)) => mask.write(trained),
            (Some(mask), None) => write_ones(mask, n_tokens as u64),
        }
    }

    pub(crate) fn finish(self) -> Result<SplitManifest, DataError> {
        let mut counts = ShardWriter::new(&self.tokens.folder, self.split, "counts", 8, u64::MAX);
        if self.n_documents > 0 {
            counts.write(&self.counts.iter().flat_map(|count| count.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        let trained = self.n_tokens - self.n_untrained;
        let mask = self.mask.map(ShardWriter::finish).transpose()?.map(|shards| MaskManifest { trained, shards });
        let mut document_shards = self.documents.finish()?;
        for (shard, end) in document_shards.iter_mut().zip(self.ends) {
            shard.tokens_end = Some(end);
        }
        let (shards, counts) = (self.tokens.finish()?, counts.finish()?);
        let Self { n_documents: documents, n_tokens: tokens, text_bytes, .. } = self;
        Ok(SplitManifest { documents, tokens, text_bytes, shards, document_shards, counts, mask })
    }
}

fn write_ones(mask: &mut ShardWriter, mut n: u64) -> Result<(), DataError> {
    const ONES: [u8; 4096] = [1; 4096];
    while n > 0 {
        let now = n.min(ONES.len() as u64);
        mask.write(&ONES[..now as usize])?;
        n -= now;
    }
    Ok(())
}

/// Items of one size in files of at most so many.
struct ShardWriter {
    folder: PathBuf,
    split: Split,
    kind: &'static str,
    item_bytes: usize,
    most: u64,
    current: Option<(HashedFile, u64)>,
    done: Vec<ShardManifest>,
}

impl ShardWriter {
    fn new(folder: &Path, split: Split, kind: &'static str, item_bytes: usize, most: u64) -> Self {
        Self { folder: folder.to_owned(), split, kind, item_bytes, most, current: None, done: Vec::new() }
    }

    /// Files begun.
    fn n_shards(&self) -> usize {
        self.done.len() + usize::from(self.current.is_some())
    }

    /// Appends whole items.
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), DataError> {
        while !bytes.is_empty() {
            if self.current.as_ref().is_some_and(|(_, count)| *count >= self.most) {
                self.close()?;
            }
            let (file, count) = if let Some(current) = &mut self.current {
                current
            } else {
                let name = shard_name(self.split, self.kind, self.done.len());
                self.current.insert((HashedFile::create(&self.folder, name)?, 0))
            };
            let items = ((bytes.len() / self.item_bytes) as u64).min(self.most - *count);
            let (now, rest) = bytes.split_at(items as usize * self.item_bytes);
            file.write(now)?;
            *count += items;
            bytes = rest;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), DataError> {
        let Some((file, count)) = self.current.take() else { return Ok(()) };
        let (path, checksum) = file.finish()?;
        self.done.push(ShardManifest { path, count, checksum, tokens_end: None });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<ShardManifest>, DataError> {
        self.close()?;
        Ok(self.done)
    }
}

pub(crate) struct HashedFile {
    path: PathBuf,
    name: String,
    file: BufWriter<File>,
    hasher: Hasher,
}

impl HashedFile {
    pub(crate) fn create(folder: &Path, name: String) -> Result<Self, DataError> {
        let path = folder.join(&name);
        let file = BufWriter::with_capacity(1 << 16, files::open_append(&path)?);
        Ok(Self { path, name, file, hasher: Hasher::new() })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes).map_err(|source| FileError::new("write", &self.path, source))?)
    }

    /// Flushes the file to the disk and returns its name and digest.
    pub(crate) fn finish(mut self) -> Result<(String, Digest), DataError> {
        let flushed = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        flushed.map_err(|source| FileError::new("sync", &self.path, source))?;
        Ok((self.name, self.hasher.finish()))
    }
}
