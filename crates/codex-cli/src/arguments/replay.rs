//! What is to be taken again of a run, what a model is to be tested with, and how a learning rate is looked for.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::arguments::Configuration;

/// Looking for a learning rate.
#[derive(Debug, Subcommand)]
pub(crate) enum LearningRate {
    /// Take steps with a rising learning rate until the loss runs away, and propose one below; nothing is written
    Find(FindLearningRate),
}

/// Options of `lr find`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  codex-cli lr find\n  codex-cli lr find model=small train.optimizer=muon --steps 200\n  codex-cli lr find --config run.toml --json"
)]
pub(crate) struct FindLearningRate {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    /// The first learning rate
    #[arg(long, default_value_t = 1e-6)]
    pub(crate) from: f64,
    /// The last
    #[arg(long, default_value_t = 1.0)]
    pub(crate) to: f64,
    /// Most steps
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pub(crate) steps: u64,
}

/// Options of `selftest`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  codex-cli selftest\n  codex-cli selftest models/SmolLM2-135M --json")]
pub(crate) struct Selftest {
    /// A run, a checkpoint, a Hugging Face folder or a name; the newest run when absent
    pub(crate) model: Option<PathBuf>,
    /// The device: auto, flex, ndarray, wgpu or cuda
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
}

/// Options of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  codex-cli replay\n  codex-cli replay runs/20261128-090000-austen --from 600 --steps 20\n  \
    codex-cli replay --threads 1 --json\n  codex-cli replay --instruction-set portable\n\n\
    On the device and the instruction set of the run every loss, gradient norm and digest must be the same; on others losses and norms must be near.\n\
    Run it where the run was started, or where the paths of its data lead to the same files.")]
pub(crate) struct Replay {
    /// The run folder; the newest run when absent
    pub(crate) run: Option<PathBuf>,
    /// The checkpoint to begin with; the oldest that is kept when absent
    #[arg(long, value_name = "STEP")]
    pub(crate) from: Option<u64>,
    /// Steps to take again; up to the next checkpoint, at most 100, when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: Option<u64>,
    /// CPU threads; one per core when absent
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Instructions of the processor's kernels; the best there are when absent
    #[arg(long, value_name = "SET")]
    pub(crate) instruction_set: Option<String>,
    /// The device; the run's when absent
    #[arg(long)]
    pub(crate) device: Option<String>,
}
