//! `runs note` and `runs rm`: what is said of a run, and the end of it.

use std::path::{Path, PathBuf};

use codex_core::{failure, files};
use codex_track::{Annotation, RemovalPlan, RunDir, RunEntry, annotate, list_runs, remove_runs, sweep_removed};
use serde_json::json;

use crate::arguments::NoteRun;
use crate::failure::CliError;
use crate::terminal::{Terminal, bytes, table};

pub(super) fn note(arguments: &NoteRun, terminal: &Terminal) -> Result<(), CliError> {
    let NoteRun { run, name, tag, remove_tag, note } = arguments;
    if name.is_none() && tag.is_empty() && remove_tag.is_empty() && note.is_none() {
        return Err(CliError::usage("nothing to note", "give `--name`, `--tag`, `--remove-tag` or `--note`"));
    }
    let change = Annotation { name: name.clone(), add_tags: tag.clone(), remove_tags: remove_tag.clone(), note: note.clone() };
    let record = annotate(&RunDir::open(run)?, &change)?;
    let value = json!({ "path": run, "name": record.name, "tags": record.tags, "note": record.note });
    terminal.result(&value, || {
        let note = record.note.as_ref().map_or_else(String::new, |note| format!("\n{note}"));
        format!("{}: {} [{}]{note}", run.display(), record.name, record.tags.join(" "))
    })
}

/// The folders that these runs are in.
fn folders_of(paths: &[PathBuf]) -> Vec<&Path> {
    let mut folders: Vec<&Path> = paths.iter().map(|path| files::parent(path)).collect();
    folders.sort_unstable();
    folders.dedup();
    folders
}

pub(super) fn remove(paths: &[PathBuf], is_dry: bool, terminal: &Terminal) -> Result<(), CliError> {
    // Who was made from whom is seen among the runs beside those that are to go.
    let known: Vec<RunEntry> = folders_of(paths).into_iter().filter_map(|folder| list_runs(folder).ok()).flatten().collect();
    let plan = RemovalPlan::of(paths, &known);
    // What cannot go is told before anything has gone.
    let is_tried = !is_dry && plan.refused.is_empty();
    let done = if is_tried { remove_runs(&plan, &known) } else { plan };
    if is_tried {
        // What a removal that was killed had moved aside.
        folders_of(paths).into_iter().try_for_each(|folder| sweep_removed(folder).map(drop))?;
    }
    let refused: Vec<String> = done.refused.iter().map(|error| failure::chain(error)).collect();
    let value = json!({ "removed": is_tried, "runs": done.removals, "bytes": done.bytes(), "refused": refused });
    terminal.result(&value, || {
        let rows = done.removals.iter().map(|it| vec![it.path.display().to_string(), bytes(it.bytes), it.files.to_string()]);
        let mut text = table(&["run", "size", "files"], rows);
        let verb = if is_tried { "gone" } else { "would go" };
        text.push_str(&format!("\n{verb}: {} runs, {}", done.removals.len(), bytes(done.bytes())));
        for reason in &refused {
            text.push_str(&format!("\nstays: {reason}"));
        }
        text
    })?;
    done.refused.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}
