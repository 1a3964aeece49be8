//! JSON whose objects keep the order of their keys, as a template prints them in that order.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use minijinja::Value;

/// A message, a tool, or anything else that a chat template is given.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum ChatValue {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction, or a whole one beyond 64 bits.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// An object, its keys in the order they were written; of two equal ones the last counts.
    Map(Vec<(String, Self)>),
}

impl ChatValue {
    /// A message with a role and a content.
    pub fn message(role: &str, content: &str) -> Self {
        let text = |text: &str| Self::Text(text.to_owned());
        Self::Map(vec![("role".to_owned(), text(role)), ("content".to_owned(), text(content))])
    }

    /// The value of a key of an object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The text, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// What kind of value it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }

    /// How many bytes its texts have, and one for each value.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::Float(_) => 1,
            Self::Text(text) => 1 + text.len(),
            Self::List(list) => 1 + list.iter().map(Self::weight).sum::<usize>(),
            Self::Map(entries) => 1 + entries.iter().map(|(key, value)| key.len() + value.weight()).sum::<usize>(),
        }
    }

    /// Whether a text in it, or a key, holds this one.
    pub(crate) fn contains(&self, text: &str) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::Float(_) => false,
            Self::Text(own) => own.contains(text),
            Self::List(list) => list.iter().any(|value| value.contains(text)),
            Self::Map(entries) => entries.iter().any(|(key, value)| key.contains(text) || value.contains(text)),
        }
    }

    /// As the template engine has it.
    pub(crate) fn to_engine(&self) -> Value {
        match self {
            Self::Null => Value::from(()),
            Self::Bool(flag) => Value::from(*flag),
            Self::Integer(number) => Value::from(*number),
            Self::Float(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_str()),
            Self::List(list) => Value::from(list.iter().map(Self::to_engine).collect::<Vec<_>>()),
            Self::Map(entries) => entries.iter().map(|(key, value)| (Value::from(key.as_str()), value.to_engine())).collect(),
        }
    }
}

impl From<&serde_json::Value> for ChatValue {
    /// The keys of objects come in the order that `serde_json` has them, which is alphabetical.
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(flag) => Self::Bool(*flag),
            serde_json::Value::Number(number) => {
                number.as_i64().map_or_else(|| Self::Float(number.as_f64().unwrap_or_default()), Self::Integer)
            }
            serde_json::Value::String(text) => Self::Text(text.clone()),
            serde_json::Value::Array(list) => Self::List(list.iter().map(Self::from).collect()),
            serde_json::Value::Object(map) => Self::Map(map.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect()),
        }
    }
}

impl<'de> Deserialize<'de> for ChatValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = ChatValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<ChatValue, E> {
                Ok(ChatValue::Null)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<ChatValue, E> {
                Ok(ChatValue::Bool(flag))
            }

            fn visit_i64<E>(self, number: i64) -> Result<ChatValue, E> {
                Ok(ChatValue::Integer(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<ChatValue, E> {
                Ok(i64::try_from(number).map_or(ChatValue::Float(number as f64), ChatValue::Integer))
            }

            fn visit_f64<E>(self, number: f64) -> Result<ChatValue, E> {
                Ok(ChatValue::Float(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<ChatValue, E> {
                Ok(ChatValue::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<ChatValue, E> {
                Ok(ChatValue::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ChatValue, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = seq.next_element()? {
                    list.push(value);
                }
                Ok(ChatValue::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ChatValue, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(ChatValue::Map(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_the_last_of_two_counts() {
        let value: ChatValue = serde_json::from_str(r#"{"z": [1, 2.5, null, true], "a": "x", "a": "y"}"#).unwrap();
        let ChatValue::Map(entries) = &value else { panic!("{value:?}") };
        assert_eq!(entries.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["z", "a", "a"]);
        assert_eq!(value.get("a").and_then(ChatValue::as_text), Some("y"));
        assert_eq!(value.to_engine().to_string(), r#"{"z": [1, 2.5, None, True], "a": "y"}"#);
        assert_eq!(
            ChatValue::from(&serde_json::json!({"role": "user", "content": "hi"})).get("role"),
            ChatValue::message("user", "").get("role")
        );
        assert!(value.contains("z") && value.contains("y") && !value.contains("q"));
        assert!(value.weight() > 8);
    }
}
