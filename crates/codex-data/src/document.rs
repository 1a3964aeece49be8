//! One text and where it came from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One text to train or validate on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text, exactly as the source has it.
    pub text: String,
    /// Where it is.
    pub origin: Origin,
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
