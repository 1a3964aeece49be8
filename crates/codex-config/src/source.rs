//! Where a value came from: the layer, and the place in it.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

/// The place that set a value. The order is that of the layers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// No layer set it: the type's `Default`.
    Default,
    /// A config compiled into the program.
    Library {
        /// Its name, as `model/tiny`.
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// A file given by the user or found as a group.
    File {
        /// Its path as it was given.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its full name.
        name: String,
    },
    /// An argument of the command line.
    Argument {
        /// The argument as it was typed.
        text: String,
    },
}

impl Source {
    /// The layer's kind as one word: `default`, `library`, `file`, `environment` or `argument`.
    pub fn layer(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Library { .. } => "library",
            Self::File { .. } => "file",
            Self::Environment { .. } => "environment",
            Self::Argument { .. } => "argument",
        }
    }

    /// The source as a JSON object: `layer`, and what the layer has of `name`, `path`, `line` and `text`.
    pub fn to_json(&self) -> Value {
        let layer = self.layer();
        match self {
            Self::Default => json!({ "layer": layer }),
            Self::Library { name, line } => json!({ "layer": layer, "name": name, "line": line }),
            Self::File { path, line } => json!({ "layer": layer, "path": path.display().to_string(), "line": line }),
            Self::Environment { name } => json!({ "layer": layer, "name": name }),
            Self::Argument { text } => json!({ "layer": layer, "text": text }),
        }
    }
}

/// `default`, ``compiled-in `model/tiny`:3``, `run.toml:3`, ``environment `CODEX_SEED` ``, ``argument `seed=3` ``.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Library { name, line } => write!(f, "compiled-in `{name}`:{line}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { name } => write!(f, "environment `{name}`"),
            Self::Argument { text } => write!(f, "argument `{}`", shortened(&masked_argument(text))),
        }
    }
}

/// The argument without its value when the key names a secret.
fn masked_argument(text: &str) -> String {
    match text.split_once('=') {
        Some((key, value)) if crate::excerpt::is_secret(key) && !value.is_empty() => format!("{key}=…"),
        _ => text.to_owned(),
    }
}

/// The text on one line, and not longer than a line.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = text
        .chars()
        .take(MOST)
        .flat_map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }.chars().collect::<Vec<_>>())
        .collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}
