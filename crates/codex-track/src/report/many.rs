//! Any number of runs on one page: their curves over each other, and what sets them apart.

use codex_core::Digest;

use super::axis::Spread;
use super::chart::{Chart, Curve, Stroke};
use super::curve_store::CurveStore;
use super::html::{Html, all, el, table, text};
use super::{palette, wording};
use crate::comparison_of_many::{ManyRuns, shown};
use crate::error::TrackError;
use crate::run_dir::RunDir;
use crate::summary::{MetricSummary, for_each_metric};

/// Metrics that are drawn: split, metric, title, unit, spread.
const DRAWN: [(&str, &str, &str, &str, Spread); 4] = [
    ("validation", "loss", "Validation loss per token", "nats per token", Spread::Linear),
    ("train", "loss", "Training loss per token", "nats per token", Spread::Linear),
    ("train", "grad_norm", "Gradient norm before clipping", "", Spread::FromZero),
    ("train", "learning_rate", "Learning rate", "", Spread::FromZero),
];
/// The longest cell, in characters.
const MAX_CELL_CHARS: usize = 200;
/// The most rows of a table.
const MAX_ROWS: usize = 500;

/// The page of the runs that [`compare_many`](crate::comparison_of_many::compare_many) compared, in the same order.
///
/// # Errors
/// Metrics that cannot be read.
pub fn render_many(runs: &[&RunDir], found: &ManyRuns) -> Result<String, TrackError> {
    let mut curves: [Vec<Curve>; DRAWN.len()] = Default::default();
    for (idx, run) in runs.iter().enumerate() {
        let mut stores: [CurveStore; DRAWN.len()] = Default::default();
        for_each_metric(run, |line| {
            for ((split, metric, ..), store) in DRAWN.iter().zip(&mut stores) {
                if line.split == *split && line.metric == *metric {
                    store.push(line.step as f64, line.value.0);
                }
            }
        })?;
        for (store, curves) in stores.into_iter().zip(&mut curves) {
            let points = store.points();
            if !points.is_empty() {
                // The legend has a key for each run, and the curve the same color in all figures.
                curves.push(Curve {
                    label: format!("[{}] {}", idx + 1, wording::clipped(&run.id(), 40)),
                    color: palette::class(idx),
                    stroke: Stroke::Line,
                    points,
                });
            }
        }
    }
    let mut figures = Vec::new();
    for ((_, _, title, unit, spread), curves) in DRAWN.into_iter().zip(curves) {
        let chart = Chart::of_curves(title, unit, spread, curves, figures.len() < 2);
        figures.extend(chart.figure(figures.len() + 1));
    }
    let numbers: Vec<String> = (1..=found.runs.len()).map(|n| format!("[{n}]")).collect();
    let columns = |first: &'static str| std::iter::once(first).chain(numbers.iter().map(String::as_str)).collect::<Vec<_>>();
    let cell = |value: &str| text(&wording::clipped(value, MAX_CELL_CHARS));
    let row = |name: &str, cells: Vec<Html>| std::iter::once(el("code", "", cell(name))).chain(cells).collect::<Vec<_>>();
    let config = found.config.iter().map(|it| row(&it.key, it.values.iter().map(|value| cell(&shown(value.as_ref()))).collect()));
    let digest = |digest: &Option<Digest>| el("code", "", text(&digest.map_or_else(|| "-".to_owned(), |digest| digest.short())));
    let data = found.data.iter().map(|it| row(&it.path, it.digests.iter().map(digest).collect()));
    let metrics = found.metrics.iter().map(|it| {
        let measured = |value: &Option<MetricSummary>| {
            let Some(it) = value else { return text("-") };
            let least = it.min_step.map(|step| format!("least {} at {step}", wording::value(it.min)));
            all([el("span", "number", text(&wording::value(it.last))), el("small", "", text(&least.unwrap_or_default()))])
        };
        let name =
            [Some(it.split.as_str()), Some(it.metric.as_str()), it.dataset.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        row(&name, it.values.iter().map(measured).collect())
    });
    let section = |title: &str, first: &'static str, rows: Vec<Vec<Html>>| {
        let n = rows.len();
        let rest = (n > MAX_ROWS).then(|| el("p", "lede", text(&format!("{} more rows are left out.", n - MAX_ROWS))));
        let content =
            if n == 0 { el("p", "", text("No difference.")) } else { table("", &columns(first), rows.into_iter().take(MAX_ROWS)) };
        el("section", "", all([el("h2", "", text(title)), rest.unwrap_or_default(), content]))
    };
    let list = found.runs.iter().zip(&numbers).enumerate().map(|(idx, (run, number))| {
        el("li", "", all([el("span", palette::class(idx), Html::default()), text(&format!("{number} {}", wording::clipped(run, 80)))]))
    });
    let title = format!("{} runs side by side", found.runs.len());
    let head = all([el("p", "kicker", text("codex runs")), el("h1", "", text(&title)), el("ul", "legend", all(list))]);
    let body = all([
        el("header", "", head),
        el("section", "", el("div", "figures", all(figures))),
        section("Measured: the last value", "metric", metrics.collect()),
        section("Configuration", "key", config.collect()),
        section("Data", "file", data.collect()),
    ]);
    Ok(super::page(&format!("{title} · codex"), body))
}
