//! Checkpoints in memory, for embedding programs that keep them elsewhere and for tests of what uses a store.

use std::collections::BTreeMap;
use std::path::PathBuf;

use codex_core::{Digest, TensorMap};

use crate::config::CheckpointConfig;
use crate::content::Content;
use crate::error::CheckpointError;
use crate::manifest::Manifest;
use crate::retention::{ranked, surplus};
use crate::snapshot_files::{SnapshotFiles, loaded_from, total_bytes, unsaveable};
use crate::store::{CheckpointStore, Entry, Loaded, SavedCheckpoint, Snapshot};

/// Keeps checkpoints in memory with the semantics of the folder store.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    config: CheckpointConfig,
    kept: BTreeMap<u64, (Manifest, BTreeMap<String, Vec<u8>>)>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(config: &CheckpointConfig) -> Self {
        Self { config: config.clone(), kept: BTreeMap::new() }
    }

    fn path() -> PathBuf {
        PathBuf::from("memory")
    }

    fn values(&self) -> Vec<(u64, Option<f64>)> {
        self.kept.iter().map(|(step, (manifest, _))| (*step, manifest.metrics.get(&self.config.metric).copied())).collect()
    }
}

impl CheckpointStore for MemoryStore {
    fn publish(&mut self, snapshot: Snapshot) -> Result<SavedCheckpoint, CheckpointError> {
        let files = SnapshotFiles::new(snapshot)?;
        let (step, manifest) = (files.step, files.manifest(Content::examine)?);
        let manifest_bytes = manifest.to_bytes()?;
        let digest = Digest::of_bytes(&manifest_bytes);
        match self.kept.get(&step) {
            Some((present, _)) if *present != manifest => return Err(CheckpointError::Exists { path: Self::path() }),
            _ => {}
        }
        let bytes = total_bytes(&manifest, &manifest_bytes);
        let mut kept = BTreeMap::new();
        for (name, content) in &files.contents {
            let mut bytes = Vec::new();
            content.write_to(&mut bytes).map_err(|error| unsaveable(name, error.to_string()))?;
            kept.insert(name.clone(), bytes);
        }
        self.kept.insert(step, (manifest, kept));
        Ok(SavedCheckpoint { step, path: Self::path(), bytes, digest, pruned: Vec::new() })
    }

    fn prune(&mut self, saved: u64) -> Result<Vec<u64>, CheckpointError> {
        let gone = surplus(&self.values(), saved, &self.config);
        self.kept.retain(|step, _| !gone.contains(step));
        Ok(gone)
    }

    fn load_latest(&self, plan: Option<Digest>) -> Result<Option<Loaded>, CheckpointError> {
        let Some(&step) = self.kept.keys().next_back() else { return Ok(None) };
        let loaded = self.load(step)?;
        match plan {
            Some(expected) if expected != loaded.manifest.plan => {
                Err(CheckpointError::PlanMismatch { path: Self::path(), expected, found: loaded.manifest.plan })
            }
            _ => Ok(Some(loaded)),
        }
    }

    fn load(&self, step: u64) -> Result<Loaded, CheckpointError> {
        let known = || self.kept.keys().copied().collect();
        let (manifest, contents) =
            self.kept.get(&step).ok_or_else(|| CheckpointError::Absent { path: Self::path(), step, known: known() })?;
        loaded_from(manifest.clone(), contents.clone(), Self::path(), true)
    }

    fn load_model(&self, step: u64) -> Result<Loaded, CheckpointError> {
        Ok(Loaded { moments: TensorMap::new(), ..self.load(step)? })
    }

    fn load_latest_model(&self) -> Result<Option<Loaded>, CheckpointError> {
        self.kept.keys().next_back().map(|&step| self.load_model(step)).transpose()
    }

    fn list(&self) -> Result<Vec<Entry>, CheckpointError> {
        let entry = |(step, (manifest, contents)): (&u64, &(Manifest, BTreeMap<String, Vec<u8>>))| Entry {
            step: *step,
            path: Self::path(),
            bytes: contents.values().map(|content| content.len() as u64).sum(),
            metrics: manifest.metrics.clone(),
            plan: manifest.plan,
        };
        Ok(self.kept.iter().map(entry).collect())
    }

    fn steps(&self) -> Result<Vec<u64>, CheckpointError> {
        Ok(self.kept.keys().copied().collect())
    }

    fn verify(&self, step: u64) -> Result<Manifest, CheckpointError> {
        Ok(self.load(step)?.manifest)
    }

    fn best(&self) -> Result<Option<u64>, CheckpointError> {
        Ok(ranked(&self.values(), self.config.mode).first().map(|(step, _)| *step))
    }
}
