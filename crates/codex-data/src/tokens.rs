//! The tokens of one split, read from files mapped into memory.
//!
//! Documents follow each other in source order, each followed by the end-of-text id. Their records are in files of their own, 32 bytes each,
//! little-endian: the position after the document's end of text (u64), the bytes of its text (u64), its line or 0 (u64), the index of its
//! origin's name (u32), and four zero bytes. Where some tokens are not trained, there is a byte for each token: 1 where it is, else 0. A last file says how
//! often each id is a trained token (u64 each).

use std::path::Path;
use std::sync::Arc;

use crate::document::Origin;
use crate::error::DataError;
use crate::manifest::{CacheManifest, MANIFEST, ShardManifest, SplitManifest};
use crate::shards::Shards;
use crate::split::Split;
use crate::writer::shard_name;

/// The bytes of a document's record.
pub(crate) const RECORD_BYTES: usize = 32;

/// The tokens and documents of one split. Cloning shares the mapping.
///
/// Of a large cache a shard is proven when it is first read, so each of these may find damage.
#[derive(Clone, Debug)]
pub struct TokenSplit {
    split: Split,
    tokens: Shards,
    documents: Shards,
    /// Where the tokens of each shard of documents end.
    document_ends: Arc<[u64]>,
    mask: Option<Shards>,
    counts: Shards,
    bytes_per_token: usize,
    n_tokens: u64,
    n_trained: u64,
    n_documents: u64,
    text_bytes: u64,
    pad: u32,
    origins: Arc<[String]>,
}

/// Where a document is in the tokens and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRecord {
    /// The position of its first token.
    pub start: u64,
    /// The position after its end of text.
    pub end: u64,
    /// The UTF-8 bytes of its text.
    pub text_bytes: u64,
    /// Where it came from.
    pub origin: Origin,
}

impl TokenSplit {
    /// Maps a split's files once they are found to be what the manifest says; with `is_lazy`, only their sizes are looked at.
    pub(crate) fn open(
        folder: &Path,
        manifest: &CacheManifest,
        split: Split,
        origins: Arc<[String]>,
        is_lazy: bool,
    ) -> Result<Self, DataError> {
        let entry: &SplitManifest = manifest.split(split);
        let open = |kind: &str, shards: &[ShardManifest], item_bytes: u64, expected: u64| {
            let shards = Shards::open(folder, shards, item_bytes, |i| shard_name(split, kind, i), is_lazy)?;
            if shards.len() == expected {
                return Ok(shards);
            }
            let found = format!("the {kind} of {split} have {} items in place of {expected}", shards.len());
            Err(DataError::CorruptCache { path: folder.join(MANIFEST), found })
        };
        let n_counts = if entry.documents > 0 { manifest.vocab_size as u64 } else { 0 };
        Ok(Self {
            split,
            tokens: open("tokens", &entry.shards, manifest.bytes_per_token as u64, entry.tokens)?,
            documents: open("documents", &entry.document_shards, RECORD_BYTES as u64, entry.documents)?,
            document_ends: entry.document_shards.iter().map(|shard| shard.tokens_end.unwrap_or(u64::MAX)).collect(),
            mask: entry.mask.as_ref().map(|mask| open("mask", &mask.shards, 1, entry.tokens)).transpose()?,
            counts: open("counts", &entry.counts, 8, n_counts)?,
            bytes_per_token: manifest.bytes_per_token,
            n_tokens: entry.tokens,
            n_trained: entry.mask.as_ref().map_or(entry.tokens, |mask| mask.trained),
            n_documents: entry.documents,
            text_bytes: entry.text_bytes,
            pad: manifest.pad,
            origins,
        })
    }

    /// Which split it is.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Its tokens, with one end of text for each document.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Those of its tokens that are trained.
    pub fn n_trained(&self) -> u64 {
        self.n_trained
    }

    /// Whether some of its tokens are not trained.
    pub fn is_masked(&self) -> bool {
        self.mask.is_some()
    }

