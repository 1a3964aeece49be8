//! Writing the files of a split, each with its digest.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use codex_core::{Digest, FileError, Hasher, files};

use crate::document::Origin;
use crate::error::DataError;
use crate::layout::Encoded;
use crate::manifest::{MaskManifest, SplitManifest};
use crate::split::Split;
use crate::tokens::RECORD_BYTES;

/// Writes the files of a split and their digests.
pub(crate) struct SplitWriter {
    folder: PathBuf,
    split: Split,
    tokens: HashedFile,
    documents: HashedFile,
    /// Begun with the first token that is not trained.
    mask: Option<HashedFile>,
    bytes_per_token: usize,
    pub(crate) n_tokens: u64,
    n_untrained: u64,
    pub(crate) n_documents: u64,
    text_bytes: u64,
    buffer: Vec<u8>,
}

impl SplitWriter {
    pub(crate) fn create(folder: &Path, split: Split, bytes_per_token: usize) -> Result<Self, DataError> {
        let file = |kind: &str| HashedFile::create(folder, format!("{split}.{kind}"));
        let (tokens, documents) = (file("tokens")?, file("documents")?);
        Ok(Self {
            folder: folder.to_owned(),
            split,
            tokens,
            documents,
            mask: None,
            bytes_per_token,
            n_tokens: 0,
            n_untrained: 0,
            n_documents: 0,
            text_bytes: 0,
            buffer: Vec::new(),
        })
    }

    /// Appends a document with `text_bytes` bytes of text; `origin_idx` is the index of its origin's name.
    pub(crate) fn push(&mut self, encoded: &Encoded, text_bytes: u64, origin: &Origin, origin_idx: u32) -> Result<(), DataError> {
        let ids = &encoded.ids;
        self.push_mask(ids.len(), encoded.trained.as_deref())?;
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
        self.documents.write(&record)
    }

    fn push_mask(&mut self, n_tokens: usize, trained: Option<&[u8]>) -> Result<(), DataError> {
        let n_untrained = trained.map_or(0, |trained| trained.iter().map(|token| u64::from(*token == 0)).sum());
        if n_untrained > 0 && self.mask.is_none() {
            let mut mask = HashedFile::create(&self.folder, format!("{}.mask", self.split))?;
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
        let (path, checksum) = self.tokens.finish()?;
        let trained = self.n_tokens - self.n_untrained;
        let mask = self.mask.map(HashedFile::finish).transpose()?;
        let mask = mask.map(|(path, checksum)| MaskManifest { trained, path, checksum });
        let (documents_path, documents_checksum) = self.documents.finish()?;
        let Self { n_documents: documents, n_tokens: tokens, text_bytes, .. } = self;
        Ok(SplitManifest { documents, tokens, text_bytes, path, checksum, documents_path, documents_checksum, mask })
    }
}

fn write_ones(mask: &mut HashedFile, mut n: u64) -> Result<(), DataError> {
    const ONES: [u8; 4096] = [1; 4096];
    while n > 0 {
        let now = n.min(ONES.len() as u64);
        mask.write(&ONES[..now as usize])?;
        n -= now;
    }
    Ok(())
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
