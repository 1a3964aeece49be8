//! A sweep on one page: a line for each trial over one axis for each parameter, with the metric at the right, and the table of the trials.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::axis::{Axis, Spread};
use super::html::{Html, all, el, escape, table_within, text};
use super::wording;
use crate::best::Direction;

/// The most parameters that are drawn.
pub const MAX_AXES: usize = 24;
/// The most trials that are drawn, spread evenly over the ranks with the best among them.
pub const MAX_DRAWN: usize = 500;
/// The most categories that are told apart.
const MAX_CATEGORIES: usize = 40;
/// The most different numbers that are all labeled.
const MAX_LABELED: usize = 8;
/// How many colors there are, from the best to the worst.
const N_COLORS: usize = 7;
/// The most markup of the table, in bytes.
const TABLE_BUDGET: usize = 1_000_000;

/// What a sweep varied and measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepAxes {
    /// The parameters in the order in which they are drawn, such as `train.learning_rate`.
    pub parameters: Vec<String>,
    /// Those of them that are tried by their orders of magnitude; others are drawn so where their values say it.
    pub log_parameters: Vec<String>,
    /// What was measured, such as `validation/loss`.
    pub metric: String,
    /// Which values of it are better.
    pub direction: Direction,
}

/// A trial of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepTrial {
    /// Its number or name.
    pub name: String,
    /// How it ended, such as `finished`, `pruned` or `failed`.
    pub state: String,
    /// A value for each parameter; one that it did not have is absent.
    pub values: Vec<SweepValue>,
    /// What it measured; a trial without a finite value has no rank.
    pub metric: Option<f64>,
}

/// A value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum SweepValue {
    /// A number.
    Number(f64),
    /// A word, a switch or anything else that has no order.
    Category(String),
    /// The trial has no such parameter.
    Absent,
}

impl SweepValue {
    fn shown(&self) -> String {
        match self {
            Self::Number(value) => plain(*value),
            Self::Category(name) => wording::clipped(name, 80),
            Self::Absent => "-".to_owned(),
        }
    }
}

/// A number as it was set: a whole one without a point, others with four digits and no zeros behind them.
fn plain(value: f64) -> String {
    if value.is_finite() && value.abs() < 1e15 && value.to_bits() == value.trunc().to_bits() {
        return format!("{value:.0}");
    }
    let text = wording::value(value);
    if text.contains('.') && !text.contains('×') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The trials from the best to the worst, those without a rank behind them; equal ones in the order in which they were given.
fn ranked<'a>(axes: &SweepAxes, trials: &'a [SweepTrial]) -> Vec<(Option<usize>, &'a SweepTrial)> {
    let (mut with, without): (Vec<&SweepTrial>, Vec<&SweepTrial>) = trials.iter().partition(|trial| measured(trial).is_some());
    with.sort_by(|a, b| axes.direction.order(measured(a).unwrap_or_default(), measured(b).unwrap_or_default()));
    with.into_iter().enumerate().map(|(rank, trial)| (Some(rank), trial)).chain(without.into_iter().map(|trial| (None, trial))).collect()
}

fn measured(trial: &SweepTrial) -> Option<f64> {
    trial.metric.filter(|value| value.is_finite())
}

/// How an axis places its values.
enum Scale {
    /// Few different numbers are labeled themselves.
    Numbers(Axis, Vec<f64>),
    Categories(Vec<String>),
}

impl Scale {
    fn over(values: &[&SweepValue], is_log: bool) -> Option<Self> {
        let numbers: Vec<f64> =
            values.iter().filter_map(|value| if let SweepValue::Number(value) = value { Some(*value) } else { None }).collect();
        let has_category = values.iter().any(|value| matches!(value, SweepValue::Category(_)));
        if !has_category {
            return Self::of_numbers(&numbers, is_log);
        }
        let names: BTreeSet<String> = values.iter().filter(|value| **value != &SweepValue::Absent).map(|value| value.shown()).collect();
        Some(Self::Categories(names.into_iter().take(MAX_CATEGORIES).collect()))
    }

