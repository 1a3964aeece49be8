//! Typed access to the keys of a JSON object, with errors that name file and key. `null` is the same as absent, as in the files of transformers.

use std::path::Path;

use codex_core::files;
use serde_json::{Map, Value};

use crate::error::HubError;

/// The largest JSON file of a model that is read, in bytes.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// No count in a configuration is larger; what is built from it has bounds of its own.
const MAX_COUNT: u64 = 1 << 40;

/// An object of a JSON file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    path: &'a Path,
    /// The keys that lead to it, each with a dot behind.
    prefix: &'a str,
    map: &'a Map<String, Value>,
}

/// The object that a JSON file holds.
pub(crate) fn read_object(path: &Path, what: &'static str) -> Result<Map<String, Value>, HubError> {
    let bytes = files::read_bounded(path, MAX_JSON_BYTES)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(HubError::malformed(path, "the whole file", format!("the object of a {what}"), kind(&other))),
        Err(error) => Err(HubError::json(path, what, &error)),
    }
}

/// The list that a JSON file holds.
pub(crate) fn read_list(path: &Path, what: &'static str) -> Result<Vec<Value>, HubError> {
    let bytes = files::read_bounded(path, MAX_JSON_BYTES)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Array(list)) => Ok(list),
        Ok(other) => Err(HubError::malformed(path, "the whole file", format!("a {what}"), kind(&other))),
        Err(error) => Err(HubError::json(path, what, &error)),
    }
}

impl<'a> Fields<'a> {
    /// The fields of the object that a file holds.
    pub(crate) fn new(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Self { path, prefix: "", map }
    }

    /// The fields of an object in a file; `prefix` is what leads to it, with a dot.
    pub(crate) fn below(path: &'a Path, prefix: &'a str, map: &'a Map<String, Value>) -> Self {
        Self { path, prefix, map }
    }

    /// The file.
    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    /// Its keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a String> {
        self.map.keys()
    }

    /// A value that is there and not `null`.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// An object in the object; `prefix` is its key with a dot.
    pub(crate) fn object<'b>(&self, key: &str, prefix: &'b str) -> Result<Option<Fields<'b>>, HubError>
    where
        'a: 'b,
    {
        let Some(value) = self.get(key) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.wrong(key, "an object", value))?;
        Ok(Some(Fields { path: self.path, prefix, map }))
    }

    /// A count.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, HubError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0 && number < MAX_COUNT as f64).then_some(number as u64);
        let count = value.as_u64().or_else(|| value.as_f64().and_then(whole)).filter(|&count| count < MAX_COUNT);
        count.map(|count| Some(count as usize)).ok_or_else(|| self.wrong(key, "a count", value))
    }

    /// A count that must be there.
    pub(crate) fn needed_count(&self, key: &str) -> Result<usize, HubError> {
        self.count(key)?.ok_or_else(|| HubError::malformed(self.path, &self.full(key), "a count", "nothing"))
    }

    /// A number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, HubError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number", value))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, HubError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "`true` or `false`", value))
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, HubError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(key, "a text", value))
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, HubError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.as_array().ok_or_else(|| self.wrong(key, "a list of texts", value))?;
        let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
        texts.map(Some).ok_or_else(|| self.wrong(key, "a list of texts", value))
    }

    /// A token id; -1 stands for none in some old files.
    pub(crate) fn token_id(&self, key: &str) -> Result<Option<u32>, HubError> {
        Ok(self.token_ids(key)?.first().copied())
    }

    /// A token id, or a list of them.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Vec<u32>, HubError> {
        let Some(value) = self.get(key).filter(|value| value.as_i64() != Some(-1)) else { return Ok(Vec::new()) };
        let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let ids: Option<Vec<u32>> = all.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect();
        ids.ok_or_else(|| self.wrong(key, "a token id", value))
    }

    /// An option of which the network has one setting only: absent, or one of `accepted`.
    pub(crate) fn only(&self, key: &str, accepted: &[Value], why: &str) -> Result<(), HubError> {
        match self.get(key) {
            Some(value) if !accepted.contains(value) => Err(self.unsupported(key, format!("{why} (found {})", shown(value)))),
            _ => Ok(()),
        }
    }

    /// An error for a key that asks for too much.
    pub(crate) fn unsupported(&self, key: &str, reason: impl Into<String>) -> HubError {
        HubError::unsupported(self.path, &self.full(key), reason)
    }

    /// An error for a value that is of the wrong kind.
    pub(crate) fn wrong(&self, key: &str, expected: &str, found: &Value) -> HubError {
        HubError::malformed(self.path, &self.full(key), expected, shown(found))
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// A value as a message shows it: short.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > 60 => format!("the text \"{}…\"", text.chars().take(60).collect::<String>()),
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        other => other.to_string(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
