//! Which curves a report draws, and how each is to be read.

use super::axis::Spread;
use super::chart::{Chart, Curve, Stroke, smoothed};
use super::data::ReportData;
use super::header::median;
use super::html::{Html, all, el};
use super::streams::Drawn;
use super::{palette, wording};

/// Fewer values than this are drawn as they are.
const SMOOTHED_FROM: usize = 80;
/// The most validation sets that are drawn; the table has all.
const MOST_SETS: usize = 12;

/// The figures; `None` when nothing was measured.
pub(super) fn figures(data: &ReportData) -> Option<Html> {
    let charts = [loss(data), learning_rate(data), gradient_norm(data), throughput(data), memory(data)];
    let mut drawn = Vec::new();
    for mut chart in charts {
        chart.resumed_at = data.record.resumed_from.iter().map(|resume| resume.step as f64).filter(|&step| step > 0.0).collect();
        let gaps = left_out(&chart);
        chart.caption.push_str(gaps);
        drawn.extend(chart.figure(drawn.len() + 1));
    }
    (!drawn.is_empty()).then(|| el("div", "figures", all(drawn)))
}

fn left_out(chart: &Chart) -> &'static str {
    let is_whole = chart.curves.iter().flat_map(|curve| &curve.points).all(|point| point.1.is_finite());
    if is_whole { "" } else { " Values that are not finite leave gaps." }
}

/// A measured curve; a long one as its running mean over a pale line of the values themselves, and how many values the mean spans.
fn measured(drawn: Option<&Drawn>, label: &str, color: &'static str) -> (Vec<Curve>, Option<usize>) {
    let curve = |label: &str, stroke, points: Vec<(f64, f64)>| Curve { label: label.to_owned(), color, stroke, points };
    let Some(drawn) = drawn else { return (Vec::new(), None) };
    if drawn.means.len() < SMOOTHED_FROM {
        return (vec![curve(label, Stroke::Line, drawn.points.clone())], None);
    }
    let half = (drawn.means.len() / 80).max(2);
    let mean = smoothed(&drawn.means, half);
    let curves = vec![curve("", Stroke::Faint, drawn.points.clone()), curve(&format!("{label}, running mean"), Stroke::Line, mean)];
    (curves, Some((2 * half + 1) * drawn.n_each))
}

/// How a smoothed curve is to be read; a very long one is drawn by its least and greatest values.
fn mean_of(n: Option<usize>, what: &str, drawn: Option<&Drawn>) -> String {
    let is_thinned = drawn.is_some_and(|drawn| drawn.n_each > 1);
    let pale = if is_thinned { "the pale one reaches to the least and the greatest of them" } else { "the pale one is each of them" };
    n.map(|n| format!("The line is the mean of {} {what} around each; {pale}.", wording::count(n as u64))).unwrap_or_default()
}

fn loss(data: &ReportData) -> Chart {
    let (mut curves, n) = measured(data.curve("train", "loss"), "training", "train");
    let sets = data.validation_sets();
    let drawn = sets.iter().take(MOST_SETS).enumerate();
    let of = |split: &str, label: String, color| Curve { label, color, stroke: Stroke::Dots, points: data.series(split, "loss").to_vec() };
    // The first two colors are close to those of training and validation.
    curves.extend(
        drawn.map(|(idx, set)| {
            of(&format!("validation/{set}"), format!("validation: {}", wording::clipped(set, 40)), palette::class(idx + 2))
        }),
    );
    curves.push(of("validation", "validation".to_owned(), "validation"));
    curves.retain(|curve| !curve.points.is_empty());
    let hidden = sets.len().saturating_sub(MOST_SETS);
    let rest = if hidden > 0 { format!(" {hidden} more validation sets are in the table below.") } else { String::new() };
    let baseline = data.record.summary.get("baseline/unigram/loss").copied().filter(|value| value.is_finite());
    Chart {
        title: "Loss per token".to_owned(),
        unit: "nats per token".to_owned(),
        caption: mean_of(n, "training steps", data.curve("train", "loss")) + &rest,
        level: baseline.filter(|_| !curves.is_empty()).map(|value| ("unigram model".to_owned(), value)),
        curves,
        resumed_at: Vec::new(),
        spread: Spread::Linear,
        is_wide: true,
    }
}

fn small(title: &str, unit: &str, caption: &str, curves: Vec<Curve>, spread: Spread) -> Chart {
    let curves = curves.into_iter().filter(|curve| !curve.points.is_empty()).collect();
    Chart {
        title: title.to_owned(),
        unit: unit.to_owned(),
        caption: caption.to_owned(),
        curves,
        level: None,
        resumed_at: Vec::new(),
        spread,
        is_wide: false,
    }
}

fn learning_rate(data: &ReportData) -> Chart {
    let points = data.series("train", "learning_rate").to_vec();
    let curve = Curve { label: "learning rate".to_owned(), color: "rate", stroke: Stroke::Line, points };
    small("Learning rate", "", "", vec![curve], Spread::FromZero)
}

fn gradient_norm(data: &ReportData) -> Chart {
    let drawn = data.curve("train", "grad_norm");
    let points = data.series("train", "grad_norm");
    let most = points.iter().map(|point| point.1).filter(|value| value.is_finite()).fold(0.0_f64, f64::max);
    let is_spiky = median(points).is_some_and(|middle| middle > 0.0 && most > 20.0 * middle);
    let (curves, n) = measured(drawn, "gradient norm", "norm");
    let scale = if is_spiky { "The scale is logarithmic. " } else { "" };
    let caption = format!("{scale}{}", mean_of(n, "steps", drawn));
    small("Global norm of the gradient", "before clipping", &caption, curves, if is_spiky { Spread::Log } else { Spread::FromZero })
}

fn throughput(data: &ReportData) -> Chart {
    let points = data.series("train", "tokens_per_second");
    let drawn = data.curve("train", "tokens_per_second");
    let (curves, n) = measured(drawn, "speed", "speed");
    let mut chart = small("Target tokens per second", "tokens/s", &mean_of(n, "steps", drawn), curves, Spread::FromZero);
    chart.level = median(points).filter(|_| points.len() > 1).map(|value| ("median".to_owned(), value));
    chart
}

fn memory(data: &ReportData) -> Chart {
    let (held, peak) = (data.machine("process_rss_bytes"), data.machine("process_peak_rss_bytes"));
    let most = held.iter().chain(peak).map(|point| point.1).filter(|value| value.is_finite()).fold(0.0_f64, f64::max);
    let (unit, size) = wording::byte_unit(most);
    let scaled = |points: &[(f64, f64)]| points.iter().map(|&(step, value)| (step, value / size)).collect();
    let curves = vec![
        Curve { label: "peak".to_owned(), color: "rate", stroke: Stroke::Faint, points: scaled(peak) },
        Curve { label: "resident".to_owned(), color: "memory", stroke: Stroke::Line, points: scaled(held) },
    ];
    let mut chart = small("Memory of the process", unit, "", curves, Spread::FromZero);
    let limit = data.environment.iter().find(|(key, _)| key == "memory_total_bytes").and_then(|(_, bytes)| bytes.parse::<f64>().ok());
    chart.caption = limit.map(|limit| format!("The machine has {}.", wording::bytes(limit))).unwrap_or_default();
    chart
}
