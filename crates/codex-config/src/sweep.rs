//! Sweeps: overrides with several values, and the lists of overrides that they stand for.
//!
//! `model.d_model=32,64 train.learning_rate=range(0.1,0.3,0.1)` is six runs, the last key fastest, as Hydra's basic sweeper has them. Values:
//! `a,b`, `choice(a,b)`, `range(start,stop,step)` without its end, `glob(*, exclude=x)` over the options of a group, each within `sort(…)`,
//! `shuffle(…)` (by a seed that the caller gives) and `tag(name, …)`. `interval(a,b)` has no list of values: it is for a sampler.

use std::collections::BTreeSet;
use std::fmt;

use codex_core::stream::Stream;

use crate::assignment::{Assignment, Setting};
use crate::element::Element;
use crate::error::{ConfigError, LocatedProblem};
use crate::glob_pattern;

/// Values of one axis.
pub const MAX_POINTS: usize = 10_000;

/// A number of a range; one float makes them all floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// Any other.
    Float(f64),
}

impl Number {
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    fn element(self) -> Element {
        match self {
            Self::Int(number) => Element::Int(number),
            Self::Float(number) => Element::Float(number),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.element().fmt(f)
    }
}

/// Several values for one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The values.
    pub kind: SweepKind,
    /// Names that `tag` gave it.
    pub tags: BTreeSet<String>,
    /// Whether the values come in an order drawn by the seed.
    pub shuffle: bool,
}

/// How a sweep says its values.
#[derive(Clone, Debug, PartialEq)]
pub enum SweepKind {
    /// These values.
    Choice {
        /// At least one.
        items: Vec<Element>,
        /// Whether it was written `a,b`.
        simple: bool,
    },
    /// From `start` up to and without `stop`.
    Range {
        /// The first value.
        start: Number,
        /// The end, which is not a value.
        stop: Number,
        /// Not 0.
        step: Number,
    },
    /// Any number from `start` up to and without `end`; only a sampler can draw from it.
    Interval {
        /// The lower end.
        start: f64,
        /// The upper end.
        end: f64,
    },
    /// The options of a group that match one of `include` and none of `exclude`.
    Glob {
        /// Patterns of `*`, `?` and `[…]`.
        include: Vec<String>,
        /// Patterns of what is left out.
        exclude: Vec<String>,
    },
}

impl Sweep {
    pub(crate) fn of(kind: SweepKind) -> Self {
        Self { kind, tags: BTreeSet::new(), shuffle: false }
    }

    pub(crate) fn choice(items: Vec<Element>, simple: bool) -> Self {
        Self::of(SweepKind::Choice { items, simple })
    }

    /// A range with its number of values checked.
    pub(crate) fn range(start: Number, stop: Number, step: Number) -> Result<Self, String> {
        let kind = SweepKind::Range { start, stop, step };
        if let (Number::Int(start), Number::Int(stop), Number::Int(step)) = (start, stop, step) {
            let Some(count) = (i128::from(stop) - i128::from(start)).checked_div(i128::from(step)) else {
                return Err("the step of a range is not 0".to_owned());
            };
            return if count <= MAX_POINTS as i128 { Ok(Self::of(kind)) } else { Err(format!("a range of more than {MAX_POINTS} values")) };
        }
        let numbers = [start, stop, step].map(Number::to_f64);
        if !numbers.iter().all(|number| number.is_finite()) {
            return Err("the numbers of a range are finite".to_owned());
        }
        if numbers[2] == 0.0 {
            return Err("the step of a range is not 0".to_owned());
        }
        if (numbers[1] - numbers[0]) / numbers[2] > MAX_POINTS as f64 {
            return Err(format!("a range of more than {MAX_POINTS} values"));
        }
        Ok(Self::of(kind))
    }

    /// The same range upwards, or downwards.
    pub(crate) fn sorted_range(start: Number, stop: Number, step: Number, reverse: bool) -> Result<Self, String> {
        let upwards = start.to_f64() < stop.to_f64();
        if start.to_f64().total_cmp(&stop.to_f64()).is_eq() || upwards != reverse {
            return Self::range(start, stop, step);
        }
        let moved = |end: Number| match (end, step) {
            (Number::Int(end), Number::Int(step)) => {
                let step = step.checked_abs()?;
                (if reverse { end.checked_sub(step) } else { end.checked_add(step) }).map(Number::Int)
            }
            (end, step) => {
                let step = step.to_f64().abs();
                Some(Number::Float(if reverse { end.to_f64() - step } else { end.to_f64() + step }))
            }
        };
        let back = match step {
            Number::Int(step) => step.checked_neg().map(Number::Int),
            Number::Float(step) => Some(Number::Float(-step)),
        };
        match (moved(stop), moved(start), back) {
            (Some(start), Some(stop), Some(step)) => Self::range(start, stop, step),
            _ => Err("the numbers of the range are too large".to_owned()),
        }
    }

    /// The values of a choice or a range, in their order before any shuffling; `None` for what has no list of values by itself.
    pub fn values(&self) -> Option<Vec<Element>> {
        self.points(None).ok()
    }

