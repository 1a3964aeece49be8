//! What can be asked of conversations.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Model, Sampling};

/// A conversation with a model.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  codex-cli chat RUN --template chatml\n  codex-cli chat RUN --template plain --system 'Answer in one line.' --message 'What is BLAKE3?'\n  \
                  codex-cli chat RUN --template chatml --transcript talk.jsonl"
)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) model: Model,
    /// Said once before the conversation
    #[arg(long)]
    pub(crate) system: Option<String>,
    /// What the user says; can be given more than once. Without it each line of standard input is one message
    #[arg(long, short)]
    pub(crate) message: Vec<String>,
    /// The template: a file, a model folder, or one of those that ship with the program; when absent the model's own
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) template: Option<String>,
    /// Append each message to this file as a line of JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
    /// Print answers while they are made, as on a terminal; not with `--json`
    #[arg(long)]
    pub(crate) stream: bool,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// How keys and values of what was read are kept: bf16 takes half the memory of f32 and is not exact
    #[arg(long, value_enum, default_value_t = CachePrecision::F32)]
    pub(crate) kv_cache: CachePrecision,
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CachePrecision {
    F32,
    Bf16,
}

impl From<CachePrecision> for codex_model::Precision {
    fn from(precision: CachePrecision) -> Self {
        match precision {
            CachePrecision::F32 => Self::F32,
            CachePrecision::Bf16 => Self::Bf16,
        }
    }
}
