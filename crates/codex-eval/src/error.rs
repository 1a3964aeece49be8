//! Why an evaluation gave no numbers.

use codex_core::{ExitClass, Failure};
use codex_data::DataError;
use codex_model::ModelError;

/// An evaluation that could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The model refused its input.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// There is nothing to evaluate on.
    #[error("the {split} split has no target tokens")]
    Empty {
        /// The split's name.
        split: String,
    },
    /// The loss is not a number, so nothing that follows from it is.
    #[error("the loss on the {split} split is {value}")]
    NotFinite {
        /// The split's name.
        split: String,
        /// The value found.
        value: f64,
    },
    /// The caller asked for no more.
    #[error("the evaluation was stopped after {done} of {all} windows")]
    Interrupted {
        /// Windows read.
        done: u64,
        /// Windows there were to read.
        all: u64,
    },
}

impl Failure for EvalError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Model(error) => error.exit_class(),
            Self::Data(error) => error.exit_class(),
            Self::Empty { .. } | Self::NotFinite { .. } | Self::Interrupted { .. } => ExitClass::Data,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::NotFinite { .. } => {
                Some("the weights have grown out of bounds: lower `train.learning_rate`, or take an earlier checkpoint".to_owned())
            }
            Self::Interrupted { .. } => None,
            Self::Empty { .. } => Some("give files in `data.validation`, or a `data.validation_fraction` above 0".to_owned()),
        }
    }
}
