//! `manifest.json`: every file of a checkpoint with its size and digest. It is written last.
//!
//! `manifest.blake3` beside it, in the form that `b3sum --check` reads, holds the manifest's own digest: a flipped bit in the manifest is damage
//! like any other, and not another plan or a better metric.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use codex_core::{Digest, files};
use serde::{Deserialize, Serialize};

use crate::error::CheckpointError;

/// The version of the format that is written and read.
pub const SCHEMA: u64 = 1;

/// The manifest's own file name.
pub const FILE: &str = "manifest.json";

/// The name of the file with the manifest's digest.
pub const SEAL: &str = "manifest.blake3";

/// A bound on the manifest's size in bytes and on the number of files it may list.
pub(crate) const MAX_BYTES: u64 = 1 << 20;
pub(crate) const MAX_FILES: usize = 64;

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
    /// The manifest of a checkpoint folder, after checking that it is whole and safe to follow: its seal, a supported schema and plain names.
    pub fn read(folder: &Path) -> Result<(Self, Digest), CheckpointError> {
        let path = folder.join(FILE);
        if !files::is_plain_file(&path) {
            return Err(CheckpointError::Malformed { path, reason: "there is no manifest, or it is not a plain file".to_owned() });
        }
        let bytes = files::read_bounded(&path, MAX_BYTES)?;
        let digest = Digest::of_bytes(&bytes);
        let is_sealed = check_seal(&folder.join(SEAL), &path, digest)?;
        let wrong = |reason: String| CheckpointError::Malformed { path: path.clone(), reason };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(SCHEMA) => {}
            Some(found) => return Err(CheckpointError::Schema { path, found, supported: SCHEMA }),
            None => return Err(wrong("it has no `schema`".to_owned())),
        }
        // Only after the schema, as a later one may seal otherwise.
        if !is_sealed {
            return Err(wrong(format!("`{SEAL}` beside it is missing, or not a plain file")));
        }
        // From the bytes, as a value has forgotten that a key was there twice.
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if manifest.files.len() > MAX_FILES {
            return Err(wrong(format!("it lists {} files; at most {MAX_FILES} are expected", manifest.files.len())));
        }
        let mut names = BTreeSet::new();
        for file in &manifest.files {
            if !is_plain_name(&file.name) || is_reserved(&file.name) {
                return Err(wrong(format!("`{}` is not a plain file name", file.name)));
            }
            if !names.insert(&file.name) {
                return Err(wrong(format!("`{}` is listed twice", file.name)));
            }
        }
        Ok((manifest, digest))
    }

    /// Reads every file that is listed and wanted, and checks its size and digest.
    pub fn read_files(&self, folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<u8>>, CheckpointError> {
        let mut contents = BTreeMap::new();
        for file in self.files.iter().filter(|file| wanted(&file.name)) {
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
            // `cargo xtask crash` also builds it without, to see that its checks find that.
            if found != file.blake3 && !cfg!(codex_teeth = "no_hash") {
                return Err(CheckpointError::Digest { path, expected: file.blake3, found });
            }
            contents.insert(file.name.clone(), bytes);
        }
        Ok(contents)
    }
}

/// The content of the seal of a manifest with this digest.
pub(crate) fn seal(digest: Digest) -> String {
    format!("{digest}  {FILE}\n")
}

/// Whether there is a seal; one that does not match the manifest is an error.
fn check_seal(path: &Path, manifest: &Path, found: Digest) -> Result<bool, CheckpointError> {
    if !files::is_plain_file(path) {
        return Ok(false);
    }
    let bytes = files::read_bounded(path, MAX_BYTES)?;
    if bytes == seal(found).as_bytes() {
        return Ok(true);
    }
    let text = String::from_utf8_lossy(&bytes);
    let sealed: Option<Digest> = text.strip_suffix(&format!("  {FILE}\n")).and_then(|digits| digits.parse().ok());
    Err(match sealed {
        Some(expected) => CheckpointError::Digest { path: manifest.to_owned(), expected, found },
        None => CheckpointError::Malformed { path: path.to_owned(), reason: "it is not the digest of a manifest".to_owned() },
    })
}

/// The manifest and its seal, which no other file may be called.
pub(crate) fn is_reserved(name: &str) -> bool {
    name == FILE || name == SEAL
}

/// Letters, digits and `._-`, not starting with a dot, at most 100 bytes: a name that cannot lead out of its folder.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.bytes().all(fine)
}
