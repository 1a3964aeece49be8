//! Checkpoints in a folder, one sub-folder each.
//!
//! Publishing: the files are written and flushed in a draft folder, the manifest last; the draft is flushed and renamed without replacing
//! anything; the parent is flushed; then the pointers `latest.json` and `best.json` are swapped; only then is anything removed. Whatever
//! moment the process is killed at, the checkpoints reported before it are whole, and a folder with a checkpoint's name is complete.

use std::path::{Path, PathBuf};

use codex_core::folder::{DraftFile, sweep_drafts};
use codex_core::{Digest, FolderDraft, Lock, files};
use serde::{Deserialize, Serialize};

use crate::config::{CheckpointConfig, Mode};
use crate::content::Content;
use crate::error::CheckpointError;
use crate::manifest::{self, Manifest};
use crate::retention::{ranked, surplus, up_to};
use crate::snapshot_files::{MOMENTS, SnapshotFiles, json_bytes, loaded_from, total_bytes};
use crate::store::{CheckpointStore, Entry, Loaded, SavedCheckpoint, Skipped, Snapshot};

const LATEST: &str = "latest.json";
const BEST: &str = "best.json";

/// Checkpoints in a folder.
#[derive(Debug)]
pub struct FolderStore {
    folder: PathBuf,
    config: CheckpointConfig,
    /// Held while the store may write.
    lock: Option<Lock>,
}

/// `latest.json`: a help for people and tools; resuming does not trust it.
#[derive(Debug, Serialize, Deserialize)]
struct Latest {
    step: u64,
    folder: String,
    manifest_blake3: Digest,
}

/// `best.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Best {
    metric: String,
    mode: Mode,
    items: Vec<BestItem>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BestItem {
    step: u64,
    value: f64,
    folder: String,
}

/// What is there under the name of a checkpoint that is about to be saved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Present {
    Nothing,
    Same,
    Damaged,
}

impl FolderStore {
    /// Opens a folder for writing, creating it when absent: takes its lock and removes the drafts that a killed process left.
    pub fn open(folder: &Path, config: &CheckpointConfig) -> Result<Self, CheckpointError> {
        files::create_dir_all(folder)?;
        // Without it a power loss could take the folder with all that was flushed in it.
        files::sync_dir(files::parent(folder))?;
        let lock = Lock::acquire(&folder.join(".lock"))?;
        sweep_drafts(folder)?;
        Ok(Self { folder: folder.to_owned(), config: config.clone(), lock: Some(lock) })
    }

    /// Opens a folder for reading: nothing is locked, created or removed. What counts as best is what `best.json` says, or the default.
    pub fn read_only(folder: &Path) -> Result<Self, CheckpointError> {
        files::list_dir(folder)?;
        let mut config = CheckpointConfig::default();
        let best = files::read_bounded(&folder.join(BEST), manifest::MAX_BYTES).ok();
        if let Some(best) = best.and_then(|bytes| serde_json::from_slice::<Best>(&bytes).ok()) {
            (config.metric, config.mode) = (best.metric, best.mode);
        }
        Ok(Self { folder: folder.to_owned(), config, lock: None })
    }

    fn path_of(&self, step: u64) -> PathBuf {
        self.folder.join(name_of(step))
    }

    fn values(&self) -> Result<Vec<(u64, Option<f64>)>, CheckpointError> {
        Ok(self.list()?.into_iter().map(|entry| (entry.step, entry.metrics.get(&self.config.metric).copied())).collect())
    }

    fn point(&self, step: u64, digest: Digest) -> Result<(), CheckpointError> {
        let ranked = ranked(&up_to(&self.values()?, step), self.config.mode);
        // As many as retention keeps, so that the pointer never names a folder that is gone.
        let items = ranked.into_iter().take(self.config.keep_best).map(|(step, value)| BestItem { step, value, folder: name_of(step) });
        let best = Best { metric: self.config.metric.clone(), mode: self.config.mode, items: items.collect() };
        let latest = Latest { step, folder: name_of(step), manifest_blake3: digest };
        files::write_atomic(&self.folder.join(LATEST), &json_bytes(LATEST, &latest)?)?;
        files::write_atomic(&self.folder.join(BEST), &json_bytes(BEST, &best)?)?;
        Ok(())
    }

