//! Everything that can be wrong with data, with its place, what was expected and what was found.

use std::path::PathBuf;

use codex_core::{ExitClass, Failure, FileError};
use codex_tokenize::TokenizeError;

use crate::document::Origin;
use crate::row::RowFault;
use crate::split::Split;

/// Why data could not be read, prepared or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The configuration contradicts itself.
    #[error("data.{key}: {problem}")]
    Config {
        /// The key below `data`.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A named file or folder is not there.
    #[error("`{path}`, named in `data.{key}`, does not exist")]
    Missing {
        /// The path as it was written.
        path: String,
        /// `train` or `validation`.
        key: &'static str,
    },
    /// No source of this name is compiled in.
    #[error("unknown built-in source `builtin:{name}`; known: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
    UnknownBuiltin {
        /// The name asked for.
        name: String,
        /// Every name there is.
        known: Vec<String>,
        /// The nearest of them.
        nearest: Option<String>,
    },
    /// A file of a kind that is not read.
    #[error("`{path}` has the extension `{found}`; expected one of {expected}")]
    Extension {
        /// The file.
        path: String,
        /// Its extension, empty when there is none.
        found: String,
        /// The extensions that are read.
        expected: String,
    },
    /// A file of a kind that this build does not read.
    #[error("`{path}` is {what}, and this program was built without the feature `{feature}`")]
    NotBuiltIn {
        /// The file.
        path: String,
        /// What it is.
        what: &'static str,
        /// The feature of the build that reads it.
        feature: &'static str,
    },
    /// Standard input was named, and nobody pipes anything into it.
    #[error("`-` is standard input, and that is a terminal; expected data that are piped in")]
    TerminalInput,
    /// Standard input could not be read, or copied to a temporary file, so that it can be read more than once.
    #[error("cannot copy standard input to a temporary file in `{}`, after {bytes} bytes: {source}", folder.display())]
    Spool {
        /// The folder of temporary files.
        folder: PathBuf,
        /// How many bytes were copied.
        bytes: u64,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Neither a file nor a folder.
    #[error("`{path}` is neither a plain file nor a folder")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// A folder without a single file that can be read.
    #[error("folder `{path}` holds no file with the extension {expected}")]
    EmptyFolder {
        /// The folder.
        path: String,
        /// The extensions that are read.
        expected: String,
    },
    /// A folder nested too deeply, as one with a link to its own parent is.
    #[error("folder `{path}` is nested more than {max} folders deep")]
    TooDeep {
        /// The folder at which the search stopped.
        path: String,
        /// The deepest nesting that is read.
        max: usize,
    },
    /// A file whose bytes are no UTF-8 text from the start.
    #[error("`{path}` is {found}; expected UTF-8 text")]
    Encoding {
        /// The file.
        path: String,
        /// What its first bytes say it is.
        found: &'static str,
    },
    /// Too much of the validation is trained on.
    #[error(
        "{:.1} % of the validation's runs of 13 tokens stand in the training text too ({found} of {runs}), and at most {:.1} % may; the most in {documents}",
        100.0 * *found as f64 / *runs as f64, 100.0 * max
    )]
    Leakage {
        /// Runs that were found.
        found: u64,
        /// All of them.
        runs: u64,
        /// The largest share.
        max: f64,
        /// The documents with the most, as messages show them.
        documents: String,
    },
    /// A compressed file is damaged or cut.
    #[error("cannot decompress `{path}`: {source}")]
    Compressed {
        /// The file.
        path: String,
        /// What the decoder said.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not, or not wholly, what it is read as.
    #[error("cannot read `{path}` as {format}: {problem}")]
    Unreadable {
        /// The file.
        path: String,
        /// What it is read as.
        format: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A row or a text file that cannot be used.
    #[error("`{}`: {reason}", place(path, *line, *column))]
    BadRow {
        /// The file.
        path: String,
        /// The line, from 1.
        line: Option<u64>,
        /// The byte in the line, from 1.
        column: Option<u64>,
        /// What is wrong.
        reason: Box<RowFault>,
    },
    /// The safety policy does not allow this document.
    #[error("`{origin}` breaks the safety policy: {}", rules.join(", "))]
    Policy {
        /// Where the document is.
        origin: Origin,
        /// The rules that it breaks.
        rules: Vec<String>,
    },
    /// The chat template cannot be used.
    #[error("data.chat_template: `{name}`: {source}")]
    Template {
        /// As the configuration names it.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Box<TokenizeError>,
    },
    /// Too many prompts and chats train nothing.
    #[error("{untrained} of {rows} prompts and chats train nothing, more than the share of {share} that `data.max_empty_rows` allows: {}", first.join("; "))]
    EmptyRows {
        /// Those that train nothing.
        untrained: u64,
        /// All of them.
        rows: u64,
        /// The largest share.
        share: f64,
        /// The first, with their places and reasons.
        first: Vec<String>,
    },
    /// Nothing is left to train on.
    #[error(
        "no training text: {documents} documents read, {skipped} bad rows skipped, {empty} empty, {dropped} dropped by the safety policy, \
         {validation} held out for validation"
    )]
    NoTrainingText {
        /// Documents that were read.
        documents: u64,
        /// Rows that were skipped.
        skipped: u64,
        /// Documents without a character.
        empty: u64,
        /// Documents that the safety policy dropped.
        dropped: u64,
        /// Documents in the validation split.
        validation: u64,
    },
    /// A split too small for a single window.
    #[error("the {split} split has {n_tokens} tokens, which make no window of {context_length} inputs; at least 2 are needed")]
    NoWindows {
        /// The split.
        split: Split,
        /// Its tokens.
        n_tokens: u64,
        /// Inputs of a window.
        context_length: usize,
    },
    /// The tokenizer refused a text.
    #[error("cannot tokenize the documents from `{first}` to `{last}`: {source}")]
    Tokenize {
        /// The first document of the batch that was refused.
        first: Origin,
        /// The last document of the batch that was refused.
        last: Origin,
        /// What the tokenizer said.
        #[source]
        source: Box<TokenizeError>,
    },
    /// The tokenizer returned something that breaks its own contract.
    #[error("the tokenizer broke its contract at `{origin}`: expected {expected}, found {found}")]
    TokenizerContract {
        /// The document.
        origin: Origin,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A source's bytes changed between its checksum and the end of its reading.
    #[error("`{path}` changed while it was read: expected blake3 {expected}, found {found}")]
    SourceChanged {
        /// The source.
        path: String,
        /// Its digest at first.
        expected: codex_core::Digest,
        /// Its digest at last.
        found: codex_core::Digest,
    },
    /// A token cache is not what its manifest says.
    #[error("token cache file `{}` is damaged: {found}", path.display())]
    CorruptCache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A manifest could not be written as JSON.
    #[error("cannot write the token cache's manifest as JSON: {source}")]
    Manifest {
        /// What the JSON writer said.
        #[source]
        source: serde_json::Error,
    },
    /// A cache file could not be mapped into memory.
    #[error("cannot map `{}` into memory: {source}", path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: mmap_io::MmapIoError,
    },
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What to do with a file that is no UTF-8 text.
fn foreign_hint(path: &str, found: &str) -> String {
    let encoding = match found {
        "UTF-32" => "UTF-32",
        _ if found.starts_with("UTF-16 (little") => "UTF-16LE",
        _ if found.starts_with("UTF-16 (big") => "UTF-16BE",
        "compressed with gzip" | "compressed with zstd" => {
            return "it is compressed more than once, or its name does not say so: decompress it first".to_owned();
        }
        _ if found.starts_with("compressed") => return "decompress it first, or compress it with gzip or zstd".to_owned(),
        _ => return "write its text to a file of one of the kinds that are read, and name that".to_owned(),
    };
    // A quote within a path ends the quoted part and begins the next.
    let quoted = |path: &str| format!("'{}'", path.replace('\'', "'\\''"));
    format!("convert it with `iconv -f {encoding} -t UTF-8 {} > {}`", quoted(path), quoted(&format!("utf8-{}", file_name(path))))
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn place(path: &str, line: Option<u64>, column: Option<u64>) -> String {
    let mut place = path.to_owned();
    for number in [line, column].into_iter().flatten() {
        place.push(':');
        place.push_str(&number.to_string());
    }
    place
}

impl Failure for DataError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Config { .. } | Self::UnknownBuiltin { .. } | Self::TerminalInput => ExitClass::Usage,
            Self::Policy { .. } => ExitClass::Policy,
            Self::Compressed { .. }
            | Self::Unreadable { .. }
            | Self::SourceChanged { .. }
            | Self::CorruptCache { .. }
            | Self::TokenizerContract { .. } => ExitClass::Integrity,
            Self::Map { .. } | Self::Spool { .. } => ExitClass::Io,
            Self::File(error) => error.exit_class(),
            Self::Tokenize { source, .. } | Self::Template { source, .. } => source.exit_class(),
            _ => ExitClass::Data,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { key, .. } => {
                format!("check `data.{key}`; relative paths start at the current folder, and `builtin:NAME` names a compiled-in source")
            }
            Self::UnknownBuiltin { nearest: Some(nearest), .. } => format!("did you mean `builtin:{nearest}`?"),
            Self::UnknownBuiltin { known, .. } if known.is_empty() => {
                "this program has no built-in source; name a file or a folder".to_owned()
            }
            Self::UnknownBuiltin { .. } => "use one of the known names, or name a file or a folder".to_owned(),
            Self::Config { key, .. } => format!("correct `data.{key}` in the configuration"),
            Self::NotAFile { .. } => "name a plain file, or a folder of them; write a pipe or a device to a file first".to_owned(),
            Self::Extension { .. } | Self::EmptyFolder { .. } => "convert the text to one of these, or rename the file".to_owned(),
            Self::TooDeep { .. } => "look for a link that points back to a folder above it".to_owned(),
            Self::Encoding { path, found } => foreign_hint(path, found),
            Self::NotBuiltIn { feature, .. } => {
                format!("build the program with `--features {feature}`, or convert the file to JSON lines")
            }
            Self::TerminalInput => "pipe data in, as in `zcat rows.jsonl.gz | codex-cli data inspect -`, or name a file".to_owned(),
            Self::Spool { .. } => {
                "free some space there, set `TMPDIR` to a folder on a larger disk, or write the data to a file and name that".to_owned()
            }
            Self::Unreadable { .. } => "bring it again from where it came: it is cut, damaged or something else".to_owned(),
            Self::Leakage { .. } => {
                "take those documents out of one of the two (`data.filter.duplicates` finds near duplicates within a source), or raise `data.max_leakage`".to_owned()
            }
            Self::Compressed { .. } => "bring it again from where it came; `gzip -t` and `zstd -t` test a file".to_owned(),
            Self::BadRow { reason, .. } => reason.hint(),
            Self::Policy { .. } => "remove the document, or let `safety` redact or drop such text".to_owned(),
            Self::NoTrainingText { .. } => "check `data.train`, `data.validation_fraction` and the safety policy".to_owned(),
            Self::NoWindows { .. } => "give more text".to_owned(),
            Self::SourceChanged { .. } => "run the same command again once nothing writes to it".to_owned(),
            Self::CorruptCache { .. } => "delete its folder; the next run builds it again".to_owned(),
            Self::Tokenize { source, .. } | Self::Template { source, .. } => return source.hint(),
            Self::EmptyRows { .. } => {
                "give each a completion or an assistant's turn (`codex-cli data inspect --masks` shows them), or raise `data.max_empty_rows`".to_owned()
            }
            Self::TokenizerContract { .. } => {
                "use a tokenizer made by `codex-cli tokenizer train`; one of your own must give ids below its vocabulary size".to_owned()
            }
            Self::Map { .. } => {
                "check the memory limit (`ulimit -v`), or set `data.cache_dir` to a folder on a file system that maps files".to_owned()
            }
            Self::Manifest { .. } => "correct the number in `data` that JSON cannot hold, such as `nan` or `inf`".to_owned(),
            Self::File(error) => return error.hint(),
        };
        Some(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_test_can_bring_about_has_its_exit_code_and_hint_too() {
        let origin = Origin { source: "a.txt".to_owned(), line: None };
        let source = serde_json::from_str::<u8>("x").unwrap_err();
        let refused = mmap_io::MmapIoError::Io(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        let errors = [
            (DataError::Manifest { source }, 3, "nan"),
            (DataError::Map { path: "t.tokens".into(), source: refused }, 5, "data.cache_dir"),
            (DataError::TokenizerContract { origin, expected: "2".to_owned(), found: "1".to_owned() }, 4, "tokenizer train"),
        ];
        for (error, code, word) in errors {
            assert_eq!(error.exit_class().code(), code, "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains(word)), "{error}");
        }
    }
}
