//! `runs`: which there are, what one measured, where they differ. Following and editing them is next door.

use std::path::Path;

use codex_core::files;
use codex_track::{RunDir, RunEntry, RunFilter, RunRecord, RunStatus, list_runs, read_annotated, summarize};
use serde_json::json;

use crate::arguments::{ListRuns, Runs};
use crate::commands::train::summary_table;
use crate::commands::{lineage, runs_compare, runs_edit, runs_look, runs_push, verify};
use crate::failure::CliError;
use crate::stored_model::newest_run;
use crate::terminal::{Terminal, table};

pub(super) fn run(arguments: &Runs, terminal: &Terminal) -> Result<(), CliError> {
    match arguments {
        Runs::List(arguments) => list(arguments, terminal),
        Runs::Show { run } => show(&run_or_newest(run.as_deref())?, terminal),
        Runs::Verify(arguments) => verify::run(arguments, terminal),
        Runs::Lineage(arguments) => lineage::run(arguments, terminal),
        Runs::Compare { runs, page } => runs_compare::run(runs, page.as_deref(), terminal),
        Runs::Best(arguments) => runs_look::best(arguments, terminal),
        Runs::Tail(arguments) => runs_look::tail(arguments, terminal),
        Runs::Summarize(arguments) => runs_look::summary(arguments, terminal),
        Runs::Report { run, out } => runs_look::page(run.as_deref(), out.as_deref(), terminal),
        Runs::Push { run, to, experiment } => runs_push::run(run.as_deref(), to, experiment, terminal),
        Runs::Note(arguments) => runs_edit::note(arguments, terminal),
        Runs::Rm { runs, dry_run } => runs_edit::remove(runs, *dry_run, terminal),
    }
}

/// The run that was named, or the newest one.
pub(super) fn run_or_newest(run: Option<&Path>) -> Result<std::path::PathBuf, CliError> {
    let path = run.map_or_else(|| newest_run(Path::new("runs")), |path| Ok(path.to_owned()))?;
    if path.join(RunRecord::FILE).exists() { Ok(path) } else { Err(CliError::NotAModel { path }) }
}

/// The runs below a folder: of a folder of runs, or of all trials of a sweep.
pub(super) fn runs_in(folder: &Path) -> Result<Vec<RunEntry>, CliError> {
    let mut runs = list_runs(folder)?;
    if folder.join("sweep.json").exists() {
        for trial in files::list_dir(&folder.join("trials"))? {
            runs.extend(list_runs(&trial)?);
        }
    }
    Ok(runs)
}

fn status(text: &str) -> Result<RunStatus, CliError> {
    RunStatus::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
        CliError::usage(format!("no run has the status `{text}`"), &format!("one of {}", names.join(", ")))
    })
}

fn list(arguments: &ListRuns, terminal: &Terminal) -> Result<(), CliError> {
    let ListRuns { folder, status: statuses, tag, name, bounds, sort, descending, limit } = arguments;
    let filter = RunFilter {
        statuses: statuses.iter().map(|text| status(text)).collect::<Result<_, _>>()?,
        tags: tag.clone(),
        name: name.clone(),
        metrics: bounds.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        sort: sort.as_ref().map(|text| text.parse()).transpose()?,
        is_descending: *descending,
        limit: *limit,
    };
    let runs = filter.apply(runs_in(folder)?);
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for run in &runs {
        let name = run.folder_name();
        match &run.record {
            Ok(record) => {
                let loss = record.summary.get("validation/loss").map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"));
                let mut row = vec![name, record.status.as_str().to_owned(), record.step.to_string(), loss, record.plan_digest.short()];
                row.push(record.tags.join(" "));
                rows.push(row);
                values.push(json!({ "path": run.path, "record": record }));
            }
            Err(error) => {
                let mut row = vec![name, "unreadable".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()];
                row.push(error.to_string());
                rows.push(row);
                values.push(json!({ "path": run.path, "error": error.to_string() }));
            }
        }
        if let Some(warning) = &run.warning {
            terminal.warn(&codex_core::failure::chain(warning));
        }
    }
    let empty = rows.is_empty();
    let text = table(&["run", "status", "step", "validation loss", "plan", "tags"], rows);
    terminal.result(&json!({ "runs": values }), || if empty { format!("no such run in {}", folder.display()) } else { text })
}

fn show(path: &Path, terminal: &Terminal) -> Result<(), CliError> {
    let run = RunDir::open(path)?;
    let record = read_annotated(&run)?;
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
        let tags = if record.tags.is_empty() { String::new() } else { format!("tags {}\n", record.tags.join(" ")) };
        let note = record.note.as_ref().map_or_else(String::new, |note| format!("{note}\n"));
        format!("{head}{tags}{note}{}\n{text}\n{} lines of metrics could not be read", summary_table(&record), metrics.bad_lines)
    })
}
