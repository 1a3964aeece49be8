//! Why training ended without what was asked for.

use codex_checkpoint::CheckpointError;
use codex_core::{ExitClass, Failure};
use codex_data::DataError;
use codex_eval::EvalError;
use codex_model::ModelError;
use codex_tokenize::TokenizeError;
use codex_track::TrackError;

/// A run that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model refused something.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A checkpoint could not be saved or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An evaluation failed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The run folder could not be written.
    #[error(transparent)]
    Track(#[from] TrackError),
    /// The tokenizer refused something.
    #[error(transparent)]
    Tokenize(#[from] TokenizeError),
    /// The loss or the gradient is not a number: the run stops before it touches the weights.
    #[error("step {step}: the {what} is {value}; the batch holds {documents}")]
    NotFinite {
        /// The optimizer step that was not taken.
        step: u64,
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// The value found.
        value: f64,
        /// The documents of the batch.
        documents: String,
    },
    /// Steps in a row had a loss or gradient norm that stands out.
    #[error(
        "{in_a_row} steps in a row up to step {step} were skipped, because their loss or gradient norm stands out; the last batch holds {documents}"
    )]
    Spikes {
        /// The last step that was skipped.
        step: u64,
        /// How many.
        in_a_row: u64,
        /// The documents of its batch.
        documents: String,
    },
    /// A callback of the embedding program panicked.
    #[error("the callback `{callback}` panicked at step {step}: {message}")]
    Callback {
        /// The method of [`Observer`](crate::Observer).
        callback: &'static str,
        /// The last step that was taken.
        step: u64,
        /// What the panic said.
        message: String,
    },
    /// A saved trainer state cannot be read.
    #[error("the trainer state of step {step} does not fit: {reason}")]
    State {
        /// The checkpoint's step.
        step: u64,
        /// What is wrong.
        reason: String,
    },
}

impl TrainError {
    fn inner(&self) -> Option<&dyn Failure> {
        match self {
            Self::Data(error) => Some(error),
            Self::Model(error) => Some(error),
            Self::Checkpoint(error) => Some(error),
            Self::Eval(error) => Some(error),
            Self::Track(error) => Some(error),
            Self::Tokenize(error) => Some(error),
            Self::NotFinite { .. } | Self::Spikes { .. } | Self::Callback { .. } | Self::State { .. } => None,
        }
    }
}

impl Failure for TrainError {
    fn exit_class(&self) -> ExitClass {
        match self.inner() {
            Some(inner) => inner.exit_class(),
            None if matches!(self, Self::NotFinite { .. } | Self::Spikes { .. }) => ExitClass::Data,
            None if matches!(self, Self::Callback { .. }) => ExitClass::Usage,
            None => ExitClass::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFinite { .. } => Some(
                "look at those documents, lower `train.learning_rate` or `train.grad_clip_norm`; the last checkpoint is intact".to_owned(),
            ),
            Self::Spikes { .. } => Some(
                "look at those documents; lower `train.learning_rate`, or raise `train.spike_deviations` or `train.max_spikes`; the state is saved".to_owned(),
            ),
            Self::Callback { .. } => Some("correct the program that embeds the trainer; the state is saved, and the run can go on".to_owned()),
            Self::State { .. } => Some("`--fresh` starts over".to_owned()),
            other => other.inner().and_then(Failure::hint),
        }
    }
}
