//! What a configuration type promises, and the tree of keys that follows from its default.

use std::collections::BTreeMap;

use codex_core::suggest;
use figment::value::{Dict, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ConfigError, LocatedProblem, Mark};
use crate::key::{KeyPath, child, dotted};
use crate::layer::Layer;
use crate::source::Source;
use crate::wording::found;

/// A configuration type: exactly what a file says.
///
/// The keys a layer may set are those of the serialised default, so every field must be serialised (no `skip_serializing_if`, no aliases), under
/// the name it is read by. What the default has at a key decides how deep the check goes:
/// - a table: its keys are the only ones;
/// - an empty table (an empty map): any keys;
/// - anything else (a value, a list, or nothing, as in `Option`): what a layer puts there, also a table, is left to serde.
///
/// An enum whose variants carry data belongs in an `Option` or has a unit variant as its default, since tables of two variants would be merged.
pub trait Schema: Serialize + DeserializeOwned + Default {
    /// What is wrong with the value although each type is right: ranges, contradictions.
    fn problems(&self) -> Vec<Problem>;
}

/// Something wrong with a value at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted path of the key.
    pub key: String,
    /// What is wrong: lower case, backticks round literals, no final period.
    pub message: String,
    /// The next step, if the message does not say it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), hint: None }
    }

    /// The same with the next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The default of `T` as a tree of values.
pub(crate) fn defaults_of<T: Schema>() -> Result<Dict, ConfigError> {
    let refused = |message: String| ConfigError::Schema { message };
    let value = Value::serialize(T::default()).map_err(|error| refused(error.to_string()))?;
    value.into_dict().ok_or_else(|| refused("the default is not a table".to_owned()))
}

/// The keys that layers may set.
pub(crate) enum Known {
    Table(BTreeMap<String, Self>),
    /// Any keys.
    Free,
    /// A value; a table in its place is left to serde.
    Value,
}

impl Known {
    pub(crate) fn of(defaults: &Dict) -> Self {
        let branch = |value: &Value| match value.as_dict() {
            None => Self::Value,
            Some(dict) if dict.is_empty() => Self::Free,
            Some(dict) => Self::of(dict),
        };
        Self::Table(defaults.iter().map(|(name, value)| (name.clone(), branch(value))).collect())
    }

    /// The node at this path, if the path is made of table keys only.
    pub(crate) fn at(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |node, name| match node {
            Self::Table(keys) => keys.get(name),
            _ => None,
        })
    }

    /// How many names of the path lead to a table of any keys, if it goes on below one.
    pub(crate) fn free_above(&self, path: &[String]) -> Option<usize> {
        (1..path.len()).find(|n| matches!(self.at(&path[..*n]), Some(Self::Free)))
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Self::Table(_))
    }

    /// Every path of a table or a value below this node.
    fn paths(&self, above: &[String], out: &mut Vec<KeyPath>) {
        if let Self::Table(keys) = self {
            for (name, inner) in keys {
                let path = child(above, name);
                inner.paths(&path, out);
                out.push(path);
            }
        }
    }

    /// The path that was probably meant: the same name in another table, a similar one beside it, or a similar one elsewhere.
    fn meant(&self, path: &[String]) -> Option<KeyPath> {
        let (name, above) = path.split_last()?;
        let mut all = Vec::new();
        self.paths(&[], &mut all);
        let the_only = |wanted: &dyn Fn(&KeyPath) -> bool| {
            let mut those = all.iter().filter(|known| wanted(known));
            those.next().filter(|_| those.next().is_none()).cloned()
        };
        if let Some(elsewhere) = the_only(&|known| known.last() == Some(name) || known.join(".") == *name) {
            return Some(elsewhere);
        }
        if let Some(Self::Table(siblings)) = self.at(above)
            && let Some(near) = suggest::nearest(name, siblings.keys().map(String::as_str))
        {
            return Some(child(above, near));
        }
        let near = suggest::nearest(name, all.iter().filter_map(|known| known.last()).map(String::as_str))?;
        the_only(&|known| known.last().is_some_and(|last| last == near))
    }

    /// The hint for an unknown path: the one that was meant, or the keys there are.
    fn hint(&self, path: &[String], meant: Option<String>) -> Option<String> {
        if let Some(meant) = meant {
            return Some(format!("did you mean `{meant}`?"));
        }
        match self.at(&path[..path.len().saturating_sub(1)]) {
            Some(Self::Table(keys)) => Some(format!("known keys here: {}", list(keys.keys().map(String::as_str)))),
            _ => None,
        }
    }

    /// Takes out of the layer what is not known and what is no table although it has to be one, with a problem for each.
    pub(crate) fn screen(&self, layer: &mut Layer, problems: &mut Vec<LocatedProblem>) {
        let mut values = std::mem::take(&mut layer.values);
        self.screen_table(&[], &mut values, layer, self, problems);
        layer.values = values;
    }

    fn screen_table(&self, above: &[String], values: &mut Dict, layer: &mut Layer, root: &Self, problems: &mut Vec<LocatedProblem>) {
        let Self::Table(keys) = self else { return };
        values.retain(|name, value| {
            let path = child(above, name);
            let Some(known) = keys.get(name) else {
                let place = layer.place(&path);
                let meant = root.meant(&path);
                let hint = if path == ["defaults"] {
                    Some("`defaults` belongs in a file; here choose a group by `model=small`".to_owned())
                } else {
                    root.hint(&path, meant.as_ref().map(|meant| layer.spell(meant)))
                };
                problems.push(LocatedProblem::new(place, dotted(&path), "unknown key", hint).at(Mark::Key));
                layer.guesses.extend(meant.map(|meant| (meant, value.clone())));
                return false;
            };
            match (known, &mut *value) {
                (Self::Table(_), Value::Dict(_, inner)) => {
                    known.screen_table(&path, inner, layer, root, problems);
                    // A table of unknown keys alone, or an empty one, sets nothing.
                    !inner.is_empty()
                }
                (Self::Table(inner), _) => {
                    let message = format!("expected a table, found {}", found(value));
                    let hint = Some(format!("its keys: {}", list(inner.keys().map(String::as_str))));
                    problems.push(LocatedProblem::new(layer.place(&path), dotted(&path), message, hint));
                    false
                }
                (Self::Free, other) if other.as_dict().is_none() => {
                    let message = format!("expected a table, found {}", found(other));
                    problems.push(LocatedProblem::new(layer.place(&path), dotted(&path), message, None));
                    false
                }
                _ => true,
            }
        });
    }
}

/// Names in backticks, the first twenty of them.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 20;
    let names: Vec<&str> = names.into_iter().collect();
    let text = names.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > MOST { format!("{text} and {} more", names.len() - MOST) } else { text }
}

/// The problem of a [`Schema`], at the place that set its key.
pub(crate) fn located(problem: Problem, place: Source) -> LocatedProblem {
    LocatedProblem::new(place, problem.key, problem.message, problem.hint)
}
