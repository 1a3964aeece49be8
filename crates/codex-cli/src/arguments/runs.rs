//! What can be asked about runs.

use std::path::PathBuf;

use clap::Subcommand;

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
    /// Recompute the digest of every file of a run, its checkpoints included
    Verify {
        /// The run folder; the newest run when absent
        run: Option<PathBuf>,
    },
}
