//! Line charts as SVG: one drawing for a wide page and one for a phone, chosen by the style sheet.

use std::fmt::Write as _;

use super::axis::{Axis, LARGEST_DRAWN, Spread};
use super::html::{Html, all, el, escape, text};
use super::wording;

/// How a curve is drawn; the names are those of the style sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stroke {
    /// A full line.
    Line,
    /// A pale one, behind.
    Faint,
    /// A line with a dot at each value.
    Dots,
}

/// One curve.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// What it is called in the legend.
    pub(super) label: String,
    /// Its color, a class of the style sheet.
    pub(super) color: &'static str,
    /// How it is drawn.
    pub(super) stroke: Stroke,
    /// (step, value), steps ascending.
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart of one or more curves over the steps.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What is shown, with its unit.
    pub(super) title: String,
    /// The unit at the top of the axis.
    pub(super) unit: String,
    /// What a reader should know of how it was drawn.
    pub(super) caption: String,
    /// The curves, back to front.
    pub(super) curves: Vec<Curve>,
    /// A level to compare with: its name and value.
    pub(super) level: Option<(String, f64)>,
    /// Steps at which the run was taken up again.
    pub(super) resumed_at: Vec<f64>,
    /// How the values are spread.
    pub(super) spread: Spread,
    /// Whether it takes the whole width.
    pub(super) is_wide: bool,
}

impl Chart {
    /// A chart of curves and nothing else.
    pub(super) fn of_curves(title: &str, unit: &str, spread: Spread, curves: Vec<Curve>, is_wide: bool) -> Self {
        let (title, unit) = (title.to_owned(), unit.to_owned());
        Self { title, unit, caption: String::new(), curves, level: None, resumed_at: Vec::new(), spread, is_wide }
    }

    /// The figure, numbered; `None` when there is nothing to draw.
    pub(super) fn figure(&self, number: usize) -> Option<Html> {
        let wide = if self.is_wide {
            Canvas { class: "for-wide", width: 980.0, height: 360.0 }
        } else {
            Canvas { class: "for-wide", width: 480.0, height: 230.0 }
        };
        let drawings = all([self.draw(&wide)?, self.draw(&Canvas { class: "for-phone", width: 358.0, height: 240.0 })?]);
        let lead = el("b", "", text(&format!("Figure {number}. {}.", self.title)));
        let caption = if self.caption.is_empty() { lead } else { all([lead, text(&format!(" {}", self.caption))]) };
        let class = if self.is_wide { "figure wide" } else { "figure" };
        Some(el("figure", class, all([self.legend(), drawings, el("figcaption", "", caption)])))
    }

    /// The curves that are named, each with its last value.
    fn legend(&self) -> Html {
        let key = |color: &'static str, name: &str, last: Option<f64>| {
            let value = last.map_or_else(Html::default, |last| el("span", "number", text(&wording::value(last))));
            el("li", "", all([el("span", color, Html::default()), text(name), value]))
        };
        let last = |curve: &Curve| curve.points.iter().rev().map(|point| point.1).find(|value| value.is_finite());
        let named = self.curves.iter().filter(|curve| !curve.label.is_empty());
        let mut keys: Vec<Html> = named.map(|curve| key(curve.color, &curve.label, last(curve))).collect();
        keys.extend(self.level.iter().map(|(name, value)| key("level", name, Some(*value))));
        el("ul", "legend", all(keys))
    }

    fn draw(&self, canvas: &Canvas) -> Option<Html> {
        let points = || self.curves.iter().flat_map(|curve| curve.points.iter().copied());
        let level = self.level.as_ref().map(|level| level.1);
        let y_axis = Axis::over(points().map(|point| point.1).chain(level), self.spread, (canvas.height / 55.0) as usize)?;
        let drawable = points().filter(|point| y_axis.place(point.1).is_some() && point.0 <= LARGEST_DRAWN).map(|point| point.0);
        let (first, last) = drawable.fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
        let x_axis = Axis::exactly(if first.is_finite() { first } else { 0.0 }, last, (canvas.width / 95.0) as usize);
        let longest = y_axis.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(1);
        // Many curves share the points of four, so that the page stays small.
        let n_buckets = (canvas.width / 2.0) as usize * 4 / self.curves.len().max(4);
        let plot = Plot { canvas, left: 14.0 + 7.0 * longest as f64, x_axis, y_axis, n_buckets };

        let mut svg = plot.open(&self.title, &self.unit);
        for &step in &self.resumed_at {
            svg.push_str(&plot.resume(step));
        }
        if let Some((name, value)) = &self.level {
            svg.push_str(&plot.level(self.is_wide.then_some(name), *value));
        }
        for curve in &self.curves {
            svg.push_str(&plot.curve(curve));
        }
        svg.push_str("</svg>");
        Some(Html::drawn(svg))
    }
}

struct Canvas {
    class: &'static str,
    width: f64,
    height: f64,
}

/// A canvas with its axes.
struct Plot<'a> {
    canvas: &'a Canvas,
    left: f64,
    x_axis: Axis,
    y_axis: Axis,
    /// Into how many parts a long curve is divided.
    n_buckets: usize,
}

