//! `checkpoint list` and `checkpoint verify`.

use std::path::{Path, PathBuf};

use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::files;
use serde_json::json;

use crate::arguments::Checkpoint;
use crate::failure::CliError;
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
