//! A run that is followed, in a few lines of text: where it is, a small curve of each metric, and what happened last.

use std::collections::{BTreeMap, VecDeque};

use codex_core::files;

use crate::event::{Event, Level};
use crate::ndjson_writer::NdjsonWriter;
use crate::report::wording;
use crate::run_dir::RunDir;
use crate::spark::Spark;
use crate::tail::TailItem;

/// The most metrics that are held.
const MAX_SERIES: usize = 256;
/// The most events that are held.
const MAX_EVENTS: usize = 50;
/// How many steps the speed is taken of.
const SPEED_OVER_STEPS: usize = 64;
/// The largest configuration that is read for the number of steps.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Characters that take two columns: the blocks of Unicode's East Asian Width that are wide or full throughout, and pictures.
const WIDE: [(u32, u32); 9] = [
    (0x1100, 0x115f),
    (0x2e80, 0xa4cf),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe30, 0xfe6f),
    (0xff00, 0xff60),
    (0x1f300, 0x1faff),
    (0x20000, 0x2fffd),
    (0x30000, 0x3fffd),
];
/// The narrowest picture, in columns.
const LEAST_WIDTH: usize = 24;

/// How the picture is drawn.
#[derive(Clone, Copy, Debug)]
pub struct TailLayout {
    /// Columns; no line is longer. Less than 24 counts as 24.
    pub width: usize,
    /// Whether the terminal shows block characters and arrows; plain ASCII otherwise.
    pub is_unicode: bool,
    /// The most metrics that are shown.
    pub max_metrics: usize,
    /// The most events that are shown.
    pub max_events: usize,
}

impl Default for TailLayout {
    fn default() -> Self {
        Self { width: 80, is_unicode: true, max_metrics: 10, max_events: 4 }
    }
}

/// What has been told of a run so far.
#[derive(Debug, Default)]
pub struct TailView {
    series: BTreeMap<(u8, String), Spark>,
    n_left_out: usize,
    events: VecDeque<Event>,
    /// Step and second of the newest steps of training.
    times: VecDeque<(u64, f64)>,
    step: u64,
    bad_lines: u64,
}

/// The number of steps that a run is planned to take, as its configuration says; `None` where it does not.
pub fn planned_steps(run: &RunDir) -> Option<u64> {
    let bytes = files::read_bounded(&run.path().join("config.resolved.toml"), MAX_CONFIG_BYTES).ok()?;
    let table = String::from_utf8(bytes).ok()?.parse::<toml::Table>().ok()?;
    table.get("train")?.get("steps")?.as_integer()?.try_into().ok()
}

impl TailView {
    /// Takes note of what was told.
    pub fn add(&mut self, items: impl IntoIterator<Item = TailItem>) {
        for item in items {
            match item {
                TailItem::Metric(point) => {
                    self.step = self.step.max(point.step);
                    if point.split == "train" && self.times.back().is_none_or(|(step, _)| *step < point.step) {
                        let at = point.at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
                        self.times.extend(at.map(|at| (point.step, at.as_millisecond() as f64 / 1000.0)));
                        while self.times.len() > SPEED_OVER_STEPS {
                            self.times.pop_front();
                        }
                    }
                    let key = (rank(&point.split, &point.metric), format!("{}/{}", point.split, point.metric));
                    if self.series.len() < MAX_SERIES || self.series.contains_key(&key) {
                        self.series.entry(key).or_insert_with(Spark::new).add(point.value);
                    } else {
                        self.n_left_out = 1;
                    }
                }
                TailItem::Event(event) => {
                    self.events.push_back(event);
                    while self.events.len() > MAX_EVENTS {
                        self.events.pop_front();
                    }
                }
                TailItem::Rewound { file } if file == NdjsonWriter::FILE => {
                    *self = Self { events: std::mem::take(&mut self.events), ..Self::default() };
                }
                TailItem::Rewound { .. } => self.events.clear(),
                TailItem::BadLines { count, .. } => self.bad_lines += count,
            }
        }
    }

    /// Steps taken, as far as has been told.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Seconds until the last step at the speed of the newest ones; `None` while that cannot be told.
    pub fn eta_seconds(&self, planned: u64) -> Option<f64> {
        let ((first, start), (last, end)) = (self.times.front()?, self.times.back()?);
        let per_second = (last - first) as f64 / (end - start);
        (per_second.is_finite() && per_second > 0.0).then(|| planned.saturating_sub(self.step) as f64 / per_second)
    }

