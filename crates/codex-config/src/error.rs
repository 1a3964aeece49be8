//! What can be wrong with a configuration, every problem of it at once.

use std::fmt;
use std::io;
use std::ops::Range;

use codex_core::{ExitClass, Failure, FileError};

use crate::excerpt::{Excerpt, Texts};
use crate::schema::list;
use crate::source::Source;
use crate::value_parser::Slip;

/// A problem and the place it has to be mended at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocatedProblem {
    /// What has to be changed.
    pub place: Source,
    /// The dotted path of the key; empty when the problem is not one key's.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// The line of the text, with the place in it.
    pub excerpt: Option<Excerpt>,
    pub(crate) mark: Mark,
}

/// What of a problem's line an excerpt points at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mark {
    /// No excerpt.
    Nowhere,
    /// The whole line.
    Line,
    Key,
    /// The last key of this name in the line.
    LastKey,
    #[default]
    Value,
    /// These bytes of the line, or of the argument.
    Bytes(Range<usize>),
    /// This text, in the line or one of those that follow.
    Text(String),
}

impl LocatedProblem {
    pub(crate) fn new(place: Source, key: impl Into<String>, message: impl Into<String>, hint: Option<String>) -> Self {
        Self { place, key: key.into(), message: message.into(), hint, excerpt: None, mark: Mark::default() }
    }

    /// The same with an excerpt that points here.
    #[must_use]
    pub(crate) fn at(mut self, mark: Mark) -> Self {
        self.mark = mark;
        self
    }

    /// The problem of an argument that cannot be read.
    pub(crate) fn of_slip(text: &str, slip: Slip) -> Self {
        Self::new(Source::Argument { text: text.to_owned() }, "", slip.message, slip.hint).at(Mark::Bytes(slip.at))
    }

    /// The problem of an argument that can be read.
    pub(crate) fn of_argument(text: &str, key: &str, message: String, hint: Option<&str>) -> Self {
        Self::new(Source::Argument { text: text.to_owned() }, key, message, hint.map(str::to_owned))
    }
}

/// ``run.toml:3: `train.lr`: message``, below it the line with the place marked, and then `  hint: …`.
impl fmt::Display for LocatedProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.message)?;
        self.excerpt.iter().try_for_each(|excerpt| write!(f, "\n{excerpt}"))?;
        self.hint.iter().try_for_each(|hint| write!(f, "\n  hint: {hint}"))
    }
}

/// Why no configuration could be resolved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The layers hold these problems, in the order of the layers; there is at least one.
    #[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Problems {
        /// Every problem that was found.
        problems: Vec<LocatedProblem>,
    },
    /// A config file could not be read.
    #[error("the config cannot be read: {source}")]
    File {
        /// What the operating system said.
        #[source]
        source: FileError,
    },
    /// No compiled-in config has the name that the program asked for.
    #[error("no compiled-in config is named `{name}`")]
    UnknownBase {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The configuration type itself does not fit: its default is no table, or a value of it cannot be written as TOML.
    #[error("the configuration type cannot be used: {message}")]
    Schema {
        /// What does not fit.
        message: String,
    },
}

impl ConfigError {
    /// The problems of arguments alone, each with its excerpt.
    pub(crate) fn of(mut problems: Vec<LocatedProblem>) -> Self {
        let texts = Texts::default();
        for problem in &mut problems {
            texts.show(problem);
        }
        Self::Problems { problems }
    }
}

impl Failure for ConfigError {
    fn exit_class(&self) -> ExitClass {
        match self {
            // A file that is too large can be read; it is the content that is refused.
            Self::File { source } if source.source.kind() != io::ErrorKind::FileTooLarge => ExitClass::Io,
            _ => ExitClass::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File { source } if source.source.kind() == io::ErrorKind::FileTooLarge => {
                Some("a config is a short text of keys and values; check that this is the right file".to_owned())
            }
            Self::File { source } => source.hint(),
            Self::UnknownBase { known, .. } => Some(format!("known configs: {}", list(known.iter().map(String::as_str)))),
            Self::Problems { .. } | Self::Schema { .. } => None,
        }
    }
}
