//! Why a tokenizer could not be made, read, written or used.

use std::path::{Path, PathBuf};

use codex_core::{Digest, ExitClass, Failure, FileError, RegistryError};

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// The configuration cannot be used; every problem is listed.
    #[error("the tokenizer's configuration cannot be used: {}", problems.iter().map(|(key, message)| format!("`{key}`: {message}")).collect::<Vec<_>>().join("; "))]
    Config {
        /// The problems as (key, message).
        problems: Vec<(String, String)>,
    },
    /// No tokenizer has that kind.
    #[error(transparent)]
    Kind(#[from] RegistryError),
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not JSON of the expected form.
    #[error("`{}` line {line} column {column}: not the JSON of a {what}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Line of the first wrong byte, from 1.
        line: usize,
        /// Column of it, from 1.
        column: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The file is JSON but not a tokenizer that can be used.
    #[error("`{}`: `{key}`: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The tokenizer file is not the one its manifest describes.
    #[error("`{}`: expected digest {expected}, found {found}", path.display())]
    DigestMismatch {
        /// The tokenizer file.
        path: PathBuf,
        /// What the manifest says.
        expected: Digest,
        /// What the file's bytes have.
        found: Digest,
    },
    /// A folder that holds another tokenizer than the one to save.
    #[error("`{}` holds another tokenizer: expected digest {expected}, found {found}", folder.display())]
    Exists {
        /// The folder.
        folder: PathBuf,
        /// The digest of the tokenizer to save.
        expected: Digest,
        /// The digest of the file that is there.
        found: Digest,
    },
    /// A file larger than any tokenizer that is read.
    #[error("`{}` is larger than {max_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        max_bytes: u64,
    },
    /// There was no text to train on.
    #[error("there is no text to train a tokenizer on")]
    NoText,
    /// What training put on the disk is not there any more as it was.
    #[error("`{}`, which holds words while a tokenizer is trained, is damaged: {problem}", path.display())]
    SpillDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An id that no token has.
    #[error("token id {id} is outside the vocabulary of {vocab_size}")]
    UnknownId {
        /// The id.
        id: u32,
        /// How many ids there are.
        vocab_size: usize,
    },
    /// A special token was allowed that the tokenizer does not have.
    #[error("unknown special token `{token}`; known: {}", known.join(", "))]
    UnknownSpecial {
        /// The one asked for.
        token: String,
        /// Those there are.
        known: Vec<String>,
        /// The nearest of them.
        nearest: Option<String>,
    },
    /// A text has more tokens than fit and truncation is off.
    #[error("text {index} has {tokens} tokens, more than the {max_length} allowed")]
    TooLong {
        /// Which text of the batch, from 0.
        index: usize,
        /// How many tokens it has.
        tokens: usize,
        /// How many fit.
        max_length: usize,
    },
    /// A text longer than a tokenizer of another layout takes at once.
    #[error("a text of {bytes} bytes is longer than this tokenizer takes at once, {max_bytes}")]
    TextTooLong {
        /// Its length.
        bytes: usize,
        /// The most it takes.
        max_bytes: usize,
    },
    /// Bytes that are not a tokenizer of the format they are said to have.
    #[error("not a {format} tokenizer: {place}: expected {expected}, found {found}")]
    Import {
        /// The format.
        format: &'static str,
        /// Where in the bytes: a line, a byte or a piece.
        place: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A chat template that cannot be read, or that fails.
    #[error("the chat template{}{}: {message}", line.map_or(String::new(), |line| format!(" line {line}")), told_index(*index))]
    Template {
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong.
        message: String,
        /// The message whose part was being rendered, from 0, when it was not the whole conversation.
        index: Option<usize>,
    },
    /// A chat template that runs beyond a bound.
    #[error("the chat template {what}{}", told_index(*index))]
    TemplateLimit {
        /// What it does.
        what: &'static str,
        /// The message whose part was being rendered, from 0, when it was not the whole conversation.
        index: Option<usize>,
    },
    /// A chat template that says no to a conversation.
    #[error("the chat template refuses the conversation{}: {message}", told_index(*index))]
    TemplateRefused {
        /// Its reason.
        message: String,
        /// The message whose part was being rendered, from 0, when it was not the whole conversation.
        index: Option<usize>,
    },
    /// A chat template that prints the date, and none was given.
    #[error("the chat template prints the date, and none was given")]
    TemplateDate,
    /// What the assistant said cannot be told from the rest.
    #[error("what the assistant says in message {index} cannot be found: the conversation {what} is no beginning of the whole text")]
    TemplateSpan {
        /// The message, from 0.
        index: usize,
        /// Which part of the conversation.
        what: &'static str,
    },
    /// There is no template of that name.
    #[error("unknown chat template `{name}`; known: {}", known.join(", "))]
    UnknownTemplate {
        /// The one asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A message that is none.
    #[error("message {index}: expected {expected}, found {found}")]
    ChatMessage {
        /// The message, from 0.
        index: usize,
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The tokenizer library refused what it should take.
    #[error("cannot {action}: {message}")]
    Library {
        /// What was tried.
        action: &'static str,
        /// What the library says.
        message: String,
    },
}

impl TokenizeError {
    /// What `serde_json` says about a file.
    pub(crate) fn json(path: &Path, what: &'static str, source: serde_json::Error) -> Self {
        Self::Json { path: path.to_owned(), what, line: source.line(), column: source.column(), source }
    }

    /// The same failure of a template, in the part of a conversation that ends at a message.
    pub(crate) fn at_message(mut self, at: usize) -> Self {
        if let Self::Template { index, .. } | Self::TemplateLimit { index, .. } | Self::TemplateRefused { index, .. } = &mut self {
            *index = Some(at);
        }
        self
    }

    pub(crate) fn library(action: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Library { action, message: error.to_string() }
    }
}

fn told_index(index: Option<usize>) -> String {
    index.map_or(String::new(), |index| format!(" (for what the assistant says in message {index})"))
}

impl Failure for TokenizeError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Config { .. } | Self::UnknownSpecial { .. } | Self::UnknownTemplate { .. } | Self::TemplateDate | Self::Exists { .. } => {
                ExitClass::Usage
            }
            Self::Kind(error) => error.exit_class(),
            Self::File(error) => error.exit_class(),
            Self::Json { .. } | Self::Malformed { .. } | Self::DigestMismatch { .. } | Self::Import { .. } | Self::SpillDamaged { .. } => {
                ExitClass::Integrity
            }
            Self::NoText
            | Self::TooLarge { .. }
            | Self::UnknownId { .. }
            | Self::TooLong { .. }
            | Self::TextTooLong { .. }
            | Self::Template { .. }
            | Self::TemplateLimit { .. }
            | Self::TemplateRefused { .. }
            | Self::TemplateSpan { .. }
            | Self::ChatMessage { .. }
            | Self::Library { .. } => ExitClass::Data,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config { .. } => Some("correct these keys under `tokenizer` in the configuration".to_owned()),
            Self::Library { .. } => {
                Some("train the tokenizer anew with `codex-cli tokenizer train`, and give it plain UTF-8 text".to_owned())
            }
            Self::Exists { .. } => Some("save into another folder, or move this one away first".to_owned()),
            Self::TooLarge { .. } => Some("check that it is a tokenizer's file; one of that size is none that is read here".to_owned()),
            Self::Kind(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Json { .. } => Some("make the file anew with `codex-cli tokenizer train`, or copy it again".to_owned()),
            Self::Malformed { .. } => Some("copy the tokenizer's files again, or train one with `codex-cli tokenizer train`".to_owned()),
            Self::Import { .. } => Some("copy the file again, and check that it is of the format that was asked for".to_owned()),
            Self::DigestMismatch { .. } => {
                Some("restore the file, or train again; a tokenizer changed by hand needs a folder of its own".to_owned())
            }
            Self::NoText => Some("check that the data sources hold text".to_owned()),
            Self::SpillDamaged { .. } => Some("train again; if it happens again, use another folder or check the disk".to_owned()),
            Self::UnknownId { .. } => {
                Some("the ids come from another tokenizer; use the one saved beside the data or the model".to_owned())
            }
            Self::UnknownSpecial { nearest, .. } => nearest.as_ref().map(|name| format!("did you mean `{name}`?")),
            Self::Template { .. } | Self::TemplateLimit { .. } => {
                Some("correct the template, or use one that comes with codex, such as `chatml`".to_owned())
            }
            Self::TemplateRefused { .. } => {
                Some("change the conversation as the template asks; most want user and assistant in turns".to_owned())
            }
            Self::TemplateDate => Some("give the date that the text should have, so that the same rows give the same text".to_owned()),
            Self::TemplateSpan { .. } => {
                Some("use a template that marks the assistant with `{% generation %}`, or conversations of one answer".to_owned())
            }
            Self::UnknownTemplate { known, .. } => Some(format!("use one of {}", known.join(", "))),
            Self::ChatMessage { .. } => Some("a message is an object such as {\"role\": \"user\", \"content\": \"…\"}".to_owned()),
            Self::TextTooLong { .. } => Some("split the document; a tokenizer trained here takes texts of any length".to_owned()),
            Self::TooLong { .. } => Some("turn truncation on or raise the length".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_exit_code_and_message() {
        let digest = Digest::of_bytes(b"");
        let path = PathBuf::from("t.json");
        let source = serde_json::from_str::<u8>("x").unwrap_err();
        let cases = [
            (TokenizeError::Config { problems: vec![("a".into(), "b".into())] }, 2, "the tokenizer's configuration cannot be used: `a`: b"),
            (TokenizeError::NoText, 3, "there is no text to train a tokenizer on"),
            (
                TokenizeError::SpillDamaged { path: path.clone(), problem: "it ends too early" },
                4,
                "`t.json`, which holds words while a tokenizer is trained, is damaged: it ends too early",
            ),
            (TokenizeError::UnknownId { id: 9, vocab_size: 3 }, 3, "token id 9 is outside the vocabulary of 3"),
            (TokenizeError::TooLong { index: 1, tokens: 9, max_length: 8 }, 3, "text 1 has 9 tokens, more than the 8 allowed"),
            (TokenizeError::library("encode", "no"), 3, "cannot encode: no"),
            (
                TokenizeError::UnknownSpecial { token: "<x>".into(), known: vec!["<y>".into()], nearest: Some("<y>".into()) },
                2,
                "unknown special token `<x>`; known: <y>",
            ),
            (
                TokenizeError::Malformed {
                    path: path.clone(),
                    key: "model.type".into(),
                    expected: "`BPE`".into(),
                    found: "`WordPiece`".into(),
                },
                4,
                "`t.json`: `model.type`: expected `BPE`, found `WordPiece`",
            ),
            (
                TokenizeError::Json { path: path.clone(), what: "tokenizer", line: 1, column: 1, source },
                4,
                "`t.json` line 1 column 1: not the JSON of a tokenizer",
            ),
            (TokenizeError::DigestMismatch { path, expected: digest, found: digest }, 4, "`t.json`: expected digest af1349b9"),
        ];
        for (error, code, message) in cases {
            assert_eq!(error.exit_class().code(), code, "{error}");
            assert!(error.to_string().starts_with(message), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
    }
}
