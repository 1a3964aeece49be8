//! Every failure of the command line, with its exit code and hint.

use std::path::PathBuf;

use codex_core::{ExitClass, Failure, FileError};

/// A command that did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] codex_config::ConfigError),
    #[error(transparent)]
    Tokenize(#[from] codex_tokenize::TokenizeError),
    #[error(transparent)]
    Safety(#[from] codex_safety::SafetyError),
    #[error(transparent)]
    Track(#[from] codex_track::TrackError),
    #[error(transparent)]
    Data(#[from] codex_data::DataError),
    #[error(transparent)]
    Model(#[from] codex_model::ModelError),
    #[error(transparent)]
    Hub(#[from] codex_hub::HubError),
    #[error(transparent)]
    Checkpoint(#[from] codex_checkpoint::CheckpointError),
    #[error(transparent)]
    Eval(#[from] codex_eval::EvalError),
    #[error(transparent)]
    Train(#[from] codex_train::TrainError),
    #[error(transparent)]
    Sweep(#[from] codex_sweep::SweepError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the compiled-in source `{name}` cannot be unpacked: {source}")]
    Builtin {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("device `{device}` is not compiled into this program; it has: {}", compiled_in.join(", "))]
    NotCompiledIn { device: String, compiled_in: Vec<&'static str> },
    #[error("unknown device `{device}`; known: {}", crate::device::NAMES.join(", "))]
    UnknownDevice { device: String },
    #[error("cannot use {threads} threads: {reason}")]
    Threads { threads: usize, reason: String },
    #[error("{what}")]
    Usage { what: String, hint: Option<String> },
    #[error("no run in `{}`", folder.display())]
    NoRun { folder: PathBuf },
    #[error("`{}` is neither a run folder nor a checkpoint nor a Hugging Face model folder", path.display())]
    NotAModel { path: PathBuf },
    #[error("no model is called `{name}`; looked at {}", tried.join(", "))]
    UnknownModel { name: String, tried: Vec<String>, nearest: Option<String>, folder: PathBuf },
    #[error("`{}` has no tokenizer: neither `tokenizer.json` nor `tokenizer.model` is there", path.display())]
    NoTokenizer { path: PathBuf },
    #[error("`{}`: {reason}", path.display())]
    Integrity { path: PathBuf, reason: String, hint: &'static str },
    #[error("`{}` has text that a safety rule stops: {}", place, rules.join(", "))]
    Refused { place: String, rules: Vec<String> },
    #[error("{place}: {reason}")]
    Unreadable { place: String, reason: String },
    #[error("signals cannot be listened to: {source}")]
    Signals {
        #[source]
        source: std::io::Error,
    },
    #[error("this needs about {} of memory, and the machine has {}", crate::terminal::bytes(*needed), crate::terminal::bytes(*there))]
    Memory { needed: u64, there: u64 },
    #[error("`{}` holds another text than the one the run was validated on: {what}", run.display())]
    OtherText { run: PathBuf, what: String },
    #[error("{n} of {of} trials failed")]
    FailedTrials { n: usize, of: usize, log: PathBuf, code: Option<i32> },
    #[error("another process works on `{name}`")]
    BusyTrial { name: String },
    #[error("the result cannot be written: {source}")]
    Output {
        #[source]
        source: std::io::Error,
    },
}

impl CliError {
    pub(crate) fn usage(what: impl Into<String>, hint: &str) -> Self {
        Self::Usage { what: what.into(), hint: Some(hint.to_owned()) }
    }

    fn inner(&self) -> Option<&dyn Failure> {
        Some(match self {
            Self::Config(error) => error,
            Self::Tokenize(error) => error,
            Self::Safety(error) => error,
            Self::Track(error) => error,
            Self::Data(error) => error,
            Self::Model(error) => error,
            Self::Hub(error) => error,
            Self::Checkpoint(error) => error,
            Self::Eval(error) => error,
            Self::Train(error) => error,
            Self::Sweep(error) => error,
            Self::File(error) => error,
            _ => return None,
        })
    }
}

impl Failure for CliError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::NotCompiledIn { .. } | Self::UnknownDevice { .. } | Self::Threads { .. } | Self::Usage { .. } | Self::NoRun { .. } => {
                ExitClass::Usage
            }
            Self::NotAModel { .. } | Self::UnknownModel { .. } | Self::Memory { .. } => ExitClass::Usage,
            Self::Builtin { .. } | Self::Integrity { .. } | Self::OtherText { .. } => ExitClass::Integrity,
            Self::BusyTrial { .. } => ExitClass::Busy,
            // That of the first of them.
            Self::FailedTrials { code, .. } => {
                let all = [ExitClass::Usage, ExitClass::Data, ExitClass::Integrity, ExitClass::Io, ExitClass::Policy, ExitClass::Busy];
                all.into_iter().find(|class| *code == Some(i32::from(class.code()))).unwrap_or(ExitClass::Usage)
            }
            Self::Refused { .. } => ExitClass::Policy,
            Self::Unreadable { .. } | Self::NoTokenizer { .. } => ExitClass::Data,
            Self::Output { .. } | Self::Signals { .. } => ExitClass::Io,
            other => other.inner().map_or(ExitClass::Usage, Failure::exit_class),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotCompiledIn { device, .. } => {
                Some(format!("build with it: `cargo run --release -p codex-cli --features {device} -- …`"))
            }
            Self::Usage { hint, .. } => hint.clone(),
            Self::Integrity { hint, .. } => Some((*hint).to_owned()),
            Self::NoRun { .. } => Some("train one first: `codex-cli train`, or name a run folder".to_owned()),
            Self::NotAModel { .. } => {
                Some("name a run folder such as `runs/20261124-120000-austen`, a checkpoint folder in it, or a folder with `config.json` and safetensors".to_owned())
            }
            Self::UnknownModel { nearest, folder, .. } => {
                let nearest = nearest.as_ref().map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
                Some(format!("{nearest}put the model's folder into `{}`, or import it: `codex-cli model import FOLDER --name NAME`", folder.display()))
            }
            Self::NoTokenizer { .. } => {
                Some("copy the model's `tokenizer.json` (and `tokenizer_config.json`) into the folder; `model logits` works without".to_owned())
            }
            Self::FailedTrials { log, .. } => Some(format!("see `{}`; the same command tries them again", log.display())),
            Self::BusyTrial { .. } => Some("let it end; `codex-cli sweep FILE --results` shows how far it is".to_owned()),
            Self::Refused { .. } => {
                Some("`codex-cli safety redact` shows what would be replaced; `safety.*` says what happens to it".to_owned())
            }
            Self::Memory { .. } => {
                Some("set `train.recompute_activations=true`; lower `train.batch_size` (and raise `train.accumulation`), `model.context_length` or the model's size; `--dry-run` shows the parts".to_owned())
            }
            Self::OtherText { .. } => Some("evaluate on it as new text: `codex-cli eval RUN --data PATH`".to_owned()),
            Self::Threads { .. } => Some("set `run.threads` once, to 0 or a number of cores".to_owned()),
            other => other.inner().and_then(Failure::hint),
        }
    }
}
