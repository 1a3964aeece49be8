//! One JSONL row: a strict reading of a JSON object that takes one field of text.
//!
//! Stricter than a derived reader, which takes an array for an object and the last of two equal keys.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use codex_core::suggest;
use codex_safety::{Scanner, Tally, Verdict};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::conversation::ROLES;

/// What is wrong with a row or a text file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowFault {
    /// A byte that is no part of UTF-8.
    #[error("byte 0x{byte:02x} at offset {offset} is not UTF-8")]
    NotUtf8 {
        /// The byte.
        byte: u8,
        /// Its offset in the row or file, from 0.
        offset: usize,
    },
    /// Half of a surrogate pair, which is no character in UTF-8 or UTF-16.
    #[error("half of a surrogate pair at offset {offset}")]
    LoneSurrogate {
        /// Its offset in the row or file as UTF-8, from 0.
        offset: usize,
    },
    /// More bytes than are read at once.
    #[error("longer than {max_row_bytes} bytes")]
    TooLong {
        /// The longest that is read.
        max_row_bytes: usize,
    },
    /// No JSON.
    #[error("not JSON: {message}")]
    NotJson {
        /// What the JSON reader said.
        message: String,
    },
    /// JSON of another kind than an object.
    #[error("expected an object, found {found}")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// A key that occurs twice in one object.
    #[error("key `{}` occurs twice in one object", shortened(key))]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// The row lacks the field of the text.
    #[error("no field `{field}`; {}", there_are(fields))]
    MissingField {
        /// The field that was looked for.
        field: String,
        /// The fields that are there, the first few.
        fields: Vec<String>,
        /// The nearest of them.
        nearest: Option<String>,
    },
    /// The field holds something other than text.
    #[error("field `{field}`: expected text, found {found}")]
    NotText {
        /// The field.
        field: String,
        /// What it holds.
        found: &'static str,
    },
    /// A record of a table has another number of fields than its first has names.
    #[error("expected {expected} fields, found {found}")]
    Columns {
        /// The names there are.
        expected: usize,
        /// The fields of the record.
        found: usize,
    },
    /// A row that is neither a text, a prompt nor a chat.
    #[error("neither `{text_field}`, `messages` nor `prompt` is there; {}", there_are(fields))]
    UnknownShape {
        /// The field of a text.
        text_field: String,
        /// The fields that are there, the first few.
        fields: Vec<String>,
    },
    /// A part of a prompt or a chat is absent or something else.
    #[error("`{place}`: expected {expected}, found {found}")]
    BadField {
        /// The part, such as `messages[0].content`; messages are counted from 0.
        place: String,
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Someone speaks whom no template knows.
    #[error("`messages[{message}].role`: unknown role `{}`; known: {}", shortened(role), ROLES.join(", "))]
    UnknownRole {
        /// The message, from 0.
        message: usize,
        /// The role.
        role: String,
        /// The nearest that is known.
        nearest: Option<String>,
    },
    /// The template makes no text of a chat.
    #[error("the chat template cannot render it: {message}")]
    NotRendered {
        /// What the template said.
        message: String,
    },
    /// The template treats the spelling of a special token otherwise than other text, so that one cannot be told from the other.
    #[error("a message spells a special token, and the chat template does not print it as it is")]
    Inseparable,
}

impl RowFault {
    /// A short name for counting.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } => "not_utf8",
            Self::LoneSurrogate { .. } => "lone_surrogate",
            Self::TooLong { .. } => "too_long",
            Self::NotJson { .. } => "not_json",
            Self::NotAnObject { .. } => "not_an_object",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::MissingField { .. } => "missing_field",
            Self::NotText { .. } => "not_text",
            Self::Columns { .. } => "columns",
            Self::UnknownShape { .. } => "unknown_shape",
            Self::BadField { .. } => "bad_field",
            Self::UnknownRole { .. } => "unknown_role",
            Self::NotRendered { .. } => "not_rendered",
            Self::Inseparable => "inseparable",
        }
    }

    /// The fault as it may be told and recorded: the keys of a row are text of its author as its values are, so the policy holds for them too.
    pub(crate) fn told(self, scanner: &Scanner) -> Self {
        let told = |key: &str| told(scanner, key);
        match self {
            Self::DuplicateKey { key } => Self::DuplicateKey { key: told(&key) },
            Self::MissingField { field, fields, nearest } => {
                Self::MissingField { field, fields: fields.iter().map(|name| told(name)).collect(), nearest: nearest.as_deref().map(told) }
            }
            Self::UnknownShape { text_field, fields } => {
                Self::UnknownShape { text_field, fields: fields.iter().map(|name| told(name)).collect() }
            }
            Self::UnknownRole { message, role, nearest } => Self::UnknownRole { message, role: told(&role), nearest },
            Self::NotRendered { message } => Self::NotRendered { message: told_whole(scanner, &message) },
            other => other,
        }
    }

    pub(crate) fn hint(&self) -> String {
        match self {
            Self::MissingField { nearest: Some(nearest), .. } => {
                format!("set `data.text_field` to the right one; did you mean `{nearest}`?")
            }
            Self::MissingField { .. } => {
                "set `data.text_field` to the field that holds the text; prompts and chats have `prompt` and `completion`, or `messages`"
                    .to_owned()
            }
            Self::UnknownShape { .. } => {
                "give it `prompt` and `completion`, or `messages`; or set `data.text_field` to the field that holds the text".to_owned()
            }
            Self::UnknownRole { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::NotRendered { .. } => {
                "set `data.chat_template` to one that takes such chats, or `data.on_bad_row` to `skip` to go on without it".to_owned()
            }
            Self::TooLong { .. } => "raise `data.max_row_bytes`, or set `data.on_bad_row` to `skip`".to_owned(),
            _ => "correct it, or set `data.on_bad_row` to `skip` to go on without it".to_owned(),
        }
    }
}

