//! The checkpoints that the tests save: everything in them is a function of the step.

use std::collections::BTreeMap;
use std::path::Path;

use codex_checkpoint::{
    CheckpointConfig, CheckpointError, CheckpointStore, FolderStore, HostTensor, Loaded, SavedCheckpoint, Snapshot, TensorMap,
};
use codex_core::{Digest, files};
use serde_json::json;

/// The files of a checkpoint besides the manifest.
pub(super) const FILES: [&str; 4] = ["model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"];

pub(super) fn plan() -> Digest {
    Digest::of_bytes(b"plan")
}

pub(super) fn config(keep_last: usize, keep_best: usize) -> CheckpointConfig {
    CheckpointConfig { keep_last, keep_best, ..CheckpointConfig::default() }
}

pub(super) fn tensors(prefix: &str, step: u64) -> TensorMap {
    let values = |n: usize| (0..n).map(|i| (step as f32) + (i as f32) / 16.0).collect::<codex_core::Values>();
    TensorMap::from([
        (format!("{prefix}blocks.0.weight"), HostTensor { shape: vec![3, 4], values: values(12) }),
        (format!("{prefix}norm.weight"), HostTensor { shape: vec![5], values: values(5) }),
    ])
}

/// What is saved at a step, with this validation loss.
pub(super) struct Sample {
    pub(super) step: u64,
    pub(super) weights: TensorMap,
    pub(super) moments: TensorMap,
    pub(super) loss: Option<f64>,
}

impl Sample {
    pub(super) fn of(step: u64) -> Self {
        Self { step, weights: tensors("", step), moments: tensors("m.", step), loss: Some(10.0 / (step + 1) as f64) }
    }

    pub(super) fn with_loss(step: u64, loss: f64) -> Self {
        Self { loss: Some(loss), ..Self::of(step) }
    }

    /// With a loss that rises from step to step, above that of all others.
    pub(super) fn rising(step: u64) -> Self {
        Self::with_loss(step, 10.0 * step as f64)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            step: self.step,
            plan: plan(),
            weights: self.weights.clone(),
            moments: self.moments.clone(),
            state: json!({ "step": self.step, "cursor": { "epoch": 0, "window": self.step / 8 } }),
            metrics: self.loss.iter().map(|&loss| ("validation/loss".to_owned(), loss)).collect(),
            lease: None,
            extra: vec![("tokenizer.json".to_owned(), b"{\"vocab\":[]}".to_vec())],
        }
    }

    pub(super) fn save(&self, store: &mut dyn CheckpointStore) -> Result<SavedCheckpoint, CheckpointError> {
        store.save(self.snapshot())
    }
}

/// That what was loaded is what [`Sample::of`] the step is.
pub(super) fn assert_is_sample(loaded: &Loaded) {
    let sample = Sample::of(loaded.step);
    assert_eq!(loaded.weights, sample.weights);
    assert_eq!(loaded.moments, sample.moments);
    assert_eq!(loaded.state, sample.snapshot().state);
    assert_eq!(loaded.manifest.plan, plan());
    assert_eq!(loaded.extra, BTreeMap::from(sample.snapshot().extra.try_into().map(|one: [(String, Vec<u8>); 1]| one).unwrap()));
}

/// Writes a manifest and the digest of it, as one would who has both in hand.
pub(super) fn write_sealed(checkpoint: &Path, manifest: &str) {
    files::write_atomic(&checkpoint.join("manifest.json"), manifest.as_bytes()).unwrap();
    let seal = format!("{}  manifest.json\n", Digest::of_bytes(manifest.as_bytes()));
    files::write_atomic(&checkpoint.join("manifest.blake3"), seal.as_bytes()).unwrap();
}

/// A folder with these steps saved, closed again.
pub(super) fn folder_with(folder: &Path, steps: &[u64]) {
    let mut store = FolderStore::open(folder, &config(100, 1)).unwrap();
    for &step in steps {
        Sample::of(step).save(&mut store).unwrap();
    }
}
