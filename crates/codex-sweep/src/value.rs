//! The value of a key in one trial, and how it is written: as TOML for `codex-cli train`, as JSON in records.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a key of the configuration is set to. It has no dates and no endless numbers, as a configuration has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number, written with a fraction or an exponent.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A table.
    Table(BTreeMap<String, Self>),
}

impl Value {
    /// The number it is, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The text for a person: as TOML, but a text without its quotes.
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// One line of TOML, as on the right of `=`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(yes) => write!(f, "{yes}"),
            Self::Integer(number) => write!(f, "{number}"),
            // The shortest digits that read back equal, always with a dot or an exponent.
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Text(text) => quote(f, text),
            Self::List(items) => {
                f.write_str("[")?;
                for (n, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if n == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Table(entries) if entries.is_empty() => f.write_str("{}"),
            Self::Table(entries) => {
                f.write_str("{ ")?;
                for (n, (name, value)) in entries.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { ", " })?;
                    quote(f, name)?;
                    write!(f, " = {value}")?;
                }
                f.write_str(" }")
            }
        }
    }
}

/// A basic string of TOML: control characters are escaped, so it stays on its line.
fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_toml() {
        let text = |text: &str| Value::Text(text.to_owned());
        let cases = [
            (Value::Boolean(true), "true"),
            (Value::Integer(-3), "-3"),
            (Value::Float(1.0), "1.0"),
            (Value::Float(3e-7), "3e-7"),
            (Value::Float(1e22), "1e22"),
            (text("adamw"), "\"adamw\""),
            (text("a\"b\\c\nd\u{7}\u{7f}"), r#""a\"b\\c\nd\u0007\u007F""#),
            (Value::List(vec![text("x"), Value::Integer(1)]), "[\"x\", 1]"),
            (Value::Table(BTreeMap::from([("k v".to_owned(), Value::Integer(1))])), "{ \"k v\" = 1 }"),
            (Value::Table(BTreeMap::new()), "{}"),
        ];
        for (value, expected) in cases {
            assert_eq!(value.to_string(), expected);
        }
        assert_eq!(text("a b").plain(), "a b");
    }

    #[test]
    fn json_keeps_what_kind_of_number_it_is() {
        for value in [Value::Float(1.0), Value::Integer(1), Value::Float(1e-7), Value::Boolean(false)] {
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value, "{json}");
        }
    }
}
