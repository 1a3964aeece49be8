//! JSONL rows of several shapes: a text, a prompt with its completion, or the messages of a chat.
//!
//! As strict as [`crate::row`], which reads rows that are all texts.

use std::collections::BTreeSet;
use std::io::BufRead;

use codex_core::suggest;
use codex_tokenize::chat::ChatValue;

use crate::config::{DataConfig, RowKind};
use crate::document::Content;
use crate::row::{self, RowFault};
use crate::row_stream::{Next, RowStream};

/// Who may speak in a chat.
pub(crate) const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// How the rows of one file are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Each is a text.
    Text,
    /// Each is what its fields say.
    Any,
    /// Each is a prompt and its completion.
    Prompt,
    /// Each is a chat.
    Chat,
}

impl Reading {
    /// What the cache's key says of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "rows",
            Self::Any => "rows of any shape",
            Self::Prompt => "rows of prompts",
            Self::Chat => "rows of chats",
        }
    }
}

/// What the fields of a row are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldNames {
    pub(crate) text: String,
    pub(crate) prompt: String,
    pub(crate) completion: String,
    pub(crate) messages: String,
    pub(crate) tools: String,
}

/// The fields that `data.fields` may give other names.
pub(crate) const RENAMED: [&str; 4] = ["prompt", "completion", "messages", "tools"];

impl FieldNames {
    /// As configured.
    pub(crate) fn of(config: &DataConfig) -> Self {
        let name = |field: &str| config.fields.get(field).cloned().unwrap_or_else(|| field.to_owned());
        Self {
            text: config.text_field.clone(),
            prompt: name("prompt"),
            completion: name("completion"),
            messages: name("messages"),
            tools: name("tools"),
        }
    }

    /// With this field for texts, and the others as they are called.
    pub(crate) fn with_text(text: &str) -> Self {
        Self::of(&DataConfig { text_field: text.to_owned(), ..DataConfig::default() })
    }
}

/// Rows that are looked at to find out what a file holds.
const ROWS_LOOKED_AT: usize = 64;

/// How a file is read: as configured, or as the first row with a field that says it.
pub(crate) fn reading_of<R: BufRead>(kind: RowKind, rows: impl FnOnce() -> Option<RowStream<R>>, names: &FieldNames) -> Reading {
    match kind {
        RowKind::Text => Reading::Text,
        RowKind::Prompt => Reading::Prompt,
        RowKind::Chat => Reading::Chat,
        // What cannot be read is told when it is read.
        RowKind::Auto => rows().map_or(Reading::Text, |rows| detect(rows, names)),
    }
}

fn detect<R: BufRead>(mut rows: RowStream<R>, names: &FieldNames) -> Reading {
    let mut line = Vec::new();
    for _ in 0..ROWS_LOOKED_AT {
        match rows.next_row(&mut line) {
            Ok(Next::Row) => {}
            Ok(Next::Bad(..)) => continue,
            Ok(Next::End) | Err(_) => break,
        }
        let Ok(row) = serde_json::from_slice::<ChatValue>(&line) else { continue };
        if row.get(&names.text).is_some() {
            return Reading::Text;
        }
        if [&names.messages, &names.prompt, &names.completion].into_iter().any(|field| row.get(field).is_some()) {
            return Reading::Any;
        }
    }
    Reading::Text
}

/// What a row says, or the fault and the column of its place, from 1, where one is known.
pub(crate) fn content_of_row(line: &[u8], reading: Reading, names: &FieldNames) -> Result<Content, (RowFault, Option<u64>)> {
    if reading == Reading::Text {
        return row::text_of_row(line, &names.text).map(Content::Text);
    }
    let json = std::str::from_utf8(line).map_err(|error| row::not_utf8(line, error))?;
    let read: ChatValue = serde_json::from_str(json).map_err(|error| row::not_json(&error))?;
    content(&read, reading, names).map_err(|fault| (fault, None))
}

