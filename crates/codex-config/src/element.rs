//! A value as the command line writes it, and its text: printed and parsed again it is the same.
//!
//! The text is one that Hydra's grammar reads too: words bare, any other string in single quotes, `[a,b]`, `{k:v}`, `null`.

use std::fmt::{self, Write as _};

/// A value without a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// `null`: an option that has no value.
    Null,
    /// `true`, `FALSE`.
    Bool(bool),
    /// `10`, `-1_000`.
    Int(i64),
    /// `1.`, `.5`, `1e-3`, `inf`, `nan`.
    Float(f64),
    /// A string, with or without quotes.
    Text(String),
    /// `[1, [a, b]]`
    List(Vec<Self>),
    /// `{k: v}`; each key stands once.
    Dict(Vec<(String, Self)>),
}

impl Element {
    /// The value as JSON; what is not finite becomes a string, since JSON has no such number.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(yes) => (*yes).into(),
            Self::Int(number) => (*number).into(),
            Self::Float(number) if !number.is_finite() => self.to_string().into(),
            Self::Float(number) => (*number).into(),
            Self::Text(text) => text.clone().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Dict(entries) => {
                entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect::<serde_json::Map<_, _>>().into()
            }
        }
    }

    /// What the value is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "`null`",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Dict(_) => "a table",
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(yes) => write!(f, "{yes}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) if number.is_nan() => f.write_str("nan"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Text(text) => f.write_str(&quoted_unless_plain(text)),
            Self::List(items) => {
                f.write_char('[')?;
                for (n, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if n == 0 { "" } else { "," })?;
                }
                f.write_char(']')
            }
            Self::Dict(entries) => {
                f.write_char('{')?;
                for (n, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{}:{value}", if n == 0 { "" } else { "," }, quoted_unless_plain(key))?;
                }
                f.write_char('}')
            }
        }
    }
}

/// Whether the text stands bare and is read back as this very string.
fn is_plain(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'));
    let word = ["true", "false", "null", "inf", "nan"].iter().any(|word| text.eq_ignore_ascii_case(word));
    first && rest && !word
}

/// The text in single quotes: a quote has a backslash, and backslashes before a quote or at the end are doubled.
fn quoted_unless_plain(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut out = String::from("'");
    let mut backslashes = 0;
    for c in text.chars() {
        if c == '\\' {
            backslashes += 1;
        } else {
            if c == '\'' {
                out.push_str(&"\\".repeat(backslashes + 1));
            }
            backslashes = 0;
        }
        out.push(c);
    }
    out.push_str(&"\\".repeat(backslashes));
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_where_they_would_be_something_else() {
        let printed = |text: &str| Element::Text(text.to_owned()).to_string();
        for plain in ["tiny", "a/b.c", "qwen2.5-0.5b", "_x"] {
            assert_eq!(printed(plain), plain);
        }
        assert_eq!(printed(""), "''");
        assert_eq!(printed("3"), "'3'");
        assert_eq!(printed("True"), "'True'");
        assert_eq!(printed("it's"), r"'it\'s'");
        assert_eq!(printed(r"a\"), r"'a\\'");
        assert_eq!(printed(r"\d"), r"'\d'");
        assert_eq!(printed(r"\'"), r"'\\\''");
        let list = Element::List(vec![Element::Null, Element::Float(1.0), Element::Dict(vec![("a b".to_owned(), Element::Int(1))])]);
        assert_eq!(list.to_string(), "[null,1.0,{'a b':1}]");
        assert_eq!(Element::List(vec![Element::Float(f64::NAN), Element::Float(f64::NEG_INFINITY)]).to_string(), "[nan,-inf]");
    }
}
