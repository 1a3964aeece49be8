//! `runs compare`: where runs differ, and from which step on.

use std::path::{Path, PathBuf};

use codex_core::{Digest, files};
use codex_track::{RunDir, RunRecord, compare, compare_many, report};
use serde_json::json;

use crate::failure::CliError;
use crate::run_config;
use crate::terminal::{Terminal, table};

pub(super) fn run(runs: &[PathBuf], page: Option<&Path>, terminal: &Terminal) -> Result<(), CliError> {
    match runs {
        [first, second] => two([first, second], page, terminal),
        _ => many(runs, page, terminal),
    }
}

/// Any number of runs, the values of each beside each other.
fn many(paths: &[PathBuf], page: Option<&Path>, terminal: &Terminal) -> Result<(), CliError> {
    let mut runs = Vec::new();
    let mut configs = Vec::new();
    for path in paths {
        if !path.join(RunRecord::FILE).exists() {
            return Err(CliError::NotAModel { path: path.clone() });
        }
        runs.push(RunDir::open(path)?);
        configs.push(serde_json::to_value(run_config::of_run(path)?).unwrap_or_default());
    }
    let (runs, configs): (Vec<&RunDir>, Vec<&serde_json::Value>) = (runs.iter().collect(), configs.iter().collect());
    let found = compare_many(&runs, &configs)?;
    if let Some(page) = page {
        files::write_atomic(page, report::render_many(&runs, &found)?.as_bytes())?;
    }
    terminal.result(&json!({ "runs": paths, "differences": found, "page": page }), || {
        let curves = page.map_or_else(String::new, |page| format!("\ncurves of all: {}", page.display()));
        format!("{}{curves}", found.to_text())
    })
}

fn two(paths: [&Path; 2], page: Option<&Path>, terminal: &Terminal) -> Result<(), CliError> {
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
