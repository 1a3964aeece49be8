//! The command line's assignments, read: which groups they choose or drop, and what they set, add and delete.

use std::collections::BTreeSet;

use figment::value::{Dict, Empty, Tag, Value};

use crate::assignment::{Action, Assignment, Setting};
use crate::defaults_list::Wanted;
use crate::element::Element;
use crate::error::{LocatedProblem, Mark};
use crate::key::{KeyPath, dotted};
use crate::layer::{Entry, Layer, MAX_DEPTH, Node, leaves};
use crate::schema::Known;
use crate::source::Source;
use crate::toml_text;

/// A group chosen or dropped on the command line.
pub(crate) struct Choice {
    pub(crate) wanted: Wanted,
    pub(crate) action: Action,
    pub(crate) place: Source,
    /// `model` where that is a table too: `~model` may mean its values.
    pub(crate) path: Option<KeyPath>,
}

/// A value set, added or deleted on the command line.
pub(crate) struct Change {
    pub(crate) action: Action,
    pub(crate) path: KeyPath,
    pub(crate) element: Option<Element>,
    /// The value's text as it was typed.
    pub(crate) text: String,
    pub(crate) place: Source,
}

/// Everything that these arguments ask for. `is_group` says whether a name without a table is a group's.
pub(crate) fn read(
    arguments: &[String],
    known: &Known,
    is_group: &dyn Fn(&str) -> bool,
    problems: &mut Vec<LocatedProblem>,
) -> (Vec<Choice>, Vec<Change>) {
    let (mut choices, mut changes): (Vec<Choice>, Vec<Change>) = (Vec::new(), Vec::new());
    for text in arguments {
        let place = Source::Argument { text: text.clone() };
        let assignment = match Assignment::parse(text) {
            Ok(assignment) => assignment,
            Err(slip) => {
                problems.push(LocatedProblem::of_slip(text, slip));
                continue;
            }
        };
        let mut tell = |key: &str, message: String, hint: &str, mark: Mark| {
            problems.push(LocatedProblem::of_argument(text, key, message, Some(hint)).at(mark));
        };
        let name = assignment.key.name.clone();
        if let Some(package) = &assignment.key.package {
            let message = format!("`@{package}` is a package, and groups have none here");
            let hint = format!("a group's text names its keys in full: write `{name}=…`");
            tell(&name, message, &hint, Mark::Text(format!("@{package}")));
            continue;
        }
        let element = match assignment.setting {
            Some(Setting::Sweep(_)) => {
                let hint =
                    "for a run for each of them use `--multirun` or `codex-cli sweep`; text with commas or brackets belongs in quotes";
                tell(&name, "a sweep has several values, and one run takes one".to_owned(), hint, Mark::Value);
                continue;
            }
            Some(Setting::Value(element)) => Some(element),
            None => None,
        };
        let path = assignment.key.path();
        let is_table = path.as_ref().is_some_and(|path| path.len() == 1 && known.at(path).is_some_and(Known::is_table));
        let is_free_name = path.as_ref().is_none_or(|path| path.len() == 1 && known.at(path).is_none()) && is_group(&name);
        let option = match &element {
            Some(Element::Text(option)) => Some(Some(option.clone())),
            // Without the quotes `null` drops the group.
            Some(Element::Null) | None => Some(None),
            Some(_) => None,
        };
        if let (true, Some(option)) = (is_table || is_free_name, option) {
            if let Some(first) = choices.iter().find(|choice| choice.wanted.group == name) {
                tell(&name, format!("set twice, first by {}", first.place), "keep one of the two", Mark::Key);
                continue;
            }
            let wanted = Wanted { group: name, option, is_optional: false, is_override: false };
            choices.push(Choice { wanted, action: assignment.action, place, path: path.filter(|_| is_table) });
            continue;
        }
        let Some(path) = path else {
            tell(&name, format!("no group `{name}`"), "a group is a folder of configs; a key is names joined by dots", Mark::Key);
            continue;
        };
        changes.push(Change { action: assignment.action, path, element, text: text[assignment.value_at..].trim().to_owned(), place });
    }
    (choices, changes)
}