/// A key as it may be shown.
pub(crate) fn told(scanner: &Scanner, key: &str) -> String {
    match scanner.apply(&scanned_part(key), &mut Tally::default()) {
        Verdict::Keep(text) => shortened(&text),
        Verdict::Drop { .. } | Verdict::Stop { .. } => WITHHELD.to_owned(),
    }
}

/// What a template says may quote the chat.
fn told_whole(scanner: &Scanner, message: &str) -> String {
    match scanner.apply(message, &mut Tally::default()) {
        Verdict::Keep(text) => text.into_owned(),
        Verdict::Drop { .. } | Verdict::Stop { .. } => WITHHELD.to_owned(),
    }
}

/// Stands for a key that the safety policy does not let through.
const WITHHELD: &str = "[WITHHELD]";

/// How many of a row's fields a message lists, and how much of each name.
const LISTED_FIELDS: usize = 12;
const LISTED_CHARS: usize = 40;

/// How much of a key is held to be scanned. A message shows far less, but what is cut short before it is scanned may not be known for what it is.
const SCANNED_BYTES: usize = 4096;

fn there_are(fields: &[String]) -> String {
    if fields.is_empty() {
        return "the object is empty".to_owned();
    }
    let quoted: Vec<String> = fields.iter().map(|name| format!("`{}`", shortened(name))).collect();
    format!("the row has {}", quoted.join(", "))
}

/// The text in `field` of the row, or the fault and the column of its place, from 1, where one is known.
pub(crate) fn text_of_row(row: &[u8], field: &str) -> Result<String, (RowFault, Option<u64>)> {
    let json = std::str::from_utf8(row).map_err(|error| not_utf8(row, error))?;
    let duplicate = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(json);
    let read = RowSeed { field, duplicate: &duplicate }.deserialize(&mut reader).and_then(|text| reader.end().map(|()| text));
    let text = read.map_err(|error| not_json(&error))?;
    match duplicate.into_inner() {
        Some(key) => Err((RowFault::DuplicateKey { key }, None)),
        None => text.map_err(|fault| (fault, None)),
    }
}

/// The fault of a row that is no JSON, with the column in the row.
pub(crate) fn not_json(error: &serde_json::Error) -> (RowFault, Option<u64>) {
    let said = error.to_string();
    let message = said.rsplit_once(" at line ").map_or(said.as_str(), |(message, _)| message).to_owned();
    (RowFault::NotJson { message }, Some(error.column() as u64))
}

/// The fault of bytes that are not UTF-8, with the column in the row.
pub(crate) fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> (RowFault, Option<u64>) {
    let offset = error.valid_up_to();
    let fault = match bytes.get(offset..).unwrap_or_default() {
        [0xED, 0xA0..=0xBF, 0x80..=0xBF, ..] => RowFault::LoneSurrogate { offset },
        rest => RowFault::NotUtf8 { byte: rest.first().copied().unwrap_or_default(), offset },
    };
    (fault, Some(offset as u64 + 1))
}

fn shortened(name: &str) -> String {
    name.chars().take(LISTED_CHARS).collect()
}

/// The names of a row's fields, as many and as much of each as a fault holds.
pub(crate) fn listed<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    names.take(LISTED_FIELDS).map(scanned_part).collect()
}

pub(crate) fn scanned_part(key: &str) -> String {
    key[..key.floor_char_boundary(SCANNED_BYTES)].to_owned()
}

/// Reads a whole row; the inner result is the text or the fault of a row that is JSON all the same.
struct RowSeed<'a> {
    field: &'a str,
    duplicate: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Result<String, RowFault>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        let Self { field, duplicate } = self;
        let value = ValueSeed { field: Some(field), duplicate }.deserialize(reader)?;
        Ok(match value {
            Value::Row { text: Some(text), .. } => text,
            Value::Row { text: None, fields } => {
                let whole = fields.iter().map(String::as_str).filter(|name| name.chars().count() <= LISTED_CHARS);
                let nearest = suggest::nearest(field, whole).map(str::to_owned);
                Err(RowFault::MissingField { field: field.to_owned(), fields, nearest })
            }
            other => Err(RowFault::NotAnObject { found: other.kind() }),
        })
    }
}

enum Value {
    /// The outermost object.
    Row {
        text: Option<Result<String, RowFault>>,
        fields: Vec<String>,
    },
    Text(String),
    Other(&'static str),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Row { .. } => "an object",
            Self::Text(_) => "text",
            Self::Other(kind) => kind,
        }
    }
}

/// Reads any JSON value, noting the first key that occurs twice at any depth. `field` is set for the outermost value only.
#[derive(Clone, Copy)]
struct ValueSeed<'a> {
    field: Option<&'a str>,
    duplicate: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other("null"))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Other(if value { "true" } else { "false" }))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = Self { field: None, ..self };
        while items.next_element_seed(inner)?.is_some() {}
        Ok(Value::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = Self { field: None, ..self };
        let mut keys = BTreeSet::new();
        let mut fields = Vec::new();
        let mut text = None;
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if self.field == Some(key.as_str()) && text.is_none() {
                text = Some(match value {
                    Value::Text(text) => Ok(text),
                    other => Err(RowFault::NotText { field: key.clone(), found: other.kind() }),
                });
            }
            if self.field.is_some() && fields.len() < LISTED_FIELDS {
                fields.push(scanned_part(&key));
            }
            if keys.contains(&key) {
                self.duplicate.borrow_mut().get_or_insert_with(|| scanned_part(&key));
            }
            keys.insert(key);
        }
        if self.field.is_some() { Ok(Value::Row { text, fields }) } else { Ok(Value::Other("an object")) }
    }
}
