//! A chat template, what it is given and what it makes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use codex_core::{Digest, Hasher, Timestamp};
use minijinja::Value;
use minijinja::machinery::Instructions;

use super::builtin;
use super::program::{self, Fault};
use super::sandbox::{self, Ended, Setting};
use super::spans;
use super::value::ChatValue;
use crate::error::TokenizeError;
use crate::manifest::read_bounded;
use crate::special_names::token_texts;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json::malformed;

/// The template file beside a tokenizer.
const TEMPLATE_FILE: &str = "chat_template.jinja";
const CONFIG_FILE: &str = "tokenizer_config.json";
/// The name of the template that is used when nothing else is asked for, and of the one for conversations with tools.
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";
/// The most messages of one conversation.
const MAX_MESSAGES: usize = 4096;
/// Names that a model's reasoning comes under; transformers fills the first two from any.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A chat template with the special tokens that it prints.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    /// Marked sources by name, and whether each marks what the assistant says.
    sources: BTreeMap<String, (String, bool)>,
    /// The name of the one that is used.
    chosen: String,
    tokens: BTreeMap<String, String>,
}

/// A conversation and how it is to be rendered.
#[derive(Clone, Debug, Default)]
pub struct Chat<'a> {
    /// The messages, in order: objects with a `role`, most with a `content`, and whatever else the template reads.
    pub messages: &'a [ChatValue],
    /// The tools that the model may call, as JSON schemas.
    pub tools: Option<&'a [ChatValue]>,
    /// The documents that the model may quote.
    pub documents: Option<&'a [ChatValue]>,
    /// Whether the text ends where the assistant is to go on.
    pub add_generation_prompt: bool,
    /// The date for templates that print one; they are refused without.
    pub date: Option<Timestamp>,
    /// Further variables, such as `enable_thinking`.
    pub variables: BTreeMap<String, ChatValue>,
}