    /// The picture: a line of where the run is, one for each metric, and one for each of the last events. Every line ends with a line feed.
    pub fn render(&self, name: &str, status: &str, planned: Option<u64>, layout: &TailLayout) -> String {
        let width = layout.width.max(LEAST_WIDTH);
        let dot = if layout.is_unicode { " · " } else { " - " };
        let mut head = vec![name.to_owned(), status.to_owned()];
        match planned.filter(|&planned| planned > 0) {
            Some(planned) => {
                let percent = self.step as f64 * 100.0 / planned as f64;
                head.push(format!("step {} of {} ({percent:.0}%)", self.step, planned));
                let eta = self.eta_seconds(planned).filter(|_| self.step < planned);
                head.extend(eta.map(|eta| format!("ETA {}", wording::duration(eta))));
            }
            None => head.push(format!("step {}", self.step)),
        }
        let mut lines = vec![head.join(dot)];
        let shown: Vec<(&String, &Spark)> = self.series.iter().map(|((_, name), spark)| (name, spark)).take(layout.max_metrics).collect();
        let values: Vec<String> = shown.iter().map(|(_, spark)| value(spark.last)).collect();
        let longest = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text.chars().count()).max().unwrap_or(0);
        let name_width = longest(&mut shown.iter().map(|(name, _)| *name)).min(width / 3);
        let value_width = longest(&mut values.iter());
        // A space on either side of the curve, and the arrow behind the value.
        let curve_width = width.saturating_sub(name_width + value_width + 4);
        for ((name, spark), value) in shown.iter().zip(&values) {
            let name = fitted(name, name_width, layout.is_unicode);
            let curve = spark.draw(curve_width, layout.is_unicode);
            lines.push(format!("{name:<name_width$} {curve:<curve_width$} {value:>value_width$} {}", spark.trend(layout.is_unicode)));
        }
        let hidden = self.series.len() - shown.len() + self.n_left_out;
        if hidden > 0 {
            lines.push(format!("and {hidden}{} more metrics", if self.n_left_out > 0 { " or" } else { "" }));
        }
        let skipped = self.events.len().saturating_sub(layout.max_events);
        for event in self.events.iter().skip(skipped) {
            let mark = match event.level {
                Level::Info => "",
                Level::Warn => "warn ",
                Level::Error => "error ",
            };
            let time = event.ts.parse::<jiff::Timestamp>().map_or_else(|_| "--:--:--".to_owned(), |at| at.strftime("%H:%M:%S").to_string());
            lines.push(format!("{time} {mark}{}: {}", event.kind, said(event)));
        }
        if self.bad_lines > 0 {
            lines.push(format!("{} {} could not be read", self.bad_lines, if self.bad_lines == 1 { "line" } else { "lines" }));
        }
        lines.into_iter().map(|line| fitted(&line, width, layout.is_unicode).trim_end().to_owned() + "\n").collect()
    }
}

/// What an event says: what the model wrote for a sample, and else its message; with the step where it has one.
fn said(event: &Event) -> String {
    let text = event.fields.get("text").and_then(serde_json::Value::as_str).filter(|_| event.kind == "sample");
    let text = text.map_or_else(|| event.message.clone(), |text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    match event.fields.get("step").and_then(serde_json::Value::as_u64) {
        Some(step) if !event.message.contains("step") => format!("step {step}: {text}"),
        _ => text,
    }
}

/// Losses first, of training before those of validation.
fn rank(split: &str, metric: &str) -> u8 {
    match (split, metric) {
        ("train", "loss") => 0,
        ("validation", "loss") => 1,
        (_, "loss") => 2,
        ("train", "learning_rate" | "grad_norm" | "tokens_per_second") => 3,
        _ => 4,
    }
}

fn value(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        crate::number::text(value)
    } else if size > 0.0 && !(1e-3..1e7).contains(&size) {
        format!("{value:.2e}")
    } else if size >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.4}")
    }
}