/// Names of every group that the command line chooses or drops.
pub(crate) fn groups(choices: &[Choice]) -> BTreeSet<String> {
    choices.iter().map(|choice| choice.wanted.group.clone()).collect()
}

/// Sets what an argument says at the path, a table value by value; `false` when something of it is already set.
pub(crate) fn set_element(layer: &mut Layer, path: &[String], element: &Element, text: &str, place: &Source) -> bool {
    set(layer, path, value_of(element), text, place)
}

/// Sets what an environment variable says: TOML, or a string.
pub(crate) fn set_text(layer: &mut Layer, path: &[String], text: &str, place: &Source) -> bool {
    set(layer, path, value_of_text(text, path.len()), text, place)
}

/// The text as TOML where it is TOML. What TOML can say and a configuration cannot (a date, an endless number) is text here.
pub(crate) fn value_of_text(text: &str, depth: usize) -> Value {
    toml_text::value(text).and_then(|node| plain(node, depth)).unwrap_or_else(|| Value::from(text))
}

fn set(layer: &mut Layer, path: &[String], value: Value, text: &str, place: &Source) -> bool {
    match &value {
        Value::Dict(_, inner) if !inner.is_empty() => {
            let mut found = Vec::new();
            leaves(path, inner, &mut found);
            // Every value is tried, so that the first conflict does not hide the others from the checks that follow.
            found.into_iter().filter(|(path, value)| !layer.set(path, value.clone(), place)).count() == 0
        }
        _ => {
            if matches!(value, Value::Num(..) | Value::Bool(..)) {
                layer.texts.insert(path.to_vec(), text.to_owned());
            }
            layer.set(path, value, place)
        }
    }
}

/// The element as layers hold it.
pub(crate) fn value_of(element: &Element) -> Value {
    match element {
        Element::Null => Value::Empty(Tag::Default, Empty::None),
        Element::Bool(yes) => Value::from(*yes),
        Element::Int(number) => Value::from(*number),
        // No configuration holds an endless number, and a name may be `nan`.
        Element::Float(number) if !number.is_finite() => Value::from(element.to_string()),
        Element::Float(number) => Value::from(*number),
        Element::Text(text) => Value::from(text.as_str()),
        Element::List(items) => Value::Array(Tag::Default, items.iter().map(value_of).collect()),
        Element::Dict(entries) => Value::from(entries.iter().map(|(key, value)| (key.clone(), value_of(value))).collect::<Dict>()),
    }
}

/// The value without places; `None` when it is one that no configuration may hold, or too deep.
fn plain(node: Node, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    match node {
        Node::Scalar(value) => Some(value),
        Node::Refused { .. } | Node::Null => None,
        Node::List(items) => Some(Value::Array(Tag::Default, items.into_iter().map(|item| plain(item, depth + 1)).collect::<Option<_>>()?)),
        Node::Table(entries) => {
            let inner = |Entry { name, node, .. }| Some((name, plain(node, depth + 1)?));
            Some(Value::from(entries.into_iter().map(inner).collect::<Option<Dict>>()?))
        }
    }
}

/// The problem of a change, at its value.
pub(crate) fn problem(change: &Change, message: String, hint: Option<String>) -> LocatedProblem {
    LocatedProblem::new(change.place.clone(), dotted(&change.path), message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::child;

    #[test]
    fn inline_tables_and_single_keys_meet() {
        let place = Source::Argument { text: "x".to_owned() };
        let mut layer = Layer::default();
        let path = vec!["train".to_owned()];
        assert!(set_text(&mut layer, &child(&path, "steps"), "3", &place));
        assert!(set_text(&mut layer, &path, "{ rate = 0.5 }", &place));
        assert!(!set_text(&mut layer, &path, "{ rate = 0.7, more = 1 }", &place));
        assert_eq!(layer.leaves().len(), 3);
    }
}