/// A conversation as a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text, its special tokens spelled out.
    pub text: String,
    /// What the assistant said, as byte ranges of the text, in order: what the loss is for.
    pub assistant: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// The template in a `tokenizer_config.json`: its `chat_template`, a text or a list of named ones, with the tokens the file names.
    pub fn from_tokenizer_config(json: &str) -> Result<Self, TokenizeError> {
        Self::from_config(json.as_bytes(), Path::new(CONFIG_FILE), None)
    }

    /// A template from its source, with the texts of special tokens by the names it calls them, such as `bos_token`.
    pub fn from_source(source: &str, tokens: BTreeMap<String, String>) -> Result<Self, TokenizeError> {
        Self::new(std::iter::once((DEFAULT.to_owned(), source.to_owned())).collect(), tokens)
    }

    /// The template of a model folder: its `chat_template.jinja`, else that of its `tokenizer_config.json`.
    pub fn load(folder: &Path) -> Result<Self, TokenizeError> {
        let path = folder.join(TEMPLATE_FILE);
        let source = match source_of(&path) {
            Ok(source) => Some(source),
            Err(TokenizeError::File(error)) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let config = folder.join(CONFIG_FILE);
        match (read_bounded(&config), source) {
            (Ok(bytes), source) => Self::from_config(&bytes, &config, source),
            (Err(TokenizeError::File(error)), Some(source)) if error.is_not_found() => Self::from_source(&source, BTreeMap::new()),
            (Err(error), _) => Err(error),
        }
    }

    /// One that comes with the crate, by [name](super::builtin_names).
    pub fn builtin(name: &str) -> Result<Self, TokenizeError> {
        Self::from_source(builtin::source(name)?, BTreeMap::new())
    }

    /// The one that a configuration or an argument names: a template file, a model folder, or one that comes with the crate.
    pub fn open(name: &str) -> Result<Self, TokenizeError> {
        let path = Path::new(name);
        if path.is_dir() { Self::load(path) } else { Self::from_source(&Self::text_of(name)?, BTreeMap::new()) }
    }

    /// The text of a template: a file's, or that of one that comes with the crate.
    pub fn text_of(name: &str) -> Result<String, TokenizeError> {
        let path = Path::new(name);
        if path.is_file() { source_of(path) } else { Ok(builtin::source(name)?.to_owned()) }
    }

    /// The digest of all that decides what it prints: the sources by name, the chosen one, and the tokens.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(b"codex chat template v1").field(self.chosen.as_bytes());
        for (name, (source, marks)) in &self.sources {
            hasher.field(name.as_bytes()).field(source.as_bytes()).field(&[u8::from(*marks)]);
        }
        hasher.field(b"tokens");
        for (name, text) in &self.tokens {
            hasher.field(name.as_bytes()).field(text.as_bytes());
        }
        hasher.finish()
    }

    /// The same for a tokenizer: `eos_token` is what ends its texts, unless the template's own files name another.
    #[must_use]
    pub fn for_tokenizer(mut self, tokenizer: &dyn Tokenizer) -> Self {
        if let Some(end) = tokenizer.id_to_token(tokenizer.end_of_text()) {
            self.tokens.entry("eos_token".to_owned()).or_insert(end);
        }
        self
    }

    /// The same with another text for a special token.
    #[must_use]
    pub fn with_token(mut self, name: &str, text: &str) -> Self {
        self.tokens.insert(name.to_owned(), text.to_owned());
        self
    }

    /// The same, using the template of this name out of several.
    pub fn named(mut self, name: &str) -> Result<Self, TokenizeError> {
        if !self.sources.contains_key(name) {
            let known = self.sources.keys().cloned().collect();
            return Err(TokenizeError::UnknownTemplate { name: name.to_owned(), known });
        }
        name.clone_into(&mut self.chosen);
        Ok(self)
    }

    /// The texts of the special tokens, by the names that templates call them.
    pub fn tokens(&self) -> &BTreeMap<String, String> {
        &self.tokens
    }

    /// Whether the template itself says what the assistant says, by `{% generation %}`; otherwise it is found by comparing renderings.
    pub fn marks_generation(&self) -> bool {
        self.sources.get(&self.chosen).is_some_and(|(_, marks)| *marks)
    }

    fn from_config(json: &[u8], path: &Path, source: Option<String>) -> Result<Self, TokenizeError> {
        let config: serde_json::Value =
            serde_json::from_slice(json).map_err(|error| TokenizeError::json(path, "tokenizer configuration", error))?;
        let tokens = token_texts(&config);
        let mut sources: BTreeMap<String, String> = BTreeMap::new();
        match config.get("chat_template") {
            Some(serde_json::Value::String(text)) => drop(sources.insert(DEFAULT.to_owned(), text.clone())),
            Some(serde_json::Value::Array(list)) => {
                for (i, entry) in list.iter().enumerate() {
                    let text = |key: &str| {
                        let found = entry.get(key).and_then(serde_json::Value::as_str);
                        found.ok_or_else(|| malformed(path, &format!("chat_template[{i}].{key}"), "a text", "none"))
                    };
                    sources.insert(text("name")?.to_owned(), text("template")?.to_owned());
                }
            }
            Some(other) if !other.is_null() => {
                return Err(malformed(path, "chat_template", "a text or a list of named ones", ChatValue::from(other).kind()));
            }
            _ => {}
        }
        if let Some(source) = source {
            sources.insert(DEFAULT.to_owned(), source);
        }
        if sources.is_empty() {
            return Err(malformed(path, "chat_template", "a text or a list of named ones", "none"));
        }
        Self::new(sources, tokens)
    }

    fn new(sources: BTreeMap<String, String>, tokens: BTreeMap<String, String>) -> Result<Self, TokenizeError> {
        let mut marked = BTreeMap::new();
        for (name, source) in sources {
            let (source, marks) = program::mark_generation(&source);
            drop(compiled(&source)?);
            marked.insert(name, (source, marks));
        }
        let chosen = if marked.contains_key(DEFAULT) { Some(DEFAULT) } else { marked.keys().next().map(String::as_str) };
        let chosen = chosen.unwrap_or(DEFAULT).to_owned();
        Ok(Self { sources: marked, chosen, tokens })
    }

    /// The conversation as a text, with what the assistant said in it.
    ///
    /// Where the template marks that by `{% generation %}`, the marks count. Else it is what a message adds to the text: from the end of the
    /// conversation before it, with the prompt for the assistant, to the end of the conversation with it, which includes what closes the message.
    /// Both must be beginnings of the whole; a template that prints earlier messages differently once later ones are there is an error that names
    /// the message.
    pub fn render(&self, chat: &Chat<'_>) -> Result<Rendered, TokenizeError> {
        let messages = usual_messages(chat.messages)?;
        let (source, marked) = self.source(chat)?;
        let run = Run { template: self, chat, program: &compiled(source)?, source };
        let (text, assistant) = run.render(&messages, chat.add_generation_prompt)?;
        if marked {
            return Ok(Rendered { text, assistant });
        }
        let mut assistant = Vec::new();
        let assistants =
            chat.messages.iter().enumerate().filter(|(_, message)| message.get("role").and_then(ChatValue::as_text) == Some("assistant"));
        for (index, _) in assistants {
            let beginning = |end: usize, prompt: bool, what: &'static str| {
                let (part, _) = run.render(&messages[..end], prompt).map_err(|error| error.at_message(index))?;
                if text.starts_with(&part) { Ok(part.len()) } else { Err(TokenizeError::TemplateSpan { index, what }) }
            };
            let start = beginning(index, true, "before it")?;
            let is_last = index + 1 == messages.len() && !chat.add_generation_prompt;
            let end = if is_last { text.len() } else { beginning(index + 1, false, "up to it")? };
            if end < start || assistant.last().is_some_and(|last: &Range<usize>| last.end > start) {
                return Err(TokenizeError::TemplateSpan { index, what: "up to it" });
            }
            assistant.push(start..end);
        }
        Ok(Rendered { text, assistant })
    }

    /// The conversation as a text alone, for a prompt.
    pub fn render_text(&self, chat: &Chat<'_>) -> Result<String, TokenizeError> {
        let messages = usual_messages(chat.messages)?;
        let (source, _) = self.source(chat)?;
        let run = Run { template: self, chat, program: &compiled(source)?, source };
        Ok(run.render(&messages, chat.add_generation_prompt)?.0)
    }

    /// The source for a conversation: the one for tools where there are some and nothing else was chosen.
    fn source(&self, chat: &Chat<'_>) -> Result<(&str, bool), TokenizeError> {
        let tool_use = (chat.tools.is_some() && self.chosen == DEFAULT).then(|| self.sources.get(TOOL_USE)).flatten();
        let source = tool_use.or_else(|| self.sources.get(&self.chosen));
        let (source, marks) = source.ok_or_else(|| TokenizeError::UnknownTemplate { name: self.chosen.clone(), known: Vec::new() })?;
        Ok((source, *marks))
    }
}