    /// The values in their order before any shuffling; an error for what has no list of values.
    fn points(&self, options: Option<&BTreeSet<String>>) -> Result<Vec<Element>, (String, &'static str)> {
        match &self.kind {
            SweepKind::Choice { items, .. } => Ok(items.clone()),
            SweepKind::Range { start: Number::Int(start), stop: Number::Int(stop), step: Number::Int(step) } => {
                let is_inside = |at: &i64| if *step > 0 { at < stop } else { at > stop };
                Ok(std::iter::successors(Some(*start), |at| at.checked_add(*step)).take_while(is_inside).map(Element::Int).collect())
            }
            SweepKind::Range { start, stop, step } => {
                let numbers = [start, stop, step].map(|number| number.to_f64());
                let points = decimal_points(numbers).unwrap_or_else(|| float_points(numbers));
                Ok(points.into_iter().map(Element::Float).collect())
            }
            SweepKind::Interval { .. } => {
                Err(("an interval has no list of values".to_owned(), "write `range(start,stop,step)`, or use a sampler"))
            }
            SweepKind::Glob { include, exclude } => {
                let Some(options) = options else {
                    return Err(("`glob` is for the options of a group".to_owned(), "write it as `group=glob(*)`"));
                };
                let matches = |patterns: &[String], name: &str| patterns.iter().any(|pattern| glob_pattern::matches(pattern, name));
                let those = options.iter().filter(|name| matches(include, name) && !matches(exclude, name));
                Ok(those.map(|name| Element::Text(name.clone())).collect())
            }
        }
    }
}

/// The values of a range in the decimal numbers that were typed: 0, 0.1, 0.2, 0.3; `None` when they are too far apart for that.
fn decimal_points(numbers: [f64; 3]) -> Option<Vec<f64>> {
    let parts = numbers.map(|number| {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e')?;
        let after_point = digits.split_once('.').map_or(0, |(_, part)| part.len());
        Some((digits.replace('.', "").parse::<i128>().ok()?, exponent.parse::<i32>().ok()? - after_point as i32))
    });
    let [Some(start), Some(stop), Some(step)] = parts else { return None };
    let exponent = start.1.min(stop.1).min(step.1);
    let scaled = |(digits, own): (i128, i32)| {
        let factor = 10_i128.checked_pow(u32::try_from(own - exponent).ok()?)?;
        // Room for every value of the range.
        digits.checked_mul(factor).filter(|scaled| scaled.unsigned_abs() < 1 << 100)
    };
    let (start, stop, step) = (scaled(start)?, scaled(stop)?, scaled(step)?);
    let is_inside = |at: &i128| if step > 0 { *at < stop } else { *at > stop };
    let points = (0..=MAX_POINTS as i128).map(|n| start + n * step).take_while(is_inside);
    points.map(|at| format!("{at}e{exponent}").parse().ok()).collect()
}

/// The same with one rounding for each value.
fn float_points([start, stop, step]: [f64; 3]) -> Vec<f64> {
    let is_inside = |at: &f64| if step > 0.0 { *at < stop } else { *at > stop };
    (0..=MAX_POINTS).map(|n| step.mul_add(n as f64, start)).take_while(is_inside).collect()
}

/// The sweep as it is written; parsed again it is the same.
impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |items: &[Element]| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let patterns = |list: &[String]| joined(&[Element::List(list.iter().cloned().map(Element::Text).collect())]);
        let simple_one = |items: &[Element]| items.len() == 1;
        let mut text = match &self.kind {
            SweepKind::Choice { items, simple: true } if self.shuffle && !simple_one(items) => format!("shuffle({})", joined(items)),
            SweepKind::Choice { items, simple: true } if !simple_one(items) && self.tags.is_empty() => joined(items),
            SweepKind::Choice { items, .. } => format!("choice({})", joined(items)),
            SweepKind::Range { start, stop, step } => format!("range({start},{stop},{step})"),
            SweepKind::Interval { start, end } => format!("interval({},{})", Number::Float(*start), Number::Float(*end)),
            SweepKind::Glob { include, exclude } if exclude.is_empty() => format!("glob({})", patterns(include)),
            SweepKind::Glob { include, exclude } => format!("glob({},exclude={})", patterns(include), patterns(exclude)),
        };
        if self.shuffle && !text.starts_with("shuffle") {
            text = format!("shuffle({text})");
        }
        if !self.tags.is_empty() {
            let tags: Vec<Element> = self.tags.iter().cloned().map(Element::Text).collect();
            text = format!("tag({},{text})", joined(&tags));
        }
        f.write_str(&text)
    }
}

/// One key with several values.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The place among the arguments, from 0.
    pub position: usize,
    /// The argument as it was typed.
    pub text: String,
    /// The key with its sign, as `+data.weights.a` or `model`.
    pub key: String,
    /// Its values.
    pub sweep: Sweep,
}

