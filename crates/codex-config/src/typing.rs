//! Which values have the wrong type, each at its own place although serde stops at the first.
//!
//! Each value is tried alone on top of the default. One that fails at its own key is wrong for certain. One that fails elsewhere may need its
//! siblings; it is wrong only if all layers together fail too.

use figment::error::Kind;
use figment::value::{Dict, Value};
use figment::{Error, Figment, Profile, Provider};

use crate::error::{LocatedProblem, Mark};
use crate::key::{KeyPath, child, dotted};
use crate::layer::{Layer, Numbered, put, remove};
use crate::schema::Schema;
use crate::source::Source;
use crate::wording::refusal;

/// Failures of the merged value that are told; each costs one more merge.
const MAX_ROUNDS: usize = 100;

/// The layers merged, with the metadata that leads from each value back to its layer.
pub(crate) struct Merged {
    pub(crate) values: Dict,
    figment: Figment,
}

impl Merged {
    pub(crate) fn of(defaults: &Dict, layers: &[Layer]) -> Self {
        let mut figment = Figment::from(Numbered { number: 0, values: defaults });
        for (n, layer) in layers.iter().enumerate() {
            figment = figment.merge(Numbered { number: n + 1, values: &layer.values });
        }
        let values = figment.data().ok().and_then(|mut profiles| profiles.remove(&Profile::Default)).unwrap_or_default();
        Self { values, figment }
    }

    /// The place that set this value or the value above it.
    pub(crate) fn source(&self, path: &[String], layers: &[Layer]) -> Source {
        let Some((first, below)) = path.split_first() else { return Source::Default };
        let Some(mut value) = self.values.get(first) else { return Source::Default };
        let mut reached = 1;
        for name in below {
            match value.as_dict().and_then(|table| table.get(name)) {
                Some(inner) => value = inner,
                // What serde filled in itself, unless a layer set the whole: a value, or an empty table.
                None if value.as_dict().is_some_and(|table| !table.is_empty()) => return Source::Default,
                None => break,
            }
            reached += 1;
        }
        let number = self.figment.get_metadata(value.tag()).and_then(|metadata| metadata.source.as_ref()?.custom()?.parse::<usize>().ok());
        match number.and_then(|number| layers.get(number.checked_sub(1)?)) {
            Some(layer) => layer.place(&path[..reached]),
            None => Source::Default,
        }
    }
}

/// The merged value; `None` when it is wrong in a way that no key can be blamed for. Wrong values are told and taken out of their layers.
pub(crate) fn check<T: Schema>(defaults: &Dict, layers: &mut [Layer], problems: &mut Vec<LocatedProblem>) -> Option<T> {
    let mut doubtful = Vec::new();
    for (n, layer) in layers.iter_mut().enumerate() {
        for (path, value) in layer.leaves() {
            let Err(mut error) = alone::<T>(defaults, &path, value.clone()) else {
                if let Some(message) = surplus::<T>(defaults, &path, &value) {
                    problems.push(LocatedProblem::new(layer.place(&path), dotted(&path), message, None));
                    remove(&mut layer.values, &path);
                }
                continue;
            };
            if let Some(text) = layer.texts.get(&path) {
                // `name=2024` is a string where the key wants one.
                let text = Value::from(text.clone());
                let as_text = alone::<T>(defaults, &path, text.clone());
                if as_text.as_ref().map_or_else(|error| !is_certain(error, &path), |_| true) && is_certain(&error, &path) {
                    put(&mut layer.values, &path, text);
                    match as_text {
                        Ok(_) => continue,
                        Err(other) => error = other,
                    }
                }
            }
            if is_certain(&error, &path) {
                problems.push(told::<T>(&error, &path, layer.place(&path), defaults));
                remove(&mut layer.values, &path);
            } else {
                doubtful.push((n, path, error.kind));
            }
        }
    }
    together(defaults, layers, doubtful, problems)
}

