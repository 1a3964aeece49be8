//! The tokens of one split, read from a file mapped into memory.
//!
//! Documents follow each other in source order, each followed by the end-of-text id. Their records are in a second file, 32 bytes each,
//! little-endian: the position after the document's end of text (u64), the bytes of its text (u64), its line or 0 (u64), the index of its
//! origin's name (u32), and four zero bytes. Where some tokens are not trained, a third file has a byte for each token: 1 where it is, else 0.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::{Digest, files};
use mmap_io::MemoryMappedFile;

use crate::document::Origin;
use crate::error::DataError;
use crate::manifest::{CacheManifest, SplitManifest};
use crate::split::Split;

/// The bytes of a document's record.
pub(crate) const RECORD_BYTES: usize = 32;

/// The tokens and documents of one split. Cloning shares the mapping.
#[derive(Clone, Debug)]
pub struct TokenSplit {
    split: Split,
    tokens: Mapped,
    documents: Mapped,
    mask: Option<Mapped>,
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
    /// Maps a split's files once they are found to be what the manifest says.
    pub(crate) fn open(folder: &Path, manifest: &CacheManifest, split: Split, origins: Arc<[String]>) -> Result<Self, DataError> {
        let entry: &SplitManifest = manifest.split(split);
        let map = |name: &str, bytes: Option<u64>, checksum: Digest| Mapped::open(folder.join(name), bytes, checksum);
        Ok(Self {
            split,
            tokens: map(&entry.path, entry.tokens.checked_mul(manifest.bytes_per_token as u64), entry.checksum)?,
            documents: map(&entry.documents_path, entry.documents.checked_mul(RECORD_BYTES as u64), entry.documents_checksum)?,
            mask: entry.mask.as_ref().map(|mask| map(&mask.path, Some(entry.tokens), mask.checksum)).transpose()?,
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
    pub fn trained(&self, start: u64, len: usize) -> Option<&[u8]> {
        let start = start.min(self.n_tokens);
        self.mask.as_ref().map(|mask| mask.slice(start, (len as u64).min(self.n_tokens - start)))
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
    pub fn tokens(&self, start: u64, len: usize) -> Vec<u32> {
        let mut tokens = Vec::new();
        self.extend_with(&mut tokens, start, len);
        tokens
    }

    /// Appends what [`tokens`](Self::tokens) returns and returns how many there were.
    pub(crate) fn extend_with(&self, tokens: &mut Vec<u32>, start: u64, len: usize) -> usize {
        let start = start.min(self.n_tokens);
        let len = (len as u64).min(self.n_tokens - start);
        let width = self.bytes_per_token as u64;
        let bytes = self.tokens.slice(start * width, len * width);
        match self.bytes_per_token {
            2 => tokens.extend(bytes.as_chunks().0.iter().map(|pair| u32::from(u16::from_le_bytes(*pair)))),
            _ => tokens.extend(bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four))),
        }
        len as usize
    }

    /// How often each id occurs among the tokens that are trained; the list has `vocab_size` entries, or more when a larger id occurs.
    pub fn counts(&self, vocab_size: usize) -> Vec<u64> {
        let mut counts = vec![0; vocab_size];
        let mut position = 0;
        let mut piece = Vec::new();
        while position < self.n_tokens {
            piece.clear();
            let n = self.extend_with(&mut piece, position, 1 << 16);
            let trained = self.trained(position, n);
            position += n as u64;
            for (i, id) in piece.iter().enumerate() {
                if trained.is_some_and(|trained| trained.get(i) == Some(&0)) {
                    continue;
                }
                let id = *id as usize;
                if id >= counts.len() {
                    counts.resize(id + 1, 0);
                }
                counts[id] += 1;
            }
        }
        counts
    }

    /// The record of a document, `None` when there are fewer.
    pub fn document(&self, document_idx: u64) -> Option<DocumentRecord> {
        if document_idx >= self.n_documents {
            return None;
        }
        let record = self.documents.slice(document_idx * RECORD_BYTES as u64, RECORD_BYTES as u64);
        let number = |at: usize| record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let (end, text_bytes, line, origin) = (number(0)?, number(8)?, number(16)?, number(24)? as u32);
        let start = if document_idx == 0 { 0 } else { self.end_of(document_idx - 1) };
        let source = self.origins.get(origin as usize)?.clone();
        Some(DocumentRecord { start, end, text_bytes, origin: Origin { source, line: (line > 0).then_some(line) } })
    }

    /// The document that holds the token at `position`; the number of documents when there is no such token.
    pub fn document_at(&self, position: u64) -> u64 {
        let (mut low, mut high) = (0, self.n_documents);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.end_of(middle) <= position { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The position after a document's end of text.
    pub(crate) fn end_of(&self, document_idx: u64) -> u64 {
        let bytes = self.documents.slice(document_idx * RECORD_BYTES as u64, 8);
        bytes.try_into().map_or(self.n_tokens, u64::from_le_bytes)
    }
}

/// A file in memory that is what the manifest says.
#[derive(Clone, Debug)]
struct Mapped(MemoryMappedFile);

impl Mapped {
    /// Maps a file and verifies what was mapped, not what has its path a moment before or after.
    fn open(path: PathBuf, bytes: Option<u64>, checksum: Digest) -> Result<Self, DataError> {
        let corrupt = |found: String| DataError::CorruptCache { path: path.clone(), found };
        if !files::is_plain_file(&path) {
            return Err(corrupt("it is missing".to_owned()));
        }
        let map = match MemoryMappedFile::open_ro(&path) {
            Ok(map) => map,
            Err(source) => return Err(DataError::Map { path, source }),
        };
        let size = map.len();
        if bytes != Some(size) {
            let expected = bytes.map_or_else(|| "a size that fits".to_owned(), |bytes| format!("{bytes} bytes"));
            return Err(corrupt(format!("expected {expected}, found {size}")));
        }
        let found = match map.as_slice_bytes(0, size) {
            Ok(whole) => Digest::of_bytes(whole),
            Err(source) => return Err(DataError::Map { path, source }),
        };
        if found == checksum { Ok(Self(map)) } else { Err(corrupt(format!("expected blake3 {checksum}, found {found}"))) }
    }

    /// A part of the file.
    #[expect(
        clippy::expect_used,
        reason = "the whole was mapped and sized by `open`; tokens made up in its place would train a wrong model"
    )]
    fn slice(&self, start: u64, len: u64) -> &[u8] {
        self.0.as_slice_bytes(start, len).expect("a part of a mapped file whose size was checked")
    }
}