/// More dots than these would run into each other.
const MOST_DOTS: usize = 60;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 38.0;
/// Half of the last label of an axis lies in it.
const RIGHT: f64 = 20.0;

impl Plot<'_> {
    fn x(&self, value: f64) -> Option<f64> {
        let place = self.x_axis.place(value)?;
        (-1e-9..=1.0 + 1e-9).contains(&place).then_some(self.left + place * (self.canvas.width - self.left - RIGHT))
    }

    fn y(&self, value: f64) -> Option<f64> {
        Some(TOP + (1.0 - self.y_axis.place(value)?) * (self.canvas.height - TOP - BOTTOM))
    }

    /// The frame: grid, ticks, labels and units.
    fn open(&self, title: &str, unit: &str) -> String {
        let Canvas { class, width, height } = self.canvas;
        let (left, right, floor) = (self.left, width - RIGHT, height - BOTTOM);
        let title = escape(title);
        let mut svg = format!("<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">");
        for (value, label) in &self.y_axis.ticks {
            if let Some(y) = self.y(*value) {
                let _ = write!(svg, "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
                let _ = write!(
                    svg,
                    "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    left - 8.0,
                    y + 4.0,
                    escape(label)
                );
            }
        }
        for (value, label) in &self.x_axis.ticks {
            if let Some(x) = self.x(*value) {
                let _ = write!(svg, "<path class=\"mark\" d=\"M{x:.1} {floor:.1}v5\"/>");
                let _ = write!(
                    svg,
                    "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    floor + 19.0,
                    escape(label)
                );
            }
        }
        let _ = write!(svg, "<path class=\"frame\" d=\"M{left:.1} {floor:.1}H{right:.1}\"/>");
        let factor = if self.y_axis.factor.is_empty() { String::new() } else { format!("{} ", self.y_axis.factor) };
        let _ = write!(svg, "<text class=\"unit\" x=\"2\" y=\"13\">{}{}</text>", factor, escape(unit));
        let _ = write!(svg, "<text class=\"unit\" x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">step</text>", height - 3.0);
        svg
    }

    fn resume(&self, step: f64) -> String {
        let Some(x) = self.x(step) else { return String::new() };
        let line = format!("<path class=\"resumed\" d=\"M{x:.1} {:.1}V{:.1}\"/>", TOP - 4.0, self.canvas.height - BOTTOM);
        // The unit stands at the left of the same row.
        let is_free = x > 130.0 && x < self.canvas.width - 25.0;
        let label = format!("<text class=\"note\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">resumed</text>", TOP - 9.0);
        if is_free { line + &label } else { line }
    }

    /// The line of a level; its name beside it where there is room.
    fn level(&self, name: Option<&str>, value: f64) -> String {
        let Some(y) = self.y(value) else { return String::new() };
        let right = self.canvas.width - RIGHT;
        let line = format!("<path class=\"level\" d=\"M{:.1} {y:.1}H{right:.1}\"/>", self.left);
        let label =
            |name| format!("<text class=\"note\" x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", y - 6.0, escape(name));
        line + &name.map(label).unwrap_or_default()
    }

    fn curve(&self, curve: &Curve) -> String {
        let class = match curve.stroke {
            Stroke::Faint => "faint",
            Stroke::Line | Stroke::Dots => "curve",
        };
        let thinned = thin(&curve.points, self.n_buckets);
        let mut path = String::new();
        let mut pen_is_down = false;
        for &(step, value) in &thinned {
            // A value that cannot be drawn leaves a gap.
            let Some((x, y)) = self.x(step).zip(self.y(value)) else {
                pen_is_down = false;
                continue;
            };
            let _ = write!(path, "{}{x:.1} {y:.1}", if pen_is_down { 'L' } else { 'M' });
            pen_is_down = true;
        }
        let mut svg = format!("<path class=\"{class} {}\" d=\"{path}\"/>", curve.color);
        if (curve.stroke == Stroke::Dots && curve.points.len() <= MOST_DOTS) || curve.points.len() == 1 {
            for &(step, value) in &thinned {
                if let Some((x, y)) = self.x(step).zip(self.y(value)) {
                    let told = format!("{}, step {step}: {}", curve.label, wording::value(value));
                    let _ = write!(
                        svg,
                        "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{}</title></circle>",
                        curve.color,
                        escape(&told)
                    );
                }
            }
        }
        svg
    }
}

/// At most about `4 * n_buckets` points that draw the same picture: of each bucket the first, least, greatest and last value.
fn thin(points: &[(f64, f64)], n_buckets: usize) -> Vec<(f64, f64)> {
    if points.len() <= 4 * n_buckets {
        return points.to_vec();
    }
    let mut kept = Vec::new();
    for bucket in points.chunks(points.len().div_ceil(n_buckets.max(1))) {
        let by_value = |a: &usize, b: &usize| bucket[*a].1.total_cmp(&bucket[*b].1);
        let finite = || (0..bucket.len()).filter(|&idx| bucket[idx].1.is_finite());
        let mut chosen: Vec<usize> =
            [0, bucket.len() - 1].into_iter().chain(finite().min_by(by_value)).chain(finite().max_by(by_value)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        kept.extend(chosen.into_iter().map(|idx| bucket[idx]));
    }
    kept
}

/// The mean of each value and up to `half` neighbors on either side; what is not finite is left out of the means.
///
/// A window is as long as a block or cut off by an end of the curve, so it lies in one block or is the end of one and the start of the next.
/// Sums from either end of each block give every window in linear time, and nothing is subtracted that a greater neighbor has rounded away.
pub(super) fn smoothed(points: &[(f64, f64)], half: usize) -> Vec<(f64, f64)> {
    let n_window = half.saturating_mul(2).saturating_add(1);
    let add = |sum: &mut (f64, f64), point: &(f64, f64)| {
        if point.1.is_finite() {
            *sum = (sum.0 + point.1, sum.1 + 1.0);
        }
        Some(*sum)
    };
    let mut from_start = Vec::with_capacity(points.len());
    let mut to_end = Vec::with_capacity(points.len());
    for block in points.chunks(n_window) {
        from_start.extend(block.iter().scan((0.0, 0.0), add));
        let behind = to_end.len();
        to_end.extend(block.iter().rev().scan((0.0, 0.0), add));
        to_end[behind..].reverse();
    }
    let mean = |idx: usize| {
        let (first, last) = (idx.saturating_sub(half), idx.saturating_add(half).min(points.len() - 1));
        let (sum, n) = if first / n_window != last / n_window {
            (to_end[first].0 + from_start[last].0, to_end[first].1 + from_start[last].1)
        } else if first % n_window == 0 {
            from_start[last]
        } else {
            to_end[first]
        };
        (points[idx].0, sum / n)
    };
    (0..points.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        let curve = Curve { label: "train <b>".to_owned(), color: "train", stroke: Stroke::Dots, points };
        Chart {
            title: "Loss".to_owned(),
            unit: "nats".to_owned(),
            caption: String::new(),
            curves: vec![curve],
            level: Some(("unigram".to_owned(), 6.0)),
            resumed_at: vec![2.0],
            spread: Spread::Linear,
            is_wide: true,
        }
    }

    #[test]
    fn a_value_that_is_not_finite_leaves_a_gap() {
        let points = vec![(0.0, 8.0), (1.0, 7.0), (2.0, f64::NAN), (3.0, 5.0), (4.0, 4.0)];
        let svg = chart(points).figure(1).unwrap().into_string();
        let path = svg.split("class=\"curve train\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 2), "{path}");
        assert_eq!(svg.matches("<circle").count(), 8);
        assert_eq!(svg.matches(">resumed<").count(), 2);
        assert!(svg.contains("train &lt;b&gt;, step 4: 4.000") && !svg.contains("<b>,"), "{svg}");
        let mut nothing = chart(vec![(0.0, f64::NAN)]);
        nothing.level = None;
        assert!(nothing.figure(1).is_none());
    }

    #[test]
    fn thinning_keeps_the_spikes() {
        let points: Vec<(f64, f64)> = (0..10_000).map(|idx| (f64::from(idx), if idx == 5_003 { 99.0 } else { 1.0 })).collect();
        let thinned = thin(&points, 100);
        assert!(thinned.len() <= 400 && thinned.contains(&(5003.0, 99.0)));
        assert_eq!((thinned.first(), thinned.last()), (points.first(), points.last()));
    }

    #[test]
    fn smoothing_is_the_mean_of_the_neighbors() {
        let points = [(1.0, 3.0), (2.0, f64::NAN), (3.0, 6.0), (4.0, 0.0)];
        assert_eq!(smoothed(&points, 1), [(1.0, 3.0), (2.0, 4.5), (3.0, 3.0), (4.0, 3.0)]);
    }

    proptest! {
        #[test]
        fn smoothing_agrees_with_its_definition(values in proptest::collection::vec(prop_oneof![Just(f64::NAN), -1e3..1e3, Just(1e300)], 0..80), half in 0_usize..50) {
            let points: Vec<(f64, f64)> = (0..).map(f64::from).zip(values).collect();
            let found = smoothed(&points, half);
            prop_assert_eq!(found.len(), points.len());
            for (idx, &(step, mean)) in found.iter().enumerate() {
                let around = &points[idx.saturating_sub(half)..(idx + half + 1).min(points.len())];
                let finite: Vec<f64> = around.iter().map(|point| point.1).filter(|value| value.is_finite()).collect();
                let expected = finite.iter().sum::<f64>() / finite.len() as f64;
                let near = (mean - expected).abs() <= 1e-9 * (1.0 + expected.abs());
                prop_assert!(step.to_bits() == points[idx].0.to_bits() && (near || mean.is_nan() && finite.is_empty()), "{mean} {expected}");
            }
        }

        #[test]
        fn any_points_can_be_drawn(points: Vec<(f64, f64)>) {
            if let Some(figure) = chart(points).figure(1) {
                let svg = figure.into_string();
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }
}
