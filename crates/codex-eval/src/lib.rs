//! Loss, perplexity, bits per byte and token accuracy from a model's real scores, and the unigram baseline that they must beat; metrics of written texts
//! beside their references, and of probabilities ([`text`]).
//!
//! The training loop's validation and the `eval` command run this same code. It needs no optimizer and changes no parameter.

pub mod baseline;
pub mod error;
pub mod evaluate;
pub mod metrics;
pub mod validation;
pub mod text;

pub use baseline::unigram;
pub use error::EvalError;
pub use evaluate::evaluate;
pub use metrics::{EvalTotals, Metrics};
pub use validation::Validation;
