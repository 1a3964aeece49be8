//! The training loop: one linear function from a plan to a trained model, exact across interruption.
//!
//! It parses no files or arguments, prints nothing and chooses no device: the embedding program gives it a [`RunPlan`], a device, an
//! [`Observer`] to be told through and a [`StopSignal`] to be stopped by.

pub mod config;
pub mod error;
pub mod forecast;
mod judge;
mod phase;
pub mod loss_scale;
pub mod observer;
pub mod gradients;
pub mod optimizer;
pub mod plan;
pub mod replay;
pub mod schedule;
pub mod state;
pub mod step;
pub mod train;

mod evaluating;
mod flat;
mod groups;
mod saving;
mod spikes;

pub use config::{EvalConfig, OptimizerKind, PatienceMetric, Schedule, TrainConfig};
pub use error::TrainError;
pub use loss_scale::LossScale;
pub use observer::{EvaluationReport, Observer, Silent, StepReport, StopSignal};
pub use plan::{AdapterRecord, BaseModel, PlanKey, RunPlan, Start};
pub use state::TrainState;
pub use train::{Ending, Outcome, train};
