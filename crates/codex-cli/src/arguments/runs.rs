//! What can be asked about runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Looking at runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Runs {
    /// List all runs
    List {
        /// The folder that holds them
        #[arg(long, default_value = "runs")]
        folder: PathBuf,
    },
    /// Show one run: its record and the course of its metrics
    Show {
        /// The run folder; the newest run when absent
        run: Option<PathBuf>,
    },
    /// Recompute the digest of every file of a run, its checkpoints included, and follow the chain of its metrics
    Verify(Verify),
    /// Say where two runs differ: configuration by key, data by file, metrics by the step at which they part
    Compare {
        /// A run folder
        first: PathBuf,
        /// Another
        second: PathBuf,
        /// Write a page with the curves of both to this file
        #[arg(long, value_name = "FILE.html")]
        page: Option<PathBuf>,
    },
    /// Walk from a model back to the run, the program and the texts that made it
    Lineage(Lineage),
}

/// Options of `runs lineage`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  codex-cli runs lineage austen.gguf\n  codex-cli runs lineage models/austen --data\n  codex-cli runs lineage runs/20261128-090000-austen --json"
)]
pub(crate) struct Lineage {
    /// A run, a checkpoint, or a model that was exported: a folder, a GGUF file or adapters
    pub(crate) model: PathBuf,
    /// The folder with the runs, one of which wrote it
    #[arg(long, default_value = "runs")]
    pub(crate) runs: PathBuf,
    /// Read the texts again as well
    #[arg(long)]
    pub(crate) data: bool,
}

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  codex-cli verify\n  codex-cli verify runs/20261128-090000-austen --data\n  codex-cli verify --json")]
pub(crate) struct Verify {
    /// The run folder; the newest run when absent
    pub(crate) run: Option<PathBuf>,
    /// Read the data that it was trained on again as well
    #[arg(long)]
    pub(crate) data: bool,
}
