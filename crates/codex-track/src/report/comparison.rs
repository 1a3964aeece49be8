//! Two runs on one page: their curves in one picture, and what sets them apart.

use super::axis::Spread;
use super::chart::{Chart, Curve, Stroke};
use super::html::{Html, all, el, table, text};
use crate::comparison::Comparison;
use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::summary::series;

/// Metrics that are drawn: split, metric, title, unit, spread.
const DRAWN: [(&str, &str, &str, &str, Spread); 4] = [
    ("train", "loss", "Training loss per token", "nats per token", Spread::Linear),
    ("validation", "loss", "Validation loss per token", "nats per token", Spread::Linear),
    ("train", "grad_norm", "Gradient norm before clipping", "", Spread::FromZero),
    ("train", "learning_rate", "Learning rate", "", Spread::FromZero),
];

/// The page of two runs, with what [`compare`](crate::comparison::compare) found.
///
/// # Errors
/// Metrics that cannot be read.
pub fn render_comparison(runs: [&RunDir; 2], found: &Comparison) -> Result<String, TrackError> {
    let names = runs.map(RunDir::id);
    let mut figures = Vec::new();
    for (split, metric, title, unit, spread) in DRAWN {
        let mut curves = Vec::new();
        for ((run, name), color) in runs.iter().zip(&names).zip(["validation", "train"]) {
            let points: Vec<(f64, f64)> = series(run, split, metric)?.into_iter().map(|(step, value)| (step as f64, value)).collect();
            let stroke = if split == "validation" { Stroke::Dots } else { Stroke::Line };
            if !points.is_empty() {
                curves.push(Curve { label: name.clone(), color, stroke, points });
            }
        }
        let chart = Chart::of_curves(title, unit, spread, curves, figures.is_empty());
        figures.extend(chart.figure(figures.len() + 1));
    }
    let cell = |value: &Option<serde_json::Value>| text(&value.as_ref().map_or_else(|| "absent".to_owned(), ToString::to_string));
    let config =
        table("", &["key", &names[0], &names[1]], found.config.iter().map(|it| vec![text(&it.key), cell(&it.first), cell(&it.second)]));
    let digest = |digest: Option<codex_core::Digest>| text(&digest.map_or_else(|| "absent".to_owned(), |digest| digest.short()));
    let data = table("", &["file", &names[0], &names[1]], found.data.iter().map(|it| vec![text(&it.path), digest(it.was), digest(it.is)]));
    let metrics = found.metrics.iter().map(|it| {
        let last = |last: Option<(u64, f64)>| text(&last.map_or_else(String::new, |(step, value)| format!("{value:.5} at {step}")));
        let parts = it.parts_at.map_or_else(|| "nowhere".to_owned(), |step| format!("step {step}"));
        vec![
            text(&format!("{} {}", it.split, it.metric)),
            text(&it.common_steps.to_string()),
            text(&parts),
            last(it.last[0]),
            last(it.last[1]),
        ]
    });
    let metrics = table("", &["metric", "steps of both", "parts at", &names[0], &names[1]], metrics);
    let section = |title: &str, is_empty: bool, content: Html| {
        let content = if is_empty { el("p", "", text("No difference.")) } else { content };
        el("section", "", all([el("h2", "", text(title)), content]))
    };
    let parts =
        found.parts_at().map_or_else(|| "No value that both measured differs.".to_owned(), |step| format!("They part at step {step}."));
    let body = all([
        el("header", "", all([el("h1", "", text(&format!("{} and {}", names[0], names[1]))), el("p", "", text(&parts))])),
        el("section", "", el("div", "figures", all(figures))),
        section("Measured", false, metrics),
        section("Configuration", found.config.is_empty(), config),
        section("Data", found.data.is_empty(), data),
    ]);
    Ok(super::page(&format!("{} and {} · codex", names[0], names[1]), body))
}
