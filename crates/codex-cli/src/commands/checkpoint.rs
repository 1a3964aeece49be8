//! `checkpoint list`, `verify`, `diff` and `prune`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use codex_checkpoint::{CheckpointConfig, CheckpointStore, FolderStore, Loaded, retention};
use codex_core::files;
use codex_track::{RunDir, RunManifest};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Checkpoint;
use crate::failure::CliError;
use crate::run_config;
use crate::stored_model::{checkpoints_of, newest_run};
use crate::terminal::{Terminal, bytes, table};

pub(super) fn run(arguments: &Checkpoint, terminal: &Terminal) -> Result<(), CliError> {
    match arguments {
        Checkpoint::List { run } => {
            let (_, store) = store_of(run.as_deref())?;
            let all = store.list()?;
            let best = store.best()?;
            let text = table(
                &["step", "size", "validation loss", "", "folder"],
                all.iter().map(|entry| {
                    let loss = entry.metrics.get("validation/loss").map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"));
                    let mark = if best == Some(entry.step) { "best" } else { "" };
                    vec![entry.step.to_string(), bytes(entry.bytes), loss, mark.to_owned(), entry.path.display().to_string()]
                }),
            );
            terminal.result(&json!({ "checkpoints": all, "best": best }), || text)
        }
        Checkpoint::Diff { first, second } => diff([first, second], terminal),
        Checkpoint::Prune { run, dry_run, keep_last, keep_best, keep_every } => {
            let path = run.clone().map_or_else(|| newest_run(Path::new("runs")), Ok)?;
            let mut config = run_config::of_run(&path)?.checkpoint;
            config.keep_last = keep_last.unwrap_or(config.keep_last).max(1);
            // Never fewer than the run's own: `best.json` names those.
            config.keep_best = keep_best.unwrap_or(0).max(config.keep_best);
            config.keep_every = keep_every.unwrap_or(config.keep_every);
            prune(&path, &config, *dry_run, terminal)
        }
        Checkpoint::Verify { run } => {
            let (only, store) = store_of(run.as_deref())?;
            let mut failure = None;
            let mut rows = Vec::new();
            let mut results = Vec::new();
            for step in store.steps()? {
                if only.is_some_and(|only| only != step) {
                    continue;
                }
                let verdict = store.verify(step);
                results.push(json!({ "step": step, "valid": verdict.is_ok(), "error": verdict.as_ref().err().map(ToString::to_string) }));
                rows.push(vec![step.to_string(), verdict.as_ref().map_or_else(ToString::to_string, |_| "whole".to_owned())]);
                if let Err(error) = verdict {
                    failure.get_or_insert(error);
                }
            }
            if rows.is_empty() {
                return Err(CliError::usage("there is no checkpoint to verify", "train for at least one step: `codex-cli train`"));
            }
            let text = table(&["step", "verdict"], rows);
            terminal.result(&json!({ "checkpoints": results }), || text)?;
            failure.map_or(Ok(()), |error| Err(error.into()))
        }
    }
}

/// Removes what the retention does not keep.
fn prune(path: &Path, config: &CheckpointConfig, is_dry: bool, terminal: &Terminal) -> Result<(), CliError> {
    let run = RunDir::open(path)?;
    let _lock = (!is_dry).then(|| run.lock()).transpose()?;
    let store = checkpoints_of(path)?;
    let all = store.list()?;
    let values: Vec<(u64, Option<f64>)> = all.iter().map(|entry| (entry.step, entry.metrics.get(&config.metric).copied())).collect();
    let newest = values.iter().map(|(step, _)| *step).max().unwrap_or(0);
    let gone = retention::surplus(&values, newest, config);
    if !is_dry && !gone.is_empty() {
        let mut store = FolderStore::open(&run.checkpoints(), config)?;
        store.prune(newest)?;
        // What the run's manifest lists is there no more.
        if RunManifest::read(&run)?.is_some() {
            RunManifest::write(&run)?;
        }
    }
    let freed: u64 = all.iter().filter(|entry| gone.contains(&entry.step)).map(|entry| entry.bytes).sum();
    let rows = all.iter().map(|entry| {
        let verdict = if gone.contains(&entry.step) { if is_dry { "would go" } else { "removed" } } else { "kept" };
        vec![entry.step.to_string(), bytes(entry.bytes), verdict.to_owned()]
    });
    let text = table(&["step", "size", ""], rows);
    let value = json!({ "run": path, "removed": gone, "bytes": freed, "dry_run": is_dry });
    terminal.result(&value, || format!("{text}\n{} of {} checkpoints, {}", gone.len(), all.len(), bytes(freed)))
}