    /// Gives the folder of a step a name that [`sweep_drafts`] removes.
    fn take_name(&self, step: u64, why: &str) -> Result<PathBuf, CheckpointError> {
        let trash = self.folder.join(format!("{}.tmp-{why}-{}", name_of(step), std::process::id()));
        files::rename_new(&self.path_of(step), &trash)?;
        files::sync_dir(&self.folder)?;
        Ok(trash)
    }

    /// Whether this very checkpoint is there, or a damaged one of its step; anything else under its name is an error.
    fn present(&self, manifest: &Manifest) -> Result<Present, CheckpointError> {
        let path = self.path_of(manifest.step);
        if !path.exists() && !path.is_symlink() {
            return Ok(Present::Nothing);
        }
        match self.verify(manifest.step) {
            Ok(present) if present == *manifest => Ok(Present::Same),
            Ok(_) | Err(CheckpointError::Absent { .. }) => Err(CheckpointError::Exists { path }),
            Err(error) if error.is_damage() => Ok(Present::Damaged),
            Err(error) => Err(error),
        }
    }
}

impl CheckpointStore for FolderStore {
    fn publish(&mut self, snapshot: Snapshot) -> Result<SavedCheckpoint, CheckpointError> {
        if self.lock.is_none() {
            return Err(CheckpointError::ReadOnly { path: self.folder.clone() });
        }
        let files = SnapshotFiles::new(snapshot)?;
        let (step, path) = (files.step, self.path_of(files.step));
        // Only where something has the name already is the digest needed before the files are written.
        let manifest = if path.exists() || path.is_symlink() {
            let manifest = files.manifest(Content::examine)?;
            match self.present(&manifest)? {
                Present::Same => manifest,
                present => self.write(&path, files, present)?,
            }
        } else {
            self.write(&path, files, Present::Nothing)?
        };
        let manifest_bytes = manifest.to_bytes()?;
        let digest = Digest::of_bytes(&manifest_bytes);
        self.point(step, digest)?;
        let bytes = total_bytes(&manifest, &manifest_bytes);
        Ok(SavedCheckpoint { step, path, bytes, digest, pruned: Vec::new() })
    }

    fn prune(&mut self, saved: u64) -> Result<Vec<u64>, CheckpointError> {
        let gone = surplus(&self.values()?, saved, &self.config);
        // Each folder loses its name first, so that a kill never leaves half of one under a checkpoint's name.
        for &step in &gone {
            files::remove_dir_all(&self.take_name(step, "removed")?)?;
        }
        Ok(gone)
    }

    fn load_model(&self, step: u64) -> Result<Loaded, CheckpointError> {
        self.loaded(step, |name| name != MOMENTS)
    }

    fn load_latest_model(&self) -> Result<Option<Loaded>, CheckpointError> {
        self.latest(None, |step| self.load_model(step))
    }

    fn load_latest(&self, plan: Option<Digest>) -> Result<Option<Loaded>, CheckpointError> {
        self.latest(plan, |step| self.load(step))
    }

    fn load(&self, step: u64) -> Result<Loaded, CheckpointError> {
        self.loaded(step, |_| true)
    }

    fn list(&self) -> Result<Vec<Entry>, CheckpointError> {
        let mut entries = Vec::new();
        for step in self.steps()? {
            if let Ok(manifest) = self.trusted_manifest(step) {
                let bytes = manifest.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
                entries.push(Entry { step, path: self.path_of(step), bytes, metrics: manifest.metrics, plan: manifest.plan });
            }
        }
        Ok(entries)
    }

