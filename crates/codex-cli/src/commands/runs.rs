//! `runs list` and `runs show`.

use std::path::Path;

use codex_checkpoint::{CheckpointStore, FolderStore};
use codex_core::Digest;
use codex_track::{RunDir, RunManifest, RunRecord, list_runs, summarize};
use serde_json::json;

use crate::arguments::Runs;
use crate::commands::train::summary_table;
use crate::failure::CliError;
use crate::stored_model::newest_run;
use crate::terminal::{Terminal, table};

pub(super) fn run(arguments: &Runs, terminal: &Terminal) -> Result<(), CliError> {
    match arguments {
        Runs::List { folder } => list(folder, terminal),
        Runs::Show { run } => {
            let path = match run {
                Some(path) => path.clone(),
                None => newest_run(Path::new("runs"))?,
            };
            show(&path, terminal)
        }
        Runs::Verify { run } => {
            let path = match run {
                Some(path) => path.clone(),
                None => newest_run(Path::new("runs"))?,
            };
            verify(&path, terminal)
        }
    }
}

fn list(folder: &Path, terminal: &Terminal) -> Result<(), CliError> {
    let runs = list_runs(folder)?;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for run in &runs {
        let name = run.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match &run.record {
            Ok(record) => {
                let loss = record.summary.get("validation/loss").map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"));
                rows.push(vec![name, record.status.as_str().to_owned(), record.step.to_string(), loss, record.plan_digest.short()]);
                values.push(json!({ "path": run.path, "record": record }));
            }
            Err(error) => {
                rows.push(vec![name, "unreadable".to_owned(), "-".to_owned(), "-".to_owned(), error.to_string()]);
                values.push(json!({ "path": run.path, "error": error.to_string() }));
            }
        }
    }
    let empty = rows.is_empty();
    let text = table(&["run", "status", "step", "validation loss", "plan"], rows);
    terminal.result(&json!({ "runs": values }), || if empty { format!("no run in {}", folder.display()) } else { text })
}

/// Every file against the run's manifest, every checkpoint against its own.
fn verify(path: &Path, terminal: &Terminal) -> Result<(), CliError> {
    if !path.join(RunRecord::FILE).exists() {
        return Err(CliError::NotAModel { path: path.to_owned() });
    }
    let run = RunDir::open(path)?;
    let Some(manifest) = RunManifest::read(&run)? else {
        let reason = format!("it has no `{}`: it is going on, or was killed", codex_track::run_manifest::FILE);
        return Err(CliError::Integrity { path: path.to_owned(), reason, hint: "let `codex-cli train` go on with it to its end" });
    };
    let deviations = manifest.deviations(&run)?;
    let shown = |digest: Option<Digest>| digest.map_or_else(|| "absent".to_owned(), |digest| digest.to_string());
    let mut wrong: Vec<String> =
        deviations.iter().map(|d| format!("`{}`: expected digest {}, found {}", d.path, shown(d.expected), shown(d.found))).collect();
    let mut n_checkpoints = 0;
    if run.checkpoints().is_dir() {
        let store = FolderStore::read_only(&run.checkpoints())?;
        for step in store.steps()? {
            n_checkpoints += 1;
            wrong.extend(store.verify(step).err().map(|error| error.to_string()));
        }
    }
    let n_files = manifest.files.len();
    let value = json!({ "path": path, "files": n_files, "checkpoints": n_checkpoints, "valid": wrong.is_empty(), "deviations": deviations, "errors": wrong });
    terminal.result(&value, || match wrong.len() {
        0 => format!("{}: {n_files} files and {n_checkpoints} checkpoints are what they were when the run ended", path.display()),
        _ => wrong.join("\n"),
    })?;
    if wrong.is_empty() {
        return Ok(());
    }
    let reason = format!("{} of its files are not what they were when the run ended", wrong.len());
    Err(CliError::Integrity {
        path: path.to_owned(),
        reason,
        hint: "restore them from a copy, or train again: the same plan gives the same bytes",
    })
}

fn show(path: &Path, terminal: &Terminal) -> Result<(), CliError> {
    if !path.join(RunRecord::FILE).exists() {
        return Err(CliError::NotAModel { path: path.to_owned() });
    }
    let run = RunDir::open(path)?;
    let record = RunRecord::read(&run)?;
    let metrics = summarize(&run)?;
    let rows = metrics.metrics.iter().map(|m| {
        let mut row = vec![m.split.clone(), m.metric.clone(), m.count.to_string()];
        row.extend([m.first, m.last, m.min, m.max, m.mean].map(|value| format!("{value:.5}")));
        row
    });
    let text = table(&["split", "metric", "n", "first", "last", "min", "max", "mean"], rows);
    terminal.result(&json!({ "path": path, "record": record, "metrics": metrics }), || {
        let resumed = match record.resumed_from.len() {
            0 => String::new(),
            n => format!(", resumed {n} times"),
        };
        let head = format!(
            "{}: {} at step {}{resumed}\nplan {}  config {}  seed {}\n",
            path.display(),
            record.status.as_str(),
            record.step,
            record.plan_digest.short(),
            record.config_digest.short(),
            record.seed
        );
        format!("{head}{}\n{text}\n{} lines of metrics could not be read", summary_table(&record), metrics.bad_lines)
    })
}