fn content(row: &ChatValue, reading: Reading, names: &FieldNames) -> Result<Content, RowFault> {
    let ChatValue::Map(fields) = row else { return Err(RowFault::NotAnObject { found: kind(row) }) };
    if let Some(key) = twice(row) {
        return Err(RowFault::DuplicateKey { key: row::scanned_part(key) });
    }
    let has = |field: &str| row.get(field).is_some();
    match reading {
        Reading::Chat => chat(row, names),
        Reading::Prompt => prompt(row, names),
        _ if has(&names.text) => Ok(Content::Text(text(row, &names.text)?)),
        _ if has(&names.messages) => chat(row, names),
        _ if has(&names.prompt) || has(&names.completion) => prompt(row, names),
        _ => Err(RowFault::UnknownShape {
            text_field: names.text.clone(),
            fields: row::listed(fields.iter().map(|(name, _)| name.as_str())),
        }),
    }
}

/// The first key that occurs twice in one object, at any depth.
fn twice(value: &ChatValue) -> Option<&str> {
    match value {
        ChatValue::Map(entries) => {
            let mut keys = BTreeSet::new();
            entries.iter().find_map(|(key, value)| if keys.insert(key) { twice(value) } else { Some(key.as_str()) })
        }
        ChatValue::List(list) => list.iter().find_map(twice),
        _ => None,
    }
}

fn kind(value: &ChatValue) -> &'static str {
    match value {
        ChatValue::Null => "null",
        ChatValue::Bool(true) => "true",
        ChatValue::Bool(false) => "false",
        ChatValue::Integer(_) | ChatValue::Float(_) => "a number",
        ChatValue::Text(_) => "text",
        ChatValue::List(_) => "an array",
        ChatValue::Map(_) => "an object",
    }
}

fn bad(place: impl Into<String>, expected: &'static str, found: Option<&ChatValue>) -> RowFault {
    RowFault::BadField { place: place.into(), expected, found: found.map_or("nothing", kind) }
}

fn text(row: &ChatValue, field: &str) -> Result<String, RowFault> {
    match row.get(field) {
        Some(ChatValue::Text(text)) => Ok(text.clone()),
        other => Err(bad(field, "text", other)),
    }
}

fn prompt(row: &ChatValue, names: &FieldNames) -> Result<Content, RowFault> {
    Ok(Content::Prompt { prompt: text(row, &names.prompt)?, completion: text(row, &names.completion)? })
}

fn chat(row: &ChatValue, names: &FieldNames) -> Result<Content, RowFault> {
    let messages = match row.get(&names.messages) {
        Some(ChatValue::List(messages)) if messages.is_empty() => {
            return Err(RowFault::BadField { place: names.messages.clone(), expected: "at least one message", found: "an empty array" });
        }
        Some(ChatValue::List(messages)) => messages,
        other => return Err(bad(names.messages.as_str(), "an array of messages", other)),
    };
    for (i, message) in messages.iter().enumerate() {
        check_message(i, message)?;
    }
    let tools = match row.get(&names.tools) {
        None | Some(ChatValue::Null) => None,
        Some(ChatValue::List(tools)) if tools.iter().all(|tool| matches!(tool, ChatValue::Map(_))) => Some(tools.clone()),
        other => return Err(bad(names.tools.as_str(), "an array of objects", other)),
    };
    Ok(Content::Chat { messages: messages.clone(), tools })
}

fn check_message(i: usize, message: &ChatValue) -> Result<(), RowFault> {
    if !matches!(message, ChatValue::Map(_)) {
        return Err(bad(format!("messages[{i}]"), "an object with a `role` and a `content`", Some(message)));
    }
    let role = match message.get("role") {
        Some(ChatValue::Text(role)) if ROLES.contains(&role.as_str()) => role,
        Some(ChatValue::Text(role)) => {
            let nearest = suggest::nearest(role, ROLES).map(str::to_owned);
            return Err(RowFault::UnknownRole { message: i, role: row::scanned_part(role), nearest });
        }
        other => return Err(bad(format!("messages[{i}].role"), "text", other)),
    };
    match message.get("content") {
        Some(ChatValue::Text(_)) => Ok(()),
        // An assistant that calls tools need not say anything.
        None | Some(ChatValue::Null) if role == "assistant" && calls_tools(message) => Ok(()),
        other => Err(bad(format!("messages[{i}].content"), "text", other)),
    }
}