    fn steps(&self) -> Result<Vec<u64>, CheckpointError> {
        let mut steps: Vec<u64> = files::list_dir(&self.folder)?.iter().filter_map(|path| step_of(path)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    fn verify(&self, step: u64) -> Result<Manifest, CheckpointError> {
        Ok(self.load(step)?.manifest)
    }

    fn best(&self) -> Result<Option<u64>, CheckpointError> {
        Ok(ranked(&self.values()?, self.config.mode).first().map(|(step, _)| *step))
    }
}

impl FolderStore {
    /// Writes all files to a draft and publishes it. The tensors are dropped once they are with the system; only then is anything flushed.
    fn write(&self, path: &Path, files: SnapshotFiles, present: Present) -> Result<Manifest, CheckpointError> {
        #[cfg(codex_teeth = "no_order")]
        if present == Present::Nothing {
            return crate::out_of_order::write(path, &files);
        }
        let step = files.step;
        let draft = FolderDraft::create(path)?;
        let mut written = Vec::new();
        let manifest = files.manifest_of(|name, content| {
            let mut file = draft.create_file(name)?;
            let examined = content.write_to(&mut file).map_err(|error| file.failed(error))?;
            written.push(file);
            Ok(examined)
        })?;
        drop(files);
        written.into_iter().try_for_each(DraftFile::sync)?;
        let manifest_bytes = manifest.to_bytes()?;
        draft.write(manifest::SEAL, manifest::seal(Digest::of_bytes(&manifest_bytes)).as_bytes())?;
        draft.write(manifest::FILE, &manifest_bytes)?;
        // The damaged folder makes way only for one that is complete already.
        let trash = if present == Present::Damaged { Some(self.take_name(step, "damaged")?) } else { None };
        draft.publish()?;
        trash.map_or(Ok(()), |trash| files::remove_dir_all(&trash))?;
        Ok(manifest)
    }

    /// The newest checkpoint that `load` can load.
    fn latest(
        &self,
        plan: Option<Digest>,
        load: impl Fn(u64) -> Result<Loaded, CheckpointError>,
    ) -> Result<Option<Loaded>, CheckpointError> {
        let mut skipped: Vec<Skipped> = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            match load(step) {
                Ok(loaded) => {
                    if let Some(expected) = plan
                        && expected != loaded.manifest.plan
                    {
                        return Err(CheckpointError::PlanMismatch { path: loaded.path, expected, found: loaded.manifest.plan });
                    }
                    return Ok(Some(Loaded { skipped, ..loaded }));
                }
                // A format of a newer program is no damage: going back to an older checkpoint would lose work.
                Err(error @ CheckpointError::Schema { .. }) => return Err(error),
                Err(error) => skipped.push(Skipped { step, path: self.path_of(step), reason: error.to_string() }),
            }
        }
        match skipped.into_iter().next() {
            Some(newest) => Err(CheckpointError::NoneWhole { path: self.folder.clone(), step: newest.step, reason: newest.reason }),
            None => Ok(None),
        }
    }

    fn loaded(&self, step: u64, wanted: impl Fn(&str) -> bool) -> Result<Loaded, CheckpointError> {
        let path = self.path_of(step);
        if !path.is_dir() {
            return Err(CheckpointError::Absent { path: self.folder.clone(), step, known: self.steps()? });
        }
        let manifest = self.trusted_manifest(step)?;
        let contents = manifest.read_files(&path, &wanted)?;
        loaded_from(manifest, contents, path, wanted(MOMENTS))
    }

    fn trusted_manifest(&self, step: u64) -> Result<Manifest, CheckpointError> {
        let path = self.path_of(step);
        if path.is_symlink() {
            return Err(CheckpointError::Malformed { path, reason: "a checkpoint must be a folder, not a link".to_owned() });
        }
        let (manifest, _) = Manifest::read(&path)?;
        if manifest.step != step {
            return Err(CheckpointError::Malformed { path: path.join(manifest::FILE), reason: format!("it is of step {}", manifest.step) });
        }
        Ok(manifest)
    }
}

/// `step-00000100`
fn name_of(step: u64) -> String {
    format!("step-{step:08}")
}

fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (name_of(step) == name).then_some(step)
}
