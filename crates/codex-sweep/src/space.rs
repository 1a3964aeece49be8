//! What is tried: the keys of `[space]` with the values each can have, how many there are, the one of a number, and one drawn by chance.

use codex_core::Stream;

use crate::document::{Entry, Item, Problems, Section};
use crate::value::Value;

/// Whole numbers beyond this are not exact as floats.
const MAX_INTEGER: i64 = 1 << 53;

/// A range with more steps than this is one without: not each of them is a number of its own.
const MAX_STEPS: f64 = 1e12;

/// A key and what it can be.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The dotted key, as `codex-cli train` takes it.
    pub key: String,
    /// The line of the sweep file, from 1.
    pub line: usize,
    /// What it can be.
    pub domain: Domain,
}

/// The values that a key can have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Domain {
    /// One of these, in the file's order; at least one.
    Values(Vec<Value>),
    /// A whole number from `min` to `max`, both of them included.
    Integers {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
        /// The distance between two of them, counted from `min`; absent, 1.
        step: Option<u64>,
        /// Whether each order of magnitude is as likely as the next.
        is_log: bool,
    },
    /// A number from `min` to `max`.
    Floats {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
        /// The distance between two of them, counted from `min`; absent, there is none.
        step: Option<f64>,
        /// Whether each order of magnitude is as likely as the next.
        is_log: bool,
    },
}

impl Domain {
    /// How many values there are; `None` for a range without a step.
    pub fn n_values(&self) -> Option<u64> {
        match self {
            Self::Values(values) => Some(values.len() as u64),
            Self::Integers { min, max, step: Some(step), .. } => Some(min.abs_diff(*max) / step + 1),
            // A step of the range may end a rounding error short of its end.
            Self::Floats { min, max, step: Some(step), .. } => Some(((max - min) / step + 1e-9).floor() as u64 + 1),
            Self::Integers { .. } | Self::Floats { .. } => None,
        }
    }

    /// The value of this number, from 0: those of a range upwards, the last for any number beyond.
    pub(crate) fn nth(&self, n: u64) -> Value {
        match self {
            Self::Values(values) => values[(n as usize).min(values.len() - 1)].clone(),
            Self::Integers { min, max, step, .. } => {
                let up = n.saturating_mul(step.unwrap_or(1)).min(min.abs_diff(*max));
                Value::Integer(min.saturating_add_unsigned(up))
            }
            Self::Floats { min, max, step, .. } => Value::Float(tidied(min + n as f64 * step.unwrap_or(0.0)).clamp(*min, *max)),
        }
    }

    /// A value drawn by chance, each as likely as the other.
    pub(crate) fn draw(&self, stream: &mut Stream) -> Value {
        if let Some(n) = self.n_values() {
            return self.nth(stream.below(n));
        }
        match *self {
            Self::Integers { min, max, is_log: true, .. } => {
                // Each whole number stands for the half on either side of it, so that the ends are not rarer.
                let drawn = log_between(min as f64 - 0.5, max as f64 + 0.5, stream.uniform()).round() as i64;
                Value::Integer(drawn.clamp(min, max))
            }
            Self::Integers { min, max, .. } => Value::Integer(min.saturating_add_unsigned(stream.below(min.abs_diff(max) + 1))),
            Self::Floats { min, max, is_log: true, .. } => Value::Float(log_between(min, max, stream.uniform()).clamp(min, max)),
            Self::Floats { min, max, .. } => Value::Float((min + stream.uniform() * (max - min)).clamp(min, max)),
            Self::Values(_) => self.nth(0),
        }
    }
}

/// By `libm`, so that every platform draws the same.
fn log_between(min: f64, max: f64, share: f64) -> f64 {
    let (low, high) = (libm::log(min), libm::log(max));
    libm::exp(low + share * (high - low))
}

/// Without the last digits that adding up steps leaves: `0.3` for `0.1 + 2 * 0.1`.
fn tidied(number: f64) -> f64 {
    format!("{number:.12e}").parse().unwrap_or(number)
}

