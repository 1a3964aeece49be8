//! A result as a picture: medians as bars with whiskers from the smallest to the largest value, and curves. SVG, readable at 900 pixels.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::comparison::{Better, Comparison, ratio};
use super::runner::Role;
use super::statistics::Summary;
use super::table::measured;

const WIDTH: u32 = 900;
const ROW: i32 = 24;
const GAP: i32 = 12;
const LEFT: i32 = 250;
const RIGHT: i32 = 110;
const LINES_HEIGHT: u32 = 330;

const INK: RGBColor = RGBColor(33, 37, 41);
const FAINT: RGBColor = RGBColor(134, 142, 150);
const CODEX: RGBColor = RGBColor(11, 110, 153);
const BEST: RGBColor = RGBColor(120, 128, 136);
const OTHER: RGBColor = RGBColor(190, 196, 202);
const SERIES: [RGBColor; 4] = [CODEX, RGBColor(217, 119, 6), RGBColor(88, 129, 87), RGBColor(146, 64, 120)];

/// A panel of the picture.
#[derive(Clone, Debug)]
pub enum Chart {
    /// Medians of groups of sides.
    Bars(Bars),
    /// Curves.
    Lines(Lines),
}

/// Horizontal bars in groups, all with one unit.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What is shown, with its unit.
    pub title: String,
    /// A name and its bars.
    pub groups: Vec<(String, Vec<Bar>)>,
}

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    name: String,
    role: Role,
    is_best_peer: bool,
    summary: Option<Summary>,
    times: Option<f64>,
}

/// Curves over one quantity, both axes logarithmic.
#[derive(Clone, Debug)]
pub struct Lines {
    /// What is shown.
    pub title: String,
    /// The quantity to the right.
    pub x: String,
    /// Names and points.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

/// The panels for comparisons: one for each unit, and one for memory.
pub fn bars_of(comparisons: &[Comparison]) -> Vec<Bars> {
    let mut panels: Vec<Bars> = Vec::new();
    for comparison in comparisons {
        let direction = if comparison.better == Better::Higher { "more is better" } else { "less is better" };
        let title = format!("{} ({direction})", comparison.unit);
        let bars = comparison.sides.iter().map(|side| Bar {
            name: side.name.clone(),
            role: side.role,
            is_best_peer: side.is_best_peer,
            summary: side.summary,
            times: side.times_as_fast,
        });
        let group = (comparison.what.clone(), bars.collect());
        match panels.iter_mut().find(|panel| panel.title == title) {
            Some(panel) => panel.groups.push(group),
            None => panels.push(Bars { title, groups: vec![group] }),
        }
    }
    let mut memory = Bars { title: "peak memory, MB (less is better)".to_owned(), groups: Vec::new() };
    let mb = |bytes: Summary| Summary { median: bytes.median / 1e6, min: bytes.min / 1e6, max: bytes.max / 1e6, n: bytes.n };
    let mut seen: Vec<Vec<Option<Summary>>> = Vec::new();
    for comparison in comparisons {
        let peaks: Vec<Option<Summary>> = comparison.sides.iter().map(|side| side.peak_rss_bytes).collect();
        // Several measures of the same runs have the same memory.
        if peaks.iter().all(Option::is_none) || seen.contains(&peaks) {
            continue;
        }
        let bars = comparison.sides.iter().map(|side| Bar {
            name: side.name.clone(),
            role: side.role,
            is_best_peer: side.is_best_peer,
            summary: side.peak_rss_bytes.map(mb),
            times: side.memory_share,
        });
        memory.groups.push((comparison.what.clone(), bars.collect()));
        seen.push(peaks);
    }
    panels.extend((!memory.groups.is_empty()).then_some(memory));
    panels
}

/// Draws the panels one below the other.
pub fn svg(title: &str, charts: &[Chart]) -> Result<String> {
    let heights: Vec<u32> = charts.iter().map(height).collect();
    let total = 44 + heights.iter().sum::<u32>() + 10;
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, (WIDTH, total)).into_drawing_area();
        let draw = || -> Result<(), Box<dyn std::error::Error>> {
            root.fill(&WHITE)?;
            root.draw(&Text::new(title.to_owned(), (16, 14), font(17, INK).into_font_style(FontStyle::Bold)))?;
            let mut top = 44;
            for (chart, height) in charts.iter().zip(&heights) {
                let area = root.clone().shrink((0, top), (WIDTH, *height));
                match chart {
                    Chart::Bars(bars) => draw_bars(&area, bars)?,
                    Chart::Lines(lines) => draw_lines(&area, lines)?,
                }
                top += height;
            }
            root.present()?;
            Ok(())
        };
        draw().map_err(|error| anyhow!("cannot draw the picture: {error}"))?;
    }
    Ok(out)
}

