//! `runs best`, `tail`, `summarize` and `report`: what runs measured, while they go and afterwards.

use std::path::{Path, PathBuf};
use std::time::Duration;

use codex_core::files;
use codex_track::{
    Direction, RunDir, RunManifest, RunStatus, Tail, TailLayout, TailView, ValueFrom, best_runs, planned_steps, read_annotated, report,
    summarize_metrics, summary_export,
};
use serde_json::json;

use crate::arguments::{BestOf, Summarize, SummaryFormat, TailRun};
use crate::commands::runs::{run_or_newest, runs_in};
use crate::failure::CliError;
use crate::terminal::Terminal;

pub(super) fn best(arguments: &BestOf, terminal: &Terminal) -> Result<(), CliError> {
    let BestOf { folder, metric, goal, ever, limit } = arguments;
    let direction = goal.as_ref().map_or_else(|| Ok(Direction::of(metric)), |goal| goal.parse())?;
    let from = if *ever { ValueFrom::EveryStep } else { ValueFrom::Summary };
    let found = best_runs(&runs_in(folder)?, metric, direction, from, *limit);
    if found.runs.is_empty() {
        let hint = found.without.first().map_or_else(
            || "train one: `codex-cli train`".to_owned(),
            |(path, reason)| format!("`{}`: {reason}; `runs summarize` names what was measured", path.display()),
        );
        return Err(CliError::usage(format!("no run in `{}` has a finite `{metric}`", folder.display()), &hint));
    }
    let value = json!({ "metric": metric, "goal": format!("{direction:?}").to_lowercase(), "runs": found.runs, "without": found.without });
    terminal.result(&value, || found.to_table(metric))
}

pub(super) fn tail(arguments: &TailRun, terminal: &Terminal) -> Result<(), CliError> {
    if !(0.1..=3600.0).contains(&arguments.every) {
        return Err(CliError::usage(format!("`--every {}` is no cadence", arguments.every), "give 0.1 to 3600 seconds"));
    }
    let path = run_or_newest(arguments.run.as_deref())?;
    let mut tail = Tail::open(&path)?;
    let mut view = TailView::default();
    let planned = planned_steps(tail.run());
    let (width, redraws) = (Terminal::width(), Terminal::is_watched() && !terminal.is_json());
    let mut drawn = 0;
    loop {
        // The status first: what is written between the two looks is then told, and nothing is left behind.
        let record = read_annotated(tail.run())?;
        let items = tail.poll()?;
        if terminal.is_json() {
            for item in &items {
                let line = serde_json::to_string(item).map_err(|error| CliError::Output { source: error.into() })?;
                Terminal::part(&format!("{line}\n"))?;
            }
        }
        view.add(items);
        if tail.is_behind() {
            continue;
        }
        let is_over = arguments.once || record.status != RunStatus::Running;
        if !terminal.is_json() && (redraws || is_over) {
            let layout = TailLayout { width, ..TailLayout::default() };
            let picture = view.render(&record.name, record.status.as_str(), planned, &layout);
            // Back to the first line of the picture before, and everything below it away.
            let back = if drawn > 0 { format!("\u{1b}[{drawn}A\u{1b}[J") } else { String::new() };
            drawn = picture.lines().count();
            Terminal::part(&format!("{back}{picture}"))?;
        }
        if is_over {
            if record.status == RunStatus::Killed {
                terminal.say("its process was killed; the command that began it goes on from the last save");
            }
            return Ok(());
        }
        if !redraws && !terminal.is_json() {
            let eta = planned.and_then(|planned| view.eta_seconds(planned));
            let eta = eta.map_or_else(String::new, |eta| format!("  ETA {}", crate::terminal::duration(eta)));
            Terminal::part(&format!("{} step {}{eta}\n", record.status.as_str(), view.step()))?;
        }
        std::thread::sleep(Duration::from_secs_f64(arguments.every));
    }
}

pub(super) fn summary(arguments: &Summarize, terminal: &Terminal) -> Result<(), CliError> {
    let Summarize { runs, format, out } = arguments;
    let paths: Vec<PathBuf> = if runs.is_empty() { vec![run_or_newest(None)?] } else { runs.clone() };
    let found = summarize_metrics(&paths)?;
    let bytes = match format {
        SummaryFormat::Table => summary_export::to_table(&found).into_bytes(),
        SummaryFormat::Csv => summary_export::to_csv(&found)?.into_bytes(),
        SummaryFormat::Json => summary_export::to_json(&found)?.into_bytes(),
        SummaryFormat::Parquet if out.is_none() => {
            return Err(CliError::usage("Parquet is no text", "give the file with `--out FILE.parquet`"));
        }
        SummaryFormat::Parquet => parquet(&found)?,
    };
    if found.bad_lines > 0 {
        terminal.warn(&format!("{} lines of metrics could not be read", found.bad_lines));
    }
    match out {
        Some(out) => {
            files::write_atomic(out, &bytes)?;
            let value = json!({ "file": out, "series": found.metrics.len(), "bad_lines": found.bad_lines });
            terminal.result(&value, || format!("{} series in {}", found.metrics.len(), out.display()))
        }
        None => terminal.text(&found, &String::from_utf8_lossy(&bytes)),
    }
}

#[cfg(feature = "parquet")]
fn parquet(found: &codex_track::MetricSummaries) -> Result<Vec<u8>, CliError> {
    Ok(summary_export::to_parquet(found)?)
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &codex_track::MetricSummaries) -> Result<Vec<u8>, CliError> {
    Err(CliError::usage("this build writes no Parquet", "build it with `--features parquet`, or take `--format csv`"))
}

pub(super) fn page(run: Option<&Path>, out: Option<&Path>, terminal: &Terminal) -> Result<(), CliError> {
    let run = RunDir::open(&run_or_newest(run)?)?;
    let path = match out {
        Some(out) => {
            files::write_atomic(out, report::render(&run)?.as_bytes())?;
            out.to_owned()
        }
        // The page of a run that has ended is one of the files that `verify` proves; another is made beside it.
        None if RunManifest::read(&run)?.is_some() => {
            let out = run.path().join("artifacts/report.html");
            files::create_dir_all(files::parent(&out))?;
            files::write_atomic(&out, report::render(&run)?.as_bytes())?;
            out
        }
        None => report::write(&run)?,
    };
    terminal.result(&json!({ "report": path }), || path.display().to_string())
}
