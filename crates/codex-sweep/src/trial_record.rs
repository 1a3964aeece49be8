//! `trial.json`: what a trial is, how far it has come, and what came out of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codex_core::{Digest, files};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::SweepError;
use crate::sweep::{Parameters, Trial};

/// The version of `trial.json` and `sweep.json`.
pub(crate) const SCHEMA: u32 = 1;

/// The largest JSON file of a sweep that is read.
const MAX_JSON_BYTES: u64 = 16 << 20;

/// How far a trial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TrialStatus {
    /// It has begun. Whether it still runs, its lock says: without a holder it was interrupted and can go on.
    Running,
    /// It ended as planned.
    Completed,
    /// It was given up by the stopping rule: its value is not that of a whole run.
    Stopped,
    /// It ended with an error, and is tried again when it is claimed again.
    Failed,
}

impl TrialStatus {
    /// Whether there is nothing left to do.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Completed | Self::Stopped)
    }

    /// The word for a person.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// What came out of a trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outcome {
    /// The metric's best value; absent when there is none that is a number.
    pub value: Option<f64>,
    /// The step that has it.
    pub best_step: Option<u64>,
    /// The last step that was taken.
    pub last_step: Option<u64>,
    /// Seconds of training, all attempts together.
    pub seconds: Option<f64>,
    /// The exit code of the process.
    pub exit_code: Option<i32>,
    /// What it died of.
    pub error: Option<String>,
    /// The folder of the run, relative to that of the trial.
    pub run: Option<String>,
}

/// The record of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialRecord {
    pub(crate) schema: u32,
    /// Its number, from 0.
    pub index: usize,
    /// Its folder's name.
    pub name: String,
    /// What it tries.
    pub parameters: Parameters,
    /// What `codex-cli train` is given.
    pub overrides: Vec<String>,
    /// The trial's digest.
    pub digest: Digest,
    /// The configuration files that it was made from, with the digests of their bytes.
    #[serde(default)]
    pub files: BTreeMap<PathBuf, Digest>,
    /// How far it has come.
    pub status: TrialStatus,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was begun first, in UTC.
    pub started: String,
    /// When this was written, in UTC.
    pub updated: String,
    /// What came out of it so far.
    pub outcome: Outcome,
}

impl TrialRecord {
    /// The record of a trial that begins.
    pub(crate) fn new(trial: &Trial, now: String) -> Self {
        Self {
            schema: SCHEMA,
            index: trial.index,
            name: trial.name.clone(),
            parameters: trial.parameters.clone(),
            overrides: trial.overrides.clone(),
            digest: trial.digest,
            files: BTreeMap::new(),
            status: TrialStatus::Running,
            attempts: 0,
            started: now.clone(),
            updated: now,
            outcome: Outcome::default(),
        }
    }

    /// The record in a file; `None` when there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, SweepError> {
        let record: Option<Self> = read_json(path)?;
        match record {
            Some(record) if record.schema != SCHEMA => {
                Err(SweepError::Schema { path: path.to_owned(), expected: SCHEMA, found: record.schema })
            }
            record => Ok(record),
        }
    }
}

/// The value of a JSON file; `None` when there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SweepError> {
    let bytes = match files::read_bounded(path, MAX_JSON_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| SweepError::Json { path: path.to_owned(), line: source.line(), column: source.column(), source })
}

/// Writes a JSON file that is whole or absent.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), SweepError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|source| SweepError::Encode { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    Ok(files::write_atomic(path, &bytes)?)
}
