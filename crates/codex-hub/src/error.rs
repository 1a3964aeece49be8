//! Why a model of another program cannot be read, or one of ours not be written for it.

use std::path::{Path, PathBuf};

use codex_core::{ExitClass, Failure, FileError};
use codex_model::ModelError;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not JSON.
    #[error("`{}` line {line} column {column}: not the JSON of a {what}: {reason}", path.display())]
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
        reason: String,
    },
    /// A value in a file is not what it must be.
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
    /// The file asks for something that the network cannot do.
    #[error("`{}`: `{key}`: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key that asks for it.
        key: String,
        /// What it asks for.
        reason: String,
    },
    /// There are only weights in a format that can run programs when it is read.
    #[error("`{}` is a pickle, which can run any program when it is read", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// There are no weights.
    #[error("`{}` holds no weights: neither `model.safetensors` nor `model.safetensors.index.json` is there", folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A file of tensors is damaged.
    #[error("`{}`: {reason}", path.display())]
    TensorFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tensors are not those of the configuration.
    #[error("`{}`: {} of its tensors do not fit its configuration: {}", folder.display(), problems.len(), listed(problems))]
    Tensors {
        /// The folder or file.
        folder: PathBuf,
        /// Every tensor that is missing, left over or of a wrong shape.
        problems: Vec<String>,
    },
    /// No other program has such a network.
    #[error("no {format} model has such a network: {reason}")]
    NotRepresentable {
        /// The format asked for.
        format: &'static str,
        /// What stands in the way.
        reason: String,
    },
    /// The other program has no such tokenizer.
    #[error("no {format} file holds such a tokenizer: {reason}")]
    TokenizerNotRepresentable {
        /// The format asked for.
        format: &'static str,
        /// What stands in the way.
        reason: String,
    },
    /// What was written is not what was to be written.
    #[error("`{}` was written and read again, and `{what}` differs: {reason}", path.display())]
    Differs {
        /// What was written.
        path: PathBuf,
        /// The tensor or file.
        what: String,
        /// How.
        reason: String,
    },
    /// The network cannot be built.
    #[error("`{}`: {source}", path.display())]
    Model {
        /// The file that describes it.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ModelError,
    },
}

/// Problems that are shown by name.
const SHOWN: usize = 8;

fn listed(problems: &[String]) -> String {
    let mut text = problems.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if problems.len() > SHOWN {
        text += &format!("; and {} more", problems.len() - SHOWN);
    }
    text
}

impl HubError {
    pub(crate) fn json(path: &Path, what: &'static str, error: &serde_json::Error) -> Self {
        Self::Json { path: path.to_owned(), what, line: error.line(), column: error.column(), reason: error.to_string() }
    }

    pub(crate) fn malformed(path: &Path, key: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), key: key.to_owned(), expected: expected.into(), found: found.into() }
    }

    pub(crate) fn unsupported(path: &Path, key: &str, reason: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), key: key.to_owned(), reason: reason.into() }
    }

    pub(crate) fn tensor_file(path: &Path, reason: impl Into<String>) -> Self {
        Self::TensorFile { path: path.to_owned(), reason: reason.into() }
    }
}

impl Failure for HubError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::File(_) => ExitClass::Io,
            Self::NotRepresentable { .. } | Self::TokenizerNotRepresentable { .. } => ExitClass::Usage,
            Self::Pickle { .. } => ExitClass::Policy,
            Self::Json { .. } | Self::Malformed { .. } | Self::Unsupported { .. } | Self::NoWeights { .. } => ExitClass::Data,
            Self::TensorFile { .. } | Self::Tensors { .. } | Self::Differs { .. } | Self::Model { .. } => ExitClass::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Pickle { .. } => {
                "take the model's safetensors files, or convert it where its origin is trusted: in Python, \
                 `AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)`"
            }
            Self::NoWeights { .. } => "give the folder that holds `config.json` and the safetensors files of one model",
            Self::Unsupported { .. } => {
                "models of the families gpt2, llama, mistral, qwen2 and qwen3 can be read, and bert for embeddings; `docs/MODELS.md` says with which \
                 options"
            }
            Self::TensorFile { .. } | Self::Json { .. } => "the file is damaged or not whole: copy it again and compare its digest",
            Self::Tensors { .. } | Self::Model { .. } => "configuration and weights must be of one model: copy both again from one place",
            Self::Differs { .. } => "nothing was published; the disk or the memory may be damaged",
            Self::TokenizerNotRepresentable { .. } => {
                "write the file without a tokenizer, or a Hugging Face folder, which holds any `tokenizer.json`"
            }
            Self::NotRepresentable { .. } => "`docs/MODELS.md` has a table of what each format can hold",
            Self::File(error) => return error.hint(),
            Self::Malformed { .. } => return None,
        };
        Some(text.to_owned())
    }
}
