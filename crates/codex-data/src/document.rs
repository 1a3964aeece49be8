//! One text, prompt or chat and where it came from.

use std::borrow::Cow;
use std::fmt;

use codex_tokenize::chat::ChatValue;
use serde::{Deserialize, Serialize};

/// Something to train or validate on.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it says, exactly as the source has it.
    pub content: Content,
    /// Where it is.
    pub origin: Origin,
}

/// What a document says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A text, all of which is trained.
    Text(String),
    /// A prompt and what is to follow it.
    Prompt {
        /// What is given.
        prompt: String,
        /// What is to follow.
        completion: String,
    },
    /// A chat, which becomes a text by a template.
    Chat {
        /// The messages, in order: objects with a `role`, most with a `content`.
        messages: Vec<ChatValue>,
        /// The tools that the assistant may call.
        tools: Option<Vec<ChatValue>>,
    },
}

impl Document {
    /// A plain text.
    pub fn of_text(text: String, origin: Origin) -> Self {
        Self { content: Content::Text(text), origin }
    }
}

impl Content {
    /// What it says without any template: the text; the prompt with the completion behind it; the messages, one behind the other in lines.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Prompt { prompt, completion } => Cow::Owned([prompt.as_str(), completion].concat()),
            Self::Chat { messages, .. } => {
                let said = messages.iter().filter_map(|message| message.get("content").and_then(ChatValue::as_text));
                Cow::Owned(said.collect::<Vec<_>>().join("\n"))
            }
        }
    }

    /// `text`, `prompt` or `chat`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Prompt { .. } => "prompt",
            Self::Chat { .. } => "chat",
        }
    }

    /// Whether it is a prompt or a chat.
    pub fn is_conversation(&self) -> bool {
        !matches!(self, Self::Text(_))
    }
}

/// Where a document is, shown as `path` or `path:line`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The path of the file, or the name of the built-in source.
    pub source: String,
    /// The line of a JSONL row or the number of a built-in document, from 1; `None` when the source is one document.
    pub line: Option<u64>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.source),
            None => f.write_str(&self.source),
        }
    }
}