/// A text of at most this many columns: characters that take two are counted so, what cannot be seen is replaced, and in ASCII all that is none.
fn fitted(text: &str, width: usize, is_unicode: bool) -> String {
    let seen = |c: char| match c {
        c if c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '?',
        c if !is_unicode && !c.is_ascii() => '?',
        c => c,
    };
    let is_wide = |c: char| WIDE.iter().any(|&(first, last)| (first..=last).contains(&u32::from(c)));
    let columns = |c: char| if is_wide(c) { 2 } else { 1 };
    let all: usize = text.chars().map(|c| columns(seen(c))).sum();
    let end = if all <= width {
        ""
    } else if is_unicode {
        "…"
    } else {
        "."
    };
    let mut left = width - usize::from(!end.is_empty()).min(width);
    let mut made = String::new();
    for c in text.chars().map(seen) {
        let Some(rest) = left.checked_sub(columns(c)) else { break };
        left = rest;
        made.push(c);
    }
    made + end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::TailPoint;
    use proptest::prelude::*;

    fn point(step: u64, split: &str, metric: &str, value: f64) -> TailItem {
        let at = codex_core::Timestamp(i64::try_from(step).unwrap() * 2000).to_rfc3339();
        TailItem::Metric(TailPoint {
            step,
            split: split.to_owned(),
            metric: metric.to_owned(),
            dataset: None,
            value,
            tokens: None,
            at: Some(at),
        })
    }

    fn event(level: Level, message: &str) -> TailItem {
        TailItem::Event(Event::new(codex_core::Timestamp(0), level, "degraded", message, serde_json::Value::Null))
    }

    fn view() -> TailView {
        let mut view = TailView::default();
        for step in 1..=20 {
            view.add([point(step, "train", "loss", 8.0 - step as f64 / 4.0), point(step, "train", "grad_norm", 1.0)]);
        }
        view.add([
            point(20, "validation/emma", "loss", 5.0),
            point(20, "validation", "loss", f64::NAN),
            event(Level::Warn, "`csv` is off"),
            event(Level::Info, "\u{1b}[2Jdone"),
        ]);
        view
    }

    #[test]
    fn the_picture_says_where_the_run_is_and_where_it_goes() {
        let layout = TailLayout { width: 50, ..TailLayout::default() };
        let made = view().render("tiny", "running", Some(100), &layout);
        let expected = "tiny · running · step 20 of 100 (20%) · ETA 2 min…\n\
                        train/loss       ███▇▇▆▆▆▅▅▄▄▃▃▃▂▂▁▁▁     3.0000 ↘\n\
                        validation/loss  ×                           NaN →\n\
                        validation/emma… ▅                        5.0000 →\n\
                        train/grad_norm  ▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅     1.0000 →\n\
                        00:00:00 warn degraded: `csv` is off\n\
                        00:00:00 degraded: ?[2Jdone\n";
        assert_eq!(made, expected);
        let plain = view().render("tiny", "running", None, &TailLayout { width: 50, is_unicode: false, max_metrics: 1, max_events: 0 });
        assert_eq!(plain, "tiny - running - step 20\ntrain/loss ###**+++==--:::..___           3.0000 \\\nand 3 more metrics\n");
        assert_eq!(view().eta_seconds(100), Some(160.0));
        assert_eq!(TailView::default().eta_seconds(100), None);
    }

    #[test]
    fn a_rewinding_takes_back_what_was_told_of_that_file() {
        let mut view = view();
        view.add([TailItem::Rewound { file: "metrics.ndjson" }, TailItem::BadLines { file: "metrics.ndjson", count: 1 }]);
        let made = view.render("tiny", "running", None, &TailLayout::default());
        assert!(made.starts_with("tiny · running · step 0\n00:00:00 warn") && made.ends_with("1 line could not be read\n"), "{made}");
        view.add([TailItem::Rewound { file: "events.ndjson" }]);
        assert!(!view.render("tiny", "running", None, &TailLayout::default()).contains("csv"));
    }

    #[test]
    fn an_event_says_its_step_and_a_sample_what_was_written() {
        let of = |kind: &str, message: &str, fields| said(&Event::new(codex_core::Timestamp(0), Level::Info, kind, message, fields));
        assert_eq!(of("sample", "sample", serde_json::json!({ "step": 3, "text": " it\nwas " })), "step 3: it was");
        assert_eq!(of("checkpoint", "saved", serde_json::json!({ "step": 3 })), "step 3: saved");
        assert_eq!(of("stage", "step 3 begins", serde_json::json!({ "step": 3 })), "step 3 begins");
    }

    #[test]
    fn the_plan_is_read_from_the_configuration() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::open(root.path()).unwrap();
        assert_eq!(planned_steps(&run), None);
        run.write_text("config.resolved.toml", "[train]\nsteps = 700\n").unwrap();
        assert_eq!(planned_steps(&run), Some(700));
    }

    proptest! {
        #[test]
        fn no_line_is_longer_than_the_width(name in "\\PC{0,60}", metric in ".{0,60}", values: Vec<f64>, width in 0_usize..120, is_unicode: bool) {
            let mut view = TailView::default();
            view.add(values.iter().zip(1..).map(|(&value, step)| point(step, &metric, &name, value)));
            view.add([event(Level::Error, &metric)]);
            let made = view.render(&name, &metric, Some(7), &TailLayout { width, is_unicode, ..TailLayout::default() });
            for line in made.lines() {
                prop_assert!(line.chars().count() <= width.max(LEAST_WIDTH), "{line}");
                prop_assert!(!line.chars().any(char::is_control) && (is_unicode || line.is_ascii()), "{line}");
            }
        }
    }
}