fn compiled(source: &str) -> Result<Instructions<'_>, TokenizeError> {
    program::compile(source).map_err(|fault| match fault {
        Fault::Engine(error) => engine_error(&error),
        Fault::Refused(line, what) => TokenizeError::Template { line: Some(line), message: what, index: None },
    })
}

/// The text of a template file.
fn source_of(path: &Path) -> Result<String, TokenizeError> {
    String::from_utf8(read_bounded(path)?)
        .map_err(|error| malformed(path, "the file", "UTF-8", format!("an invalid byte at {}", error.utf8_error().valid_up_to())))
}

/// What the engine says, with the line.
fn engine_error(error: &minijinja::Error) -> TokenizeError {
    let mut message = format!("{}: {}", error.kind(), error.detail().unwrap_or("no detail"));
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(&format!("; {cause}"));
        source = cause.source();
    }
    message.truncate(message.floor_char_boundary(500));
    TokenizeError::Template { line: error.line(), message, index: None }
}

/// The messages as templates expect them: no key without a value, and a model's reasoning under each of its names.
fn usual_messages(messages: &[ChatValue]) -> Result<Vec<ChatValue>, TokenizeError> {
    if messages.len() > MAX_MESSAGES {
        return Err(TokenizeError::ChatMessage { index: MAX_MESSAGES, expected: "the end of the conversation", found: "another message" });
    }
    let mut usual = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let ChatValue::Map(entries) = message else {
            return Err(TokenizeError::ChatMessage { index, expected: "an object with a `role`", found: message.kind() });
        };
        match message.get("role") {
            Some(ChatValue::Text(_)) => {}
            other => {
                let found = other.map_or("no `role`", ChatValue::kind);
                return Err(TokenizeError::ChatMessage { index, expected: "a `role` that is a text", found });
            }
        }
        let mut entries: Vec<(String, ChatValue)> = entries.iter().filter(|(_, value)| *value != ChatValue::Null).cloned().collect();
        let reasoning = REASONING.iter().find_map(|name| entries.iter().find(|(key, _)| key == name)).map(|(_, value)| value.clone());
        if let Some(reasoning) = reasoning {
            if !entries.iter().any(|(key, _)| key == "thinking") {
                entries.insert(0, ("thinking".to_owned(), reasoning.clone()));
            }
            entries.retain(|(key, _)| key != "reasoning_content");
            entries.push(("reasoning_content".to_owned(), reasoning));
        }
        usual.push(ChatValue::Map(entries));
    }
    Ok(usual)
}

