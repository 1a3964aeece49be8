//! Tracks a made-up run with every writer: killed twice, with torn files, and resumed twice, while writers are switched off and on. It is read back by
//! `xtask/interop/tracking.py`: `cargo run -p codex-track --example tracked_run -- NEW_FOLDER`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_core::{Clock, Digest, FileError, SystemClock, files};
use codex_track::{DatasetChecksums, Level, MetricPoint, RunDir, RunRecord, RunStatus, TrackConfig, Tracker};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    make(&std::env::args_os().nth(1).map(PathBuf::from).ok_or("give a new folder")?)
}

/// Makes the run in a new folder.
pub(crate) fn make(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    files::create_dir_all(files::parent(path))?;
    files::create_new_dir(path)?;
    let run = RunDir::open(path)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let config =
        "seed = 7\n\n[model]\nd_model = 64\nbias = false\n\n[train]\nlearning_rate = 0.003\nschedule = \"cosine\"\nsets = [\"a\", \"b\"]\n";
    run.write_text("config.resolved.toml", config)?;
    let digest = Digest::of_bytes(config.as_bytes());
    let mut record = RunRecord::new(&run, "Tracked: \"ünusual\" name", &[], 7, digest, digest, clock.now());
    record.write(&run)?;
    DatasetChecksums::new(Vec::new()).write(&run)?;

    let all = TrackConfig { csv: true, tensorboard: true, mlflow: true, wandb: true, rotate_mib: 1, strict: true };
    // Weights & Biases is asked for late, TensorBoard is off for a while, and MLflow misses the middle too.
    let mut tracker = Tracker::open(&run, None, None, Arc::clone(&clock), &TrackConfig { wandb: false, ..all.clone() })?;
    steps(&mut tracker, 0, 1300);
    drop(tracker);
    tear(&run)?;
    let without = TrackConfig { tensorboard: false, mlflow: false, ..all.clone() };
    let mut tracker = Tracker::open(&run, None, Some(1250), Arc::clone(&clock), &without)?;
    steps(&mut tracker, 1251, 2600);
    drop(tracker);
    tear(&run)?;
    let mut tracker = Tracker::open(&run, None, Some(2500), Arc::clone(&clock), &all)?;
    steps(&mut tracker, 2501, 3000);
    record.summary.insert("validation/loss".to_owned(), value(3000, 0.0));
    tracker.finish(RunStatus::Finished, &record.summary);
    if let Some(error) = tracker.strict_failure() {
        return Err(error.into());
    }
    record.status = RunStatus::Finished;
    record.write(&run)?;
    Ok(())
}

fn value(step: u64, shift: f64) -> f64 {
    2.0 + 3.0 / (1.0 + step as f64 / 100.0) + shift + 0.01 * (step as f64).sin()
}

/// Steps as the loop takes them: training, then an evaluation every so often, then a checkpoint.
fn steps(tracker: &mut Tracker, from: u64, to: u64) {
    for step in from..=to {
        if step > 0 {
            let norm = match step {
                77 => f64::NAN,
                1500 => f64::INFINITY,
                _ => 1.0 / step as f64,
            };
            let values = [("loss", value(step, 0.1)), ("learning_rate", 0.003 / step as f64), ("grad_norm", norm)];
            tracker.metrics(&MetricPoint { step, split: "train", values: &values, tokens: step * 96, epoch: step as f64 / 1000.0 });
        }
        if step % 250 == 0 {
            let values = [("loss", value(step, 0.0)), ("bits per byte", value(step, 0.0) / 2.0)];
            tracker.metrics(&MetricPoint { step, split: "validation", values: &values, tokens: step * 96, epoch: 0.5 });
            let fields = json!({ "step": step, "prompt": "It was ", "text": format!("step {step}\nand *ünlike* the last") });
            tracker.event("sample", Level::Info, "sample", fields);
            tracker.flush();
        }
    }
}

/// What a kill in the middle of a write leaves: half a record at the end of every file.
fn tear(run: &RunDir) -> Result<(), FileError> {
    let mut folders = vec![run.path().to_owned()];
    let is_torn = |path: &Path| {
        let name = path.to_string_lossy();
        let kinds = ["metrics.ndjson", "metrics.csv", "events.ndjson", ".wandb"];
        kinds.iter().any(|kind| name.ends_with(kind)) || name.contains("tfevents") || name.contains("/metrics/")
    };
    let tails: BTreeMap<bool, &[u8]> = BTreeMap::from([(true, &b"1234"[..]), (false, &b"{\"step\":"[..])]);
    while let Some(folder) = folders.pop() {
        for path in files::list_dir(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else if is_torn(&path) {
                let tail = tails[&path.to_string_lossy().contains("/metrics/")];
                files::open_append(&path)?.write_all(tail).map_err(|source| FileError::new("write", &path, source))?;
            }
        }
    }
    Ok(())
}
