//! Why an evaluation gave no numbers.

use codex_core::{ExitClass, Failure, RegistryError};
use codex_data::DataError;
use codex_model::ModelError;

use crate::rows::RowProblem;

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
    /// No metric has that name.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// There is nothing to compute a metric of.
    #[error("{what} of no records")]
    NoRecords {
        /// What was to be computed.
        what: &'static str,
    },
    /// A metric that compares has nothing to compare with.
    #[error("record {record} has no reference, and `{metric}` compares with one")]
    NoReference {
        /// The metric.
        metric: &'static str,
        /// The record, counted from 1.
        record: usize,
    },
    /// A text is too long for a metric whose time is the product of two lengths.
    #[error("record {record} has a text of {found} words, more than the {most} in which subsequences are sought")]
    TooManyWords {
        /// The record, counted from 1.
        record: usize,
        /// Words of the text.
        found: usize,
        /// The most there may be.
        most: usize,
    },
    /// Two lists that belong together are not equally long.
    #[error("{found} {what}, expected {expected}")]
    Lengths {
        /// What the second list holds.
        what: &'static str,
        /// Entries of the first list.
        expected: usize,
        /// Entries of the second.
        found: usize,
    },
    /// A number is not what it is called.
    #[error("a {what} of {found}, expected {expected}")]
    OutOfRange {
        /// What it should be.
        what: &'static str,
        /// Which numbers are that.
        expected: &'static str,
        /// The number.
        found: f64,
    },
    /// A row of a task cannot be used.
    #[error("`{path}:{line}`: {problem}")]
    BadRow {
        /// The file.
        path: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: RowProblem,
    },
    /// A row does not have what a metric is computed from.
    #[error("`{path}:{line}` has no `{field}`, which `{metric}` needs")]
    Lacks {
        /// The metric.
        metric: &'static str,
        /// The file.
        path: String,
        /// The line, from 1.
        line: u64,
        /// The field that would be needed.
        field: &'static str,
    },
    /// A pattern that finds answers is none.
    #[error("the pattern `{pattern}` cannot be used: {reason}")]
    Pattern {
        /// The pattern, its first characters.
        pattern: String,
        /// What the engine said.
        reason: String,
    },
    /// A multiple-choice question has no answer.
    #[error("the choices of record {record} cannot be compared: {why}")]
    Choices {
        /// The record, counted from 1.
        record: usize,
        /// Why not.
        why: &'static str,
    },
}

impl Failure for EvalError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Model(error) => error.exit_class(),
            Self::Data(error) => error.exit_class(),
            Self::Registry(error) => error.exit_class(),
            Self::Lacks { .. } | Self::Pattern { .. } => ExitClass::Usage,
            Self::BadRow { .. }
            | Self::Empty { .. }
            | Self::NotFinite { .. }
            | Self::Interrupted { .. }
            | Self::NoRecords { .. }
            | Self::NoReference { .. }
            | Self::TooManyWords { .. }
            | Self::Lengths { .. }
            | Self::OutOfRange { .. }
            | Self::Choices { .. } => ExitClass::Data,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::NotFinite { .. } => {
                Some("the weights have grown out of bounds: lower `train.learning_rate`, or take an earlier checkpoint".to_owned())
            }
            Self::Registry(error) => error.hint(),
            Self::TooManyWords { .. } => Some("shorten the text, or leave out the metrics `rougeL` and `rougeLsum`".to_owned()),
            Self::NoReference { .. } => Some("give the record a reference, or leave out the metric".to_owned()),
            Self::Interrupted { .. } | Self::NoRecords { .. } | Self::Lengths { .. } | Self::OutOfRange { .. } | Self::Choices { .. } => {
                None
            }
            Self::BadRow { .. } => Some(
                "a row has `text`; `prompt` or `messages` with `completion` or `references`; or `prompt`, `choices` and `answer`"
                    .to_owned(),
            ),
            Self::Lacks { field: "prediction", .. } => {
                Some("let the model write it: `--sample`; or give each row a `prediction`".to_owned())
            }
            Self::Lacks { .. } => Some("give every row the field, or leave out the metric".to_owned()),
            Self::Pattern { .. } => Some("see https://docs.rs/regex for the syntax".to_owned()),
            Self::Empty { .. } => Some("give files in `data.validation`, or a `data.validation_fraction` above 0".to_owned()),
        }
    }
}