    /// Logarithmic where that is asked for, or the values span more than two powers of ten.
    fn of_numbers(numbers: &[f64], is_log: bool) -> Option<Self> {
        let finite = || numbers.iter().copied().filter(|value| value.is_finite());
        let (low, high) = finite().fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let spread = if low > 0.0 && (is_log || high / low > 100.0) { Spread::Log } else { Spread::Linear };
        let mut distinct: Vec<f64> = finite().collect();
        distinct.sort_by(f64::total_cmp);
        distinct.dedup_by(|a, b| a.to_bits() == b.to_bits());
        let axis = Axis::over(finite(), spread, 6)?;
        // Labels that would touch each other are no help.
        let places: Vec<f64> = distinct.iter().filter_map(|&value| axis.place(value)).collect();
        let is_labeled = distinct.len() <= MAX_LABELED && places.windows(2).all(|pair| pair[1] - pair[0] > 0.05);
        Some(Self::Numbers(axis, if is_labeled { distinct } else { Vec::new() }))
    }

    /// 0 at the foot, 1 at the top.
    fn place(&self, value: &SweepValue) -> Option<f64> {
        match (self, value) {
            (Self::Numbers(axis, _), SweepValue::Number(value)) => axis.place(*value),
            (Self::Categories(names), value) => {
                let at = names.iter().position(|name| *name == value.shown())?;
                Some((at as f64 + 0.5) / names.len() as f64)
            }
            _ => None,
        }
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match self {
            Self::Numbers(axis, labeled) if !labeled.is_empty() => {
                labeled.iter().filter_map(|&value| Some((axis.place(value)?, plain(value)))).collect()
            }
            Self::Numbers(axis, _) => {
                let label = |label: &String| format!("{label}{}", axis.factor);
                axis.ticks
                    .iter()
                    .filter_map(|(value, text)| Some((axis.place(*value)?, label(text))))
                    .filter(|(place, _)| (-0.001..=1.001).contains(place))
                    .collect()
            }
            Self::Categories(names) => {
                // Labels that would touch each other are left out.
                let every = names.len().div_ceil(22).max(1);
                let place = |at: usize| (at as f64 + 0.5) / names.len() as f64;
                names.iter().enumerate().step_by(every).map(|(at, name)| (place(at), wording::clipped(name, 14))).collect()
            }
        }
    }
}

/// Lengths of the drawing.
struct Frame {
    width: f64,
    left: f64,
    right: f64,
    top: f64,
    foot: f64,
    n_axes: usize,
}

impl Frame {
    fn of(n_axes: usize) -> Self {
        let width = (150.0 * n_axes as f64).max(1004.0);
        Self { width, left: 76.0, right: width - 64.0, top: 62.0, foot: 404.0, n_axes }
    }

    fn x(&self, idx: usize) -> f64 {
        self.left + (self.right - self.left) * idx as f64 / (self.n_axes - 1).max(1) as f64
    }

    fn y(&self, place: f64) -> f64 {
        self.foot - place * (self.foot - self.top)
    }
}

const STYLE: &str = "\
.sweep{--w-ink:#1d1c1a;--w-muted:#6a655d;--w-paper:#fbfaf6;--q0:#0b5cad;--q1:#3f86c4;--q2:#7fa9c9;--q3:#a8a59d;--q4:#d0a071;--q5:#d5803a;--q6:#b9500b;\
background:var(--w-paper);font-family:system-ui,sans-serif;font-size:12px}\
@media(prefers-color-scheme:dark){.sweep{--w-ink:#eae7e0;--w-muted:#9f9a90;--w-paper:#14161a;--q0:#6db4ff;--q1:#5592cf;--q2:#56789b;--q3:#77746d;--q4:#93683f;--q5:#c27a3d;--q6:#f39a5f}}\
.sweep text{fill:var(--w-muted);paint-order:stroke;stroke:var(--w-paper);stroke-width:4px;stroke-linejoin:round}.sweep .name{fill:var(--w-ink);font-weight:600}\
.sweep path{fill:none}.sweep .axis{stroke:var(--w-ink);stroke-width:1.2}.sweep .mark{stroke:var(--w-muted)}\
.sweep .trial{stroke-width:1.4;opacity:.62}.sweep .trial:hover{stroke-width:3.5;opacity:1}.sweep .best{stroke-width:3.6;opacity:1}\
.sweep .unranked{stroke:var(--w-muted);stroke-width:1;stroke-dasharray:3 4;opacity:.5}.sweep circle{fill:var(--w-paper);stroke:var(--q0);stroke-width:2.4}\
.sweep .q0{stroke:var(--q0)}.sweep .q1{stroke:var(--q1)}.sweep .q2{stroke:var(--q2)}.sweep .q3{stroke:var(--q3)}.sweep .q4{stroke:var(--q4)}\
.sweep .q5{stroke:var(--q5)}.sweep .q6{stroke:var(--q6)}.sweep rect.q0{fill:var(--q0)}.sweep rect.q1{fill:var(--q1)}.sweep rect.q2{fill:var(--q2)}\
.sweep rect.q3{fill:var(--q3)}.sweep rect.q4{fill:var(--q4)}.sweep rect.q5{fill:var(--q5)}.sweep rect.q6{fill:var(--q6)}";