fn height(chart: &Chart) -> u32 {
    match chart {
        Chart::Bars(bars) => 40 + bars.groups.iter().map(|(_, bars)| 22 + GAP as u32 + bars.len() as u32 * ROW as u32).sum::<u32>(),
        Chart::Lines(_) => LINES_HEIGHT,
    }
}

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A style with a font of this size.
fn font(size: i32, color: RGBColor) -> TextStyle<'static> {
    let mut style = TextStyle::from(("sans-serif", size).into_font());
    style.color = color.to_backend_color();
    style
}

trait Styled {
    fn into_font_style(self, style: FontStyle) -> Self;
}

impl Styled for TextStyle<'_> {
    fn into_font_style(mut self, style: FontStyle) -> Self {
        self.font = self.font.style(style);
        self
    }
}

fn draw_bars(area: &Area<'_>, bars: &Bars) -> Drawn {
    let right = WIDTH as i32 - RIGHT;
    let largest = bars.groups.iter().flat_map(|(_, bars)| bars).filter_map(|bar| bar.summary.map(|summary| summary.max));
    let scale = f64::from(right - LEFT) / largest.fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + (value * scale).round() as i32;
    area.draw(&Text::new(bars.title.clone(), (16, 8), font(14, INK).into_font_style(FontStyle::Bold)))?;
    let mut y = 34;
    for (name, bars) in &bars.groups {
        area.draw(&Text::new(name.clone(), (16, y), font(13, FAINT)))?;
        y += 22;
        for bar in bars {
            let middle = y + ROW / 2;
            let label = font(13, INK).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(bar.name.clone(), (LEFT - 8, middle), label))?;
            let value = font(13, if bar.role == Role::Codex { CODEX } else { INK }).pos(Pos::new(HPos::Left, VPos::Center));
            let Some(summary) = bar.summary else {
                area.draw(&Text::new(
                    "not measured".to_owned(),
                    (LEFT + 6, middle),
                    font(13, FAINT).pos(Pos::new(HPos::Left, VPos::Center)),
                ))?;
                y += ROW;
                continue;
            };
            let color = match bar.role {
                Role::Codex => CODEX,
                Role::Peer if bar.is_best_peer => BEST,
                Role::Peer | Role::Reference => OTHER,
            };
            area.draw(&Rectangle::new([(LEFT, y + 3), (x(summary.median).max(LEFT + 1), y + ROW - 4)], color.filled()))?;
            let (min, max) = (x(summary.min), x(summary.max));
            let whiskers = [
                vec![(min, middle), (max, middle)],
                vec![(min, middle - 4), (min, middle + 4)],
                vec![(max, middle - 4), (max, middle + 4)],
            ];
            for line in whiskers {
                area.draw(&PathElement::new(line, INK.stroke_width(1)))?;
            }
            let times = bar.times.map_or_else(String::new, |times| format!(" ({} x)", ratio(times)));
            area.draw(&Text::new(format!("{}{times}", measured(summary.median)), (max.max(x(summary.median)) + 8, middle), value))?;
            y += ROW;
        }
        y += GAP;
    }
    Ok(())
}

