//! The list of the documents that a filter has left out, beside the tokens of those that stayed.

use std::path::Path;

use codex_core::{Digest, files};

use crate::error::DataError;
use crate::filter::LeftOut;
use crate::manifest::ListManifest;
use crate::writer::HashedFile;

/// The file's name in a cache.
const FILE: &str = "left_out.ndjson";

/// The list while it is written; nothing where there is no filter.
pub(crate) struct LeftOutList {
    file: Option<HashedFile>,
    rows: u64,
    bytes: u64,
}

impl LeftOutList {
    pub(crate) fn create(folder: &Path, is_wanted: bool) -> Result<Self, DataError> {
        let file = is_wanted.then(|| HashedFile::create(folder, FILE.to_owned())).transpose()?;
        Ok(Self { file, rows: 0, bytes: 0 })
    }

    pub(crate) fn add(&mut self, left_out: &[LeftOut]) -> Result<(), DataError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        for one in left_out {
            let line = serde_json::to_string(one).map_err(|source| DataError::Manifest { source })? + "\n";
            file.write(line.as_bytes())?;
            self.rows += 1;
            self.bytes += line.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Option<ListManifest>, DataError> {
        let Self { file, rows, bytes } = self;
        let Some((path, blake3)) = file.map(HashedFile::finish).transpose()? else { return Ok(None) };
        Ok(Some(ListManifest { path, rows, bytes, blake3 }))
    }
}

/// Whether the list of a cache is the one that its manifest describes.
pub(crate) fn check(folder: &Path, expected: &ListManifest) -> Result<(), DataError> {
    let path = folder.join(FILE);
    let corrupt = |found: String| DataError::CorruptCache { path: path.clone(), found };
    if expected.path != FILE || !files::is_plain_file(&path) {
        return Err(corrupt("it is missing".to_owned()));
    }
    let found = Digest::of_file(&path)?;
    if found == expected.blake3 { Ok(()) } else { Err(corrupt(format!("expected blake3 {}, found {found}", expected.blake3))) }
}