/// The trials over the parameters, as an SVG that stands alone: an axis for each parameter, logarithmic where that is asked for or its values span more than two powers of ten, and
/// the metric at the right; a line for each trial, colored by its rank from blue to orange, which the color-blind tell apart; the best thick, with dots. Trials
/// without a rank are dashed and end before the metric. At most [`MAX_AXES`] parameters and [`MAX_DRAWN`] trials are drawn.
pub fn parallel_coordinates(axes: &SweepAxes, trials: &[SweepTrial]) -> String {
    let n_parameters = axes.parameters.len().min(MAX_AXES);
    let frame = Frame::of(n_parameters + 1);
    let ranked = ranked(axes, trials);
    let absent = SweepValue::Absent;
    let value_at = |trial: &'_ SweepTrial, idx: usize| trial.values.get(idx).cloned().unwrap_or(SweepValue::Absent);
    let mut scales: Vec<Option<Scale>> = (0..n_parameters)
        .map(|idx| {
            let values: Vec<&SweepValue> = trials.iter().map(|trial| trial.values.get(idx).unwrap_or(&absent)).collect();
            Scale::over(&values, axes.log_parameters.contains(&axes.parameters[idx]))
        })
        .collect();
    scales.push(Scale::of_numbers(&trials.iter().filter_map(measured).collect::<Vec<_>>(), false));
    let n_ranked = ranked.iter().filter(|(rank, _)| rank.is_some()).count();

    let title = escape(&format!("{} trials over {n_parameters} parameters and {}", trials.len(), wording::clipped(&axes.metric, 80)));
    let mut svg = format!(
        "<svg class=\"sweep\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} 448\" width=\"{:.0}\" height=\"448\" role=\"img\" aria-label=\"{title}\"><style>{STYLE}</style>",
        frame.width, frame.width
    );
    // The worst first, so that better ones lie above; what is more than can be drawn is left out evenly.
    let every = ranked.len().div_ceil(MAX_DRAWN).max(1);
    for (rank, trial) in ranked.iter().step_by(every).rev() {
        let mut path = String::new();
        let mut dots = String::new();
        let mut pen_is_down = false;
        for (idx, scale) in scales.iter().enumerate() {
            let value =
                if idx < n_parameters { value_at(trial, idx) } else { measured(trial).map_or(SweepValue::Absent, SweepValue::Number) };
            let Some(place) = scale.as_ref().and_then(|scale| scale.place(&value)) else {
                pen_is_down = false;
                continue;
            };
            let (x, y) = (frame.x(idx), frame.y(place));
            let _ = write!(path, "{}{x:.1} {y:.1}", if pen_is_down { 'L' } else { 'M' });
            let _ = write!(dots, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
            pen_is_down = true;
        }
        let class = match rank {
            None => "unranked".to_owned(),
            Some(0) => "trial best q0".to_owned(),
            Some(rank) => format!("trial q{}", rank * N_COLORS / n_ranked.max(1)),
        };
        let told = escape(&told(axes, *rank, trial));
        let _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"><title>{told}</title></path>");
        if *rank == Some(0) {
            svg.push_str(&dots);
        }
    }
    for (idx, scale) in scales.iter().enumerate() {
        draw_axis(&mut svg, &frame, idx, axes.parameters.get(idx).filter(|_| idx < n_parameters).unwrap_or(&axes.metric), scale.as_ref());
    }
    draw_key(&mut svg, &frame, axes.direction);
    svg.push_str("</svg>");
    svg
}