/// The parameters of `[space]`, in the order of the text.
pub(crate) fn parse(entries: Vec<Entry>, problems: &Problems) -> Vec<Parameter> {
    let mut found = Vec::new();
    collect("", entries, problems, &mut found);
    found.sort_by_key(|(offset, _)| *offset);
    found.into_iter().map(|(_, parameter)| parameter).collect()
}

const RANGE_KEYS: [&str; 6] = ["min", "max", "scale", "step", "int", "choices"];

fn collect(above: &str, entries: Vec<Entry>, problems: &Problems, found: &mut Vec<(usize, Parameter)>) {
    for Entry { name, line, offset, item } in entries {
        let key = if above.is_empty() { name } else { format!("{above}.{name}") };
        let told = format!("space.{key}");
        let domain = match item {
            Item::List(items) => values(items, line, &told, problems),
            Item::Table { entries, is_inline }
                if is_inline || entries.iter().any(|entry| matches!(entry.name.as_str(), "min" | "max" | "choices")) =>
            {
                // In braces and with no key of a range, it is a table of keys: `train = { seed = [1, 2] }`.
                if entries.iter().all(|entry| matches!(entry.item, Item::List(_) | Item::Table { .. }) && !is_range_key(&entry.name)) {
                    collect(&key, entries, problems, found);
                    continue;
                }
                range(Section::new(&told, line, entries, problems))
            }
            Item::Table { entries, .. } => {
                collect(&key, entries, problems, found);
                continue;
            }
            other => {
                let message = format!("expected a list of values or a range, found {}", other.found());
                let hint = "write `[1, 2, 3]`, `{ min = 1e-4, max = 1e-2, scale = \"log\" }`, or move a fixed value to `overrides`";
                problems.tell(line, &told, message, Some(hint.to_owned()));
                None
            }
        };
        if !is_key(&key) {
            let hint = "a key is names of letters, digits, `_` and `-`, joined by dots".to_owned();
            problems.tell(line, &told, "this is no key of a configuration", Some(hint));
        } else if let Some(domain) = domain {
            found.push((offset, Parameter { key, line, domain }));
        }
    }
}

/// Whether a name is a key of a range, or a slip of one.
fn is_range_key(name: &str) -> bool {
    codex_core::suggest::nearest(name, RANGE_KEYS).is_some()
}

/// Whether `codex-cli train` would read it as a key.
pub(crate) fn is_key(key: &str) -> bool {
    let is_bare = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    key.len() <= 200 && key.split('.').all(|name| !name.is_empty() && !name.starts_with('-') && is_bare(name))
}

fn values(items: Vec<Item>, line: usize, key: &str, problems: &Problems) -> Option<Domain> {
    if items.is_empty() {
        problems.tell(line, key, "an empty list leaves nothing to try", None);
        return None;
    }
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        match item.into_value() {
            Ok(value) => values.push(value),
            Err(what) => {
                problems.tell(line, key, format!("{what} is no value of a configuration"), None);
                return None;
            }
        }
    }
    Some(Domain::Values(values))
}