/// The renderings of one conversation.
struct Run<'a> {
    template: &'a ChatTemplate,
    chat: &'a Chat<'a>,
    program: &'a Instructions<'a>,
    source: &'a str,
}

impl Run<'_> {
    /// Some of the messages as a text, and what the template marks as said by the assistant.
    fn render(&self, messages: &[ChatValue], prompt: bool) -> Result<(String, Vec<Range<usize>>), TokenizeError> {
        let chat = self.chat;
        let lists = [Some(messages), chat.tools, chat.documents];
        let given = || lists.iter().flatten().flat_map(|list| list.iter()).chain(chat.variables.values());
        let (open, close) = spans::marks(|stem| {
            self.source.contains(stem)
                || given().any(|value| value.contains(stem))
                || self.template.tokens.iter().chain([]).any(|(_, text)| text.contains(stem))
        });
        let setting = Setting {
            input_bytes: self.source.len() + given().map(ChatValue::weight).sum::<usize>(),
            n_messages: messages.len(),
            date: chat.date,
            marks: (&open, &close),
        };
        let text = sandbox::run(self.program, self.root(messages, prompt), setting).map_err(ended)?;
        let broken =
            || TokenizeError::Template { line: None, message: "the marks of `{% generation %}` are cut or nested".to_owned(), index: None };
        spans::unmarked(&text, (&open, &close)).ok_or_else(broken)
    }

    /// The variables of the template.
    fn root(&self, messages: &[ChatValue], prompt: bool) -> Value {
        let list = |list: Option<&[ChatValue]>| {
            list.map_or_else(|| Value::from(()), |list| Value::from(list.iter().map(ChatValue::to_engine).collect::<Vec<_>>()))
        };
        let mut root: BTreeMap<&str, Value> = BTreeMap::new();
        root.extend(self.template.tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
        root.extend(self.chat.variables.iter().map(|(name, value)| (name.as_str(), value.to_engine())));
        root.insert("messages", list(Some(messages)));
        root.insert("tools", list(self.chat.tools));
        root.insert("documents", list(self.chat.documents));
        root.insert("add_generation_prompt", Value::from(prompt));
        root.into_iter().collect()
    }
}

fn ended(ended: Ended) -> TokenizeError {
    use super::budget::Stop;
    let limit = |what| TokenizeError::TemplateLimit { what, index: None };
    match ended {
        Ended::Error(error) => engine_error(&error),
        Ended::Steps => limit("takes too many steps"),
        Ended::Stopped(Stop::TooMuch) => limit("makes too much text"),
        Ended::Stopped(Stop::TooDeep) => limit("nests values too deeply"),
        Ended::Stopped(Stop::Raised(message)) => TokenizeError::TemplateRefused { message, index: None },
        Ended::Stopped(Stop::NoDate) => TokenizeError::TemplateDate,
    }
}