fn draw_lines(area: &Area<'_>, lines: &Lines) -> Drawn {
    let points = || lines.series.iter().flat_map(|(_, points)| points).copied();
    let range = |of: fn((f64, f64)) -> f64| {
        let (min, max) = points().map(of).fold((f64::INFINITY, 0.0_f64), |(min, max), value| (min.min(value), max.max(value)));
        if min.is_finite() { (min / 1.3)..(max * 1.3) } else { 1.0..10.0 }
    };
    let is_short = |range: &std::ops::Range<f64>| range.end / range.start < 20.0;
    let (x_range, y_range) = (range(|(x, _)| x), range(|(_, y)| y));
    let (is_short_x, is_short_y) = (is_short(&x_range), is_short(&y_range));
    let mut chart = ChartBuilder::on(area)
        .caption(&lines.title, font(14, INK).into_font_style(FontStyle::Bold))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(40)
        .y_label_area_size(84)
        .build_cartesian_2d(x_range.log_scale(), y_range.log_scale())?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(RGBColor(226, 230, 234))
        .axis_style(FAINT)
        .x_desc(&lines.x)
        .label_style(font(12, INK))
        .axis_desc_style(font(12, FAINT))
        .x_label_formatter(&|value| tick(*value, is_short_x))
        .y_label_formatter(&|value| tick(*value, is_short_y))
        .draw()?;
    for ((name, points), color) in lines.series.iter().zip(SERIES.iter().cycle()) {
        let color = *color;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(name.clone())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, color.filled())))?;
    }
    if lines.series.len() < 2 {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(226, 230, 234))
        .label_font(font(12, INK))
        .draw()?;
    Ok(())
}

/// A number at a line of the grid: of each decade one, two and five, so that they do not run into each other; of an axis of hardly more than a
/// decade every one up to five, and seven.
fn tick(value: f64, is_short: bool) -> String {
    let first = value / 10_f64.powf(value.log10().floor());
    let shown: &[f64] = if is_short { &[1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0] } else { &[1.0, 2.0, 5.0, 10.0] };
    if shown.iter().any(|wanted| (first - wanted).abs() < 0.01) { short(value) } else { String::new() }
}

/// A number for an axis.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{} G", measured_short(value / 1e9)),
        value if value >= 1e6 => format!("{} M", measured_short(value / 1e6)),
        value if value >= 1e4 => format!("{} k", measured_short(value / 1e3)),
        value => measured_short(value),
    }
}

fn measured_short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Measure;
    use super::super::runner::{Sample, Side};
    use super::*;

    fn side(name: &str, role: Role, values: &[f64]) -> Side {
        let sample = |&value: &f64| Sample { values: vec![Some(value)], peak_rss_bytes: Some(5_000_000), ..Sample::default() };
        Side { name: name.to_owned(), role, samples: values.iter().map(sample).collect(), obstacle: None }
    }

    #[test]
    fn bars_have_labels_values_and_ratios() {
        let sides =
            [side("codex", Role::Codex, &[200.0, 220.0]), side("torch eager", Role::Peer, &[100.0]), side("absent one", Role::Peer, &[])];
        let comparison = Comparison::new(&Measure::new("training step, gpt2", "tokens/s", Better::Higher), 0, &sides);
        let panels = bars_of(&[comparison.clone(), comparison]);
        // Rates of both, and the memory of the same runs once.
        assert_eq!(panels.iter().map(|panel| panel.groups.len()).collect::<Vec<_>>(), [2, 1]);
        let text = svg("bench train", &panels.into_iter().map(Chart::Bars).collect::<Vec<_>>()).unwrap();
        for label in [
            "bench train",
            "training step, gpt2",
            "torch eager",
            "210 (2.10 x)",
            "tokens/s (more is better)",
            "not measured",
            "peak memory",
        ] {
            assert!(text.contains(label), "{label} is not in the picture");
        }
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn curves_have_axes_and_a_legend() {
        let lines = Lines {
            title: "memory".to_owned(),
            x: "parameters".to_owned(),
            series: vec![("measured".to_owned(), vec![(1e6, 100.0), (1e8, 3000.0)]), ("forecast".to_owned(), vec![(1e6, 90.0)])],
        };
        let text = svg("bench scaling", &[Chart::Lines(lines.clone())]).unwrap();
        for label in ["memory", "parameters", "measured", "forecast", "1 M", "<circle", "<polyline"] {
            assert!(text.contains(label), "{label} is not in the picture");
        }
        assert!(svg("empty", &[Chart::Lines(Lines { series: Vec::new(), ..lines })]).is_ok());
    }

    #[test]
    fn axes_have_short_numbers() {
        assert_eq!([100.0, 200.0, 300.0, 5000.0, 9000.0, 10_000.0].map(|value| tick(value, false)), ["100", "200", "", "5000", "", "10 k"]);
        assert_eq!([300.0, 600.0, 7000.0].map(|value| tick(value, true)), ["300", "", "7000"]);
        assert_eq!([0.5, 12.0, 1500.0, 20_000.0, 1e6, 2.5e9].map(short), ["0.5", "12", "1500", "20 k", "1 M", "2.5 G"]);
    }
}
