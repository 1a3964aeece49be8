//! Sweeps: many trials from one file, each run once wherever it is run, and what came out of them side by side.
//!
//! Nothing here trains: `codex-cli train --sweep-file FILE --index N` does, in the folder that [`SweepFolder::claim`] gave it.

mod config;
mod document;
mod error;
mod folder;
mod importance;
pub mod launcher;
mod launcher_config;
pub mod median;
pub mod optuna;
mod quote;
pub mod results;
mod series;
mod space;
mod sweep;
mod trial_record;
mod value;

pub use config::{Goal, MAX_TRIALS, OptunaConfig, Strategy, SweepConfig};
pub use error::{Problem, SweepError};
pub use folder::{Claim, Opened, SweepFolder, SweepRecord, TrialClaim};
pub use importance::{Importance, importance};
pub use launcher_config::{KubernetesConfig, LauncherConfig, RayConfig, SlurmConfig, TaskConfig, VolumeConfig};
pub use median::{Decision, MedianRule};
pub use results::{TrialResult, TrialState};
pub use series::{Series, SeriesWriter};
pub use space::{Domain, Parameter};
pub use sweep::{Parameters, Sweep, Trial, as_map, name_of};
pub use trial_record::{Outcome, TrialRecord, TrialStatus};
pub use value::Value;
