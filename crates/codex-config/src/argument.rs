//! Command-line assignments: `train.learning_rate=3e-4`, and `model=small` to include the group `model/small`.
//!
//! The value is TOML where it parses as TOML (`3`, `true`, `"text"`, `[1, 2]`, `{ a = 1 }`) and a string otherwise.

use figment::value::{Dict, Tag, Value};

use crate::error::LocatedProblem;
use crate::key::{KeyPath, dotted, is_bare};
use crate::layer::{Entry, Layer, MAX_DEPTH, Node, leaves};
use crate::schema::Known;
use crate::source::Source;
use crate::toml_text;

/// A group chosen on the command line.
pub(crate) struct Choice {
    /// `model/small`
    pub(crate) group: String,
    pub(crate) place: Source,
}

/// The layer that these arguments set, and the groups they choose.
pub(crate) fn layer(arguments: &[String], known: &Known, problems: &mut Vec<LocatedProblem>) -> (Vec<Choice>, Layer) {
    let mut layer = Layer::default();
    let mut choices: Vec<(String, Choice)> = Vec::new();
    for text in arguments {
        let place = Source::Argument { text: text.clone() };
        let mut tell = |key: &str, message: String, hint: Option<&str>| {
            problems.push(LocatedProblem { place: place.clone(), key: key.to_owned(), message, hint: hint.map(str::to_owned) });
        };
        let Some((path, value)) = split(text) else {
            tell("", "expected `key=value`".to_owned(), Some("a key is names joined by dots, as in `train.learning_rate=3e-4`"));
            continue;
        };
        if path.len() > MAX_DEPTH {
            tell("", format!("nested deeper than {MAX_DEPTH} levels"), None);
            continue;
        }
        if let ([name], Some(option)) = (path.as_slice(), option(value))
            && known.at(&path).is_some_and(Known::is_table)
        {
            if let Some((_, first)) = choices.iter().find(|(chosen, _)| chosen == name) {
                tell(name, format!("set twice, first by {}", first.place), Some("keep one of the two"));
            } else {
                choices.push((name.clone(), Choice { group: format!("{name}/{option}"), place }));
            }
            continue;
        }
        if !set_value(&mut layer, &path, value, &place) {
            tell(&dotted(&path), format!("set twice, first by {}", layer.place(&path)), Some("keep one of the two"));
        }
    }
    (choices.into_iter().map(|(_, choice)| choice).collect(), layer)
}

/// Sets what the text says at the path, an inline table value by value; `false` when something of it is already set.
pub(crate) fn set_value(layer: &mut Layer, path: &[String], text: &str, place: &Source) -> bool {
    let string = || Value::from(text);
    // What TOML can say and a configuration cannot (a date, an endless number) is text here.
    let value = toml_text::value(text).and_then(|node| plain(node, path.len())).unwrap_or_else(string);
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

fn split(text: &str) -> Option<(KeyPath, &str)> {
    let (key, value) = text.split_once('=')?;
    let path: KeyPath = key.trim().split('.').map(str::to_owned).collect();
    // `a==1` is a slip, and never meant as the string `=1`.
    (path.iter().all(|name| is_bare(name) && !name.starts_with('-')) && !value.starts_with('=')).then_some((path, value))
}

/// The option a group's value names: a word, bare or as a TOML string.
fn option(value: &str) -> Option<String> {
    match toml_text::value(value) {
        None => Some(value.to_owned()),
        Some(Node::Scalar(Value::String(_, text))) => Some(text),
        Some(_) => None,
    }
}

/// The value without places; `None` when it is one that no configuration may hold, or too deep.
fn plain(node: Node, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    match node {
        Node::Scalar(value) => Some(value),
        Node::Refused { .. } => None,
        Node::List(items) => Some(Value::Array(Tag::Default, items.into_iter().map(|item| plain(item, depth + 1)).collect::<Option<_>>()?)),
        Node::Table(entries) => {
            let inner = |Entry { name, node, .. }| Some((name, plain(node, depth + 1)?));
            Some(Value::from(entries.into_iter().map(inner).collect::<Option<Dict>>()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::child;

    #[test]
    fn an_argument_is_split_at_its_first_equals_sign() {
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(split("a.b=c=d"), Some((path(&["a", "b"]), "c=d")));
        assert_eq!(split("a="), Some((path(&["a"]), "")));
        for text in ["", "a", "=1", "a==1", "a..b=1", ".a=1", "--a=1", "+a=1", "a[0]=1", "a b=1"] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    #[test]
    fn inline_tables_and_single_keys_meet() {
        let place = Source::Argument { text: "x".to_owned() };
        let mut layer = Layer::default();
        let path = vec!["train".to_owned()];
        assert!(set_value(&mut layer, &child(&path, "steps"), "3", &place));
        assert!(set_value(&mut layer, &path, "{ rate = 0.5 }", &place));
        assert!(!set_value(&mut layer, &path, "{ rate = 0.7, more = 1 }", &place));
        assert_eq!(layer.leaves().len(), 3);
    }
}