/// How two tensors differ.
#[derive(Serialize)]
struct Difference {
    tensor: String,
    numbers: usize,
    /// Numbers that differ in any bit.
    different: usize,
    largest: f64,
    /// Root mean square of the differences over that of the first.
    relative: f64,
}

fn diff(paths: [&Path; 2], terminal: &Terminal) -> Result<(), CliError> {
    let load = |path: &Path| -> Result<Loaded, CliError> {
        match store_of(Some(path))? {
            (Some(step), store) => Ok(store.load(step)?),
            (None, store) => store.load_latest(None)?.ok_or_else(|| {
                CliError::usage(format!("`{}` has no checkpoint", path.display()), "train it for at least one step: `codex-cli train`")
            }),
        }
    };
    let [first, second] = [load(paths[0])?, load(paths[1])?];
    let (mut found, mut same, mut alone) = (Vec::new(), 0, Vec::new());
    for (kind, a, b) in [("model", &first.weights, &second.weights), ("optimizer", &first.moments, &second.moments)] {
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let tensor = format!("{kind}: {name}");
            let (Some(a), Some(b)) = (a.get(name), b.get(name)) else {
                alone.push(format!("{tensor}: only in the {}", if a.contains_key(name) { "first" } else { "second" }));
                continue;
            };
            if a.shape != b.shape {
                alone.push(format!("{tensor}: {:?} and {:?}", a.shape, b.shape));
                continue;
            }
            let pairs = || a.values.iter().zip(b.values.iter());
            let different = pairs().filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            if different == 0 {
                same += 1;
                continue;
            }
            let square = |value: f64| value * value;
            let largest = pairs().map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0.0, f64::max);
            let apart: f64 = pairs().map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
            let size: f64 = a.values.iter().map(|a| square(f64::from(*a))).sum();
            let relative = if size > 0.0 { libm::sqrt(apart / size) } else { f64::INFINITY };
            found.push(Difference { tensor, numbers: a.values.len(), different, largest, relative });
        }
    }
    let is_same_state = first.state == second.state;
    let value = json!({
        "first": first.path, "second": second.path, "same_tensors": same, "differences": found, "not_comparable": alone, "same_state": is_same_state,
    });
    terminal.result(&value, || {
        let rows = found.iter().map(|it| {
            vec![
                it.tensor.clone(),
                format!("{} of {}", it.different, it.numbers),
                format!("{:.3e}", it.largest),
                format!("{:.3e}", it.relative),
            ]
        });
        let mut text = table(&["tensor", "numbers that differ", "largest difference", "relative"], rows);
        for line in &alone {
            text.push_str(&format!("\n{line}"));
        }
        let state = if is_same_state { "the same" } else { "another" };
        format!("{text}\n{same} tensors are the same to the bit, {} differ; the trainer's state is {state}", found.len())
    })
}

/// The store of a run, or of one checkpoint of it.
fn store_of(path: Option<&Path>) -> Result<(Option<u64>, FolderStore), CliError> {
    let path: PathBuf = match path {
        Some(path) => path.to_owned(),
        None => newest_run(Path::new("runs"))?,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.strip_prefix("step-").and_then(|digits| digits.parse().ok()) {
        Some(step) => Ok((Some(step), FolderStore::read_only(files::parent(&path))?)),
        None => Ok((None, checkpoints_of(&path)?)),
    }
}