fn told(axes: &SweepAxes, rank: Option<usize>, trial: &SweepTrial) -> String {
    let values = axes
        .parameters
        .iter()
        .zip(&trial.values)
        .take(MAX_AXES)
        .map(|(name, value)| format!("{} = {}", wording::clipped(name, 60), value.shown()));
    let head = match (rank, measured(trial)) {
        (Some(rank), Some(value)) => format!(
            "{}, rank {}: {} {}",
            wording::clipped(&trial.name, 60),
            rank + 1,
            wording::clipped(&axes.metric, 60),
            wording::value(value)
        ),
        _ => format!("{}: {}", wording::clipped(&trial.name, 60), wording::clipped(&trial.state, 40)),
    };
    std::iter::once(head).chain(values).collect::<Vec<_>>().join("\n")
}

fn draw_axis(svg: &mut String, frame: &Frame, idx: usize, name: &str, scale: Option<&Scale>) {
    let (x, is_last) = (frame.x(idx), idx + 1 == frame.n_axes);
    let _ = write!(svg, "<path class=\"axis\" d=\"M{x:.1} {:.1}V{:.1}\"/>", frame.top, frame.foot);
    // The end of a dotted name says the most.
    let name = if name.chars().count() > 20 { name.rsplit(['.', '/']).next().unwrap_or(name) } else { name };
    let anchor = if idx == 0 {
        "start"
    } else if is_last {
        "end"
    } else {
        "middle"
    };
    let at = if idx == 0 {
        4.0
    } else if is_last {
        frame.width - 4.0
    } else {
        x
    };
    let _ = write!(
        svg,
        "<text class=\"name\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
        frame.top - 22.0,
        escape(&wording::clipped(name, 20))
    );
    let side = if is_last { 1.0 } else { -1.0 };
    for (place, label) in scale.map(Scale::ticks).unwrap_or_default() {
        let y = frame.y(place);
        let _ = write!(svg, "<path class=\"mark\" d=\"M{x:.1} {y:.1}h{:.0}\"/>", side * 5.0);
        let anchor = if is_last { "start" } else { "end" };
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>", x + side * 9.0, y + 4.0, escape(&label));
    }
}

fn draw_key(svg: &mut String, frame: &Frame, direction: Direction) {
    let (y, start) = (frame.foot + 24.0, frame.left);
    let _ = write!(svg, "<text x=\"{start:.1}\" y=\"{:.1}\">best</text>", y + 9.0);
    for idx in 0..N_COLORS {
        let _ =
            write!(svg, "<rect class=\"q{idx}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"22\" height=\"10\"/>", start + 32.0 + 22.0 * idx as f64);
    }
    let better = if direction == Direction::Min { "smaller is better" } else { "greater is better" };
    let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">worst, by rank; {better}</text>", start + 40.0 + 22.0 * N_COLORS as f64, y + 9.0);
}

