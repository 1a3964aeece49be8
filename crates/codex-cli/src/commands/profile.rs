//! `train --profile`: where the time of the steps went.

use codex_ops::profile::{Phase, Profile, Span};
use codex_track::RunDir;
use codex_track::telemetry::{TimeRow, TimeTable};
use serde_json::json;

use crate::failure::CliError;
use crate::memory;
use crate::terminal::{Terminal, table};

/// The file in the run folder.
const FILE: &str = "profile.json";

/// Writes the spans to the run folder and shows them. Evaluations count in: they run the same operations.
pub(super) fn write(run: &RunDir, profile: &Profile, times: &TimeTable, terminal: &Terminal) -> Result<(), CliError> {
    let Profile { spans, phases } = profile;
    let all: f64 = spans.iter().map(|span| span.seconds).sum();
    let value: Vec<_> = spans
        .iter()
        .map(|span| {
            let Span { name, count, seconds, floating_operations } = span;
            json!({ "name": name, "count": count, "seconds": seconds, "floating_operations": floating_operations })
        })
        .collect();
    let row_of = |phase: &Phase| times.rows.iter().find(|row| row.name == phase.name);
    let quantile = |phase: &Phase, of: fn(&TimeRow) -> f64| row_of(phase).map(of);
    let of_phase = |phase: &Phase| {
        let (p50, p95) = (quantile(phase, |row| row.p50_seconds), quantile(phase, |row| row.p95_seconds));
        json!({ "name": phase.name, "count": phase.count, "seconds": phase.seconds, "p50_seconds": p50, "p95_seconds": p95 })
    };
    let of_phases: Vec<_> = phases.iter().map(of_phase).collect();
    run.write_json(FILE, &json!({ "schema": 2, "seconds": all, "phases": of_phases, "spans": value, "pool": memory::pool_report() }))?;
    let row = |span: &Span| {
        let share = 100.0 * span.seconds / all.max(1e-9);
        let each = 1e3 * span.seconds / span.count.max(1) as f64;
        let rate = span.floating_operations as f64 / span.seconds.max(1e-9) / 1e9;
        let rate = if span.floating_operations > 0 { format!("{rate:.0}") } else { String::new() };
        vec![
            span.name.to_owned(),
            format!("{share:.1} %"),
            format!("{:.3}", span.seconds),
            span.count.to_string(),
            format!("{each:.3}"),
            rate,
        ]
    };
    let rows: Vec<Vec<String>> = spans.iter().map(row).collect();
    terminal.say(&format!("memory pool: {}", memory::pool_summary()));
    let in_phases: f64 = phases.iter().map(|phase| phase.seconds).sum();
    let row = |phase: &Phase| {
        let share = 100.0 * phase.seconds / in_phases.max(1e-9);
        let each = 1e3 * phase.seconds / phase.count.max(1) as f64;
        let ms = |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{:.3}", 1e3 * seconds));
        vec![
            phase.name.to_owned(),
            format!("{share:.1} %"),
            format!("{:.3}", phase.seconds),
            phase.count.to_string(),
            format!("{each:.3}"),
            ms(quantile(phase, |row| row.p50_seconds)),
            ms(quantile(phase, |row| row.p95_seconds)),
        ]
    };
    let by_phase = table(&["phase", "share", "seconds", "times", "ms each", "p50", "p95"], phases.iter().map(row));
    terminal.say(&format!(
        "every phase and operation is in {}: open it at ui.perfetto.dev or chrome://tracing",
        run.path().join("trace.json").display()
    ));
    terminal.say(&format!("where the time went, by phase\n{by_phase}"));
    terminal.say(&format!("by operation\n{}", table(&["operation", "share", "seconds", "times", "ms each", "GFLOP/s"], rows)));
    Ok(())
}
