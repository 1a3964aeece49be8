//! What can go wrong with a model, before burn sees anything: configuration, parameters, inputs.

use codex_core::{ExitClass, Failure};

/// A model that cannot be built, filled or run as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A configuration value cannot be used.
    #[error("`{key}`: {message}")]
    Config {
        /// The key, such as `model.d_model`.
        key: String,
        /// What is wrong with its value.
        message: String,
    },
    /// A parameter of the network is not among the tensors.
    #[error("tensor `{path}` is missing; the model expects it with shape {expected:?}")]
    MissingTensor {
        /// The parameter's path.
        path: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// A tensor has no place in the network.
    #[error("tensor `{path}` of shape {found:?} belongs to no parameter of this model")]
    LeftOverTensor {
        /// The tensor's name.
        path: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A tensor has another shape than its parameter.
    #[error("tensor `{path}` has shape {found:?}; the model expects {expected:?}")]
    WrongShape {
        /// The parameter's path.
        path: String,
        /// The parameter's shape.
        expected: Vec<usize>,
        /// The tensor's shape.
        found: Vec<usize>,
    },
    /// A token id is outside the vocabulary.
    #[error("token id {id} at position {position} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Where it stands in the input.
        position: usize,
        /// How many tokens the model knows.
        vocab_size: usize,
    },
    /// The input does not fit the model's context.
    #[error("{found} positions do not fit the model's context of {context_length}")]
    TooLong {
        /// Positions asked for.
        found: usize,
        /// Positions there are.
        context_length: usize,
    },
    /// A prompt is longer than the model's context.
    #[error(
        "the prompt has {prompt_tokens} tokens and the model's context is {context_length}: {} too many",
        prompt_tokens.saturating_sub(*context_length)
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Positions there are.
        context_length: usize,
    },
    /// A batch's parts have different lengths, or nothing was given at all.
    #[error("the input is not usable: {reason}")]
    BadInput {
        /// What is wrong.
        reason: String,
    },
    /// A tensor could not be read back from the device.
    #[error("cannot read `{what}` back from the device: {reason}")]
    Readback {
        /// What was read.
        what: String,
        /// What the backend said.
        reason: String,
    },
}

impl Failure for ModelError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Config { .. } | Self::PromptTooLong { .. } => ExitClass::Usage,
            Self::MissingTensor { .. } | Self::LeftOverTensor { .. } | Self::WrongShape { .. } => ExitClass::Integrity,
            Self::TokenOutOfRange { .. } | Self::TooLong { .. } | Self::BadInput { .. } => ExitClass::Data,
            Self::Readback { .. } => ExitClass::Io,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::MissingTensor { .. } | Self::LeftOverTensor { .. } | Self::WrongShape { .. } => {
                Some("the weights belong to another model configuration; load them with the configuration they were saved with".to_owned())
            }
            Self::TokenOutOfRange { .. } => Some("use the tokenizer that the model was trained with".to_owned()),
            Self::TooLong { .. } => Some("shorten the input or raise `model.context_length`".to_owned()),
            Self::PromptTooLong { .. } => {
                Some("give its last part only, or take a model with a longer context (`model.context_length`)".to_owned())
            }
            Self::Config { .. } => Some("`codex-cli config show` prints every value with the layer that set it".to_owned()),
            _ => None,
        }
    }
}