/// The page of a sweep: the best trial, the picture and the table of all trials by rank.
pub fn sweep_page(title: &str, axes: &SweepAxes, trials: &[SweepTrial]) -> String {
    let ranked = ranked(axes, trials);
    let n_ranked = ranked.iter().filter(|(rank, _)| rank.is_some()).count();
    let metric = wording::clipped(&axes.metric, 80);
    let verdict = match ranked.first() {
        Some((Some(_), best)) => {
            let values = axes
                .parameters
                .iter()
                .zip(&best.values)
                .take(MAX_AXES)
                .map(|(name, value)| format!("{} {}", wording::clipped(name, 60), value.shown()));
            let value = wording::value(measured(best).unwrap_or_default());
            format!(
                "The best of {n_ranked} trials is {}, with {metric} {value}: {}.",
                wording::clipped(&best.name, 80),
                values.collect::<Vec<_>>().join(", ")
            )
        }
        _ => "No trial has a value yet.".to_owned(),
    };
    let mut notes = Vec::new();
    if trials.len() > n_ranked {
        notes.push(format!("{} without a value are dashed.", trials.len() - n_ranked));
    }
    if trials.len() > MAX_DRAWN {
        notes.push(format!("Of {} trials at most {MAX_DRAWN} are drawn, evenly by rank.", wording::count(trials.len() as u64)));
    }
    if axes.parameters.len() > MAX_AXES {
        notes.push(format!("The first {MAX_AXES} of {} parameters are drawn.", axes.parameters.len()));
    }
    let picture =
        el("div", "scroll picture", Html::drawn(parallel_coordinates(axes, trials).replace(" xmlns=\"http://www.w3.org/2000/svg\"", "")));
    let lede = el("p", "lede", text(&notes.join(" ")));
    let head: Vec<&str> =
        ["rank", "trial", "state", metric.as_str()].into_iter().chain(axes.parameters.iter().take(MAX_AXES).map(String::as_str)).collect();
    let rows = ranked.iter().map(|(rank, trial)| {
        let number = |shown: String| el("span", "number", text(&shown));
        let mut row = vec![
            number(rank.map_or_else(|| "-".to_owned(), |rank| (rank + 1).to_string())),
            el("code", "", text(&wording::clipped(&trial.name, 80))),
            text(&wording::clipped(&trial.state, 40)),
            number(measured(trial).map_or_else(|| "-".to_owned(), wording::value)),
        ];
        row.extend(
            (0..axes.parameters.len().min(MAX_AXES)).map(|idx| number(trial.values.get(idx).unwrap_or(&SweepValue::Absent).shown())),
        );
        row
    });
    let section = |title: &str, content: Html| el("section", "", all([el("h2", "", text(title)), content]));
    let title = wording::clipped(title, 200);
    let body = all([
        el("header", "", all([el("p", "kicker", text("codex sweep")), el("h1", "", text(&title)), el("p", "verdict", text(&verdict))])),
        section("Parameters and metric", all([lede, picture])),
        section("Trials", table_within(TABLE_BUDGET, "trials", &head, rows.collect())),
        el("footer", "", text("Drawn by codex. This page holds no script and loads nothing.")),
    ]);
    super::page(&format!("{title} · codex"), body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn axes() -> SweepAxes {
        SweepAxes {
            parameters: vec!["train.learning_rate".to_owned(), "train.optimizer".to_owned(), "model.n_layers".to_owned()],
            log_parameters: Vec::new(),
            metric: "validation/loss".to_owned(),
            direction: Direction::Min,
        }
    }

    #[test]
    fn a_parameter_is_drawn_by_orders_of_magnitude_when_that_is_asked_for() {
        let middle = |is_log| {
            let axes = SweepAxes { log_parameters: if is_log { axes().parameters } else { Vec::new() }, ..axes() };
            let rates = [1e-3, 2e-3, 8e-3].map(|rate| trial("x", rate, "adamw", Some(2.0), Some(rate)));
            let svg = parallel_coordinates(&axes, &rates);
            let line = paths(&svg, "trial q2").pop().unwrap();
            line.split([',', ' ', 'L']).nth(1).unwrap().parse::<f64>().unwrap()
        };
        // A third of the way by its logarithm, a seventh by itself; the picture's heights grow downwards.
        assert!(middle(true) < middle(false) - 20.0, "{} {}", middle(true), middle(false));
    }

    fn trial(name: &str, rate: f64, optimizer: &str, layers: Option<f64>, metric: Option<f64>) -> SweepTrial {
        let layers = layers.map_or(SweepValue::Absent, SweepValue::Number);
        SweepTrial {
            name: name.to_owned(),
            state: "finished".to_owned(),
            values: vec![SweepValue::Number(rate), SweepValue::Category(optimizer.to_owned()), layers],
            metric,
        }
    }

    fn trials() -> Vec<SweepTrial> {
        vec![
            trial("a", 1e-5, "adamw", Some(2.0), Some(3.0)),
            trial("b", 1e-2, "muon", None, Some(2.0)),
            trial("c", 1e-3, "adamw", Some(8.0), Some(f64::NAN)),
            trial("d", 1e-3, "lion<", Some(4.0), Some(2.0)),
        ]
    }

    fn paths(svg: &str, class: &str) -> Vec<String> {
        svg.split(&format!("<path class=\"{class}\" d=\"")).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_trial_is_a_line_in_order_of_its_rank() {
        let svg = parallel_coordinates(&axes(), &trials());
        let best = paths(&svg, "trial best q0");
        // `b` came before `d`, and lacks a value: its line has a gap.
        assert_eq!((best.len(), best[0].matches('M').count(), svg.matches("<circle").count()), (1, 2, 3), "{best:?}");
        assert_eq!((paths(&svg, "trial q2").len(), paths(&svg, "trial q4").len(), paths(&svg, "unranked").len()), (1, 1, 1));
        assert!(svg.find("trial q4").unwrap() < svg.find("trial best").unwrap(), "the best lies above");
        assert!(
            svg.contains("b, rank 1: validation/loss 2.000\ntrain.learning_rate = 0.01")
                && svg.contains("lion&lt;")
                && !svg.contains("lion<")
        );
        // More than two powers of ten are spread by their factors: 1e-3 is two thirds of the way from 1e-5 to 1e-2.
        let y =
            |path: &str| path.trim_start_matches('M').split_whitespace().nth(1).unwrap().split('L').next().unwrap().parse::<f64>().unwrap();
        let at = |class: &str| y(&paths(&svg, class)[0]);
        assert!(((at("trial q4") - at("trial q2")) / (at("trial q4") - y(&best[0])) - 2.0 / 3.0).abs() < 0.01);
        assert!(svg.contains(">smaller is better</text>") || svg.contains("smaller is better"));
    }

    #[test]
    fn the_page_has_the_picture_and_the_trials_by_rank() {
        let page = sweep_page("rates <1>", &axes(), &trials());
        assert!(page.contains(
            "The best of 3 trials is b, with validation/loss 2.000: train.learning_rate 0.01, train.optimizer muon, model.n_layers -."
        ));
        assert!(page.contains("1 without a value are dashed.") && page.contains("rates &lt;1&gt;") && !page.contains("http:"));
        let order: Vec<usize> = ["b", "d", "a", "c"].iter().map(|name| page.find(&format!("<code>{name}</code>")).unwrap()).collect();
        assert!(order.is_sorted());
        assert!(sweep_page("none", &axes(), &[]).contains("No trial has a value yet."));
    }

    #[test]
    fn a_large_sweep_stays_small() {
        let many: Vec<SweepTrial> =
            (0..20_000).map(|idx| trial(&format!("t{idx}"), 1e-3, &"x".repeat(500), None, Some(f64::from(idx)))).collect();
        let page = sweep_page("many", &axes(), &many);
        assert!(
            page.len() < 2_000_000 && page.contains("more rows are left out") && page.contains("at most 500 are drawn"),
            "{}",
            page.len()
        );
        assert!(page.contains("t0, rank 1"));
    }

    proptest! {
        #[test]
        fn any_trials_are_drawn_and_nothing_becomes_markup(
            rows in proptest::collection::vec((proptest::num::f64::ANY, ".{0,12}", proptest::option::of(proptest::num::f64::ANY)), 0..12),
            name in ".{0,30}",
        ) {
            let trials: Vec<SweepTrial> = rows.iter().map(|(rate, word, metric)| trial(word, *rate, word, None, *metric)).collect();
            let made = parallel_coordinates(&SweepAxes { parameters: vec![name.clone(), "<script>".to_owned(), "\"'".to_owned()], log_parameters: vec![name.clone()], metric: name, direction: Direction::Max }, &trials);
            prop_assert!(!made.contains("NaN") || trials.iter().any(|trial| trial.name.contains("NaN")) , "{made}");
            prop_assert!(!made.contains("<script"));
            // Every `<` begins an element of ours.
            for part in made.split('<').skip(1) {
                let known = ["svg ", "style>", "/style>", "path ", "/path>", "title>", "/title>", "circle ", "text ", "/text>", "rect ", "/svg>"];
                prop_assert!(known.iter().any(|tag| part.starts_with(tag)), "{part}");
            }
        }
    }
}
