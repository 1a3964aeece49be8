//! The rows of a task as JSON lines: a text; a prompt or a chat with what should follow; a question with choices. Nothing here opens a file.

use std::collections::BTreeSet;

use codex_tokenize::chat::ChatValue;

use crate::error::EvalError;
use crate::registry::{EvalMetric, MetricKind};

/// The longest row, in bytes.
pub const MAX_ROW_BYTES: usize = 16 << 20;

/// A row of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalRow {
    /// The line, from 1.
    pub line: u64,
    /// What the model is given.
    pub input: RowInput,
    /// What should follow, whose tokens are scored: `completion`, or the last turn of a chat that ends with the assistant.
    pub completion: Option<String>,
    /// What a prediction is compared with: `references`, or else the completion.
    pub references: Vec<String>,
    /// The choices.
    pub question: Option<Question>,
    /// What some model wrote before.
    pub prediction: Option<String>,
}

/// What a model is given.
#[derive(Clone, Debug, PartialEq)]
pub enum RowInput {
    /// Nothing: the row only has a prediction.
    Nothing,
    /// A text, all of whose tokens are scored.
    Text(String),
    /// A prompt.
    Prompt(String),
    /// A conversation that the assistant is to go on with.
    Chat {
        /// The messages.
        messages: Vec<ChatValue>,
        /// The tools that it may call.
        tools: Option<Vec<ChatValue>>,
    },
}

/// Choices, one of which is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The choices.
    pub choices: Vec<String>,
    /// The place of the right one.
    pub answer_idx: usize,
}

/// What is wrong with a row. It quotes nothing of the row, which may hold what must not be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowProblem {
    /// More bytes than are read.
    #[error("the row is longer than {MAX_ROW_BYTES} bytes")]
    TooLong,
    /// A text file that is none.
    #[error("not UTF-8 text")]
    NotUtf8,
    /// Not JSON.
    #[error("not JSON: {reason}")]
    NotJson {
        /// What the reader said.
        reason: String,
    },
    /// Not an object.
    #[error("expected an object, found {found}")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// A key occurs twice in one object.
    #[error("a key occurs twice in one object")]
    Twice,
    /// None of the fields that say what a row is.
    #[error("none of `text`, `prompt`, `messages` and `prediction` is there")]
    Nothing,
    /// Two fields that contradict each other.
    #[error("`{first}` and `{second}` cannot be in one row")]
    Together {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A field holds something else than it should.
    #[error("`{field}`: expected {expected}, found {found}")]
    Field {
        /// The field.
        field: &'static str,
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The template makes no text of a chat.
    #[error("the chat template cannot render it: {reason}")]
    NotRendered {
        /// What the template said.
        reason: String,
    },
    /// A message spells a special token, which would not stay text.
    #[error("a message spells a special token of the tokenizer")]
    SpellsSpecial,
    /// More tokens are to be scored than the model reads at once.
    #[error("{tokens} tokens are to be scored together, and the model's context is {context_length}")]
    TooManyTokens {
        /// Tokens.
        tokens: usize,
        /// The context.
        context_length: usize,
    },
}

impl EvalRow {
    /// A row that is a text.
    pub fn of_text(text: String) -> Self {
        Self { line: 1, input: RowInput::Text(text), completion: None, references: Vec::new(), question: None, prediction: None }
    }

    /// The field that a metric needs and this row does not have. Where the model writes the predictions, a row needs a prompt and no prediction.
    pub fn lacks(&self, metric: &EvalMetric, is_sampled: bool) -> Option<&'static str> {
        let has_prompt = matches!(self.input, RowInput::Prompt(_) | RowInput::Chat { .. });
        match metric.kind {
            MetricKind::Token(_) => match self.input {
                RowInput::Text(_) => None,
                RowInput::Nothing => Some("text"),
                _ => self.completion.is_none().then_some("completion"),
            },
            MetricKind::Text(_) if is_sampled && !has_prompt => Some("prompt"),
            MetricKind::Text(_) if !is_sampled && self.prediction.is_none() => Some("prediction"),
            MetricKind::Text(text) => (text.needs_references && self.references.is_empty()).then_some("references"),
            MetricKind::Choice(_) => self.question.is_none().then_some("choices"),
        }
    }
}

