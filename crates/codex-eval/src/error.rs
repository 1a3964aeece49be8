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
}

impl Failure for EvalError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Model(error) => error.exit_class(),
            Self::Data(error) => error.exit_class(),
            Self::Empty { .. } => ExitClass::Data,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::Empty { .. } => Some("give files in `data.validation`, or a `data.validation_fraction` above 0".to_owned()),
        }
    }
}