/// Deserialises all layers together, and takes out what is wrong until the rest is right.
fn together<T: Schema>(
    defaults: &Dict,
    layers: &mut [Layer],
    mut doubtful: Vec<(usize, KeyPath, Kind)>,
    problems: &mut Vec<LocatedProblem>,
) -> Option<T> {
    for _ in 0..MAX_ROUNDS {
        let error = match Value::from(Merged::of(defaults, layers).values).deserialize::<T>() {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let blamed = |(n, layer): (usize, &Layer)| {
            let below =
                layer.leaves().into_iter().map(|(path, _)| path).rfind(|path| !error.path.is_empty() && related(path, &error.path))?;
            Some((n, below))
        };
        if let Some((n, path)) = layers.iter().enumerate().rev().find_map(blamed) {
            problems.push(told::<T>(&error, &path, layers[n].place(&path), defaults));
            for layer in layers.iter_mut() {
                for (other, _) in layer.leaves() {
                    if related(&other, &error.path) {
                        remove(&mut layer.values, &other);
                    }
                }
            }
            continue;
        }
        // The error names no key: the doubtful value that fails alone in the same way is the likeliest, then the last one.
        let same = doubtful.iter().rposition(|(_, _, kind)| *kind == error.kind).or_else(|| doubtful.len().checked_sub(1));
        let Some(position) = same else {
            let (message, hint) = refusal(&error.kind, None);
            problems.push(LocatedProblem::new(Source::Default, dotted(&error.path), message, hint));
            return None;
        };
        let (n, path, _) = doubtful.remove(position);
        problems.push(told::<T>(&error, &path, layers[n].place(&path), defaults));
        remove(&mut layers[n].values, &path);
    }
    None
}

#[expect(clippy::result_large_err, reason = "figment's error is passed on as it came, and only when a value is wrong")]
fn alone<T: Schema>(defaults: &Dict, path: &[String], value: Value) -> Result<T, Error> {
    let mut values = defaults.clone();
    put(&mut values, path, value);
    Value::from(values).deserialize()
}

/// The message for a list with more values than its key takes: figment's deserializer ignores the rest, serde_json's does not.
fn surplus<T: Schema>(defaults: &Dict, path: &[String], value: &Value) -> Option<String> {
    let found = value.as_array()?.len();
    let mut values = defaults.clone();
    put(&mut values, path, value.clone());
    let error = serde_json::from_value::<T>(serde_json::to_value(&values).ok()?).err()?;
    if !error.to_string().contains("invalid length") {
        return None;
    }
    let taken = path
        .iter()
        .try_fold(&Value::from(defaults.clone()), |value, name| value.as_dict()?.get(name))
        .and_then(Value::as_array)
        .map(<[_]>::len);
    Some(match taken {
        Some(taken) if taken < found => format!("expected a list of {taken} values, found {found} values"),
        _ => format!("a list has more values than the key takes: {error}"),
    })
}

/// Whether an error of the value alone is that value's, whatever its siblings are.
fn is_certain(error: &Error, path: &[String]) -> bool {
    use figment::error::Actual::Map;
    if error.path.is_empty() {
        return false;
    }
    let inside = error.path.starts_with(path);
    match &error.kind {
        Kind::MissingField(_) => inside && error.path.len() > path.len(),
        Kind::UnknownField(..) | Kind::UnknownVariant(..) | Kind::InvalidType(Map, _) => inside || path.starts_with(&error.path),
        _ => inside,
    }
}

fn related(path: &[String], other: &[String]) -> bool {
    path.starts_with(other) || other.starts_with(path)
}

/// The problem of the value at `path` that made serde say `error`.
fn told<T: Schema>(error: &Error, path: &[String], place: Source, defaults: &Dict) -> LocatedProblem {
    let at = if error.path.is_empty() { path } else { &error.path };
    let mut key = at.to_vec();
    if let Kind::MissingField(name) = &error.kind {
        key = child(at, name);
    }
    // Below a value there are only places in a list.
    let within = if key.len() > path.len() && key.starts_with(path) && key[path.len()].parse::<usize>().is_ok() {
        let within = key.split_off(path.len());
        let item = |step: &String| step.parse::<usize>().map_or_else(|_| format!("`{step}`"), |n| format!("item {}", n + 1));
        within.iter().map(item).collect::<Vec<_>>().join(", ") + ": "
    } else {
        String::new()
    };
    let variants = match &error.kind {
        Kind::InvalidType(_, expected) if within.is_empty() && expected.starts_with("enum ") => match alone::<T>(defaults, at, "".into()) {
            Err(Error { kind: Kind::UnknownVariant(_, names), .. }) => Some(names),
            _ => None,
        },
        _ => None,
    };
    let (message, hint) = refusal(&error.kind, variants);
    let mark = if matches!(error.kind, Kind::UnknownField(..) | Kind::MissingField(_)) { Mark::Key } else { Mark::Value };
    LocatedProblem::new(place, dotted(&key), format!("{within}{message}"), hint).at(mark)
}