/// The rows of a file's bytes, at most `most`; `path` is for messages. Empty lines are no rows, and a byte order mark is passed over.
pub fn read_rows(bytes: &[u8], path: &str, most: usize) -> Result<Vec<EvalRow>, EvalError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let lines = (1..).zip(bytes.split(|&byte| byte == b'\n')).filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    let read = |(line, row): (u64, &[u8])| {
        let found = if row.len() > MAX_ROW_BYTES { Err(RowProblem::TooLong) } else { read_row(row, line) };
        found.map_err(|problem| EvalError::BadRow { path: path.to_owned(), line, problem })
    };
    lines.take(most).map(read).collect()
}

fn read_row(row: &[u8], line: u64) -> Result<EvalRow, RowProblem> {
    let row: ChatValue = serde_json::from_slice(row).map_err(|error| RowProblem::NotJson { reason: error.to_string() })?;
    let ChatValue::Map(_) = &row else { return Err(RowProblem::NotAnObject { found: kind(Some(&row)) }) };
    if has_key_twice(&row) {
        return Err(RowProblem::Twice);
    }
    let inputs: Vec<&'static str> = ["text", "prompt", "messages"].into_iter().filter(|field| has(&row, field)).collect();
    if let [first, second, ..] = inputs[..] {
        return Err(RowProblem::Together { first, second });
    }
    let mut completion = text(&row, "completion")?;
    let prediction = text(&row, "prediction")?;
    let question = question(&row)?;
    if let Some(&input) = inputs.first().filter(|&&input| input != "prompt") {
        let other = completion.is_some().then_some("completion").or(question.is_some().then_some("choices"));
        if let Some(second) = other {
            return Err(RowProblem::Together { first: input, second });
        }
    }
    let input = match inputs.first() {
        Some(&"text") => RowInput::Text(text(&row, "text")?.unwrap_or_default()),
        Some(&"prompt") => RowInput::Prompt(text(&row, "prompt")?.unwrap_or_default()),
        Some(_) => {
            let (input, last) = chat(&row)?;
            completion = last;
            input
        }
        None if prediction.is_some() => RowInput::Nothing,
        None => return Err(RowProblem::Nothing),
    };
    let mut references = references(&row)?;
    if references.is_empty() {
        references.extend(completion.clone());
    }
    Ok(EvalRow { line, input, completion, references, question, prediction })
}

/// What an answer is.
const ANSWER: &str = "the place of a choice, from 0, or the text of one";

fn question(row: &ChatValue) -> Result<Option<Question>, RowProblem> {
    let bad = |field, expected, found| Err(RowProblem::Field { field, expected, found: kind(found) });
    if !has(row, "choices") {
        return if has(row, "answer") { bad("choices", "a list of two texts or more", None) } else { Ok(None) };
    }
    let choices = texts(row, "choices", "a list of two texts or more")?;
    if choices.len() < 2 || choices.iter().any(String::is_empty) {
        return Err(RowProblem::Field { field: "choices", expected: "a list of two texts or more", found: "fewer, or an empty one" });
    }
    let answer_idx = match row.get("answer") {
        Some(ChatValue::Integer(idx)) => usize::try_from(*idx).ok().filter(|&idx| idx < choices.len()),
        Some(ChatValue::Text(answer)) => {
            let mut places = choices.iter().enumerate().filter(|(_, choice)| *choice == answer).map(|(idx, _)| idx);
            places.next().filter(|_| places.next().is_none())
        }
        other => return bad("answer", ANSWER, other),
    };
    match answer_idx {
        Some(answer_idx) => Ok(Some(Question { choices, answer_idx })),
        None => Err(RowProblem::Field { field: "answer", expected: ANSWER, found: "what is none, or several" }),
    }
}

fn references(row: &ChatValue) -> Result<Vec<String>, RowProblem> {
    if !has(row, "references") {
        return Ok(Vec::new());
    }
    let found = texts(row, "references", "a list of texts")?;
    if found.is_empty() {
        return Err(RowProblem::Field { field: "references", expected: "a list of texts", found: "an empty one" });
    }
    Ok(found)
}

/// The conversation before the assistant's last turn, and that turn where it is the last of all.
fn chat(row: &ChatValue) -> Result<(RowInput, Option<String>), RowProblem> {
    const EXPECTED: &str = "a list of messages with a `role` and a `content` of text";
    let bad = |found| RowProblem::Field { field: "messages", expected: EXPECTED, found };
    let Some(ChatValue::List(messages)) = row.get("messages") else { return Err(bad(kind(row.get("messages")))) };
    let of = |message: &ChatValue, key: &str| message.get(key).and_then(ChatValue::as_text).map(str::to_owned);
    if messages.is_empty() || messages.iter().any(|message| of(message, "role").is_none() || of(message, "content").is_none()) {
        return Err(bad("something else"));
    }
    let tools = match row.get("tools") {
        None | Some(ChatValue::Null) => None,
        Some(ChatValue::List(tools)) => Some(tools.clone()),
        other => return Err(RowProblem::Field { field: "tools", expected: "a list", found: kind(other) }),
    };
    let mut messages = messages.clone();
    let last = messages.pop_if(|last| of(last, "role").as_deref() == Some("assistant")).and_then(|last| of(&last, "content"));
    if messages.is_empty() {
        return Err(bad("an answer to nothing"));
    }
    Ok((RowInput::Chat { messages, tools }, last))
}