/// Whether a message calls a tool.
pub(crate) fn calls_tools(message: &ChatValue) -> bool {
    matches!(message.get("tool_calls"), Some(ChatValue::List(calls)) if !calls.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row_stream::RowFormat;

    fn read(line: &str, reading: Reading) -> Result<Content, String> {
        content_of_row(line.as_bytes(), reading, &FieldNames::with_text("text")).map_err(|(fault, _)| fault.to_string())
    }

    fn message(role: &str, content: &str) -> ChatValue {
        ChatValue::message(role, content)
    }

    #[test]
    fn each_row_is_what_its_fields_say() {
        let pair = Content::Prompt { prompt: "a".to_owned(), completion: "b".to_owned() };
        assert_eq!(read(r#"{"id": 1, "prompt": "a", "completion": "b"}"#, Reading::Any), Ok(pair.clone()));
        assert_eq!(read(r#"{"prompt": "a", "completion": "b"}"#, Reading::Prompt), Ok(pair));
        assert_eq!(read(r#"{"text": "a", "messages": 1}"#, Reading::Any), Ok(Content::Text("a".to_owned())));
        let chat = Content::Chat { messages: vec![message("user", "a"), message("assistant", "b")], tools: None };
        let row = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": null}"#;
        assert_eq!(read(row, Reading::Any), Ok(chat.clone()));
        assert_eq!(read(row, Reading::Chat), Ok(chat.clone()));
        assert_eq!(chat.text(), "a\nb");
        let row = r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": [{"name": "f"}]}], "tools": [{"name": "f"}]}"#;
        let Ok(Content::Chat { messages, tools: Some(tools) }) = read(row, Reading::Any) else { panic!("{row}") };
        assert_eq!((messages.len(), tools.len(), calls_tools(&messages[0])), (1, 1, true));
    }

    #[test]
    fn fields_may_have_other_names() {
        let fields = [("prompt", "question"), ("completion", "answer"), ("messages", "conversations")];
        let fields = fields.map(|(field, name)| (field.to_owned(), name.to_owned())).into();
        let names = FieldNames::of(&DataConfig { fields, ..DataConfig::default() });
        let read = |line: &str| content_of_row(line.as_bytes(), Reading::Any, &names).map_err(|(fault, _)| fault.to_string());
        let pair = Content::Prompt { prompt: "a".to_owned(), completion: "b".to_owned() };
        assert_eq!(read(r#"{"question": "a", "answer": "b"}"#), Ok(pair));
        assert!(matches!(read(r#"{"conversations": [{"role": "user", "content": "a"}]}"#), Ok(Content::Chat { .. })));
        assert_eq!(read(r#"{"question": "a"}"#).unwrap_err(), "`answer`: expected text, found nothing");
        assert_eq!(read(r#"{"prompt": "a"}"#).unwrap_err(), "neither `text`, `messages` nor `prompt` is there; the row has `prompt`");
        let of = |text: &'static str| reading_of(RowKind::Auto, || Some(RowStream::new(text.as_bytes(), RowFormat::Comma, 100)), &names);
        assert_eq!((of("question,answer\na,b"), of("text,answer\na,b")), (Reading::Any, Reading::Text));
    }

    #[test]
    fn each_bad_row_has_its_reason() {
        let chat = |messages: &str| format!(r#"{{"messages": {messages}}}"#);
        let table = [
            (r#"{"prompt": "a", "completion": 7}"#.to_owned(), "`completion`: expected text, found a number"),
            (r#"{"prompt": "a"}"#.to_owned(), "`completion`: expected text, found nothing"),
            (r#"{"completion": "a"}"#.to_owned(), "`prompt`: expected text, found nothing"),
            (r#"{"prompt": ["a"], "completion": "b"}"#.to_owned(), "`prompt`: expected text, found an array"),
            (r#"{"text": 1}"#.to_owned(), "`text`: expected text, found a number"),
            (r#"{"id": 1}"#.to_owned(), "neither `text`, `messages` nor `prompt` is there; the row has `id`"),
            ("{}".to_owned(), "neither `text`, `messages` nor `prompt` is there; the object is empty"),
            ("[1]".to_owned(), "expected an object, found an array"),
            (r#"{"prompt": "a", "completion": "b", "prompt": "c"}"#.to_owned(), "key `prompt` occurs twice in one object"),
            (chat("[]"), "`messages`: expected at least one message, found an empty array"),
            (chat("{}"), "`messages`: expected an array of messages, found an object"),
            (chat("\"hi\""), "`messages`: expected an array of messages, found text"),
            (chat("[1]"), "`messages[0]`: expected an object with a `role` and a `content`, found a number"),
            (chat(r#"[{"content": "a"}]"#), "`messages[0].role`: expected text, found nothing"),
            (chat(r#"[{"role": 1, "content": "a"}]"#), "`messages[0].role`: expected text, found a number"),
            (
                chat(r#"[{"role": "user", "content": "a"}, {"role": "asistant", "content": "a"}]"#),
                "`messages[1].role`: unknown role `asistant`; known: system, developer, user, assistant, tool",
            ),
            (chat(r#"[{"role": "user"}]"#), "`messages[0].content`: expected text, found nothing"),
            (chat(r#"[{"role": "user", "content": null}]"#), "`messages[0].content`: expected text, found null"),
            (chat(r#"[{"role": "user", "content": ["a"]}]"#), "`messages[0].content`: expected text, found an array"),
            (chat(r#"[{"role": "assistant", "content": null, "tool_calls": []}]"#), "`messages[0].content`: expected text, found null"),
            (chat(r#"[{"role": "user", "content": "a", "content": "b"}]"#), "key `content` occurs twice in one object"),
            (
                r#"{"messages": [{"role": "user", "content": "a"}], "tools": {}}"#.to_owned(),
                "`tools`: expected an array of objects, found an object",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "a"}], "tools": [1]}"#.to_owned(),
                "`tools`: expected an array of objects, found an array",
            ),
        ];
        for (row, expected) in table {
            assert_eq!(read(&row, Reading::Any), Err(expected.to_owned()), "{row}");
        }
        assert_eq!(
            read(r#"{"prompt": "a", "completion": "b"}"#, Reading::Chat).unwrap_err(),
            "`messages`: expected an array of messages, found nothing"
        );
        assert_eq!(read(r#"{"messages": []}"#, Reading::Prompt).unwrap_err(), "`prompt`: expected text, found nothing");
    }

    #[test]
    fn a_file_is_what_its_first_row_with_a_known_field_says() {
        let names = FieldNames::with_text("text");
        let of = |text: &'static str| reading_of(RowKind::Auto, || Some(RowStream::new(text.as_bytes(), RowFormat::Lines, 100)), &names);
        assert_eq!(of("{\"text\": \"a\"}\n{\"messages\": []}"), Reading::Text);
        assert_eq!(of("{\"messages\": []}\n{\"text\": \"a\"}"), Reading::Any);
        assert_eq!(of("oops\n\n{\"id\": 1}\n{\"prompt\": \"a\"}"), Reading::Any);
        assert_eq!(of("{\"text\": 1, \"prompt\": \"a\"}"), Reading::Text);
        assert_eq!(of("{\"txt\": \"a\"}"), Reading::Text);
        assert_eq!(of(""), Reading::Text);
        assert_eq!(reading_of::<&[u8]>(RowKind::Auto, || None, &names), Reading::Text);
        assert_eq!(reading_of::<&[u8]>(RowKind::Chat, || None, &names), Reading::Chat);
    }
}
