//! A resolved configuration: the value, and for each key of it the place that set it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use codex_core::Digest;
use figment::value::{Num, Value};
use serde_json::Map;

use crate::error::ConfigError;
use crate::interpolation;
use crate::key::dotted;
use crate::layer::{Layer, leaves};
use crate::schema::Schema;
use crate::source::Source;
use crate::typing::Merged;

/// A configuration with the source of each value.
#[derive(Clone, Debug)]
pub struct Resolved<T> {
    /// The configuration.
    pub value: T,
    rows: Vec<Row>,
    sources: BTreeMap<String, Source>,
    toml: String,
    digest: Digest,
    files: BTreeMap<PathBuf, Digest>,
}

/// One key of a configuration, for a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The dotted key.
    pub key: String,
    /// The value as TOML; `unset` for an option that has none.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

impl<T: Schema> Resolved<T> {
    pub(crate) fn new(value: T, merged: &Merged, layers: &[Layer], files: BTreeMap<PathBuf, Digest>) -> Result<Self, ConfigError> {
        let refused = |message: String| ConfigError::Schema { message };
        let tree = Value::serialize(&value).map_err(|error| refused(error.to_string()))?;
        let tree = tree.into_dict().ok_or_else(|| refused("the value is not a table".to_owned()))?;
        let mut found = Vec::new();
        leaves(&[], &tree, &mut found);
        let mut rows = Vec::with_capacity(found.len());
        let mut sources = BTreeMap::new();
        for (path, leaf) in found {
            let key = dotted(&path);
            let text = to_toml(&leaf)
                .map_err(|what| refused(format!("`{key}`: {what}")))?
                .map_or_else(|| "unset".to_owned(), |leaf| leaf.to_string());
            let source = merged.source(&path, layers);
            sources.insert(key.clone(), source.clone());
            rows.push(Row { key, value: text, source });
        }
        let table = to_toml(&escaped(Value::from(tree))).map_err(refused)?.unwrap_or_else(|| toml::Table::new().into());
        let toml = toml::to_string(&table).map_err(|error| refused(error.to_string()))?;
        let digest = Digest::of_json(&value).map_err(|error| refused(error.to_string()))?;
        Ok(Self { value, rows, sources, toml, digest, files })
    }
}

impl<T> Resolved<T> {
    /// Every effective value as TOML, sorted by key. Loaded as a file over the same layers it gives the same value again.
    ///
    /// TOML has no null: an option that has no value is left out.
    pub fn to_toml(&self) -> String {
        self.toml.clone()
    }

    /// The digest of the value's canonical JSON: the same for the same value, whichever layers it came from.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The files that were read for it, the user's and those of groups, with the digests of their bytes.
    pub fn files(&self) -> &BTreeMap<PathBuf, Digest> {
        &self.files
    }

    /// The source of each value, by dotted key.
    pub fn sources(&self) -> &BTreeMap<String, Source> {
        &self.sources
    }

    /// The source of one value; for a table the highest of its values', and [`Source::Default`] for a key there is not.
    pub fn source(&self, key: &str) -> &Source {
        let inside = |known: &str| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        let below = || self.sources.iter().filter(|(known, _)| inside(known)).map(|(_, source)| source).max();
        self.sources.get(key).or_else(below).unwrap_or(&Source::Default)
    }

    /// The source of each value as a JSON object from dotted key to [`Source::to_json`].
    pub fn sources_json(&self) -> serde_json::Value {
        self.sources.iter().map(|(key, source)| (key.clone(), source.to_json())).collect::<Map<_, _>>().into()
    }

    /// Key, value and source of each value, sorted by key.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

/// The value with the texts escaped that a file's layer would take as references.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(tag, text) => Value::String(tag, interpolation::escaped(&text)),
        Value::Array(tag, items) => Value::Array(tag, items.into_iter().map(escaped).collect()),
        Value::Dict(tag, table) => Value::Dict(tag, table.into_iter().map(|(name, value)| (name, escaped(value))).collect()),
        other => other,
    }
}

/// The value as TOML; `None` for no value.
pub(crate) fn to_toml(value: &Value) -> Result<Option<toml::Value>, String> {
    Ok(Some(match value {
        Value::String(_, text) => text.clone().into(),
        Value::Char(_, text) => text.to_string().into(),
        Value::Bool(_, yes) => (*yes).into(),
        Value::Num(_, number) => number_to_toml(*number)?,
        Value::Empty(..) => return Ok(None),
        Value::Array(_, items) => {
            let item = |item| to_toml(item)?.ok_or_else(|| "TOML has no null in a list".to_owned());
            toml::Value::Array(items.iter().map(item).collect::<Result<_, _>>()?)
        }
        Value::Dict(_, table) => {
            let mut out = toml::Table::new();
            for (name, inner) in table {
                if let Some(inner) = to_toml(inner)? {
                    out.insert(name.clone(), inner);
                }
            }
            out.into()
        }
    }))
}

fn number_to_toml(number: Num) -> Result<toml::Value, String> {
    let float = match number {
        // The shortest decimal that reads back as the same f32, not the digits of its widening.
        Num::F32(number) => Some(number.to_string().parse().unwrap_or(f64::NAN)),
        other => other.to_f64(),
    };
    match float {
        Some(float) if !float.is_finite() => Err(format!("`{float}` is not a finite number")),
        Some(float) => Ok(float.into()),
        None => {
            let whole = number.to_i128().or_else(|| number.to_u128().and_then(|n| i128::try_from(n).ok()));
            let whole = whole.and_then(|n| i64::try_from(n).ok());
            whole.map(toml::Value::from).ok_or_else(|| "TOML integers end at 9223372036854775807".to_owned())
        }
    }
}
