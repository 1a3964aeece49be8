//! What a checkpoint store does, whatever it keeps its checkpoints in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use codex_core::{Digest, TensorMap};
use serde::Serialize;

use crate::error::CheckpointError;
use crate::manifest::Manifest;

/// What is saved of a run at one step. It owns what it holds, so that a store may save it while training goes on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Optimizer steps taken.
    pub step: u64,
    /// The digest of what determines the run.
    pub plan: Digest,
    /// The parameters by path.
    pub weights: TensorMap,
    /// The optimizer's moments by name.
    pub moments: TensorMap,
    /// Everything else that the loop changes.
    pub state: serde_json::Value,
    /// Metrics at this step, such as `validation/loss`.
    pub metrics: BTreeMap<String, f64>,
    /// Further files that make the folder complete by itself, such as `tokenizer.json`.
    pub extra: Vec<(String, Vec<u8>)>,
    /// What the store drops together with the tensors, as soon as it needs them no more: whoever waits for their memory holds the other end.
    pub lease: Option<Lease>,
}

/// One end of a channel on which nothing is sent: it is closed when this is dropped.
pub type Lease = std::sync::mpsc::Sender<()>;

/// A checkpoint that is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedCheckpoint {
    /// Its step.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// The size of all its files.
    pub bytes: u64,
    /// BLAKE3 of its manifest, which names the digests of all other files.
    pub digest: Digest,
    /// Steps that retention has removed after the save.
    pub pruned: Vec<u64>,
}

/// A checkpoint in a list. Being listed means that its manifest can be read, not that its files have been verified.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its step.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// The size of all its files.
    pub bytes: u64,
    /// Its metrics.
    pub metrics: BTreeMap<String, f64>,
    /// The plan it belongs to.
    pub plan: Digest,
}

/// A checkpoint that was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its step.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// A verified checkpoint.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its step.
    pub step: u64,
    /// The parameters by path.
    pub weights: TensorMap,
    /// The optimizer's moments by name; none where only the model was asked for.
    pub moments: TensorMap,
    /// Everything else that the loop changes.
    pub state: serde_json::Value,
    /// Metrics at this step.
    pub metrics: BTreeMap<String, f64>,
    /// Further files.
    pub extra: BTreeMap<String, Vec<u8>>,
    /// Its folder.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Newer checkpoints that did not verify; they are to be announced.
    pub skipped: Vec<Skipped>,
}

/// Keeps checkpoints.
pub trait CheckpointStore {
    /// Saves a snapshot, whose tensors it drops as soon as they are with the operating system, then removes what retention no longer keeps. The same content again is fine; other content for a step is an error.
    fn save(&mut self, snapshot: Snapshot) -> Result<SavedCheckpoint, CheckpointError> {
        let saved = self.publish(snapshot)?;
        Ok(SavedCheckpoint { pruned: self.prune(saved.step)?, ..saved })
    }

    /// The first half of [`save`](Self::save): the checkpoint is whole where it belongs, and nothing is removed.
    fn publish(&mut self, snapshot: Snapshot) -> Result<SavedCheckpoint, CheckpointError>;

    /// The second half, after the checkpoint of `saved`: removes what retention no longer keeps, and tells the steps.
    fn prune(&mut self, saved: u64) -> Result<Vec<u64>, CheckpointError>;

    /// The newest checkpoint that verifies; `None` when there is none at all. With `plan`, one of another plan is an error.
    fn load_latest(&self, plan: Option<Digest>) -> Result<Option<Loaded>, CheckpointError>;

    /// The same without the optimizer's moments, which are not read: for whoever only uses the model. Every other file is verified.
    fn load_model(&self, step: u64) -> Result<Loaded, CheckpointError>;

    /// The newest checkpoint that [`load_model`](Self::load_model) can load; `None` when there is none at all.
    fn load_latest_model(&self) -> Result<Option<Loaded>, CheckpointError>;

    /// The checkpoint of a step, verified.
    fn load(&self, step: u64) -> Result<Loaded, CheckpointError>;

    /// Every checkpoint whose manifest can be read, oldest first.
    fn list(&self) -> Result<Vec<Entry>, CheckpointError>;

    /// The steps there are, oldest first, readable or not.
    fn steps(&self) -> Result<Vec<u64>, CheckpointError>;

    /// Recomputes every digest of a step.
    fn verify(&self, step: u64) -> Result<Manifest, CheckpointError>;

    /// The step of the best checkpoint there is, by the configured metric.
    fn best(&self) -> Result<Option<u64>, CheckpointError>;
}
