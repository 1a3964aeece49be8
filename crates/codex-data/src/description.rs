//! What a source holds, before anything is trained on it: how each file is read, and the fields of its first rows.

use std::collections::BTreeMap;

use codex_safety::Scanner;
use codex_tokenize::chat::ChatValue;
use serde::Serialize;

use crate::row;

/// Fields that are listed.
const MOST_FIELDS: usize = 256;

/// How one file, or another source of one kind, is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceDescription {
    /// The path, `standard input` or `builtin:NAME`.
    pub path: String,
    /// What its documents are written as: `JSON lines`, `a JSON array`, `a table with commas (CSV)`, `a table with tabs (TSV)`, `Parquet` or
    /// `one text`.
    pub format: String,
    /// `gzip` or `zstd`; absent where it is not compressed.
    pub compression: Option<String>,
    /// `UTF-8`, `UTF-8 with a byte order mark`, `UTF-16LE` or `UTF-16BE`; absent where it is not written in characters.
    pub encoding: Option<String>,
    /// What of this its name does not say, as a sentence.
    pub note: Option<String>,
    /// How many rows were looked at, those that cannot be used not among them.
    pub rows: u64,
    /// How many of the first rows cannot be used.
    pub bad_rows: u64,
    /// The fields of those rows, in the order in which they were met; 256 at most.
    pub fields: Vec<FieldDescription>,
}

/// A field of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldDescription {
    /// Its name, as the safety policy lets it be shown.
    pub name: String,
    /// How many rows have a value of each type of JSON: `text`, `number`, `boolean`, `null`, `array`, `object`. A row without the field is in none.
    pub types: BTreeMap<String, u64>,
}

impl SourceDescription {
    /// One without rows.
    pub(crate) fn new(path: &str, format: &str) -> Self {
        Self {
            path: path.to_owned(),
            format: format.to_owned(),
            compression: None,
            encoding: None,
            note: None,
            rows: 0,
            bad_rows: 0,
            fields: Vec::new(),
        }
    }

    /// Counts a row.
    pub(crate) fn add(&mut self, row: &[u8], scanner: &Scanner) {
        let Ok(ChatValue::Map(entries)) = serde_json::from_slice(row) else {
            self.bad_rows += 1;
            return;
        };
        self.rows += 1;
        for (name, value) in entries {
            let name = row::told(scanner, &name);
            let field = match self.fields.iter_mut().position(|field| field.name == name) {
                Some(at) => &mut self.fields[at],
                None if self.fields.len() == MOST_FIELDS => continue,
                None => {
                    self.fields.push(FieldDescription { name, types: BTreeMap::new() });
                    let last = self.fields.len() - 1;
                    &mut self.fields[last]
                }
            };
            *field.types.entry(type_of(&value).to_owned()).or_default() += 1;
        }
    }
}

fn type_of(value: &ChatValue) -> &'static str {
    match value {
        ChatValue::Null => "null",
        ChatValue::Bool(_) => "boolean",
        ChatValue::Integer(_) | ChatValue::Float(_) => "number",
        ChatValue::Text(_) => "text",
        ChatValue::List(_) => "array",
        ChatValue::Map(_) => "object",
    }
}
