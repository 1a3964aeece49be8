//! A snapshot as the files of a checkpoint, and files as what was loaded: what stores in a folder and in memory share.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use codex_core::{Digest, TensorMap};
use serde::Serialize;

use crate::content::{Content, Examined};
use crate::error::CheckpointError;
use crate::manifest::{self, FileRecord, Manifest, is_plain_name, is_reserved};
use crate::store::{Lease, Loaded, Snapshot};
use crate::tensor_file::{self, TensorFile};

pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const MOMENTS: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// A snapshot as files.
pub(crate) struct SnapshotFiles {
    pub(crate) step: u64,
    plan: Digest,
    metrics: BTreeMap<String, f64>,
    pub(crate) contents: BTreeMap<String, Content>,
    /// Goes with the contents.
    _lease: Option<Lease>,
}

impl SnapshotFiles {
    pub(crate) fn new(snapshot: Snapshot) -> Result<Self, CheckpointError> {
        let mut contents = BTreeMap::new();
        for (file, tensors) in [(WEIGHTS, snapshot.weights), (MOMENTS, snapshot.moments)] {
            let content = TensorFile::new(tensors).map_err(|reason| unsaveable(file, reason))?;
            contents.insert(file.to_owned(), Content::Tensors(content));
        }
        let state = json_bytes(STATE, &snapshot.state)?;
        // A reader stops at a depth that the writer knows nothing of.
        serde_json::from_slice::<serde_json::Value>(&state).map_err(|error| unsaveable(STATE, error.to_string()))?;
        contents.insert(STATE.to_owned(), Content::Bytes(state));
        for (name, bytes) in snapshot.extra {
            let taken = is_reserved(&name) || contents.contains_key(&name);
            if taken || !is_plain_name(&name) {
                return Err(unsaveable(&name, "the name is taken or not plain".to_owned()));
            }
            contents.insert(name, Content::Bytes(bytes));
        }
        if contents.len() > manifest::MAX_FILES {
            let reason = format!("a checkpoint holds at most {} files, found {}", manifest::MAX_FILES, contents.len());
            return Err(unsaveable(manifest::FILE, reason));
        }
        let metrics: BTreeMap<String, f64> = snapshot.metrics.into_iter().filter(|(_, value)| value.is_finite()).collect();
        let files = Self { step: snapshot.step, plan: snapshot.plan, metrics, contents, _lease: snapshot.lease };
        // Its size depends on no digest: one that is too long is refused before anything is written.
        files.manifest_of(|_, _| Ok(Examined { digest: Digest::of_bytes(b""), not_finite: None }))?.to_bytes()?;
        Ok(files)
    }

    /// The manifest that lists the files, which are examined in the order of their names. Values that are not finite are not saved.
    pub(crate) fn manifest_of(
        &self,
        mut examine: impl FnMut(&str, &Content) -> Result<Examined, CheckpointError>,
    ) -> Result<Manifest, CheckpointError> {
        let mut files = Vec::with_capacity(self.contents.len());
        for (name, content) in &self.contents {
            let Examined { digest, not_finite } = examine(name, content)?;
            if let Some(name) = not_finite {
                return Err(CheckpointError::NotFinite { name, step: self.step });
            }
            files.push(FileRecord { name: name.clone(), bytes: content.len(), blake3: digest });
        }
        Ok(Manifest { schema: manifest::SCHEMA, step: self.step, plan: self.plan, metrics: self.metrics.clone(), files })
    }

    /// The same of files that are not written.
    pub(crate) fn manifest(&self, examine: impl Fn(&Content) -> io::Result<Examined>) -> Result<Manifest, CheckpointError> {
        self.manifest_of(|name, content| examine(content).map_err(|error| unsaveable(name, error.to_string())))
    }
}

/// The checkpoint in these verified files.
pub(crate) fn loaded_from(
    manifest: Manifest,
    mut contents: BTreeMap<String, Vec<u8>>,
    path: PathBuf,
    with_moments: bool,
) -> Result<Loaded, CheckpointError> {
    let mut take = |name: &str| {
        let missing = || CheckpointError::Malformed { path: path.join(manifest::FILE), reason: format!("it does not list `{name}`") };
        contents.remove(name).ok_or_else(missing)
    };
    let wrong = |name: &str, reason: String| CheckpointError::Malformed { path: path.join(name), reason };
    let weights = tensor_file::decode(&take(WEIGHTS)?).map_err(|reason| wrong(WEIGHTS, reason))?;
    let moments =
        if with_moments { tensor_file::decode(&take(MOMENTS)?).map_err(|reason| wrong(MOMENTS, reason))? } else { TensorMap::new() };
    let state = serde_json::from_slice(&take(STATE)?).map_err(|error| wrong(STATE, error.to_string()))?;
    let (step, metrics) = (manifest.step, manifest.metrics.clone());
    Ok(Loaded { step, weights, moments, state, metrics, extra: contents, path, manifest, skipped: Vec::new() })
}

impl Manifest {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        let bytes = json_bytes(manifest::FILE, self)?;
        if bytes.len() as u64 > manifest::MAX_BYTES {
            let reason = format!("it may have {} bytes, and has {}", manifest::MAX_BYTES, bytes.len());
            return Err(unsaveable(manifest::FILE, reason));
        }
        Ok(bytes)
    }
}

pub(crate) fn json_bytes<T: Serialize>(name: &str, value: &T) -> Result<Vec<u8>, CheckpointError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| unsaveable(name, error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(crate) fn unsaveable(name: &str, reason: String) -> CheckpointError {
    CheckpointError::Unsaveable { name: name.to_owned(), reason }
}

/// The size of all files of a checkpoint.
pub(crate) fn total_bytes(manifest: &Manifest, manifest_bytes: &[u8]) -> u64 {
    let seal = manifest::seal(Digest::of_bytes(manifest_bytes)).len();
    manifest.files.iter().map(|file| file.bytes).sum::<u64>() + (manifest_bytes.len() + seal) as u64
}
