//! The token cache of one recipe: a folder that is verified whole when it is opened and read by mapping afterwards.
//!
//! It is made by [`crate::prepare()`]. A file that another program shortens while it is mapped ends the process (SIGBUS): caches are
//! published once and never written again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::Digest;

use crate::error::DataError;
use crate::left_out;
use crate::manifest::CacheManifest;
use crate::shards::DAMAGED;
use crate::split::Split;
use crate::tokens::TokenSplit;

/// The most bytes that are read when a cache is opened to be trained on: a tenth of a second.
pub(crate) const READ_AT_ONCE: u64 = 256 << 20;

/// Tokens on disk, with the manifest that accounts for them.
#[derive(Clone, Debug)]
pub struct TokenCache {
    folder: PathBuf,
    manifest: CacheManifest,
    train: TokenSplit,
    validation: TokenSplit,
    notes: Vec<String>,
}

impl TokenCache {
    /// Opens a cache's folder after checking its manifest and the digest of each file.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        Self::open_checked(folder, |_| false)
    }

    /// The same with the manifest and the sizes checked only, so that it takes no time however large the cache is: a file's digest is checked when the first
    /// of it is read.
    pub fn open_without_reading(folder: &Path) -> Result<Self, DataError> {
        Self::open_checked(folder, |_| true)
    }

    /// One or the other, by its size.
    pub(crate) fn open_to_train(folder: &Path) -> Result<Self, DataError> {
        Self::open_checked(folder, |manifest| manifest.data_bytes() > READ_AT_ONCE)
    }

    fn open_checked(folder: &Path, may_wait: impl Fn(&CacheManifest) -> bool) -> Result<Self, DataError> {
        let manifest = CacheManifest::read(folder)?;
        let marked = folder.join(DAMAGED);
        if marked.exists() {
            let found = "damage was found while it was in use".to_owned();
            return Err(DataError::CorruptCache { path: marked, found });
        }
        let is_lazy = may_wait(&manifest);
        if let Some(list) = &manifest.left_out
            && !is_lazy
        {
            left_out::check(folder, list)?;
        }
        let origins: Arc<[String]> = manifest.origins.iter().cloned().collect();
        let split = |split| TokenSplit::open(folder, &manifest, split, Arc::clone(&origins), is_lazy);
        let (train, validation) = (split(Split::Train)?, split(Split::Validation)?);
        Ok(Self { folder: folder.to_owned(), manifest, train, validation, notes: Vec::new() })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The digest of all that decides its tokens.
    pub fn key(&self) -> Digest {
        self.manifest.key
    }

    /// What it holds and what it was made from.
    pub fn manifest(&self) -> &CacheManifest {
        &self.manifest
    }

    /// The tokens of a split.
    pub fn split(&self, split: Split) -> &TokenSplit {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
        }
    }

    /// Whether some tokens are not trained.
    pub fn is_masked(&self) -> bool {
        self.train.is_masked() || self.validation.is_masked()
    }

    /// What the user should know: files passed over, rows skipped, a damaged cache that was built again.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        let account = &self.manifest.account;
        if account.skipped.rows > 0 {
            let first = account.skipped.first.first().map_or("", String::as_str);
            self.notes.push(format!("{} rows that cannot be used were skipped; the first: {first}", account.skipped.rows));
        }
        if !account.filtered.is_empty() {
            let reasons: Vec<String> =
                account.filtered.by_reason.iter().map(|(reason, n)| format!("{n} {}", reason.replace('_', " "))).collect();
            let (rows, reasons) = (account.filtered.rows, reasons.join(", "));
            self.notes.push(format!(
                "{rows} documents were left out by `data.filter` ({reasons}); `{}` lists them",
                self.folder.join("left_out.ndjson").display()
            ));
        }
        if account.dropped > 0 {
            self.notes.push(format!("{} documents were dropped by the safety policy", account.dropped));
        }
        if account.empty > 0 {
            self.notes.push(format!("{} documents without text were left out", account.empty));
        }
        if !account.untrained.is_empty() {
            let (untrained, first) = (&account.untrained, account.untrained.first.first().map_or("", String::as_str));
            let rows = account.conversations;
            self.notes.push(format!("{} of {rows} prompts and chats train nothing and were left out; the first: {first}", untrained.rows));
        }
        if self.manifest.splits.validation.documents == 0 {
            self.notes.push("the validation split has no documents".to_owned());
        }
        self
    }
}
