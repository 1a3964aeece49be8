//! `manifest.json`: every file of a checkpoint with its size and digest. It is written last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use codex_core::{Digest, files};
use serde::{Deserialize, Serialize};

use crate::error::CheckpointError;

/// The version of the format that is written and read.
pub const SCHEMA: u64 = 1;

/// The manifest's own file name.
pub const FILE: &str = "manifest.json";

/// A bound on the manifest's size in bytes and on the number of files it may list.
const MAX_BYTES: u64 = 1 << 20;
const MAX_FILES: usize = 64;

/// The manifest of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub schema: u64,
    /// Optimizer steps taken.
    pub step: u64,
    /// The digest of what determines the run.
    pub plan: Digest,
    /// Metrics at this step.
    pub metrics: BTreeMap<String, f64>,
    /// Every other file, by name.
    pub files: Vec<FileRecord>,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Its plain name, without any folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub blake3: Digest,
}

impl Manifest {
    /// The manifest of a checkpoint folder, after checking that it is safe to follow: a supported schema and plain names.
    pub fn read(folder: &Path) -> Result<(Self, Digest), CheckpointError> {
        let path = folder.join(FILE);
        if !files::is_plain_file(&path) {
            return Err(CheckpointError::Malformed { path, reason: "there is no manifest, or it is not a plain file".to_owned() });
        }
        let bytes = files::read_bounded(&path, MAX_BYTES)?;
        let wrong = |reason: String| CheckpointError::Malformed { path: path.clone(), reason };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(SCHEMA) => {}
            Some(found) => return Err(CheckpointError::Schema { path, found, supported: SCHEMA }),
            None => return Err(wrong("it has no `schema`".to_owned())),
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        if manifest.files.len() > MAX_FILES {
            return Err(wrong(format!("it lists {} files; at most {MAX_FILES} are expected", manifest.files.len())));
        }
        let mut names = BTreeSet::new();
        for file in &manifest.files {
            if !is_plain_name(&file.name) || file.name == FILE {
                return Err(wrong(format!("`{}` is not a plain file name", file.name)));
            }
            if !names.insert(&file.name) {
                return Err(wrong(format!("`{}` is listed twice", file.name)));
            }
        }
        Ok((manifest, Digest::of_bytes(&bytes)))
    }

    /// Reads every file that is listed and checks its size and digest.
    pub fn read_files(&self, folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, CheckpointError> {
        let mut contents = BTreeMap::new();
        for file in &self.files {
            let path = folder.join(&file.name);
            if !files::is_plain_file(&path) {
                return Err(CheckpointError::Malformed { path, reason: "it is missing, or not a plain file".to_owned() });
            }
            let found = files::size(&path)?;
            if found != file.bytes {
                return Err(CheckpointError::Size { path, expected: file.bytes, found });
            }
            let bytes = files::read_bounded(&path, file.bytes)?;
            let found = Digest::of_bytes(&bytes);
            if found != file.blake3 {
                return Err(CheckpointError::Digest { path, expected: file.blake3, found });
            }
            contents.insert(file.name.clone(), bytes);
        }
        Ok(contents)
    }
}

/// Letters, digits and `._-`, not starting with a dot, at most 100 bytes: a name that cannot lead out of its folder.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.bytes().all(fine)
}