/// Arguments with and without several values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Arguments of one value, as they were typed, each with its place among all.
    pub fixed: Vec<(usize, String)>,
    /// Arguments of several values.
    pub axes: Vec<Axis>,
}

/// Tells arguments of one value from sweeps; every argument that cannot be read is a problem.
pub fn parse(arguments: &[String]) -> Result<Plan, ConfigError> {
    let mut plan = Plan::default();
    let mut problems = Vec::new();
    let mut keys: Vec<(String, &str)> = Vec::new();
    for (position, text) in arguments.iter().enumerate() {
        let assignment = match Assignment::parse(text) {
            Ok(assignment) => assignment,
            Err(slip) => {
                problems.push(LocatedProblem::of_slip(text, slip));
                continue;
            }
        };
        let key = assignment.key.to_string();
        if let Some((_, first)) = keys.iter().find(|(known, _)| *known == key) {
            let message = format!("set twice, first by argument `{}`", crate::source::shortened(first));
            problems.push(LocatedProblem::of_argument(text, &key, message, Some("keep one of the two")));
            continue;
        }
        keys.push((key, text));
        match assignment.setting {
            Some(Setting::Sweep(sweep)) => {
                let key = format!("{}{}", assignment.action, assignment.key);
                plan.axes.push(Axis { position, text: text.clone(), key, sweep });
            }
            _ => plan.fixed.push((position, text.clone())),
        }
    }
    if problems.is_empty() { Ok(plan) } else { Err(ConfigError::of(problems)) }
}

/// The lists of arguments that these arguments stand for, at most `limit` of them; for sweeps that need neither a seed nor a group's options.
pub fn expand(arguments: &[String], limit: usize) -> Result<Vec<Vec<String>>, ConfigError> {
    Expansion::new(limit).expand(arguments)
}

/// The options of a group, by the group's name.
type Options<'a> = dyn Fn(&str) -> BTreeSet<String> + 'a;

/// How sweeps are expanded.
pub struct Expansion<'a> {
    limit: usize,
    seed: Option<u64>,
    options: Option<Box<Options<'a>>>,
}

impl<'a> Expansion<'a> {
    /// At most `limit` lists of arguments.
    pub fn new(limit: usize) -> Self {
        Self { limit, seed: None, options: None }
    }

    /// The seed that `shuffle(…)` draws its order by; the order is the same for the same seed and key.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Where `glob(…)` finds the options of a group, as [`crate::Layers::options`] has them.
    #[must_use]
    pub fn options(mut self, options: impl Fn(&str) -> BTreeSet<String> + 'a) -> Self {
        self.options = Some(Box::new(options));
        self
    }

    /// The values of one axis, as the overrides they come to.
    fn values(&self, axis: &Axis) -> Result<Vec<String>, Box<LocatedProblem>> {
        let key = axis.key.trim_start_matches(['+', '~']);
        let refused = |message: String, hint: &str| Box::new(LocatedProblem::of_argument(&axis.text, key, message, Some(hint)));
        let options = match &self.options {
            Some(options) if matches!(axis.sweep.kind, SweepKind::Glob { .. }) => Some(options(key)),
            _ => None,
        };
        let mut points = axis.sweep.points(options.as_ref()).map_err(|(message, hint)| refused(message, hint))?;
        if points.is_empty() {
            return Err(refused("a sweep over nothing".to_owned(), "give at least one value"));
        }
        if axis.sweep.shuffle {
            let Some(seed) = self.seed else { return Err(refused("`shuffle` needs a seed".to_owned(), "write the order down")) };
            Stream::new(seed, &format!("sweep:{}", axis.key), 0).shuffle(&mut points);
        }
        Ok(points.into_iter().map(|point| format!("{}={point}", axis.key)).collect())
    }

    /// Every combination of the values, the last key fastest, each a list of arguments for [`crate::Layers::overrides`].
    pub fn expand(&self, arguments: &[String]) -> Result<Vec<Vec<String>>, ConfigError> {
        let plan = parse(arguments)?;
        let mut problems = Vec::new();
        let mut columns: Vec<Vec<String>> = arguments.iter().map(|text| vec![text.clone()]).collect();
        for axis in &plan.axes {
            match self.values(axis) {
                Ok(values) => columns[axis.position] = values,
                Err(problem) => problems.push(*problem),
            }
        }
        let count = columns.iter().try_fold(1_usize, |count, column| count.checked_mul(column.len())).filter(|count| *count <= self.limit);
        if let (None, Some(axis)) = (count, plan.axes.last()) {
            let message = format!("the sweep has more than {} runs", self.limit);
            problems.push(LocatedProblem::of_argument(&axis.text, "", message, Some("take values out, or raise the limit")));
        }
        if !problems.is_empty() {
            return Err(ConfigError::of(problems));
        }
        let mut runs = vec![Vec::with_capacity(columns.len())];
        for column in &columns {
            let longer = |run: &Vec<String>| column.iter().map(|value| run.iter().chain([value]).cloned().collect()).collect::<Vec<_>>();
            runs = runs.iter().flat_map(longer).collect();
        }
        Ok(runs)
    }
}
