//! The job that is watched, killed and starved: it saves checkpoints and says after each that it was saved.
//!
//! It is a test that does nothing unless the folder it runs in holds a job.

use std::io::Write;
use std::path::{Path, PathBuf};

use codex_checkpoint::{CheckpointError, FolderStore};
use codex_core::{Failure, files};
use serde::{Deserialize, Serialize};

use crate::sample::{Sample, config};

/// The name of the test below.
pub(super) const TEST: &str = "child::saves_when_there_is_a_job";

const JOB: &str = "checkpoint-job.json";
const SAVED: &str = "saved.log";
const FAILED: &str = "failed.log";

/// Steps to save one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// The store's folder; it is absolute, so that it is recognised in a trace.
    pub(super) store: PathBuf,
    pub(super) steps: Vec<u64>,
    pub(super) keep_last: usize,
    pub(super) keep_best: usize,
    /// Whether the loss rises from step to step, so that the best is not the newest.
    pub(super) rising: bool,
    /// Whether the job waits after each report for a line on its standard input.
    pub(super) paced: bool,
}

impl Job {
    /// What it saves at a step.
    pub(super) fn sample(&self, step: u64) -> Sample {
        if self.rising { Sample::rising(step) } else { Sample::of(step) }
    }
}

/// An error that the job met.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) step: u64,
    pub(super) code: u8,
    pub(super) message: String,
}

/// Writes the job where the child looks for it.
pub(super) fn prepare(folder: &Path, job: &Job) {
    files::write_atomic(&folder.join(JOB), &serde_json::to_vec(job).unwrap()).unwrap();
    for log in [SAVED, FAILED] {
        files::remove_file(&folder.join(log)).unwrap();
    }
    files::create_dir_all(files::parent(&job.store)).unwrap();
}

/// The steps that the job reported as saved.
pub(super) fn saved(folder: &Path) -> Vec<u64> {
    let text = files::read_to_string(&folder.join(SAVED)).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// The errors that the job met.
pub(super) fn failed(folder: &Path) -> Vec<Failed> {
    let text = files::read_to_string(&folder.join(FAILED)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `strace` counts the calls of each thread, and the harness makes a few from its main thread: after these, no count of the harness is as high
/// as one of the store's.
fn pad() {
    let path = Path::new("padding");
    for _ in 0..32 {
        files::open_append(path).unwrap().write_all(b".").unwrap();
        files::read(path).unwrap();
    }
}

#[test]
fn saves_when_there_is_a_job() {
    let Ok(bytes) = files::read(Path::new(JOB)) else { return };
    let job: Job = serde_json::from_slice(&bytes).unwrap();
    let mut saved = files::open_append(Path::new(SAVED)).unwrap();
    let mut failed = files::open_append(Path::new(FAILED)).unwrap();
    let mut fail = |step: u64, error: &CheckpointError| {
        let failed_at = Failed { step, code: error.exit_class().code(), message: error.to_string() };
        writeln!(failed, "{}", serde_json::to_string(&failed_at).unwrap()).unwrap();
    };
    pad();
    let config = config(job.keep_last, job.keep_best);
    let mut store = match FolderStore::open(&job.store, &config) {
        Ok(store) => store,
        Err(error) => return fail(0, &error),
    };
    for &step in &job.steps {
        match job.sample(step).save(&mut store) {
            Ok(checkpoint) => writeln!(saved, "{}", checkpoint.step).unwrap(),
            // As a run does: an error of the store ends it.
            Err(error) => return fail(step, &error),
        }
        if job.paced && std::io::stdin().read_line(&mut String::new()).unwrap() == 0 {
            return;
        }
    }
}