fn has(row: &ChatValue, field: &str) -> bool {
    !matches!(row.get(field), None | Some(ChatValue::Null))
}

fn text(row: &ChatValue, field: &'static str) -> Result<Option<String>, RowProblem> {
    match row.get(field) {
        None | Some(ChatValue::Null) => Ok(None),
        Some(ChatValue::Text(text)) => Ok(Some(text.clone())),
        other => Err(RowProblem::Field { field, expected: "text", found: kind(other) }),
    }
}

fn texts(row: &ChatValue, field: &'static str, expected: &'static str) -> Result<Vec<String>, RowProblem> {
    let bad = |found| RowProblem::Field { field, expected, found };
    let Some(ChatValue::List(list)) = row.get(field) else { return Err(bad(kind(row.get(field)))) };
    list.iter().map(|value| value.as_text().map(str::to_owned).ok_or_else(|| bad(kind(Some(value))))).collect()
}

fn has_key_twice(value: &ChatValue) -> bool {
    match value {
        ChatValue::Map(entries) => {
            let mut keys = BTreeSet::new();
            entries.iter().any(|(key, value)| !keys.insert(key) || has_key_twice(value))
        }
        ChatValue::List(list) => list.iter().any(has_key_twice),
        _ => false,
    }
}

fn kind(value: Option<&ChatValue>) -> &'static str {
    match value {
        None => "nothing",
        Some(ChatValue::Null) => "null",
        Some(ChatValue::Bool(_)) => "true or false",
        Some(ChatValue::Integer(_) | ChatValue::Float(_)) => "a number",
        Some(ChatValue::Text(_)) => "text",
        Some(ChatValue::List(_)) => "a list",
        Some(ChatValue::Map(_)) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::{ExitClass, Failure as _};
    use proptest::prelude::*;

    fn row(json: &str) -> EvalRow {
        read_rows(json.as_bytes(), "q.jsonl", usize::MAX).unwrap().remove(0)
    }

    #[test]
    fn each_row_is_what_its_fields_say() {
        assert_eq!(row(r#"{"text": "a", "id": 7}"#).input, RowInput::Text("a".to_owned()));
        let pair = row(r#"{"prompt": "a", "completion": "b"}"#);
        assert_eq!((pair.completion.as_deref(), pair.references.as_slice()), (Some("b"), &["b".to_owned()][..]));
        let both = row(r#"{"prompt": "a", "completion": "b", "references": ["c", "d"]}"#);
        assert_eq!((both.completion.as_deref(), both.references.len()), (Some("b"), 2));
        let open = row(r#"{"prompt": "a", "references": ["c"], "completion": null}"#);
        assert_eq!((open.completion, open.references.len()), (None, 1));
        for answer in ["1", "\"y\""] {
            let question = row(&format!(r#"{{"prompt": "a", "choices": ["x", "y"], "answer": {answer}}}"#)).question.unwrap();
            assert_eq!((question.choices.len(), question.answer_idx), (2, 1));
        }
        let chat = row(r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#);
        assert_eq!((chat.completion.as_deref(), &chat.references), (Some("b"), &vec!["b".to_owned()]));
        let RowInput::Chat { messages, tools: None } = chat.input else { panic!("{:?}", chat.input) };
        assert_eq!(messages, [ChatValue::message("user", "a")]);
        let open = row(r#"{"messages": [{"role": "user", "content": "a"}], "references": ["c"]}"#);
        assert_eq!((open.completion, open.references.len()), (None, 1));
        let ready = row(r#"{"prediction": "x", "references": ["y"]}"#);
        assert_eq!((ready.input, ready.prediction.as_deref()), (RowInput::Nothing, Some("x")));
    }

    #[test]
    fn lines_are_counted_from_one_and_empty_ones_are_no_rows() {
        let bytes = "\u{feff}{\"text\": \"a\"}\r\n\n  \n{\"text\": \"b\"}\n{\"text\": 7}";
        let lines = |most| read_rows(bytes.as_bytes(), "q.jsonl", most).map(|rows| rows.iter().map(|row| row.line).collect::<Vec<_>>());
        assert_eq!(lines(2).unwrap(), [1, 4], "what is not asked for is not read");
        let error = lines(3).unwrap_err();
        assert_eq!(error.to_string(), "`q.jsonl:5`: `text`: expected text, found a number");
        assert_eq!(error.exit_class(), ExitClass::Data);
    }

    #[test]
    fn each_bad_row_has_its_reason() {
        for (json, want) in [
            ("[1]", "expected an object, found a list"),
            ("{}", "none of `text`, `prompt`, `messages` and `prediction` is there"),
            (r#"{"references": ["a"]}"#, "none of `text`, `prompt`, `messages` and `prediction` is there"),
            (r#"{"text": "a", "prompt": "b"}"#, "`text` and `prompt` cannot be in one row"),
            (r#"{"text": "a", "completion": "b"}"#, "`text` and `completion` cannot be in one row"),
            (r#"{"prompt": "a", "prompt": "b"}"#, "a key occurs twice in one object"),
            (r#"{"prompt": ["a"]}"#, "`prompt`: expected text, found a list"),
            (r#"{"prompt": "a", "references": "b"}"#, "`references`: expected a list of texts, found text"),
            (r#"{"prompt": "a", "references": []}"#, "`references`: expected a list of texts, found an empty one"),
            (r#"{"prompt": "a", "answer": 0}"#, "`choices`: expected a list of two texts or more, found nothing"),
            (
                r#"{"prompt": "a", "choices": ["x"], "answer": 0}"#,
                "`choices`: expected a list of two texts or more, found fewer, or an empty one",
            ),
            (
                r#"{"prompt": "a", "choices": ["x", "y"], "answer": 2}"#,
                "`answer`: expected the place of a choice, from 0, or the text of one, found what is none, or several",
            ),
            (
                r#"{"prompt": "a", "choices": ["x", "x"], "answer": "x"}"#,
                "`answer`: expected the place of a choice, from 0, or the text of one, found what is none, or several",
            ),
            (
                r#"{"prompt": "a", "choices": ["x", "y"]}"#,
                "`answer`: expected the place of a choice, from 0, or the text of one, found nothing",
            ),
            (r#"{"messages": []}"#, "`messages`: expected a list of messages with a `role` and a `content` of text, found something else"),
            (
                r#"{"messages": [{"role": "assistant", "content": "a"}]}"#,
                "`messages`: expected a list of messages with a `role` and a `content` of text, found an answer to nothing",
            ),
        ] {
            let error = read_rows(json.as_bytes(), "q", 9).unwrap_err().to_string();
            assert_eq!(error, format!("`q:1`: {want}"), "{json}");
        }
        assert!(read_rows(b"{\"text\": \"\xFF\"}", "q", 9).unwrap_err().to_string().starts_with("`q:1`: not JSON: "));
    }

    #[test]
    fn a_row_says_what_it_lacks() {
        let lacks = |json: &str, name: &str, is_sampled| row(json).lacks(&EvalMetric::by_name(name).unwrap(), is_sampled);
        let (text, pair) = (r#"{"text": "a"}"#, r#"{"prompt": "a", "completion": "b"}"#);
        let (open, ready) = (r#"{"prompt": "a", "references": ["b"]}"#, r#"{"prediction": "a"}"#);
        let choices = r#"{"prompt": "a", "choices": ["x", "y"], "answer": 0}"#;
        for (json, name, is_sampled, want) in [
            (text, "loss", false, None),
            (pair, "ece", false, None),
            (open, "loss", false, Some("completion")),
            (ready, "loss", false, Some("text")),
            (choices, "ppl", false, Some("completion")),
            (pair, "f1", true, None),
            (pair, "f1", false, Some("prediction")),
            (text, "f1", true, Some("prompt")),
            (choices, "f1", true, Some("references")),
            (ready, "f1", false, Some("references")),
            (ready, "dist-1", false, None),
            (choices, "acc", false, None),
            (pair, "acc_norm", false, Some("choices")),
        ] {
            assert_eq!(lacks(json, name, is_sampled), want, "{json} {name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read_rows(&bytes, "q", 9));
        }

        #[test]
        fn no_text_near_a_row_makes_it_panic(
            text in r#"\{("(text|prompt|messages|choices|answer|references|prediction)": ("a"|\["a", "b"\]|\[\]|1|null|\[\{\}\]),?){0,4}\}"#
        ) {
            drop(read_rows(text.as_bytes(), "q", 9));
        }
    }
}