    /// A byte for each of these tokens, 1 where it is trained, else 0; fewer at the end of the split, and `None` where all tokens are trained.
    pub fn trained(&self, start: u64, len: usize) -> Result<Option<Vec<u8>>, DataError> {
        let Some(mask) = &self.mask else { return Ok(None) };
        let mut trained = Vec::new();
        mask.each(start, len as u64, |bytes| trained.extend_from_slice(bytes))?;
        Ok(Some(trained))
    }

    /// Its documents.
    pub fn n_documents(&self) -> u64 {
        self.n_documents
    }

    /// The UTF-8 bytes of its documents.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// The id that fills a window behind the last token.
    pub(crate) fn pad(&self) -> u32 {
        self.pad
    }

    /// The tokens from position `start` on: `len` of them, or fewer at the end of the split.
    pub fn tokens(&self, start: u64, len: usize) -> Result<Vec<u32>, DataError> {
        let mut tokens = Vec::new();
        self.extend_with(&mut tokens, start, len)?;
        Ok(tokens)
    }

    /// Appends what [`tokens`](Self::tokens) returns.
    pub(crate) fn extend_with(&self, tokens: &mut Vec<u32>, start: u64, len: usize) -> Result<(), DataError> {
        self.tokens.each(start, len as u64, |bytes| match self.bytes_per_token {
            2 => tokens.extend(bytes.as_chunks().0.iter().map(|pair| u32::from(u16::from_le_bytes(*pair)))),
            _ => tokens.extend(bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four))),
        })
    }

    /// How often each id occurs among the tokens that are trained; the list has `vocab_size` entries, or more where the tokenizer has more ids. It was
    /// counted when the cache was made, so that this takes no time.
    pub fn counts(&self, vocab_size: usize) -> Result<Vec<u64>, DataError> {
        let mut counts = Vec::with_capacity(vocab_size);
        self.counts.each(0, u64::MAX, |bytes| counts.extend(bytes.as_chunks().0.iter().map(|eight| u64::from_le_bytes(*eight))))?;
        counts.resize(counts.len().max(vocab_size), 0);
        Ok(counts)
    }

    /// The record of a document, `None` when there are fewer.
    pub fn document(&self, document_idx: u64) -> Result<Option<DocumentRecord>, DataError> {
        let Some(record) = self.documents.item(document_idx)? else { return Ok(None) };
        let number = |at: usize| record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        let (end, text_bytes, line, origin) = (number(0), number(8), number(16), number(24) as u32);
        let start = self.start_of(document_idx)?;
        let source = self.origins.get(origin as usize).cloned().unwrap_or_default();
        Ok(Some(DocumentRecord { start, end, text_bytes, origin: Origin { source, line: (line > 0).then_some(line) } }))
    }

    /// The document that holds the token at `position`; the number of documents when there is no such token.
    pub fn document_at(&self, position: u64) -> Result<u64, DataError> {
        // One shard of records is read, the one that has it.
        let shard = self.document_ends.partition_point(|end| *end <= position);
        let bound = |shard: usize| self.documents.ends().get(shard).copied();
        let (mut low, mut high) = (shard.checked_sub(1).and_then(bound).unwrap_or(0), bound(shard).unwrap_or(self.n_documents));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.end_of(middle)? <= position { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The position after each document's end of text.
    pub(crate) fn ends(&self) -> Result<Vec<u64>, DataError> {
        let mut ends = Vec::with_capacity(self.n_documents as usize);
        self.documents.each(0, u64::MAX, |records| {
            let records = records.as_chunks::<RECORD_BYTES>().0;
            ends.extend(records.iter().filter_map(|record| record.first_chunk()).map(|end| u64::from_le_bytes(*end)));
        })?;
        Ok(ends)
    }

    /// The position of a document's first token.
    pub(crate) fn start_of(&self, document_idx: u64) -> Result<u64, DataError> {
        document_idx.checked_sub(1).map_or(Ok(0), |before| self.end_of(before))
    }

    /// The position after a document's end of text.
    pub(crate) fn end_of(&self, document_idx: u64) -> Result<u64, DataError> {
        let record = self.documents.item(document_idx)?;
        Ok(record.and_then(|record| record.first_chunk()).map_or(self.n_tokens, |end| u64::from_le_bytes(*end)))
    }
}
