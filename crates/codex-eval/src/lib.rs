//! Loss, perplexity, bits per byte and token accuracy from a model's real scores, and the unigram baseline that they must beat; metrics of written texts
//! beside their references, and of probabilities ([`text`]). A task is read from rows ([`rows`]), scored ([`mod@score`]) and measured by the names of a
//! registry ([`registry`], [`mod@measure`]) with intervals; several of them say what learning has cost and gained ([`transfer`]).
//!
//! The training loop's validation and the `eval` command run this same code. It needs no optimizer and changes no parameter.

pub mod baseline;
pub mod error;
pub mod evaluate;
pub mod metrics;
pub mod validation;
pub mod extract;
pub mod measure;
pub mod registry;
pub mod rows;
pub mod score;
pub mod text;
pub mod transfer;

pub use baseline::unigram;
pub use error::EvalError;
pub use evaluate::evaluate;
pub use extract::{Extractor, Which};
pub use measure::{Evidence, Measured, Resampling, Share, measure};
pub use metrics::{EvalTotals, Metrics};
pub use registry::{EvalMetric, MetricKind, TokenMetric};
pub use rows::{EvalRow, Question, RowInput, read_rows};
pub use score::{Scoring, Sequence, SequenceScore, score};
pub use transfer::{Transfer, TransferMatrix};
pub use validation::Validation;