fn range(mut section: Section<'_>) -> Option<Domain> {
    let line = section.line;
    if let Some(entry) = section.take("choices") {
        let key = section.key("choices");
        let domain = match entry.item {
            Item::List(items) => values(items, entry.line, &key, section.problems),
            other => {
                section.problems.tell(entry.line, &key, format!("expected a list, found {}", other.found()), None);
                None
            }
        };
        section.finish();
        return domain;
    }
    let is_log = section.choice("scale", &[("linear", false), ("log", true)]).unwrap_or(false);
    let (min, max, step) = (section.number("min"), section.number("max"), section.number("step"));
    let is_int = section.flag("int");
    let problems = section.problems;
    let key = section.key("").trim_end_matches('.').to_owned();
    let absent = ["min", "max"].map(|name| section.is_absent(name));
    section.finish();
    for (name, is_absent) in ["min", "max"].into_iter().zip(absent) {
        if is_absent {
            problems.tell(line, &format!("{key}.{name}"), "a range needs this key", None);
        }
    }
    let ((_, min), (_, max)) = (min?, max?);
    if step.is_some() && is_log {
        problems.tell(line, &key, "a range has a step or the scale `log`, not both", Some("list the values themselves".to_owned()));
        return None;
    }
    let step = step.map(|(_, step)| step);
    let all_whole = [Some(&min), Some(&max), step.as_ref()].into_iter().flatten().all(|value| matches!(value, Value::Integer(_)));
    let (low, high) = (min.as_number()?, max.as_number()?);
    let wrong = if is_int == Some(true) && !all_whole {
        "a range of whole numbers has whole ends and a whole step"
    } else if low >= high {
        "`min` is not below `max`"
    } else if is_log && low <= 0.0 {
        "with the scale `log`, `min` is above 0"
    } else if step.as_ref().and_then(Value::as_number).is_some_and(|step| step <= 0.0 || step > high - low) {
        "the step is above 0 and at most `max - min`"
    } else if step.as_ref().and_then(Value::as_number).is_some_and(|step| (high - low) / step > MAX_STEPS) {
        "the range has too many steps"
    } else if !(high - low).is_finite() || low.abs().max(high.abs()) > 1e300 {
        "the range is too wide"
    } else {
        match (min, max) {
            (Value::Integer(min), Value::Integer(max)) if is_int != Some(false) && all_whole => {
                if min >= -MAX_INTEGER && max <= MAX_INTEGER {
                    let step = step.as_ref().and_then(Value::as_number).map(|step| step as u64);
                    return Some(Domain::Integers { min, max, step, is_log });
                }
                "whole numbers are between -2^53 and 2^53"
            }
            _ => return Some(Domain::Floats { min: low, max: high, step: step.and_then(|step| step.as_number()), is_log }),
        }
    };
    problems.tell(line, &key, wrong, None);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(min: f64, max: f64, step: Option<f64>, is_log: bool) -> Domain {
        Domain::Floats { min, max, step, is_log }
    }

    #[test]
    fn a_range_with_a_step_has_its_values() {
        let domain = floats(0.1, 0.5, Some(0.1), false);
        assert_eq!(domain.n_values(), Some(5));
        let all: Vec<String> = (0..5).map(|n| domain.nth(n).to_string()).collect();
        assert_eq!(all, ["0.1", "0.2", "0.3", "0.4", "0.5"]);
        let domain = Domain::Integers { min: -4, max: 5, step: Some(4), is_log: false };
        assert_eq!(domain.n_values(), Some(3));
        assert_eq!([0, 1, 2].map(|n| domain.nth(n)), [-4, 0, 4].map(Value::Integer));
        assert_eq!(floats(0.0, 1.0, None, false).n_values(), None);
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_both_ends() {
        let small = Domain::Integers { min: 1, max: 3, step: None, is_log: true };
        let mut seen = std::collections::BTreeSet::new();
        for position in 0..400 {
            let mut stream = Stream::new(5, "sweep:x", position);
            let Value::Integer(drawn) = small.draw(&mut stream) else { panic!("not whole") };
            seen.insert(drawn);
            let Value::Float(drawn) = floats(1e-5, 1e-1, None, true).draw(&mut stream) else { panic!("not a float") };
            assert!((1e-5..=1e-1).contains(&drawn));
            let Value::Float(drawn) = floats(-1.0, 1.0, Some(0.5), false).draw(&mut stream) else { panic!("not a float") };
            assert!((drawn * 2.0).fract().abs() < 1e-12, "{drawn}");
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn on_the_log_scale_each_decade_is_as_likely() {
        let domain = floats(1e-4, 1.0, None, true);
        let below = (0..4000).filter(|&n| domain.draw(&mut Stream::new(1, "x", n)).as_number().unwrap() < 1e-2).count();
        assert!((1850..2150).contains(&below), "{below}");
    }

    #[test]
    fn keys_are_those_of_the_command_line() {
        for key in ["a", "train.learning_rate", "a-b.c_d.0"] {
            assert!(is_key(key), "{key}");
        }
        for key in ["", "a..b", ".a", "--x", "a b", "a=b", "a.-b", "é", "a;b"] {
            assert!(!is_key(key), "{key}");
        }
    }
}
