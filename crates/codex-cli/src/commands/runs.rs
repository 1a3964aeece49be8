//! `runs list`, `runs show` and `runs compare`.

use std::path::Path;

use codex_core::{Digest, files};
use codex_track::{RunDir, RunRecord, compare, list_runs, report, summarize};
use serde_json::json;

use crate::arguments::Runs;
use crate::commands::train::summary_table;
use crate::commands::{lineage, verify};
use crate::failure::CliError;
use crate::run_config;
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
        Runs::Verify(arguments) => verify::run(arguments, terminal),
        Runs::Lineage(arguments) => lineage::run(arguments, terminal),
        Runs::Compare { first, second, page } => compare_runs([first, second], page.as_deref(), terminal),
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

fn compare_runs(paths: [&Path; 2], page: Option<&Path>, terminal: &Terminal) -> Result<(), CliError> {
    if let Some(path) = paths.into_iter().find(|path| !path.join(RunRecord::FILE).exists()) {
        return Err(CliError::NotAModel { path: path.to_owned() });
    }
    let (first, second) = (RunDir::open(paths[0])?, RunDir::open(paths[1])?);
    let config = |path: &Path| run_config::of_run(path).map(|config| serde_json::to_value(config).unwrap_or_default());
    let (a, b) = (config(paths[0])?, config(paths[1])?);
    let found = compare([&first, &second], [&a, &b])?;
    if let Some(page) = page {
        files::write_atomic(page, report::render_comparison([&first, &second], &found)?.as_bytes())?;
    }
    terminal.result(
        &json!({ "first": paths[0], "second": paths[1], "parts_at": found.parts_at(), "differences": found, "page": page }),
        || {
            let shown = |value: &Option<serde_json::Value>| value.as_ref().map_or_else(|| "absent".to_owned(), ToString::to_string);
            let config = found.config.iter().map(|it| vec![it.key.clone(), shown(&it.first), shown(&it.second)]);
            let digest = |digest: Option<Digest>| digest.map_or_else(|| "absent".to_owned(), |digest| digest.short());
            let data = found.data.iter().map(|it| vec![it.path.clone(), digest(it.was), digest(it.is)]);
            let last = |last: Option<(u64, f64)>| last.map_or_else(|| "-".to_owned(), |(step, value)| format!("{value:.5} at {step}"));
            let metrics = found.metrics.iter().map(|it| {
                let parts = it.parts_at.map_or_else(|| "nowhere".to_owned(), |step| step.to_string());
                vec![format!("{} {}", it.split, it.metric), it.common_steps.to_string(), parts, last(it.last[0]), last(it.last[1])]
            });
            let names = [first.id(), second.id()];
            let part = |title: &str, is_empty: bool, text: String| {
                if is_empty { format!("{title}: no difference\n") } else { format!("{title}\n{text}\n") }
            };
            let mut text = part("configuration", found.config.is_empty(), table(&["key", &names[0], &names[1]], config));
            text.push_str(&part("data", found.data.is_empty(), table(&["file", &names[0], &names[1]], data)));
            text.push_str(&part(
                "measured",
                found.metrics.is_empty(),
                table(&["metric", "steps of both", "parts at", &names[0], &names[1]], metrics),
            ));
            text.push_str(
                &found
                    .parts_at()
                    .map_or_else(|| "no value that both measured differs".to_owned(), |step| format!("they part at step {step}")),
            );
            if let Some(page) = page {
                text.push_str(&format!("\ncurves of both: {}", page.display()));
            }
            text
        },
    )
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
